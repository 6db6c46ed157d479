"""Images and seeds resampled thousands of times, and how a score varies over the draws.

Columns of numbers that add up over images come in, replicates of scores go out. What a column or a score
means, files, records and tables must not enter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Columns: TypeAlias = NDArray[np.float32]  # (n, M): a line per image; or (R, M): their sums in R draws
    Score: TypeAlias = Callable[[Columns | Floats], Floats]  # (R, M) sums -> (R, ...) scores, NaN: undefined

RESAMPLES, CHUNK = 10_000, 500
LEVEL = 0.95


def replicates(
    tables: Sequence[Columns],
    strata: Sequence[NDArray[np.int64]],
    score: Score,
    *,
    same_images: bool,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Floats:
    """(resamples, ...) scores, the mean over seeds, each of images and seeds drawn with replacement.

    `tables[s]` and `strata[s]` belong to training seed s. Where all seeds judge the `same_images`, these are
    drawn, the same for all seeds, within strata; then seeds are drawn. Where each seed has images of its own,
    its score varies with them already, and seeds alone are drawn. A mean over few seeds varies more than
    resampling shows: the seeds' part is widened so that the interval is Student's for n seeds. With one seed
    the replicates are of images alone.
    """
    draw = np.random.default_rng(seed)
    whole = None if same_images or len(tables) == 1 else [score(t.sum(0, keepdims=True)) for t in tables]
    parts = [
        _drawn(tables, strata[0], score, whole, min(CHUNK, resamples - start), draw)
        for start in range(0, resamples, CHUNK)
    ]
    return np.concatenate(parts)


def _drawn(
    tables: Sequence[Columns],
    stratum: NDArray[np.int64],
    score: Score,
    whole: Sequence[Floats] | None,
    count: int,
    draw: np.random.Generator,
) -> Floats:
    """(count, ...) of the replicates; `whole` has the seeds' own scores where images are not drawn."""
    seeds = len(tables)
    if whole is None:
        weights = image_weights(stratum, count, draw)
        each = np.stack([score(weights @ table) for table in tables])  # (S, count, ...)
    else:
        each = np.stack(whole).repeat(count, axis=1)
    if seeds == 1:
        return np.asarray(each[0])
    drawn = each[draw.integers(0, seeds, (seeds, count)), np.arange(count)].mean(0)
    middle = each.mean(0)
    return np.asarray(middle + widening(seeds) * (drawn - middle))


def of_both(score: Score) -> Score:
    """(R, 2, Q) scores of two methods whose columns are side by side, (R, 2 M)."""

    def both(sums: Columns | Floats) -> Floats:
        half = sums.shape[1] // 2
        return np.stack([score(sums[:, :half]), score(sums[:, half:])], axis=1)

    return both


def less(score: Score) -> Score:
    """(R, Q) scores of the first of two such methods less those of the second."""

    def difference(sums: Columns | Floats) -> Floats:
        both = of_both(score)(sums)
        return np.asarray(both[:, 0] - both[:, 1])

    return difference


def points(tables: Sequence[Columns], score: Score) -> Floats:
    """(S, ...) the score of each seed's own images, without resampling."""
    return np.stack([score(table.sum(0, dtype=np.float64)[None])[0] for table in tables])


def image_weights(stratum: NDArray[np.int64], count: int, draw: np.random.Generator) -> Columns:
    """(count, n) how often each image is drawn; every stratum keeps its size."""
    weights = np.zeros((count, len(stratum)), np.float32)
    for value in np.unique(stratum):
        members = np.flatnonzero(stratum == value)
        drawn = draw.integers(0, len(members), (count, len(members)))
        drawn += np.arange(count)[:, None] * len(members)
        times = np.bincount(drawn.ravel(), minlength=count * len(members))
        weights[:, members] = times.reshape(count, len(members))
    return weights


def rarest_class(truth: NDArray[Any]) -> NDArray[np.int64]:
    """(n,) for each image the class of (n, C) that the fewest images show, among those it shows itself.

    Strata by it keep a class of few images in every draw.
    """
    shown = truth > 0
    return np.asarray(np.where(shown, shown.sum(0), len(truth) + 1).argmin(1))


def interval_of(drawn: Floats) -> tuple[float, float]:
    """The middle 95 % of replicates (R,), without those that are undefined; NaN where all are."""
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def widening(seeds: int) -> float:
    """What turns the resampled spread of a mean of n seeds into Student's: sqrt(n / (n - 1)) t_n-1 / z."""
    return float(np.sqrt(seeds / (seeds - 1))) * student_over_normal(seeds)


def student_over_normal(seeds: int) -> float:
    """How much further from the middle the 95 % of Student's t for n seeds reach than the normal ones."""
    from scipy.special import ndtri, stdtrit  # scipy.stats would cost a second

    tail = (1 + LEVEL) / 2
    return float(stdtrit(seeds - 1, tail) / ndtri(tail))
