"""What speed is compared with: the published procedures on pydensecrf and numpy, and the field's evaluator.

Functions of arrays and files that a spawned process imports quickly: neither torch nor wsssbench with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Widths(NamedTuple):
    """Parameters of pydensecrf's two kernels; widths in pixels and in 0..255."""

    gauss_xy: float
    gauss_compat: float
    bilateral_xy: float
    bilateral_rgb: float
    bilateral_compat: float


MINING = Widths(3, 3, 80, 13, 10)  # the released RRM code, of label mining
INFERENCE = Widths(3, 3, 83, 5, 4)  # and of its inference


def pydensecrf(
    probs: NDArray[np.float32], image: NDArray[np.uint8], widths: Widths, scale: float = 1.0
) -> NDArray[np.float32]:
    """Marginals (L, H, W) after 10 iterations; `scale` multiplies the spatial widths."""
    from pydensecrf import densecrf

    labels, height, width = probs.shape
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(np.clip(probs, 1e-5, 1)).reshape(labels, -1)))
    crf.addPairwiseGaussian(sxy=widths.gauss_xy * scale, compat=widths.gauss_compat)
    crf.addPairwiseBilateral(
        sxy=widths.bilateral_xy * scale,
        srgb=widths.bilateral_rgb,
        rgbim=image,
        compat=widths.bilateral_compat,
    )
    return np.asarray(crf.inference(10), np.float32).reshape(probs.shape)


def mined_by_pydensecrf(
    image: NDArray[np.uint8], cams: NDArray[np.float32], scale: float = 1.0
) -> NDArray[np.uint8]:
    """The reliable-label rule in numpy with two runs of pydensecrf: what the published procedure costs.

    `image` (H, W, 3), `cams` (T, H, W) of the tagged classes; labels in {0..T, 255}.
    """
    top = cams.max(0)
    low, high = (
        pydensecrf(np.concatenate([((1 - top) ** a)[None], cams]), image, MINING, scale) for a in (4, 32)
    )
    first, second = low.argmax(0), high.argmax(0)
    label = np.where(second == 0, 0, np.where(first == 0, 255, first))
    background = (1 - top) ** 32
    winner = np.concatenate([background[None], cams]).argmax(0)
    sure = (winner == 0) & (background > 0.8) if (first == 0).any() else np.zeros(top.shape, bool)
    for c in np.unique(first[first > 0]):
        own = cams[c - 1] * (winner == c)
        counted = np.sort(own[own > 0.1])
        if len(counted):  # the published code stops here where there is none
            sure |= own > counted[int(0.6 * len(counted))]
    unsure = np.concatenate([high[:1], low[1:]]).max(0) < 0.8
    return np.where(unsure | ~sure, 255, label).astype(np.uint8)


def smooth_probs(labels: int, size: int = 321) -> NDArray[np.float32]:
    """(labels, size, size) probabilities as of a network's coarse grid."""
    import torch

    logits = torch.randn(1, labels, 12, 12, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(4 * logits, size=(size, size), mode="bilinear")
    return np.asarray(smooth.softmax(1)[0].numpy())


def filtered_by_pydensecrf(features: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sums of exp(-|f_i - f_j|^2 / 2) v_j by pydensecrf's lattice; features (N, d), values (N, C) >= 0.

    pydensecrf hands out no filter, but one step of inference from given marginals is softmax(w K Q): the
    logarithms, less that of a label whose values are zero, are w K Q again. w keeps them small.
    """
    from pydensecrf import densecrf

    points, channels = values.shape
    crf = densecrf.DenseCRF(points, channels + 1)
    crf.setUnaryEnergy(np.zeros((channels + 1, points), np.float32))
    weight = 20.0 / max(float(values.sum(0).max()), 1.0)  # no sum is larger
    crf.addPairwiseEnergy(
        np.ascontiguousarray(features.T), compat=weight,
        kernel=densecrf.DIAG_KERNEL, normalization=densecrf.NO_NORMALIZATION,
    )  # fmt: skip
    marginals, *scratch = crf.startInference()
    view = np.asarray(marginals)
    view[0], view[1:] = 0.0, values.T
    crf.stepInference(marginals, *scratch)
    logs = np.log(np.maximum(view, 1e-37))
    return np.ascontiguousarray((logs[1:] - logs[0]).T / weight)


def decoded(paths: Sequence[Path], threads: int) -> None:
    """What no scorer can do without: every file, by PIL, on `threads` cores."""
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda path: np.asarray(Image.open(path)), paths):
            pass


def usual_confusion(truth: Path, said: Path, ids: Sequence[str], classes: int) -> NDArray[np.int64]:
    """The (classes + 1, classes + 1) matrix as the field's scripts make it: a bincount an image, one core."""
    size = classes + 1
    total = np.zeros((size, size), np.int64)
    for id in ids:
        gold, label = (np.asarray(Image.open(folder / f"{id}.png")) for folder in (truth, said))
        valid = (gold >= 0) & (gold < size)
        both = size * gold[valid].astype(int) + label[valid]
        total += np.bincount(both, minlength=size**2).reshape(total.shape)
    return total
