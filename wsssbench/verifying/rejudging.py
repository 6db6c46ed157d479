"""A cell judged once more from what it and its steps left on disk, and set against what was recorded.

The judge's own code does it (`wsssbench.judging.cell_judging`, `wsssbench.judging.judge`). What is not there
any more is named, and the rest is checked all the same. Nothing is predicted and nothing is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wsssbench.artifacts import ArtifactFolder
from wsssbench.errors import WsssError
from wsssbench.files.file_hashes import labels_sha256
from wsssbench.judging.cell_judging import cell_labels, cell_scores, cell_threshold
from wsssbench.judging.judge import counted_scores
from wsssbench.machine.env import hardware, versions
from wsssbench.masks import missing_masks, read_labels
from wsssbench.planning.cells import Cell, artifact_name
from wsssbench.planning.plan import is_tuned_elsewhere, judged_step, label_kind
from wsssbench.scores.counts_table import COLUMNS, COUNTS, CountsTable
from wsssbench.scores.image_counts import COLUMNS as MORE
from wsssbench.scores.image_counts import ImageArrays
from wsssbench.types import Kind, Metric
from wsssbench.verifying.verification import Verification, some_of

MASKS = "masks"
CHOSEN = "threshold"  # stands among the scores of a row whose policy chose it
CRF_SLACK = 1e-4  # share of pixels that a dense CRF may label otherwise: floats are summed in another order
TOGETHER = 64  # images whose labels are made together
ARITHMETIC = ("torch", "numpy", "numba")  # whose versions may move a CRF's last bits


def judge_again(seen: Verification, cell: Cell, table: CountsTable | None, *, from_masks: bool) -> None:
    """Threshold, labels, counts and scores of the cell, as far as its files are there.

    `table` holds the counts that were kept. With `from_masks` labels are not made again.
    """
    masks = cell.folder / MASKS
    missing = missing_masks(masks, cell.ids) if masks.is_dir() else list(cell.ids)
    if missing:
        seen.unknown.append(f"masks are not there: {some_of(missing, len(cell.ids))}")
        if table is not None:
            check_table_alone(seen, table, cell.metrics, len(cell.trial.dataset.card.class_names))
        return
    artifacts = _artifacts(cell)
    try:
        _check_digest(seen, cell, masks)
        threshold, known = _threshold(seen, cell, artifacts)
        if known and not from_masks:
            _check_labels(seen, cell, artifacts, masks, threshold)
        cell = _without_lost_metrics(seen, cell, artifacts)
        scores, counted = cell_scores(cell, masks, artifacts, threshold)
    except WsssError as error:  # a file that is damaged, or labels and truth of two sizes
        seen.unknown.append(f"cannot be judged: {one_line(error)}")
        return
    if table is not None:
        _check_table(seen, table, counted)
    recorded = seen.record.scores
    asked = [metric.name for metric in cell.metrics] + [CHOSEN] * (CHOSEN in scores)
    seen.compare_scores({name: recorded.get(name) for name in asked}, scores)
    seen.checked["images"] = len(cell.ids)


def check_table_alone(
    seen: Verification, table: CountsTable, metrics: Sequence[Metric], classes: int
) -> None:
    """The scores that follow from the kept counts, where masks or truth are not there."""
    found = counted_scores(table, metrics, classes)
    seen.compare_scores({name: seen.record.scores[name] for name in found}, found)
    seen.notes.append(f"{', '.join(found)} compared with {COUNTS} alone")


def one_line(error: WsssError) -> str:
    """What the error says and where, without its next step."""
    return f"{error.what} [{error.where}]" if error.where else error.what


# ----------------------------------------------------------------------------------------------- artifacts


def _artifacts(cell: Cell) -> ArtifactFolder:
    """The outputs of the judged step on the judged split; of files that were scored there are none."""
    if not cell.trial.steps:
        return ArtifactFolder(cell.folder / "artifacts", cell.ids)
    name = artifact_name(cell.split, cell.stage.tags_given, cell.stage)
    return ArtifactFolder(judged_step(cell.trial.steps, cell.stage).folder / "artifacts" / name, cell.ids)


def _tuning(cell: Cell) -> ArtifactFolder:
    """The maps that the threshold was tuned on, of another split."""
    split = cell.trial.dataset.card.label_split
    name = artifact_name(split, cell.stage.tags_given, part=cell.tuned_on)
    folder = judged_step(cell.trial.steps, cell.stage).folder / "artifacts" / name
    return ArtifactFolder(folder, cell.tuned_on)


def _lost(artifacts: ArtifactFolder, ids: Sequence[str], kind: Kind) -> str:
    """Why the outputs of `ids` cannot be read; empty where they are all there."""
    missing = ArtifactFolder(artifacts.folder, ids).missing([kind])
    if not missing:
        return ""
    place = f"{artifacts.folder.parent.parent.name}/{artifacts.folder.parent.name}/{artifacts.folder.name}"
    return f"the {kind} in {place} are gone: {some_of(missing, len(ids))}"


def _without_lost_metrics(seen: Verification, cell: Cell, artifacts: ArtifactFolder) -> Cell:
    """The cell with those metrics whose outputs are there."""
    needs = dict.fromkeys(metric.needs for metric in cell.metrics if metric.needs != "labels")
    lost = {kind: why for kind in needs if (why := _lost(artifacts, cell.ids, kind))}
    gone = [metric.name for metric in cell.metrics if metric.needs in lost]
    if gone:
        foreign = f"the {' and '.join(lost)} of files that were scored are not kept"
        why = "; ".join(lost.values()) if cell.trial.steps else foreign
        seen.unknown.append(f"{', '.join(gone)}: {why}")
    return dataclasses.replace(cell, metrics=tuple(m for m in cell.metrics if m.needs not in lost))


# ------------------------------------------------------------------------------------- threshold and labels


def _threshold(seen: Verification, cell: Cell, artifacts: ArtifactFolder) -> tuple[float | None, bool]:
    """The threshold by the cell's policy, and whether it is known: its maps may be gone."""
    known = cell.identity.threshold
    if known is not None and "value" not in known:
        found = _tuning(cell) if is_tuned_elsewhere(cell) else artifacts
        why = _lost(found, cell.tuned_on or cell.ids, "maps")
        if why:
            seen.unknown.append(f"the threshold cannot be chosen again: {why}")
            return None, False
    return cell_threshold(cell, artifacts, lambda: _tuning(cell)), True


