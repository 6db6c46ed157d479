"""`wsssbench run` under torchrun: the first process runs everything, the others share its trainings.

The others plan as the first one does, fit along what it orders, and write nothing: predicting, judging,
records, logs and tables are the first one's. What they say to each other is in `wsssbench.distributed`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wsssbench.artifacts import ArtifactFolder
from wsssbench.distributed.launch import Launch
from wsssbench.distributed.team import Team, open_team
from wsssbench.errors import WsssError
from wsssbench.machine.hardware import Hardware, compute_deterministically, resolve_hardware
from wsssbench.machine.interrupts import INTERRUPTED
from wsssbench.machine.process import use_machine
from wsssbench.planning.cells import Cell, PlannedStep, artifact_name
from wsssbench.planning.plan import make_plan
from wsssbench.running.context import RunContext
from wsssbench.types import View

if TYPE_CHECKING:
    from wsssbench.planning.settings import Settings
    from wsssbench.plugins.table import Plugins

Opened = Callable[[], "tuple[Settings, Plugins]"]


def run_together(
    flags: Mapping[str, Any], launch: Launch, lead: Callable[[Team], int], opened: Opened
) -> int:
    """The exit code of this process: the first one `lead`s, the others plan what is `opened` and follow."""
    team = open_team(launch)
    os.environ.setdefault("NUMBA_NUM_THREADS", str(team.threads))  # read when numba is imported
    return led(team, lead) if launch.leads else followed(team, flags, opened)


def led(team: Team, lead: Callable[[Team], int]) -> int:
    """What `lead` returns; however it ends, the others are let go."""
    code = 1
    try:
        code = lead(team)
    except WsssError as error:
        code = error.code
        raise
    except KeyboardInterrupt:
        code = INTERRUPTED
        raise
    finally:
        team.end(code)
    return code


def followed(team: Team, flags: Mapping[str, Any], opened: Opened) -> int:
    """0, or 130 after an interruption: how the run went is said, and answered for, by the first process."""
    settings: Settings
    cells: Sequence[Cell] = ()

    def plan() -> Sequence[Cell]:
        nonlocal settings, cells
        if flags.get("deterministic"):
            compute_deterministically()
        settings, plugins = opened()
        settings = team.settings(settings)
        cells = make_plan(settings, plugins)
        return cells

    try:
        while "end" not in (order := team.next_order()):
            if "plan" in order:
                team.answer_plan(plan)
                use_machine(team.threads)
            else:
                with suppress(Exception):  # the leader knows why, and its record says so
                    hardware = resolve_hardware(settings)
                    with team.training(hardware.device):
                        fit_along(order["fit"], cells, hardware, settings.limit)
        return INTERRUPTED if order["end"] == INTERRUPTED else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        team.leave()


def fit_along(key: str, cells: Sequence[Cell], hardware: Hardware, limit: int | None) -> None:
    """Fit the planned step with that key as the leader does, from what it has put on disk."""
    for trial in (cell.trial for cell in cells):
        planned = next((step for step in trial.steps if step.key == key), None)
        if planned is not None:
            view = View(trial.dataset, trial.dataset.card.fit_split, planned.step.card.supervision, limit)
            ctx = SilentContext.of(trial, planned, hardware, limit, lambda text: None)
            planned.step.fit(view, given_to(planned, view), ctx)
            return
    raise WsssError("this process has not planned the step that is to be fitted", where=key[:8])


def given_to(planned: PlannedStep, view: View) -> ArtifactFolder:
    """What the step learns from, of the step before: the leader has made it."""
    kinds = planned.learns_from
    if not kinds or planned.before is None:
        return ArtifactFolder(planned.folder / "given")
    name = artifact_name(view.split, tags_given=True)
    return ArtifactFolder(planned.before.folder / "artifacts" / name, view.ids, kinds)


@dataclass
class SilentContext(RunContext):
    """Implements `wsssbench.types.Context` without a file: the leader holds the folders, logs and counts."""

    @contextmanager
    def shared(self, work: str, identity: Any) -> Iterator[RunContext]:
        yield replace(self, workdir=self.shared_folder(work, identity), step=work)

    def progress(
        self, done: int, total: int, images: int = 0, losses: Mapping[str, float] | None = None
    ) -> None:
        """Nothing: the leader says it."""
