"""What a person sees while a run goes on: a bar in a terminal, plain lines elsewhere. Never on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

LINE_SECONDS = 10.0  # between two plain lines of one task


class Progress:
    """Announces tasks and their progress on stderr."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.fancy = self.stream.isatty() and not quiet

    def say(self, text: str) -> None:
        """One line of talk."""
        if not self.quiet:
            print(text, file=self.stream, flush=True)

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """A unit of work called `title`; update it through the yielded task."""
        task: Task = BarTask(title, self.stream) if self.fancy else Task(title, self)
        with task:
            yield task


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


class BarTask(Task):
    """A rich bar with step, images/s, ETA and losses."""

    def __init__(self, title: str, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self.title, self.meter = title, Meter()
        self.bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[numbers]}", style="dim", markup=False),
            console=Console(file=stream),
        )
        self.id = self.bar.add_task(title, total=None, speed="", numbers="")

    def __enter__(self) -> Task:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def update(self, done: int, total: int, images: int, numbers: dict[str, float]) -> None:
        self.meter.add(done, total, images)
        self.bar.update(
            self.id, completed=done, total=total, speed=str(self.meter), numbers=show_numbers(numbers)
        )


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

    def __str__(self) -> str:
        if self.left is None:
            return f"{self.rate:.1f} images/s"
        minutes, seconds = divmod(round(self.left), 60)
        return f"{self.rate:.1f} images/s  ETA {minutes}:{seconds:02d}"


def show_numbers(numbers: dict[str, float]) -> str:
    """`loss 0.412  energy -0.031`: four significant digits."""
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
