"""What scores of maps, probabilities and tag scores share: checks, exact bins, average precision.

Scores in [0, 1] become integer histograms here, on thresholds that are the multiples of 1 / steps. What a
histogram means, and which pixels go into it, is the business of each metric and must not enter.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.errors import BadData
from wsssbench.masks import largest_plane
from wsssbench.metrics import wrong_labels
from wsssbench.types import IGNORE, Maps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask

    Floats = NDArray[np.floating]

FINE = 1000  # thresholds of an average precision; the 0.001 of Choe et al., CVPR 2020


def truth_pixels(gold: Mask, classes: int, truth: object = "") -> NDArray[np.int64]:
    """(C,) int64 pixels of each label of an (H, W) uint8 truth, void left out; `classes` is K, C = K + 1.

    BadData, naming `truth`, for another type or a label that is neither in 0..K nor 255.
    """
    if gold.dtype != np.uint8 or gold.ndim != 2:
        raise BadData(f"truth must be (H, W) uint8, not {gold.shape} {gold.dtype}", where=truth)
    pixels = np.bincount(gold.ravel(), minlength=IGNORE + 1).astype(np.int64)
    wrong = np.flatnonzero(pixels[classes + 1 : IGNORE]) + classes + 1
    if len(wrong):
        raise wrong_labels("truth", wrong, classes, truth)
    return pixels[: classes + 1]


def checked_scores(values: Floats, name: str, shape: tuple[int | None, ...], where: object = "") -> Floats:
    """`values`, if their shape is `shape` (None is any positive size) and all are in [0, 1]; else BadData."""
    fits = values.ndim == len(shape) and all(
        have == want if want is not None else have > 0 for have, want in zip(values.shape, shape, strict=True)
    )
    if not fits or not np.issubdtype(values.dtype, np.floating):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise BadData(f"{name} are {values.shape} {values.dtype}, not ({wanted}) floats", where=where)
    if values.size and not (values.min() >= 0 and values.max() <= 1):  # false for NaN, too
        raise BadData(
            f"{name} have values outside 0..1", where=where, hint="scale the values to 0..1, and remove NaN"
        )
    return values


def checked_maps(maps: Maps, classes: int, where: object = "") -> Maps:
    """`maps`, if the T classes ascend within 0..K-1 and the values are (T, h, w) in [0, 1]; else BadData."""
    own = maps.classes
    if len(own) == len(maps.values) == 0:
        return maps
    checked_scores(maps.values, "maps", (len(own), None, None), where)
    if not (own[0] >= 0 and own[-1] < classes and np.all(np.diff(own) > 0)):
        hint = f"classes of maps are 0-based and ascending, in 0..{classes - 1}"
        raise BadData(f"maps are of classes {own.tolist()}", where=where, hint=hint)
    return maps


def largest_map(maps: Maps, shape: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Class + 1 of the largest map of each pixel and its value, (H, W) each, after resizing to `shape`.

    0 and 0.0 where no map is positive. At a tie the lower class wins, as in
    `wsssbench.masks.threshold_labels`: its labels at any t >= 0 are these where the value exceeds t.
    """
    return largest_plane(maps.values, (int(k) + 1 for k in maps.classes), shape, 0)


def unbroken_run(good: NDArray[np.bool_], start: int) -> tuple[int, int]:
    """First and last index of the unbroken run of `good` around `start`."""
    bad = np.flatnonzero(~good)
    cut = int(np.searchsorted(bad, start))
    first = int(bad[cut - 1]) + 1 if cut else 0
    return first, int(bad[cut]) - 1 if cut < len(bad) else len(good) - 1


@functools.cache
def _grid(steps: int) -> NDArray[np.float32]:
    """i / steps for i in 0..steps-1 in float32, as thresholds are compared; infinity for the rest."""
    grid = np.append(np.arange(steps) / steps, np.inf).astype(np.float32)
    grid.setflags(write=False)
    return grid


def thresholds_below(values: Floats, steps: int) -> NDArray[np.int32]:
    """How many of the thresholds i / steps, i in 0..steps-1, each value exceeds: 0..steps, int32.

    Exactly that of `value > np.float32(i / steps)` for float32 values in [0, 1], or off by a rounding of a
    resize, and `steps` below 2**20: the bins are [0, 0], (0, 1/steps], (1/steps, 2/steps] ...
    """
    values = np.asarray(values, np.float32)
    cell = (values * np.float32(steps)).astype(np.int32)
    # All thresholds before `cell` are exceeded and none after it: a float32 above a threshold rounded to
    # float32 is above the true one too, and its rounded product reaches it. Only `cell` itself is open.
    cell += values > _grid(steps)[cell]
    return cell


def average_precision(positive: NDArray[np.int64], negative: NDArray[np.int64]) -> float | None:
    """Average precision in % of two histograms (bins,) over ascending scores; None without positives.

    AP = sum over thresholds of precision * (recall - recall at the next higher threshold), not interpolated;
    what shares a bin is accepted at once.
    """
    total = int(positive.sum())
    if not total:
        return None
    hit = np.cumsum(positive[::-1])
    accepted = hit + np.cumsum(negative[::-1])
    precision = hit / np.maximum(accepted, 1)
    return 100.0 * float(np.sum(precision * positive[::-1])) / total
