"""The same images for all methods, chosen by a rule: whose masks, which images, and the truth beside them.

The data set is opened as a record describes it; a generated one is drawn again. Nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from wsssbench.errors import BadData, NotComparable, UnknownName, WsssError, nearest
from wsssbench.identity import Record
from wsssbench.masks import missing_masks, overlay, read_labels
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.choice import common_scores, orders
from wsssbench.reporting.figures.mask_sheet import masks_figure
from wsssbench.reporting.sections import Section, masks_of
from wsssbench.scores.counts_table import CountsTable
from wsssbench.types import IGNORE, Dataset

if TYPE_CHECKING:
    from wsssbench.types import Image

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


def chosen_images(sections: Sequence[Section], count: int, rule: str, seed: int) -> Choice | None:
    """Images of the first table of a `seg` stage (else of the first) that has cells with masks, or None.

    Of the seeds that the most methods share the lowest is shown.
    """
    for section in sorted(sections, key=lambda section: not section.terms.stage.startswith("seg")):
        shown = section.pictured(MOST_METHODS)
        if shown:
            cells = tuple((title, cell) for title, cell, _ in shown)
            left = tuple(line.title for line in section.lines if line.title not in dict(cells))
            ids, words = _ids(shown, count, rule, seed)
            return Choice(cells, ids, words, left)
    return None


def _ids(
    shown: Sequence[tuple[str, StoredRecord, CountsTable]], count: int, rule: str, seed: int
) -> tuple[tuple[str, ...], str]:
    """`count` of the images that all cells judge, in their order, and the rule in words."""
    titles = [title for title, *_ in shown]
    classes = len(shown[0][1].record.identity.terms.classes)
    ids, scores = common_scores([counts for *_, counts in shown], classes)
    known = orders(scores[:1], seed)
    if not (order := known["random"]):
        raise NotComparable("the cells have no image in common", where=", ".join(titles))
    words = {
        "random": f"drawn at random from the {len(order)} judged images with objects (seed {seed} of numpy's "
        "default generator)",
        "median": f"those whose per-image mIoU under {titles[0]} is nearest its median of "
        f"{np.nanmedian(scores[0]):.1f} %",
    }
    if rule not in words:
        raise UnknownName(f"no rule {rule!r} for images", hint=nearest(rule, [*words]))
    return tuple(ids[k] for k in sorted(known[rule][:count])), words[rule]


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
        folder = masks_of(cell)
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
