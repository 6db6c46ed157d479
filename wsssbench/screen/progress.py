"""What a person sees while a run goes on: one quiet area in a terminal (`wsssbench.screen.live_view`), plain
lines elsewhere. Never on stdout."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from wsssbench.screen.live_view import LiveView

LINE_SECONDS = 10.0  # between two plain lines of one task
BARE = ("dumb", "unknown")  # terminals in which no line can be written twice


class Progress:
    """Announces tasks and their progress on stderr."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.fancy = not quiet and self.stream.isatty() and os.environ.get("TERM", "dumb") not in BARE
        self.view: LiveView | None = None

    def say(self, text: str) -> None:
        """One line of talk; in a terminal it stands above the live area."""
        if self.quiet:
            return
        if self.view is not None:
            self.view.say(text)
        else:
            print(text, file=self.stream, flush=True)

    @contextmanager
    def live(self) -> Iterator[None]:
        """While inside, a terminal shows what goes on in one area below all that is said.

        It is gone at the end, also after an error. Elsewhere, and inside another one, this does nothing.
        """
        if not self.fancy or self.view is not None:
            yield
            return
        from wsssbench.screen.live_view import LiveView

        with LiveView(self.stream) as self.view:
            try:
                yield
            finally:
                self.view = None

    def heading(self, text: str, place: str = "") -> None:
        """What the next tasks are for, and where that stands: `cell 2 of 6`. Shown in a live area alone."""
        if self.view is not None:
            self.view.begin(text, place)

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """A unit of work called `title`; update it through the yielded task."""
        alone = self.view is None
        with self.live():
            task = Task(title, self) if self.view is None else ShownTask(title, self.view)
            with task:
                yield task
        if alone and isinstance(task, ShownTask) and task.shown:
            self.say(task.shown)


class Task:
    """Plain lines: at most one every LINE_SECONDS, and one at the end."""

    def __init__(self, title: str, out: Progress) -> None:
        self.title, self.out = title, out
        self.meter = Meter()
        self.last = time.perf_counter()
        self.shown = ""

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *error: object) -> None:
        if self.shown and error[0] is None:
            self.out.say(self.shown)

    def update(self, done: int, total: int, images: int, numbers: dict[str, float]) -> None:
        self.meter.add(done, total, images)
        self.shown = f"{self.title}: {done}/{total}  {self.meter}  {show_numbers(numbers)}".rstrip()
        if time.perf_counter() - self.last >= LINE_SECONDS:
            self.out.say(self.shown)
            self.shown, self.last = "", time.perf_counter()


class ShownTask(Task):
    """The same in a live area, which looks at it when it is drawn."""

    def __init__(self, title: str, view: LiveView) -> None:
        self.title, self.view = title, view
        self.meter = Meter()
        self.shown = ""
        self.done = self.total = 0
        self.numbers = ""

    def __enter__(self) -> Task:
        self.view.task = self
        return self

    def __exit__(self, *error: object) -> None:
        self.view.task = None

    def update(self, done: int, total: int, images: int, numbers: dict[str, float]) -> None:
        self.meter.add(done, total, images)
        self.done, self.total, self.numbers = done, total, show_numbers(numbers)
        self.shown = f"{self.title}: {done}/{total}  {self.meter}  {self.numbers}".rstrip()


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
