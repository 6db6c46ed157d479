"""A run from its settings to its end: planned once, carried out in this process or by an executor. The
command, the Python API and the workers of executors all go through here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from wsssbench.errors import WsssError
from wsssbench.machine.hardware import Hardware, resolve_hardware
from wsssbench.planning.cells import Cell
from wsssbench.planning.plan import make_plan
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins
from wsssbench.running.screen.progress import Progress

if TYPE_CHECKING:
    from wsssbench.distributed.team import Team
    from wsssbench.running.executors.request import Switches
    from wsssbench.running.renewal import Renewed


@dataclass(frozen=True)
class Planned:
    """A run that is planned: device and precision are named in its settings."""

    settings: Settings
    plugins: Plugins
    hardware: Hardware
    cells: Sequence[Cell]


def plan_run(
    settings: Settings,
    plugins: Plugins,
    progress: Progress,
    *,
    detach: bool = False,
    team: Team | None = None,
) -> Planned:
    """What the settings ask for; nothing is started or written. WsssError where it cannot be done."""
    settings = team.settings(settings) if team else settings
    settings, hardware = prepared(settings, progress, detach=detach)
    cells = make_plan(settings, plugins, hardware)
    if settings.isolate:
        from wsssbench.running.isolation.planning import isolated_cells

        cells = isolated_cells(cells, settings)
    return Planned(settings, plugins, hardware, cells)


def run_plan(
    plan: Planned, progress: Progress, switches: Switches, *, detach: bool = False, team: Team | None = None,
    threads: int | None = None, renewed: Renewed | None = None,
) -> int:  # fmt: skip
    """Run the cells that are not done; the number that failed, of cells or, with an executor, of trials.

    With `detach` an executor's jobs are not waited for. In this process torch's number of threads is set;
    `renewed` notes what a run of several processes has made again, and a `team` shares the trainings.
    """
    settings = plan.settings
    if executor_of(settings) != "here":
        from wsssbench.running.executors.run_jobs import run_jobs

        return run_jobs(plan.cells, settings, plan.plugins, plan.hardware, progress, switches, detach=detach)
    from wsssbench.machine.process import use_machine
    from wsssbench.running.engine import Engine
    from wsssbench.running.isolation.planning import open_isolation
    from wsssbench.running.screen.board import open_board
    from wsssbench.running.step_runner import StepRunner

    board = open_board(settings.runs, progress.say) if switches.tensorboard else None
    threads = team.threads if team else threads
    use_machine(threads) if threads else use_machine()
    with board or nullcontext(), open_isolation(settings.isolate, progress.say) as boxes:
        steps = StepRunner(plan.hardware, settings.limit, progress, board, boxes, renewed, team)
        failed = Engine(steps).run(plan.cells)
    if board is not None:
        progress.say(board.ending())
    return failed


# ---------------------------------------------------------------------------------------------- where it runs


def executor_of(settings: Settings) -> str:
    """Where the trials run: here, local or slurm. Several at a time are never in this process."""
    return "local" if settings.executor == "here" and settings.jobs > 1 else settings.executor


def prepared(settings: Settings, progress: Progress, *, detach: bool = False) -> tuple[Settings, Hardware]:
    """The settings with device and precision named, and what the trials run on. Nothing is started.

    On a cluster the GPU is that of another machine: it is not looked for here. WsssError for options that
    do not fit the executor, and where it cannot be used.
    """
    on_cluster = executor_of(settings) == "slurm"
    if detach and not on_cluster:
        raise WsssError("only jobs of a cluster can be left alone", where="--detach", hint="--executor slurm")
    if settings.executor_options or on_cluster:
        from wsssbench.running.executors.slurm_options import slurm_config

        config = slurm_config(settings.executor_options.get("slurm", {}))
    if not on_cluster:
        return settings, resolve_hardware(settings)
    from wsssbench.running.executors.slurm import check_slurm

    check_slurm()
    if settings.jobs > 1:
        progress.say("--jobs is for processes of this machine: Slurm decides how many jobs run at a time")
    if settings.device == "auto" and not config.wants_gpu:
        progress.say("jobs use the CPU: no GPU is asked for (-o slurm.gpus_per_node=1, or --device cuda)")
    return _on_nodes(settings, "cuda" if config.wants_gpu else "cpu")


def _on_nodes(settings: Settings, auto: str) -> tuple[Settings, Hardware]:
    """What `resolve_hardware` will find on a node, where the device `auto` is that one."""
    device = auto if settings.device == "auto" else settings.device
    here = resolve_hardware(replace(settings, device="cpu"))
    on_gpu = settings.precision == "auto" and device != "cpu"
    precision: Literal["fp32", "bf16"] = "bf16" if on_gpu or here.precision == "bf16" else "fp32"
    named = replace(settings, device=device, precision=precision)
    return named, Hardware(device, precision, here.filter_backend)
