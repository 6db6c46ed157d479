"""From maps or probabilities to labels by a dense CRF: what the CRF stages and the `crf` step share."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from wsssbench.masks import resize_bilinear
from wsssbench.ops.mean_field import mean_field
from wsssbench.types import CrfSet, DatasetCard, Maps

VOC_PX = 500  # long side of a VOC image: the CRF widths of the field are pixels of such an image
LOWEST = 1e-5  # probabilities are clipped here before the logarithm (RRM code, unary_from_softmax)


def sigma_scale(card: DatasetCard) -> float:
    """What spatial widths are multiplied by, so that they cover the same share of a smaller image."""
    return card.image_px / VOC_PX


def planes_of_maps(maps: Maps, background: float) -> NDArray[np.float32]:
    """(T + 1, h, w) planes that sum to 1, a constant background plane first.

    Their argmax is the label that the threshold `background` gives, so a CRF on them starts from there. A
    threshold of 0 stands for LOWEST: where no map says anything there is something to divide by.
    """
    height, width = maps.values.shape[-2:]
    constant = np.full((1, height, width), max(background, LOWEST), np.float32)
    planes = np.concatenate([constant, maps.values.astype(np.float32)])
    result: NDArray[np.float32] = planes / planes.sum(0, keepdims=True)
    return result


def crf_labels(
    image: NDArray[np.uint8],
    planes: NDArray[np.float32],
    labels: NDArray[np.integer],
    crf: CrfSet,
    *,
    scale: float,
    backend: str,
    device: str = "cpu",
) -> NDArray[np.uint8]:
    """(H, W) labels: dense CRF over planes (L, h, w), where plane l stands for label `labels[l]`.

    Planes are probabilities; they are brought to the size of `image` (H, W, 3) as logarithms, which for a
    softmax is the same as resizing its logits.
    """
    shape = (image.shape[0], image.shape[1])
    unary = -resize_bilinear(np.log(np.clip(planes, LOWEST, 1.0)), shape)
    marginals = mean_field(
        torch.from_numpy(np.ascontiguousarray(unary))[None].to(device),
        torch.from_numpy(np.ascontiguousarray(image))[None].to(device),
        crf,
        backend=backend,
        scale=scale,
    )
    best = marginals[0].argmax(0).cpu().numpy()
    chosen: NDArray[np.uint8] = np.asarray(labels, np.uint8)[best]
    return chosen