def _check_digest(seen: Verification, cell: Cell, masks: Path) -> None:
    """The labels of files that were scored are still those."""
    recorded = seen.record.provenance.get("labels", {}).get("sha256")
    if recorded:
        found = labels_sha256(cell.ids, lambda id: read_labels(masks / f"{id}.png"))
        seen.compare("labels", "labels", recorded, found)


def _check_labels(
    seen: Verification, cell: Cell, artifacts: ArtifactFolder, masks: Path, threshold: float | None
) -> None:
    """The masks are what the stage makes of the judged step's outputs."""
    kind = label_kind(cell) if cell.trial.steps else None
    if kind is None:  # they came as files: the masks are all there is
        return
    why = _lost(artifacts, cell.ids, kind)
    if why and kind == "labels":
        seen.notes.append(f"masks stand for the labels of the step: {why}")
    elif why:
        seen.unknown.append(f"labels cannot be made again: {why}")
    else:
        _compare_labels(seen, cell, kind, _differing_pixels(cell, artifacts, kind, masks, threshold))


def _differing_pixels(
    cell: Cell, artifacts: ArtifactFolder, kind: Kind, masks: Path, threshold: float | None
) -> dict[str, tuple[int, int]]:
    """id -> pixels that differ, and pixels."""
    found: dict[str, tuple[int, int]] = {}
    for first in range(0, len(cell.ids), TOGETHER):
        ids = cell.ids[first : first + TOGETHER]
        outputs = [artifacts.read(id, [kind]) for id in ids]
        if kind == "labels":
            made = [output.labels for output in outputs]
        else:
            made = list(cell_labels(cell, outputs, ids, threshold, backend=cell.identity.filter_backend))
        for id, labels in zip(ids, made, strict=True):
            kept = read_labels(masks / f"{id}.png")
            same = labels is not None and labels.shape == kept.shape
            found[id] = (int(np.count_nonzero(labels != kept)) if same else kept.size, kept.size)
    return found


def _compare_labels(seen: Verification, cell: Cell, kind: Kind, pixels: dict[str, tuple[int, int]]) -> None:
    """Exact, but for a dense CRF: its last bits may fall otherwise on another machine."""
    others = [id for id, (differing, _) in pixels.items() if differing]
    differing, whole = (sum(column) for column in zip(*pixels.values(), strict=True))
    said = f"{differing:,} of {whole:,} pixels differ in {some_of(others, len(cell.ids))}"
    if not others:
        return
    if cell.stage.crf is None or (differing > CRF_SLACK * whole and _made_like_here(seen)):
        seen.differ("labels", f"masks against the {kind} that they come from", said)
    elif differing > CRF_SLACK * whole:
        seen.unknown.append(f"labels made again by the CRF, on another machine: {said}")
    else:
        seen.notes.append(f"labels made again by the CRF: {said}")


def _made_like_here(seen: Verification) -> bool:
    """Whether the record was made on such a processor and with such libraries as are here."""
    then = seen.record.provenance
    made, here = then.get("hardware", {}), hardware("cpu")
    same_libraries = all(then.get("versions", {}).get(name) == versions().get(name) for name in ARITHMETIC)
    return same_libraries and all(made.get(name) == here[name] for name in ("device", "cpu"))


# -------------------------------------------------------------------------------------------------- counts


def _check_table(seen: Verification, kept: CountsTable, counted: CountsTable) -> None:
    """The counts that were kept are those of masks and truth, image by image."""
    if kept.ids != counted.ids:
        seen.differ("counts", COUNTS, f"of {len(kept.ids)} images, {len(counted.ids)} others are judged")
        return
    for metric, name in ((m, n) for m, parts in kept.more.items() for n in parts):
        if metric in counted.more and not _same_arrays(
            kept.more[metric][name], counted.more[metric].get(name)
        ):
            seen.differ("counts", f"{COUNTS}, {metric} {name}", "not of masks and truth")
    rows, others = (
        set(zip(*(getattr(t, n).tolist() for n in COLUMNS), strict=True)) for t in (kept, counted)
    )
    if differing := sorted({row[0] for row in rows ^ others}):
        named = some_of([kept.ids[image] for image in differing], len(kept.ids))
        seen.differ("counts", COUNTS, f"not of masks and truth in {named}")


def _same_arrays(kept: ImageArrays, counted: ImageArrays | None) -> bool:
    return counted is not None and all(
        np.array_equal(getattr(kept, name), getattr(counted, name)) for name in MORE
    )
