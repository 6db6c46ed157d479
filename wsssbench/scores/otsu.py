"""A threshold for class maps that needs no masks: Otsu's, on the maps' own pooled histogram.

The label-free threshold policy. Everything follows from the maps; neither truth nor tags may enter, so that
the threshold can be chosen on any images, those that are judged among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wsssbench.errors import BadData
from wsssbench.scores.histogram import FINE, largest_map, thresholds_below, unbroken_run
from wsssbench.types import Maps

if TYPE_CHECKING:
    from numpy.typing import NDArray


def histogram(maps: Maps, shape: tuple[int, int]) -> NDArray[np.int64]:
    """(1000,) int64 pixels of one image by the value of the largest map; histograms of images add up.

    The maps are resized to `shape`, the image's size. Bin b holds the values in (b / 1000, (b + 1) / 1000],
    bin 0 also 0, so that the bins above t are what `threshold_labels` makes foreground at t. An image without
    maps has no value to count and gives zeros.
    """
    if not len(maps.classes):
        return np.zeros(FINE, np.int64)
    bins = np.bincount(thresholds_below(largest_map(maps, shape)[1], FINE).ravel(), minlength=FINE + 1)
    bins[1] += bins[0]
    return bins[1:].astype(np.int64)


def otsu(histogram: NDArray[np.int64]) -> float:
    """The threshold that divides a histogram of values in [0, 1] into the two most separate groups.

    Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 1979: the t that
    maximises the variance between the groups, w0 w1 (m0 - m1)^2, equally the t of least variance within them,
    over the inner edges of the equal bins. Values count as the middles of their bins. Where empty bins leave
    several t equal, the middle of the lowest run of them. BadData where all values share one bin, or none is.
    """
    n = len(histogram)
    low = np.cumsum(histogram)[:-1].astype(np.float64)  # pixels up to each inner edge
    mass = np.cumsum(histogram * np.arange(n))[:-1].astype(np.float64)
    total, whole = float(histogram.sum()), float((histogram * np.arange(n)).sum())
    divides = (low > 0) & (low < total)
    if not divides.any():
        hint = "check that the maps are not empty, or choose a fixed threshold"
        raise BadData(
            "all values of the maps are alike, so no threshold divides them", where="otsu", hint=hint
        )
    weights = np.where(divides, low * (total - low), 1.0)
    between = np.where(divides, (whole * low - total * mass) ** 2 / weights, -1.0)
    first, last = unbroken_run(between == between.max(), int(between.argmax()))
    return ((first + last) // 2 + 1) / n
