"""The same images for all methods, chosen by a rule: whose masks, which images, and the truth beside them.

The data set is opened as a record describes it; a generated one is drawn again. Nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from wsssbench.errors import BadData, NotComparable, WsssError
from wsssbench.identity import Record
from wsssbench.masks import missing_masks, overlay, read_labels
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.figures.cells import Table
from wsssbench.reporting.figures.qualitative import masks_figure
from wsssbench.scores.counts_table import COUNTS, CountsTable
from wsssbench.scores.images import image_iou
from wsssbench.types import IGNORE, Dataset

if TYPE_CHECKING:
    from wsssbench.types import Image

MASKS = "masks"
MOST_METHODS = 8
SOLID = 0.75  # opacity of labels


@dataclass(frozen=True)
class Choice:
    """The cells of one seed and table whose masks are shown, and the images."""

    cells: tuple[tuple[str, StoredRecord], ...]  # title of the row, cell
    ids: tuple[str, ...]
    rule: str  # how the images were chosen, in words
    left_out: tuple[str, ...]  # titles of rows without masks of this seed, or beyond the most

    @property
    def first(self) -> Record:
        return self.cells[0][1].record


def chosen_images(
    tables: Sequence[Table], stored: Sequence[StoredRecord], count: int, rule: str, seed: int
) -> Choice | None:
    """Images of the first table of a `seg` stage (else of the first) that has cells with masks, or None.

    Of the seeds that the most methods share the lowest is shown.
    """
    paths = {cell.record.key: cell for cell in stored if (cell.path.parent / MASKS).is_dir()}
    for table in sorted(tables, key=lambda t: not t.lines[0].row.terms.stage.startswith("seg")):
        by_seed: dict[int, list[tuple[str, StoredRecord]]] = {}
        for line in table.finished:
            for own, record in {r.identity.seed: r for r in line.records if r.key in paths}.items():
                by_seed.setdefault(own, []).append((line.row.title, paths[record.key]))
        if by_seed:
            shown = max(sorted(by_seed), key=lambda own: len(by_seed[own]))
            cells = tuple(by_seed[shown][:MOST_METHODS])
            names = {title for title, _ in cells}
            left = tuple(line.row.title for line in table.lines if line.row.title not in names)
            ids, words = _ids(cells, count, rule, seed)
            return Choice(cells, ids, words, left)
    return None


def _ids(
    cells: Sequence[tuple[str, StoredRecord]], count: int, rule: str, seed: int
) -> tuple[tuple[str, ...], str]:
    """`count` of the images that all cells judge, in their order, and the rule in words."""
    counts = [CountsTable.load(cell.path.parent / COUNTS) for _, cell in cells]
    common = set(counts[0].ids).intersection(*(set(table.ids) for table in counts[1:]))
    known = [id for id in counts[0].ids if id in common]
    if not known:
        raise NotComparable("the cells have no image in common", where=", ".join(t for t, _ in cells))
    if rule == "random":
        chosen = np.random.default_rng(seed).choice(len(known), min(count, len(known)), replace=False)
        picked = {known[k] for k in chosen.tolist()}
        words = (
            f"drawn at random from the {len(known)} judged images (seed {seed} of numpy's default generator)"
        )
        return tuple(id for id in known if id in picked), words
    values = _image_mious(counts[0], len(cells[0][1].record.identity.terms.classes))
    middle = float(np.median([values[id] for id in known if id in values]))
    nearest = sorted((id for id in known if id in values), key=lambda id: (abs(values[id] - middle), id))[
        :count
    ]
    words = f"those whose per-image mIoU under {cells[0][0]} is nearest its median of {middle:.1f} %"
    return tuple(id for id in known if id in set(nearest)), words


def _image_mious(table: CountsTable, classes: int) -> dict[str, float]:
    """Mean over the classes of each image, by id; of images with truth."""
    iou, present = image_iou(table, classes)
    return {id: float(iou[i, present[i]].mean()) for i, id in enumerate(table.ids) if present[i].any()}


# ----------------------------------------------------------------------------------------------- data set


def faded(image: Image) -> Image:
    """(H, W, 3) `image` in light grey, on which the colours of labels are not mistaken for its own."""
    grey = np.rint(image.astype(np.float32).mean(-1) * 0.6 + 0.4 * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def draw(choice: Choice, dataset: Dataset) -> Figure:
    """Image, truth and each method's masks of the chosen images; BadData where masks are missing."""
    images = [dataset.image(id) for id in choice.ids]
    labels = {"truth": [dataset.mask(id) for id in choice.ids]}
    for title, cell in choice.cells:
        folder = cell.path.parent / MASKS
        if lacking := missing_masks(folder, choice.ids):
            raise BadData(
                f"{title} has no masks of {', '.join(lacking)}", where=folder, hint="judge it again"
            )
        labels[title] = [read_labels(folder / f"{id}.png") for id in choice.ids]
    columns = [("image", images)]
    for title, masks in labels.items():
        try:
            columns.append((title, [overlay(faded(i), m, SOLID) for i, m in zip(images, masks, strict=True)]))
        except ValueError as error:
            raise WsssError(f"{error}", where=title, hint="open the data set that was judged") from error
    shown = sorted({int(v) for masks in labels.values() for mask in masks for v in np.unique(mask)} - {0})
    names = {IGNORE: "void, abstained"} | {k + 1: n for k, n in enumerate(dataset.card.class_names)}
    return masks_figure(columns, {label: names[label] for label in shown if label in names})
