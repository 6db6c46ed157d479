"""Is one method better than another? A paired bootstrap over images and seeds, and what it can show.

Arrays of counts come in, differences with intervals go out; files, records and tables must not enter. Scores
are those of `wsssbench.metrics.Iou`, computed for thousands of resamples at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.types import IGNORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.judge import CountsTable

    Floats = NDArray[np.float64]

RESAMPLES, CHUNK = 10_000, 500
LEVEL = 0.95
POWER_FACTOR = 1.96 + 0.84  # standard errors that a two-sided test at 5 % finds with a power of 80 %
SUMMARIES = ("miou", "miou_foreground", "precision", "recall")


@dataclass(frozen=True)
class ImageCounts:
    """What is counted in each of n images for each of C classes, background first; pixels, (n, C) float32."""

    hit: NDArray[np.float32]  # TP
    truth: NDArray[np.float32]  # TP + FN, abstained pixels among them
    said: NDArray[np.float32]  # TP + FP

    @classmethod
    def of(cls, table: CountsTable, classes: int) -> ImageCounts:
        """The counts of a table of triples; pixels without truth are left out."""
        shape = (len(table.ids), classes + 1)
        hit, truth, said = (np.zeros(shape, np.float32) for _ in range(3))
        known = table.gold != IGNORE
        named = known & (table.predicted != IGNORE)
        right = known & (table.gold == table.predicted)
        np.add.at(truth, (table.image[known], table.gold[known]), table.pixels[known])
        np.add.at(said, (table.image[named], table.predicted[named]), table.pixels[named])
        np.add.at(hit, (table.image[right], table.gold[right]), table.pixels[right])
        return cls(hit, truth, said)

    def columns(self) -> NDArray[np.float32]:
        """(n, 3 C): the three side by side."""
        return np.concatenate([self.hit, self.truth, self.said], axis=1)


@dataclass(frozen=True)
class Difference:
    """One score of two methods, in points: the second's is subtracted from the first's."""

    score: str  # of SUMMARIES, or the name of a class (its IoU)
    first: float
    second: float
    difference: float
    low: float  # interval of 95 %
    high: float
    p: float  # two-sided, that there is no difference
    smallest: float  # difference that such data would have shown in four of five studies

    @property
    def shown(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def compare_counts(
    first: Sequence[ImageCounts],
    second: Sequence[ImageCounts],
    class_names: Sequence[str],
    *,
    same_images: bool,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Difference]:
    """Differences of the summaries and of each class's IoU between two methods.

    `first[s]` and `second[s]` are the counts of training seed s; `class_names` are the C classes, background
    first. Where all seeds judge the `same_images`, these are drawn again with replacement, the same for both
    methods and all seeds, within strata of the rarest class that they show, so that no class is lost; then
    seeds are drawn again. Where each seed has images of its own, its score varies with them already, and
    seeds alone are drawn. A mean over few seeds varies more than resampling shows: the seeds' part is widened
    so that the interval is Student's for n seeds. With one seed the interval is of images alone.
    """
    draw = np.random.default_rng(seed)
    pairs = [np.concatenate([a.columns(), b.columns()], axis=1) for a, b in zip(first, second, strict=True)]
    strata = [rarest_class(a.truth) for a in first]
    point = np.stack([_scores(pair.sum(0, dtype=np.float64)[None])[:, 0] for pair in pairs])  # (S, 2, Q)
    replicates = np.concatenate(
        [
            _resampled(pairs, strata, min(CHUNK, resamples - start), draw, same_images=same_images)
            for start in range(0, resamples, CHUNK)
        ]
    )
    names = [*SUMMARIES, *class_names]
    return [_difference(name, point[:, :, q], replicates[:, q]) for q, name in enumerate(names)]


def student_interval(sample: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of at least two values, by Student's t."""
    from scipy.special import stdtrit  # scipy.stats would cost half a second

    values = np.asarray(sample, np.float64)
    half = stdtrit(len(values) - 1, (1 + LEVEL) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def widening(seeds: int) -> float:
    """What turns the resampled spread of a mean of n seeds into Student's: sqrt(n / (n - 1)) t_n-1 / z."""
    return float(np.sqrt(seeds / (seeds - 1))) * _student_over_normal(seeds)


def _student_over_normal(seeds: int) -> float:
    from scipy import stats

    tail = (1 + LEVEL) / 2
    return float(stats.t.ppf(tail, seeds - 1) / stats.norm.ppf(tail))


def rarest_class(truth: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n,) for each image the class of (n, C) that the fewest images show, among those it shows itself."""
    shown = truth > 0
    return np.asarray(np.where(shown, shown.sum(0), len(truth) + 1).argmin(1))


def _resampled(
    pairs: Sequence[NDArray[np.float32]],
    strata: Sequence[NDArray[np.int64]],
    count: int,
    draw: np.random.Generator,
    *,
    same_images: bool,
) -> Floats:
    """(count, Q) differences of the seeds' mean, each from images and seeds drawn anew."""
    seeds = len(pairs)
    if same_images or seeds == 1:
        weights = image_weights(strata[0], count, draw)
        scores = [_scores(weights @ pair) for pair in pairs]
    else:
        scores = [_scores(pair.sum(0, keepdims=True)).repeat(count, axis=1) for pair in pairs]
    each = np.stack([both[0] - both[1] for both in scores])  # (S, count, Q)
    if seeds == 1:
        return np.asarray(each[0])
    drawn = each[draw.integers(0, seeds, (seeds, count)), np.arange(count)].mean(0)
    middle = each.mean(0)
    return np.asarray(middle + widening(seeds) * (drawn - middle))


def image_weights(stratum: NDArray[np.int64], count: int, draw: np.random.Generator) -> NDArray[np.float32]:
    """(count, n) how often each image is drawn; every stratum keeps its size."""
    weights = np.zeros((count, len(stratum)), np.float32)
    for value in np.unique(stratum):
        members = np.flatnonzero(stratum == value)
        drawn = draw.integers(0, len(members), (count, len(members)))
        drawn += np.arange(count)[:, None] * len(members)
        times = np.bincount(drawn.ravel(), minlength=count * len(members))
        weights[:, members] = times.reshape(count, len(members))
    return weights


def _scores(sums: NDArray[np.float32] | Floats) -> Floats:
    """(2, R, Q) scores in % of both methods from (R, 6 C) summed counts; NaN where a score is not defined."""
    classes = sums.shape[1] // 6
    hit, truth, said = sums.astype(np.float64).reshape(len(sums), 2, 3, classes).transpose(2, 1, 0, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        present = truth > 0
        iou = np.where(present, hit / (truth + said - hit), np.nan)
        recall = np.where(present, hit / truth, np.nan)
        precision = np.where(present & (said > 0), hit / said, np.nan)
    means = [_mean(iou), _mean(iou[..., 1:]), _mean(precision), _mean(recall)]
    return 100 * np.concatenate([np.stack(means, axis=-1), iou], axis=-1)


def _mean(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(-1) / known.sum(-1))


def _difference(name: str, point: Floats, replicates: Floats) -> Difference:
    """`point` (S, 2) are the scores themselves, `replicates` (R,) the resampled differences."""
    first, second = (float(x) for x in point.mean(0))
    drawn = replicates[np.isfinite(replicates)]
    if not len(drawn) or not np.isfinite(first - second):
        return Difference(name, first, second, *[float("nan")] * 5)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(
        name, first, second, first - second, float(low), float(high),
        p=_p_value(first - second, drawn, len(point)), smallest=float(POWER_FACTOR * drawn.std()),
    )  # fmt: skip


def _p_value(difference: float, drawn: Floats, seeds: int) -> float:
    """Two-sided: the share of draws beyond zero, and for several seeds no less than Student's test says.

    Of few seeds that all point one way no draw lies beyond zero, however much they vary.
    """
    below, above = (1 + (drawn <= 0).sum()) / (1 + len(drawn)), (1 + (drawn >= 0).sum()) / (1 + len(drawn))
    resampled = float(min(1.0, 2 * min(below, above)))
    if seeds == 1 or not drawn.std():
        return resampled
    from scipy import stats

    error = drawn.std() / _student_over_normal(seeds)
    return max(resampled, float(2 * stats.t.sf(abs(difference) / error, seeds - 1)))


def holm(values: Sequence[float]) -> list[float]:
    """p values adjusted for their number (Holm, Scand. J. Statistics 1979), in the order given."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, largest = [0.0] * len(values), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - place) * values[i]))
        adjusted[i] = largest
    return adjusted
