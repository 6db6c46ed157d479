"""What is done of a task, how fast it goes, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable

LINE_SECONDS = 10.0  # between two plain lines of one task


class Task:
    """A unit of work called `title`.

    With `say` it writes plain lines, at most one every LINE_SECONDS; without, a live area draws it.
    """

    def __init__(self, title: str, say: Callable[[str], None] | None = None) -> None:
        self.title, self.say = title, say
        self.meter = Meter()
        self.done = self.total = 0
        self.numbers = ""
        self.last = time.perf_counter()
        self.unsaid = False  # something was done since the last line

    def __str__(self) -> str:
        return f"{self.title}: {self.done}/{self.total}  {self.meter}  {self.numbers}".rstrip()

    def update(self, done: int, total: int, images: int, numbers: dict[str, float]) -> None:
        """`done` of `total` units are done, `images` seen since the last call; `numbers` are losses."""
        self.meter.add(done, total, images)
        self.done, self.total, self.numbers = done, total, show_numbers(numbers)
        self.unsaid = True
        if self.say is not None and time.perf_counter() - self.last >= LINE_SECONDS:
            self.say(str(self))
            self.unsaid, self.last = False, time.perf_counter()


class Meter:
    """Images per second and time left, from what was done since the task, or its present part, began.

    A task may have parts that count from the start again, such as a classifier before a joint training.
    """

    def __init__(self) -> None:
        self._begin(time.perf_counter())

    def _begin(self, now: float) -> None:
        self.start, self.done = now, 0
        self.first: tuple[int, float] | None = None  # units done and time at the first report
        self.images, self.rate = 0, 0.0
        self.left: float | None = None

    def add(self, done: int, total: int, images: int) -> None:
        now = time.perf_counter()
        if done < self.done:
            self._begin(now)
        self.done = done
        if self.first is None:  # a resumed task begins where it stopped
            self.first = done, now
        self.images += images
        self.rate = self.images / max(now - self.start, 1e-9)
        units, since = done - self.first[0], now - self.first[1]
        self.left = since / units * (total - done) if units > 0 else None

    @property
    def ending(self) -> str:
        """`ETA 0:08`; empty while it is not known."""
        return "" if self.left is None else f"ETA {clock(self.left)}"

    def __str__(self) -> str:
        return f"{self.rate:.1f} images/s  {self.ending}".rstrip()


def clock(seconds: float) -> str:
    """`0:07`, `12:31`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def show_numbers(numbers: dict[str, float]) -> str:
    """`loss 0.412  energy -0.031`: four significant digits."""
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
