"""Which images are shown: by stated rules over the scores of every image, never by hand.

Arrays and ids alone; what the pictures look like is for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.scores.images import image_iou

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.scores.counts_table import CountsTable

EACH = 5  # images by each rule
RANDOM_SEED = 0
RULES = ("best", "worst", "median", "most disagreement", "random")
RULE_SENTENCE = (
    "Chosen by rule, {each} images each: best, worst and median by the mean over these methods of the "
    "image's mIoU (mean IoU of the classes that its truth shows); most disagreement: the largest difference "
    f"of it between two of them; random: drawn with seed {RANDOM_SEED}. An image that fits several rules "
    "stands under the first."
)


@dataclass(frozen=True)
class Chosen:
    """One image and why it is shown."""

    id: str
    rule: str
    number: int  # among those of its rule, from 1


def common_scores(tables: Sequence[CountsTable], classes: int) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The n images that every table judges, in the order of the first, and (tables, n) their mIoU in %.

    That of an image is the mean over the classes that its truth shows; NaN without any.
    """
    common = set.intersection(*(set(table.ids) for table in tables))
    ids = tuple(id for id in tables[0].ids if id in common)
    scores = np.full((len(tables), len(ids)), np.nan)
    for own, table in zip(scores, tables, strict=True):
        iou, present = image_iou(table, classes)
        number = present.sum(1)
        mean = np.where(number > 0, (iou * present).sum(1) / np.maximum(number, 1), np.nan)
        place = {id: n for n, id in enumerate(table.ids)}
        own[:] = mean[[place[id] for id in ids]]
    return ids, scores


def choose(ids: Sequence[str], scores: NDArray[np.float64], each: int = EACH) -> list[Chosen]:
    """At most `each` images by each of RULES, in their order.

    `scores` is (methods, images): mIoU in % of each image, NaN where its truth shows no class; such images
    are never chosen. Equal images stand in the order of `ids`.
    """
    taken: set[int] = set()
    chosen = []
    for rule, order in orders(scores).items():
        fresh = [i for i in order if i not in taken][:each]
        taken |= set(fresh)
        chosen += [Chosen(ids[i], rule, n + 1) for n, i in enumerate(fresh)]
    return chosen


def orders(scores: NDArray[np.float64], seed: int = RANDOM_SEED) -> dict[str, list[int]]:
    """By rule the images whose truth shows a class, those that fit it most first; `scores` as in `choose`."""
    known = np.flatnonzero(np.isfinite(scores).all(0))
    mean = scores[:, known].mean(0)
    middle = np.abs(mean - np.median(mean)) if len(mean) else mean
    keys = (-mean, mean, middle, -np.ptp(scores[:, known], axis=0))
    found = {
        rule: known[np.argsort(key, kind="stable")].tolist() for rule, key in zip(RULES, keys, strict=False)
    }
    return {**found, "random": np.random.default_rng(seed).permutation(known).tolist()}
