"""Which images a gallery shows: by stated rules over the scores of every image, never by hand.

Arrays and ids alone; what the pictures look like is `wsssbench.reporting.page.pictures`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


def choose(ids: Sequence[str], scores: NDArray[np.float64], each: int = EACH) -> list[Chosen]:
    """At most `each` images by each of RULES, in their order.

    `scores` is (methods, images): mIoU in % of each image, NaN where its truth shows no class; such images
    are never chosen. Equal images stand in the order of `ids`.
    """
    known = np.flatnonzero(np.isfinite(scores).all(0))
    taken: set[int] = set()
    chosen = []
    for rule, order in zip(RULES, _orders(scores, known), strict=True):
        fresh = [i for i in order if i not in taken][:each]
        taken |= set(fresh)
        chosen += [Chosen(ids[i], rule, n + 1) for n, i in enumerate(fresh)]
    return chosen


def _orders(scores: NDArray[np.float64], known: NDArray[np.intp]) -> Iterator[list[int]]:
    """The images by each rule, those that fit it most first."""
    mean = scores[:, known].mean(0)
    gap = np.ptp(scores[:, known], axis=0)
    for key in (-mean, mean, np.abs(mean - np.median(mean)) if len(mean) else mean, -gap):
        yield known[np.argsort(key, kind="stable")].tolist()
    yield np.random.default_rng(RANDOM_SEED).permutation(known).tolist()
