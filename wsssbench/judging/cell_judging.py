"""How one cell is judged, from artifacts on disk: its threshold, its labels, its scores. The engine does it
after predicting, `wsssbench verify` does it once more; nothing is predicted, written or recorded here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.artifacts import ArtifactFolder
from wsssbench.identity import Stage
from wsssbench.judging.judge import score_folder, score_outputs, tagged_outputs
from wsssbench.masks import tagged_maps
from wsssbench.planning.cells import Cell
from wsssbench.planning.plan import cell_kinds, is_tuned_elsewhere
from wsssbench.planning.stages import sigma_scale
from wsssbench.planning.thresholds import chosen_threshold
from wsssbench.scores.counts_table import CountsTable
from wsssbench.types import DatasetCard, Maps, Outputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Image, Mask, Tags


def cell_threshold(
    cell: Cell, artifacts: ArtifactFolder, tuning: Callable[[], ArtifactFolder]
) -> float | None:
    """The threshold of the cell's maps: of its identity, or chosen by its policy; None where none is needed.

    `tuning()` gives the maps of the images that it is tuned on, where these are of another split.
    """
    known, terms = cell.identity.threshold, cell.identity.terms
    if known is None or "value" in known:
        return known["value"] if known else None
    found = tuning() if is_tuned_elsewhere(cell) else artifacts
    ids = cell.tuned_on or cell.ids

    def maps_of(id: str) -> Maps:
        return tagged_maps(maps_in(found, id), _tags(cell, id))

    return chosen_threshold(terms.threshold_policy, cell.trial.dataset, ids, maps_of)


def cell_labels(
    cell: Cell,
    found: Sequence[Outputs],
    ids: Sequence[str],
    threshold: float | None,
    *,
    backend: str,
    device: str = "cpu",
) -> list[Mask]:
    """(H, W) labels of the images `ids`, for which the judged step returned `found`, by the cell's stage."""
    data = cell.trial.dataset
    return judged_labels(
        cell.stage,
        data.card,
        found,
        [data.image(id) for id in ids],
        threshold=threshold,
        tags=np.stack([data.tags(id) for id in ids]) if cell.stage.tags_given else None,
        backend=backend,
        device=device,
    )


def judged_labels(
    stage: Stage,
    card: DatasetCard,
    found: Sequence[Outputs],
    images: Sequence[Image],
    *,
    threshold: float | None,
    tags: NDArray[np.bool_] | None,
    backend: str,
    device: str,
) -> list[Mask]:
    """(H, W) labels of `images` for which a step returned `found`, as artifacts keep it.

    The judge makes labels in this way, and so do `predict` and `export`.
    """
    from wsssbench.judging.labels import DenseCrf, stage_labels  # late: it needs torch

    crf = DenseCrf(stage.crf, sigma_scale(card), backend, device) if stage.crf else None
    return stage_labels(found, images, crf, threshold=threshold, tags=tags)


def cell_scores(
    cell: Cell, masks: Path, artifacts: ArtifactFolder, threshold: float | None
) -> tuple[dict[str, dict[str, Any]], CountsTable]:
    """Scores of all the cell's metrics by name, and the confusion of each image of <masks>/<id>.png."""
    data = cell.trial.dataset
    by_labels = [metric for metric in cell.metrics if metric.needs == "labels"]
    others = [metric for metric in cell.metrics if metric.needs != "labels"]
    scores, counts = score_folder(data, cell.split, masks, by_labels, ids=cell.ids, threads=2)
    if others:
        kinds = [metric.needs for metric in others]

        def outputs(id: str) -> Outputs:
            return tagged_outputs(artifacts.read(id, kinds), _tags(cell, id))

        scores |= score_outputs(data, cell.ids, outputs, others)
    if threshold is not None and cell.identity.terms.threshold_policy != "fixed":
        scores["threshold"] = {"value": threshold}
    return scores, counts


def _tags(cell: Cell, id: str) -> Tags | None:
    """The tags that the cell's stage gives of an image; None where it gives none."""
    return cell.trial.dataset.tags(id) if cell.stage.tags_given else None


def judged_files(cell: Cell, artifacts: ArtifactFolder, tuning: ArtifactFolder) -> list[Path]:
    """The files of artifacts that the cell is judged by, beside labels, which its masks are copies of.

    `tuning` holds the maps that a threshold was tuned on, where they are of another split.
    """
    kinds = [kind for kind in cell_kinds(cell) if kind != "labels"]
    files = [artifacts.path(id, kind) for kind in kinds for id in cell.ids]
    if cell.identity.threshold is None:
        return files
    return files + [tuning.path(id, "maps") for id in cell.tuned_on]


def maps_in(artifacts: ArtifactFolder, id: str) -> Maps:
    """The maps of one image."""
    maps = artifacts.read(id, ["maps"]).maps
    assert maps is not None
    return maps
