"""The live area of a terminal: three lines about the present task, below what is said line by line.

It is drawn twice a second and at no other time, never moves what stands above it, and leaves nothing behind.
What is done and measured comes from `wsssbench.running.screen.tasks`; nothing is counted here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from wsssbench.running.screen.tasks import clock

if TYPE_CHECKING:
    from types import TracebackType

    from wsssbench.running.screen.tasks import Task

DRAWINGS = 2  # a second
BAR = 30  # greatest width of the bar, in cells
SPARE = 3  # cells at the right, so that a ^C that the terminal echoes breaks no line


class _Console(Console):
    """A console that leaves the cursor alone: a process that is killed then leaves a whole terminal."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class LiveView:
    """What goes on now; `with` it is on the screen. `task` is drawn as it is at that moment."""

    def __init__(self, stream: TextIO) -> None:
        self.console = _Console(file=stream, highlight=False)
        self.task: Task | None = None
        self.live = Live(self, console=self.console, refresh_per_second=DRAWINGS, transient=True)
        self.begin("starting", "")

    def __enter__(self) -> LiveView:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def begin(self, text: str, place: str) -> None:
        """Something new is worked on, for which the clock starts: `text`, at `place` of the whole."""
        self.text, self.place, self.start = text, place, time.perf_counter()

    @contextmanager
    def showing(self, task: Task) -> Iterator[None]:
        """Draw this task while inside, then the one before."""
        before, self.task = self.task, task
        try:
            yield
        finally:
            self.task = before

    def say(self, text: str) -> None:
        """A line that stays, above the area; red where a cell has failed."""
        style = "red" if text.startswith("FAILED ") else None
        self.console.print(text, markup=False, soft_wrap=True, style=style)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, task = max(options.max_width - SPARE, 1), self.task
        passed = clock(time.perf_counter() - self.start)
        yield line(width, Text(self.text, style="bold"), Text(f"{self.place}  {passed}".strip(), style="dim"))
        yield Text() if task is None else self._task_line(task, width)
        yield line(width, Text(f"  {task.numbers}" if task else "", style="dim"))

    def _task_line(self, task: Task, width: int) -> Table:
        """Title, bar, count, speed and time left; a narrow line drops the speed, then the bar."""
        title = Text("  " + task.title.removeprefix(self.text).lstrip(": "))
        if not task.total:
            return line(width, title)
        count, rest = f"{task.done}/{task.total}", str(task.meter)
        if len(f"{title.plain}  {count}  {rest}") > width:
            rest = task.meter.ending
        facts = Text(f"{count}  {rest}".rstrip())
        room = width - title.cell_len - facts.cell_len - 4
        bar = [ProgressBar(task.total, task.done, width=min(room, BAR))] if room >= 8 else []
        return line(width, title, *bar, facts)


def line(width: int, first: RenderableType, *others: RenderableType) -> Table:
    """One line of `width` cells: `first` is cut where there is no room for all."""
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.width = width
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for _ in others:
        grid.add_column(no_wrap=True, overflow="crop")
    grid.add_row(first, *others)
    return grid
