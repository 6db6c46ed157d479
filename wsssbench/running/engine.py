"""The cells of a plan judged one by one: labels from the outputs of their steps, scores, record.

From the artifacts on only files are read: scoring needs no torch and can be repeated. A cell that fails gets
a record that says so, and the others go on.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsssbench.artifacts import ArtifactFolder
from wsssbench.errors import WsssError
from wsssbench.files.file_hashes import write_sums
from wsssbench.files.locks import hold
from wsssbench.identity import Record, plain
from wsssbench.judging.cell_judging import cell_labels, cell_scores, cell_threshold, judged_files
from wsssbench.judging.kept_scores import MASKS, is_judged_alike, kept_scores
from wsssbench.judging.tag_agreement import check_tagged
from wsssbench.machine.env import provenance
from wsssbench.machine.hardware import is_deterministic
from wsssbench.machine.process import forget_frames
from wsssbench.masks import write_labels
from wsssbench.planning.cells import Cell
from wsssbench.planning.plan import cell_kinds, is_tuned_elsewhere, judged_step, label_kind, state_of
from wsssbench.records.store import (
    TRACE,
    forget_failure,
    replacing,
    set_aside_damaged,
    write_failure,
    write_record,
)  # fmt: skip
from wsssbench.running.fits import cell_timing, code_of_fits, sharing_processes
from wsssbench.running.isolation.marks import isolation_of, lacks_isolation
from wsssbench.running.screen.cell_lines import cell_line, counted, reason_of
from wsssbench.running.screen.tasks import Task
from wsssbench.running.step_runner import StepRunner
from wsssbench.scores.counts_table import COUNTS

TOGETHER = 64  # images whose labels are made together: of real photographs a few sizes are common


class Engine:
    """Runs the cells of one plan; `steps` fits and predicts what they need."""

    def __init__(self, steps: StepRunner) -> None:
        self.steps, self.progress, self.board = steps, steps.progress, steps.board

    def run(self, cells: Sequence[Cell]) -> int:
        """Run every cell that is not done; the number of cells that failed."""
        pending = [cell for cell in cells if cell.state in ("missing", "failed")]
        for cell in pending:
            self.steps.note_demands(cell)
        if not pending and any(cell.state != "skip" for cell in cells):
            self.progress.say(f"nothing to run: {counted(cells)}; --rerun all runs what is done again")
        failed = 0
        with self.progress.live():
            for number, cell in enumerate(pending, 1):
                self.progress.heading(cell.title, f"cell {number} of {len(pending)}")
                failed += self._run_pending(cell)
                self.steps.let_go(pending[number:])
        return failed

    def _run_pending(self, cell: Cell) -> bool:
        """Run a cell that was not done when it was planned, and say how it went; whether it failed."""
        start = time.perf_counter()
        with hold(cell.folder, self.progress.say):
            done = state_of(cell) == "done" and cell.rerun != "all"
            if done and not (self.steps.sandbox and lacks_isolation(cell.folder)):
                self.progress.say(f"{cell.title}: done by another process meanwhile")
                return False
            if damage := set_aside_damaged(cell.folder):
                self.progress.say(f"{cell.title}: {damage}")
            self.steps.renew(cell)
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
            **provenance(self.steps.hardware.device),
            "code": code_of_fits(cell.trial),
            "judged_by": {**cell.judged_by, **(judged_by or {})},
            "cards": {p.name: plain(p.step.card) for p in cell.trial.steps},
            "dataset": plain(cell.trial.dataset.card),
            "hashes": hashes or {},
            **({"deterministic": True} if is_deterministic() else {}),
            **({"processes": shared} if (shared := sharing_processes(cell.trial)) else {}),
            **isolation_of(cell, self.steps.sandbox),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return Record(cell.key, status, cell.trial.method, cell.identity, scores, timing, seen, reason)

    def _cell_artifacts(self, cell: Cell) -> ArtifactFolder:
        trial, stage, kinds = cell.trial, cell.stage, cell_kinds(cell)
        planned = judged_step(trial.steps, stage)
        return self.steps.artifacts(
            trial, planned, cell.split, kinds, tags_given=stage.tags_given, stage=stage
        )

    def _tuning_artifacts(self, cell: Cell) -> ArtifactFolder:
        """The maps of the images whose masks choose the cell's threshold."""
        return self.steps.artifacts(
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
        kind, run = label_kind(cell), self.steps.hardware
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
