"""Is one method better than another? A paired bootstrap over images and seeds, and what it can show.

Arrays of counts come in, differences with intervals go out; files, records and tables must not enter. Scores
are those of `wsssbench.metrics` and of the confusion's other metrics, for thousands of resamples at once; how
images and seeds are drawn is `wsssbench.statistics.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.statistics.bootstrap import (
    LEVEL,
    RESAMPLES,
    interval_of,
    less,
    of_both,
    points,
    rarest_class,
    replicates,
    student_over_normal,
)

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from wsssbench.scores.counts_table import ImagePixels
    from wsssbench.statistics.bootstrap import Columns, Floats, Score

    Ints: TypeAlias = NDArray[np.int64]
    Parts: TypeAlias = tuple[Floats, Floats, Floats]  # hit, truth, said: (..., C) each

POWER_FACTOR = 1.96 + 0.84  # standard errors that a two-sided test at 5 % finds with a power of 80 %
MAIN = ("miou", "miou_foreground", "precision", "recall")
SUMMARIES = (
    *MAIN,
    *("pixel_accuracy", "coverage", "precision_of_labelled_pixels", "frequency_weighted_iou"),
    *("fp_ratio", "fn_ratio", "fp_ratio_foreground", "fn_ratio_foreground", "image_miou"),
)  # each is called as in the scores of its metric
LOWER = ("fp_ratio", "fn_ratio", "fp_ratio_foreground", "fn_ratio_foreground")  # of which less is better


@dataclass(frozen=True)
class Difference:
    """One score of two methods, in its unit: the second's is subtracted from the first's."""

    score: str  # of SUMMARIES, the name of a class (its IoU), or "metric.number"
    first: float
    second: float
    difference: float
    low: float  # interval of 95 %
    high: float
    p: float  # two-sided, of the hypothesis of no difference
    smallest: float  # difference that such data would have shown in four of five studies
    over: str = ""  # what was drawn: images, seeds, images and seeds
    adjusted: float = float("nan")  # p for the number of methods (Holm)
    better: str = "higher"  # or lower, or "" where that is not known

    @property
    def shown(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def compare_counts(
    first: Sequence[ImagePixels],
    second: Sequence[ImagePixels],
    class_names: Sequence[str],
    *,
    same_images: bool,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Difference]:
    """Differences of the summaries and of each class's IoU between two methods.

    `first[s]` and `second[s]` are the counts of training seed s; `class_names` are the C classes, background
    first. Images and seeds are drawn as `replicates` says, the same for both methods, images within strata of
    the rarest class that they show, so that no class is lost.
    """
    pairs = [np.concatenate([_columns(a), _columns(b)], axis=1) for a, b in zip(first, second, strict=True)]
    strata = [rarest_class(a.truth) for a in first]
    names, how = [*SUMMARIES, *class_names], {"resamples": resamples, "seed": seed}
    found = differences(names, pairs, strata, _scores, same_images=same_images, **how)
    return [replace(d, better="lower") if d.score in LOWER else d for d in found]


def what_is_drawn(seeds: int, *, same_images: bool) -> str:
    """Over what a difference of this many seeds is resampled."""
    return "images" if seeds == 1 else "images and seeds" if same_images else "seeds"


def student_interval(sample: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of at least two values, by Student's t."""
    from scipy.special import stdtrit  # scipy.stats would cost half a second

    values = np.asarray(sample, np.float64)
    half = stdtrit(len(values) - 1, (1 + LEVEL) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def _columns(pixels: ImagePixels) -> Columns:
    """(n, 3 C + 2): hit, truth, said, then whether the image has truth, and its mIoU (0..1)."""
    known = np.asarray(pixels.truth.any(1))
    own = np.zeros((len(known), 2), np.float32)
    own[known, 0], own[known, 1] = 1, mean_known(class_iou(*(part[known].astype(float) for part in pixels)))
    return np.concatenate([*(part.astype(np.float32) for part in pixels), own], axis=1)


def _scores(sums: Columns | Floats) -> Floats:
    """(R, Q) scores in % of one method from (R, M) summed columns; NaN: not defined."""
    columns = sums.astype(np.float64)
    images, points = columns[:, -2], columns[:, -1]
    hit, truth, said = np.split(columns[:, :-2], 3, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        image_miou = np.where(images > 0, points / images, np.nan)
        iou = class_iou(hit, truth, said)
        summaries = [*_summaries((hit, truth, said), iou), image_miou]
    return 100 * np.concatenate([np.stack(summaries, axis=-1), iou], axis=-1)


def class_iou(hit: Floats, truth: Floats, said: Floats) -> Floats:
    """(..., C) IoU in 0..1 of summed pixels, NaN for a class without truth."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(truth > 0, hit / (truth + said - hit), np.nan)


def _summaries(parts: Parts, iou: Floats) -> list[Floats]:
    """All of SUMMARIES but the last, as shares, (...) each."""
    hit, truth, said = parts
    present, union = truth > 0, truth + said - hit
    recall = np.where(present, hit / truth, np.nan)
    precision = np.where(present & (said > 0), hit / said, np.nan)
    false, missed = (np.where(present, wrong / union, np.nan) for wrong in (said - hit, truth - hit))
    total, labelled, right = (part.sum(-1) for part in (truth, said, hit))
    return [
        *(mean_known(iou), mean_known(iou[..., 1:]), mean_known(precision), mean_known(recall)),
        *(right / total, labelled / total, right / labelled),
        np.where(present, truth * iou, 0).sum(-1) / total,
        *(mean_known(false), mean_known(missed), mean_known(false[..., 1:]), mean_known(missed[..., 1:])),
    ]


def mean_known(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(-1) / known.sum(-1))


def differences(
    names: Sequence[str],
    pairs: Sequence[Columns],
    strata: Sequence[NDArray[np.int64]],
    score: Score,
    **how: Any,
) -> list[Difference]:
    """Of the numbers of `score`, by their `names`, first method less second.

    `pairs` hold the columns of both side by side, a table for each seed. `how` is for `replicates`.
    """
    point, drawn = points(pairs, of_both(score)), replicates(pairs, strata, less(score), **how)
    return [difference_of(name, point[:, :, q], drawn[:, q]) for q, name in enumerate(names)]


def difference_of(name: str, point: Floats, drawn: Floats) -> Difference:
    """`point` (S, 2) are the scores of each seed themselves, `drawn` (R,) the resampled differences."""
    first, second = (float(x) for x in point.mean(0))
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or not np.isfinite(first - second):
        none = float("nan")
        return Difference(name, first, second, none, none, none, none, none)
    return Difference(
        name, first, second, first - second, *interval_of(drawn),
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
    from scipy.special import stdtr  # scipy.stats would cost a second

    error = drawn.std() / student_over_normal(seeds)
    return max(resampled, float(2 * stdtr(seeds - 1, -abs(difference) / error)))


def holm(values: Sequence[float]) -> list[float]:
    """p values adjusted for their number (Holm, Scand. J. Statistics 1979), in the order given."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, largest = [0.0] * len(values), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - place) * values[i]))
        adjusted[i] = largest
    return adjusted
