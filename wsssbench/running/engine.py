"""The recipe walked step by step: fit, predict, artifacts on disk, labels, score, record.

From the artifacts on only files are read: scoring needs no torch and can be repeated. A cell that fails gets
a record that says so, and the others go on.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsssbench.artifacts import ArtifactFolder, artifact_name
from wsssbench.distributed.launch import trains_together
from wsssbench.errors import WsssError
from wsssbench.files.file_hashes import write_sums
from wsssbench.files.locks import clear, hold
from wsssbench.identity import Record, Stage, plain
from wsssbench.judging.cell_judging import (
    cell_kinds,
    cell_labels,
    cell_scores,
    cell_threshold,
    is_tuned_elsewhere,
    judged_files,
    label_kind,
)
from wsssbench.judging.kept_scores import MASKS, is_judged_alike, kept_scores
from wsssbench.judging.tag_agreement import check_tagged
from wsssbench.machine.env import provenance
from wsssbench.machine.hardware import Hardware, is_deterministic
from wsssbench.machine.process import forget_frames
from wsssbench.masks import write_labels
from wsssbench.planning.cells import Cell, PlannedStep, Trial
from wsssbench.planning.plan import is_judged_otherwise, judged_step, state_of
from wsssbench.records.store import (
    TRACE,
    claim,
    forget_failure,
    replacing,
    set_aside_damaged,
    write_failure,
    write_record,
)  # fmt: skip
from wsssbench.running.context import RunContext
from wsssbench.running.demands import judged_demands
from wsssbench.running.fits import (
    cell_timing,
    chain_of,
    code_of_fits,
    is_stale,
    read_fit,
    sharing_processes,
    write_fit,
)
from wsssbench.running.isolation.marks import ARTIFACTS, begin, is_foreign, isolation_of, lacks_isolation
from wsssbench.running.predicting import predict_missing
from wsssbench.running.renewal import Renewed
from wsssbench.running.screen.cell_lines import cell_line, counted, reason_of
from wsssbench.running.screen.progress import Progress
from wsssbench.running.screen.tasks import Task
from wsssbench.scores.counts_table import COUNTS
from wsssbench.types import Kind, Predictor, View

if TYPE_CHECKING:
    from wsssbench.distributed.team import Team
    from wsssbench.running.isolation.boxed import Isolation
    from wsssbench.running.screen.board import Board

TOGETHER = 64  # images whose labels are made together: of real photographs a few sizes are common


class Engine:
    """Runs the cells of one plan; fitted steps and artifacts are shared by key."""

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
        self._renewed = Renewed() if renewed is None else renewed  # folders of steps that this run makes anew

    def run(self, cells: Sequence[Cell]) -> int:
        """Run every cell that is not done; the number of cells that failed."""
        pending = [cell for cell in cells if cell.state in ("missing", "failed")]
        for cell in pending:
            self._note_demands(cell)
        if not pending and any(cell.state != "skip" for cell in cells):
            self.progress.say(f"nothing to run: {counted(cells)}; --rerun all runs what is done again")
        failed = 0
        with self.progress.live():
            for number, cell in enumerate(pending, 1):
                self.progress.heading(cell.title, f"cell {number} of {len(pending)}")
                failed += self._run_pending(cell)
                self._let_go(pending[number:])
        return failed

    def _let_go(self, rest: Sequence[Cell]) -> None:
        """Forget the predictors that no cell of `rest` needs."""
        chains = (chain_of(judged_step(cell.trial.steps, cell.stage)) for cell in rest)
        needed = {planned.key for chain in chains for planned in chain}
        self._fitted = {key: predictor for key, predictor in self._fitted.items() if key in needed}

    def _run_pending(self, cell: Cell) -> bool:
        """Run a cell that was not done when it was planned, and say how it went; whether it failed."""
        start = time.perf_counter()
        with hold(cell.folder, self.progress.say):
            done = state_of(cell) == "done" and cell.rerun != "all"
            if done and not (self.sandbox and lacks_isolation(cell.folder)):
                self.progress.say(f"{cell.title}: done by another process meanwhile")
                return False
            if damage := set_aside_damaged(cell.folder):
                self.progress.say(f"{cell.title}: {damage}")
            self._renew_steps(cell)
            record, hint = self._run_cell(cell)
        self.progress.say(cell_line(cell, record, time.perf_counter() - start, hint))
        return record.status == "failed"

    def _run_cell(self, cell: Cell) -> tuple[Record, str]:
        """Its record and, where it failed by a mistake that can be mended, the next step."""
        hint = ""
        try:
            record = self._judge(cell)
        except (Exception, SystemExit) as error:  # a plugin's failure becomes a record, never a lost run
            record = self._record(cell, "failed", {}, {}, reason_of(error, cell.folder / TRACE))
            write_failure(cell.folder, record, traceback.format_exc())
            hint = error.hint if isinstance(error, WsssError) else ""
            forget_frames(error)
        return record, hint

    def _judge(self, cell: Cell) -> Record:
        artifacts = self._cell_artifacts(cell)
        threshold = cell_threshold(cell, artifacts, lambda: self._tuning_artifacts(cell))
        with replacing(cell.folder) as new:
            with self.progress.task(f"{cell.title}: labels") as task:
                self._write_labels(cell, artifacts, new / MASKS, threshold, task)
            with self.progress.task(f"{cell.title}: scores"):
                scores, counts = cell_scores(cell, new / MASKS, artifacts, threshold)
                kept = kept_scores(cell.folder, scores, lambda _, record: is_judged_alike(cell, record, new))
            for line in kept.lines():
                self.progress.say(f"{cell.title}: {line}")
            kept.joined(counts).save(new / COUNTS)
            hashes = self._hashes(cell, new, artifacts)
            timing, scores = cell_timing(cell, artifacts), {**scores, **kept.scores}
            record = self._record(cell, "ok", scores, timing, hashes=hashes, judged_by=kept.judged_by)
            write_record(new, record)
            forget_failure(cell.folder)
        if self.board is not None:
            self.board.cell(cell, scores)
        return record

    def _record(
        self,
        cell: Cell,
        status: Any,
        scores: dict[str, Any],
        timing: dict[str, Any],
        reason: str = "",
        hashes: dict[str, str] | None = None,
        judged_by: Mapping[str, str] | None = None,
    ) -> Record:
        seen = {
            **provenance(self.hardware.device),
            "code": code_of_fits(cell.trial),
            "judged_by": {**cell.judged_by, **(judged_by or {})},
            "cards": {p.name: plain(p.step.card) for p in cell.trial.steps},
            "dataset": plain(cell.trial.dataset.card),
            "hashes": hashes or {},
            **({"deterministic": True} if is_deterministic() else {}),
            **({"processes": shared} if (shared := sharing_processes(cell.trial)) else {}),
            **isolation_of(cell, self.sandbox),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return Record(cell.key, status, cell.trial.method, cell.identity, scores, timing, seen, reason)

    # --------------------------------------------------------------------------------------- steps, artifacts

    def _renew_steps(self, cell: Cell) -> None:
        """Remove what the steps of a cell that runs anew have left: everything, or what older code made."""
        otherwise = cell.rerun == "stale" and is_judged_otherwise(cell)
        for planned in cell.trial.steps:
            if cell.rerun == "all" or (cell.rerun == "stale" and is_stale(planned)):
                self._renew(planned, planned.folder)
            elif otherwise:  # the code that keeps outputs is the judge's
                self._renew(planned, planned.folder / ARTIFACTS)

    def _renew(self, planned: PlannedStep, folder: Path) -> None:
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
        step = self.isolation.step(trial, planned) if self.isolation else planned.step
        if read_fit(planned) and not (self.sandbox and is_foreign(planned.folder)):
            return None if self.isolation else planned.step.restore(ctx)
        view = View(trial.dataset, trial.dataset.card.fit_split, planned.step.card.supervision, self.limit)
        given = self._learned_from(trial, planned, view)
        begin(planned.folder, self.sandbox)
        claim(planned.folder, planned.key)
        team = self.team if trains_together(planned.step) else None
        others = team.led_training(planned.key, self.hardware.device) if team else nullcontext()
        start = time.perf_counter()
        try:
            with self.progress.task(f"{planned.name} seed {trial.seed}: fit") as task, others:
                ctx.task = task
                predictor = step.fit(view, given, ctx)
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

    def _note_demands(self, cell: Cell) -> None:
        """Remember what each stage will want, so that one pass of a predictor serves them all."""
        for demand in judged_demands(cell):
            self._demands.setdefault((demand.planned.key, demand.name), set()).update(demand.kinds)

    # ------------------------------------------------------------------------------------------------- labels

    def _cell_artifacts(self, cell: Cell) -> ArtifactFolder:
        trial, stage, kinds = cell.trial, cell.stage, cell_kinds(cell)
        planned = judged_step(trial.steps, stage)
        return self.artifacts(trial, planned, cell.split, kinds, tags_given=stage.tags_given, stage=stage)

    def _tuning_artifacts(self, cell: Cell) -> ArtifactFolder:
        """The maps of the images whose masks choose the cell's threshold."""
        return self.artifacts(
            cell.trial,
            judged_step(cell.trial.steps, cell.stage),
            cell.trial.dataset.card.label_split,
            ["maps"],
            tags_given=cell.stage.tags_given,
            part=cell.tuned_on,
        )

    def _write_labels(
        self, cell: Cell, artifacts: ArtifactFolder, masks: Path, threshold: float | None, task: Task
    ) -> None:
        """The labels that are judged, as palette PNGs in the cell's folder."""
        kind, run = label_kind(cell), self.hardware
        assert kind is not None
        masks.mkdir(parents=True, exist_ok=True)
        if cell.stage.tags_given:
            check_tagged(artifacts, cell.trial.dataset, [kind])
        for first in range(0, len(cell.ids), TOGETHER):
            ids = cell.ids[first : first + TOGETHER]
            if kind == "labels":
                for id in ids:
                    artifacts.share(id, "labels", masks / f"{id}.png")
            else:
                found = [artifacts.read(id, [kind]) for id in ids]
                made = cell_labels(cell, found, ids, threshold, backend=run.filter_backend, device=run.device)
                for id, labels in zip(ids, made, strict=True):
                    write_labels(masks / f"{id}.png", labels)
            task.update(first + len(ids), len(cell.ids), len(ids), {})

    def _hashes(self, cell: Cell, new: Path, artifacts: ArtifactFolder) -> dict[str, str]:
        """The sums of the files that the scores came from, written; masks that are artifacts count once."""
        tuning = self._tuning_artifacts(cell) if is_tuned_elsewhere(cell) else artifacts
        made_from = judged_files(cell, artifacts, tuning)
        masks = [new / MASKS / f"{id}.png" for id in cell.ids]
        return write_sums(new, [*made_from, *masks, new / COUNTS], [COUNTS], home=cell.folder)
