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
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("[dim]{task.fields[numbers]}"),
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
    """Images per second and time left, from what was done since the task began."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.first: int | None = None
        self.images, self.rate, self.left = 0, 0.0, 0.0

    def add(self, done: int, total: int, images: int) -> None:
        seconds = max(time.perf_counter() - self.start, 1e-9)
        if self.first is None:  # a resumed task begins where it stopped
            self.first = max(done - 1, 0)
        self.images += images
        self.rate = self.images / seconds
        self.left = seconds / max(done - self.first, 1) * (total - done)

    def __str__(self) -> str:
        minutes, seconds = divmod(round(self.left), 60)
        return f"{self.rate:.1f} images/s  ETA {minutes}:{seconds:02d}"


def show_numbers(numbers: dict[str, float]) -> str:
    """`loss 0.412  energy -0.031`: four significant digits."""
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
