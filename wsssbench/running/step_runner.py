"""Steps of a plan carried out: fitted or restored once, their outputs predicted once, both shared by key.

What is judged is not known here; that is the engine's business.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from wsssbench.artifacts import ArtifactFolder
from wsssbench.files.locks import clear, hold
from wsssbench.identity import Stage
from wsssbench.judging.tag_agreement import check_tagged
from wsssbench.machine.hardware import Hardware
from wsssbench.planning.cells import Cell, PlannedStep, Trial, artifact_name
from wsssbench.planning.plan import is_judged_otherwise, judged_step
from wsssbench.plugins.contract import as_predictor
from wsssbench.records.store import claim
from wsssbench.running.context import RunContext
from wsssbench.running.demands import judged_demands
from wsssbench.running.fits import chain_of, is_stale, read_fit, write_fit
from wsssbench.running.isolation.marks import ARTIFACTS, begin, is_foreign
from wsssbench.running.predicting import predict_missing
from wsssbench.running.renewal import Renewed
from wsssbench.running.screen.progress import Progress
from wsssbench.types import Kind, Predictor, View

if TYPE_CHECKING:
    from wsssbench.distributed.team import Team
    from wsssbench.running.isolation.boxed import Isolation
    from wsssbench.running.screen.board import Board


class StepRunner:
    """Fits steps, keeps their predictors, and writes their outputs as artifacts."""

    def __init__(
        self, hardware: Hardware, limit: int | None, progress: Progress, board: Board | None = None,
        isolation: Isolation | None = None, renewed: Renewed | None = None, team: Team | None = None,
    ) -> None:  # fmt: skip
        self.hardware, self.limit, self.progress, self.board = hardware, limit, progress, board
        self.isolation = isolation  # where steps run in a sandbox
        self.sandbox = isolation.sandbox if isolation else ""
        self.team = team  # where other processes share the trainings; this one leads
        self._fitted: dict[str, Predictor | None] = {}
        # steps whose fit failed: their other cells fail at once
        self._broken: dict[str, Exception | SystemExit] = {}
        self._demands: dict[tuple[str, str], set[Kind]] = {}
        # folders of steps that this run has cleared
        self._renewed = Renewed() if renewed is None else renewed

    def note_demands(self, cell: Cell) -> None:
        """Remember what each stage will want, so that one pass of a predictor serves them all."""
        for demand in judged_demands(cell):
            self._demands.setdefault((demand.planned.key, demand.name), set()).update(demand.kinds)

    def let_go(self, rest: Sequence[Cell]) -> None:
        """Forget the predictors that no cell of `rest` needs."""
        chains = (chain_of(judged_step(cell.trial.steps, cell.stage)) for cell in rest)
        needed = {planned.key for chain in chains for planned in chain}
        self._fitted = {key: predictor for key, predictor in self._fitted.items() if key in needed}

    def renew(self, cell: Cell) -> None:
        """Remove what the steps of a cell that runs again have left: everything, or what older code made."""
        otherwise = cell.rerun == "stale" and is_judged_otherwise(cell)
        for planned in cell.trial.steps:
            if cell.rerun == "all" or (cell.rerun == "stale" and is_stale(planned)):
                self._clear_once(planned, planned.folder)
            elif otherwise and planned.folder not in self._renewed:  # outputs are kept by the judge's code
                self._clear_once(planned, planned.folder / ARTIFACTS)

    def _clear_once(self, planned: PlannedStep, folder: Path) -> None:
        """Clear a folder of a step, once in a run."""
        if folder in self._renewed:
            return
        with hold(planned.folder, self.progress.say):
            if folder not in self._renewed:  # another process of this run may have been faster
                if folder.is_dir():
                    clear(folder)
                self._renewed.add(folder)

    def fitted(self, trial: Trial, planned: PlannedStep) -> Predictor | None:
        """The predictor of a step: from memory, from disk, or fitted now; None where it runs in a sandbox."""
        if planned.key in self._broken:
            raise self._broken[planned.key]
        if planned.key not in self._fitted:
            with hold(planned.folder, self.progress.say):
                try:
                    self._fitted[planned.key] = self._fit_or_restore(trial, planned)
                except (Exception, SystemExit) as error:
                    self._broken[planned.key] = error
                    raise
        return self._fitted[planned.key]

    def _fit_or_restore(self, trial: Trial, planned: PlannedStep) -> Predictor | None:
        ctx = self.context(trial, planned)
        if read_fit(planned) and not (self.sandbox and is_foreign(planned.folder)):
            return None if self.isolation else as_predictor(planned.step.restore(ctx))
        view = View(trial.dataset, trial.dataset.card.fit_split, planned.step.card.supervision, self.limit)
        given = self._learned_from(trial, planned, view)
        begin(planned.folder, self.sandbox)
        claim(planned.folder, planned.key)
        team = self.team if planned.step.trains_together else None
        others = team.training(self.hardware.device, planned.key) if team else nullcontext()
        start, predictor = time.perf_counter(), None
        try:
            with self.progress.task(f"{planned.name} seed {trial.seed}: fit") as task, others:
                ctx.task = task
                if self.isolation:
                    self.isolation.step(trial, planned).fit(view, given, ctx)
                else:
                    predictor = as_predictor(planned.step.fit(view, given, ctx))
        finally:  # an interrupted fit goes on later, and its time counts too
            cost, ctx.task = ctx.spent(time.perf_counter() - start), None
        write_fit(planned, cost, team.launch.size if team else 1)
        return predictor

    def context(self, trial: Trial, planned: PlannedStep) -> RunContext:
        """What the step may use."""
        return RunContext.of(
            trial, planned, self.hardware, self.limit, self.progress.say,
            board=self.board.training(trial) if self.board else None,
            renewed=self._renewed if planned.folder in self._renewed else None,
        )  # fmt: skip

    def _learned_from(self, trial: Trial, planned: PlannedStep, view: View) -> ArtifactFolder:
        kinds = planned.learns_from
        if not kinds or planned.before is None:
            return ArtifactFolder(planned.folder / "given")
        found = self.artifacts(trial, planned.before, view.split, kinds, tags_given=True).only(kinds)
        check_tagged(found, trial.dataset, kinds)
        return found

    def artifacts(
        self,
        trial: Trial,
        planned: PlannedStep,
        split: str,
        kinds: Sequence[Kind],
        *,
        tags_given: bool,
        stage: Stage | None = None,
        part: Sequence[str] | None = None,
    ) -> ArtifactFolder:
        """The outputs of a step on a split (or a `part` of it, some ids), predicted where they are missing.

        `stage` matters where it asks for several scales or mirror images.
        """
        ids = trial.dataset.ids(split)[: self.limit] if part is None else part
        name = artifact_name(split, tags_given, stage, part)
        folder = ArtifactFolder(planned.folder / "artifacts" / name, ids)
        wanted = sorted(set(kinds) | self._demands.get((planned.key, name), set()))
        if folder.missing(kinds) or (self.sandbox and is_foreign(folder.folder)):
            before = self._before(trial, planned, split, tags_given, part)
            predictor = self.fitted(trial, planned)
            with (
                hold(folder.folder, self.progress.say),
                self.progress.task(f"{planned.name} seed {trial.seed}: predict {name}") as task,
            ):
                begin(folder.folder, self.sandbox)
                if predictor is not None:
                    predict_missing(
                        predictor, trial.dataset, folder, before, wanted, task,
                        device=self.hardware.device, tags_given=tags_given, stage=stage,
                    )  # fmt: skip
                elif self.isolation is not None:
                    self.isolation.step(trial, planned).predict(
                        self.context(trial, planned), split, folder, before, wanted, task,
                        tags_given=tags_given, stage=stage,
                    )  # fmt: skip
        return folder

    def _before(
        self, trial: Trial, planned: PlannedStep, split: str, tags_given: bool, part: Sequence[str] | None
    ) -> ArtifactFolder | None:
        kinds = planned.takes
        if planned.before is None or not kinds:
            return None
        found = self.artifacts(trial, planned.before, split, kinds, tags_given=tags_given, part=part)
        found = found.only(kinds)
        if tags_given:
            check_tagged(found, trial.dataset, kinds)
        return found
