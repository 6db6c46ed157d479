"""The cells of one plan carried out in this process, with the screen and the board that show them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from wsssbench.machine.hardware import resolve_hardware
from wsssbench.machine.process import use_machine
from wsssbench.planning.cells import Cell
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins
from wsssbench.running.engine import Engine
from wsssbench.running.executors.request import Switches
from wsssbench.running.executors.running import executor_of, run_jobs
from wsssbench.running.isolation.planning import open_isolation
from wsssbench.running.renewal import Renewed
from wsssbench.running.screen.board import Board, open_board
from wsssbench.running.screen.progress import Progress
from wsssbench.running.steps import StepRunner

if TYPE_CHECKING:
    from wsssbench.distributed.team import Team


def run_plan(
    cells: Sequence[Cell], settings: Settings, plugins: Plugins, progress: Progress, switches: Switches,
    *, detach: bool = False, team: Team | None = None,
) -> int:  # fmt: skip
    """Run the cells that are not done, in this process or by an executor; the number that failed, of cells
    or of trials. With `detach` an executor's jobs are not waited for."""
    if executor_of(settings) != "here":
        return run_jobs(cells, settings, plugins, progress, switches, detach=detach)
    board = open_board(settings.runs, progress.say) if switches.tensorboard else None
    return run_cells(cells, settings, progress, board, isolate=settings.isolate, team=team)


def run_cells(
    cells: Sequence[Cell], settings: Settings, progress: Progress, board: Board | None = None,
    *, isolate: bool = False, threads: int | None = None, renewed: Renewed | None = None,
    team: Team | None = None,
) -> int:  # fmt: skip
    """Run the cells that are not done; the number of cells that failed. Sets torch's number of threads.

    `renewed` notes what a run of several processes has made anew; a `team` shares the trainings.
    """
    threads = team.threads if team else threads
    use_machine(threads) if threads else use_machine()
    with board or nullcontext(), open_isolation(isolate, progress.say) as boxes:
        hardware = resolve_hardware(settings)
        steps = StepRunner(hardware, settings.limit, progress, board, boxes, renewed, team)
        failed = Engine(steps).run(cells)
    if board is not None:
        progress.say(board.ending())
    return failed
