"""What the processes beside the first one do in a run: they plan as it does, fit along what it orders, and
write nothing. Predicting, judging, records, logs and tables are the first one's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wsssbench.artifacts import ArtifactFolder, artifact_name
from wsssbench.errors import WsssError
from wsssbench.machine.hardware import Hardware
from wsssbench.planning.cells import Cell, PlannedStep
from wsssbench.running.context import RunContext
from wsssbench.types import View

if TYPE_CHECKING:
    from wsssbench.distributed.team import Team


def follow(team: Team, cells: Sequence[Cell], hardware: Hardware, limit: int | None) -> int:
    """Carry out the leader's orders until the run ends; its exit code.

    A fit that fails here is told to the leader, whose record says so, and the next order is waited for.
    """
    while "end" not in (order := team.next_order()):
        try:
            with team.joined_training(hardware.device):
                fit_along(order["fit"], cells, hardware, limit)
        except Exception:  # the leader was told why
            continue
    return int(order["end"])


def fit_along(key: str, cells: Sequence[Cell], hardware: Hardware, limit: int | None) -> None:
    """Fit the planned step with that key as the leader does, from what it has put on disk."""
    for trial in (cell.trial for cell in cells):
        planned = next((step for step in trial.steps if step.key == key), None)
        if planned is not None:
            view = View(trial.dataset, trial.dataset.card.fit_split, planned.step.card.supervision, limit)
            planned.step.fit(
                view, lessons_of(planned, view), SilentContext.of(trial, planned, hardware, limit, _unheard)
            )
            return
    raise WsssError("this process has not planned the step that is to be fitted", where=key[:8])


def lessons_of(planned: PlannedStep, view: View) -> ArtifactFolder:
    """What the step learns from, of the step before: the leader has made it."""
    kinds = planned.learns_from
    if not kinds or planned.before is None:
        return ArtifactFolder(planned.folder / "given")
    name = artifact_name(view.split, tags_given=True)
    return ArtifactFolder(planned.before.folder / "artifacts" / name, view.ids, kinds)


def _unheard(text: str) -> None:
    """Nothing: the leader says it."""


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
