"""The live area of a terminal: three lines about the present task, below what is said line by line.

It is drawn twice a second and at no other time, never moves what stands above it, and leaves nothing behind.
What is done and measured comes from `wsssbench.running.screen.progress`; nothing is counted here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from wsssbench.running.screen.tasks import clock

if TYPE_CHECKING:
    from types import TracebackType

    from wsssbench.running.screen.tasks import ShownTask

DRAWINGS = 2  # a second
BAR = (8, 30)  # least and greatest width of the bar, in cells; none where there is no room
GAP = "  "
LEAST = 14  # cells for a title
SPARE = 3  # cells at the right, so that a ^C that the terminal echoes breaks no line


class _Console(Console):
    """A console that leaves the cursor alone: a process that is killed then leaves a whole terminal."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class LiveView:
    """What goes on now; `with` it is on the screen. `task` is drawn as it is at that moment."""

    def __init__(self, stream: TextIO) -> None:
        self.console = _Console(file=stream, highlight=False)
        self.task: ShownTask | None = None
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

    def show(self, task: ShownTask | None) -> None:
        """Draw this task from now on; None for no task."""
        self.task = task

    def say(self, text: str) -> None:
        """A line that stays, above the area."""
        self.console.print(text, markup=False, soft_wrap=True, style="red" if is_failure(text) else None)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, task = max(options.max_width - SPARE, 1), self.task
        passed = clock(time.perf_counter() - self.start)
        yield ends(Text(self.text, style="bold"), GAP.join(filter(None, (self.place, passed))), width)
        yield Text() if task is None else task_line(task, self.text, width, ascii=options.ascii_only)
        yield ends(Text(GAP + task.numbers if task else "", style="dim"), "", width)


def task_line(task: ShownTask, heading: str, width: int, *, ascii: bool) -> Text:
    """Title, bar, count, speed and time left in one line of `width`; what finds no room is left out."""
    line = Text(GAP + task.title.removeprefix(heading).lstrip(": "))
    if not task.total:
        return ends(line, "", width)
    count = f"{task.done}/{task.total}"
    known = (f"{count}{GAP}{task.meter}", f"{count}{GAP}{task.meter.ending}".rstrip(), count)
    facts = next((text for text in known if len(text) + LEAST <= width), count)
    room = width - line.cell_len - len(facts) - 2 * len(GAP)
    if room >= BAR[0]:
        line.append(GAP).append_text(bar(task.done / task.total, min(room, BAR[1]), ascii=ascii))
        return line.append(GAP + facts)
    return ends(line, facts, width)


def bar(share: float, cells: int, *, ascii: bool) -> Text:
    """A bar of so many cells, of which `share` in [0, 1] is full."""
    full = round(min(max(share, 0.0), 1.0) * cells)
    mark, rest = ("=", "-") if ascii else ("\u2501", "\u2500")
    return Text(mark * full, style="green").append(rest * (cells - full), style="dim")


def ends(left: Text, right: str, width: int) -> Text:
    """One line of at most `width` cells: `left`, cut where it must be, and `right` at its end."""
    room = max(width - len(right) - len(GAP), 0) if right else width
    left.truncate(room, overflow="ellipsis", pad=bool(right))
    line = left.append(GAP + right, style="not bold dim") if right else left
    line.truncate(width, overflow="crop")
    return line


def is_failure(text: str) -> bool:
    """Whether a line says that a cell has failed."""
    return text.startswith("FAILED ")
