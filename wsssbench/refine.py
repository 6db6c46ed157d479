"""From maps or probabilities to labels by a dense CRF: what the CRF stages and the `crf` step share."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from wsssbench.masks import argmax_labels, resize_bilinear, threshold_labels
from wsssbench.ops.mean_field import mean_field
from wsssbench.types import CrfSet, Maps, Outputs

LOWEST = 1e-5  # probabilities are clipped here before the logarithm (RRM code, unary_from_softmax)


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


def stage_labels(
    found: Outputs,
    image: NDArray[np.uint8],
    crf: CrfSet | None,
    *,
    threshold: float | None,
    tags: NDArray[np.bool_] | None,
    scale: float,
    backend: str,
    device: str = "cpu",
) -> NDArray[np.uint8]:
    """(H, W) labels of one image by a stage's rule, from its labels, else its maps, else its probabilities.

    Maps need the `threshold`; `tags` (K,), where given, leave background and the tagged classes alone.
    """
    shape = (image.shape[0], image.shape[1])
    if found.labels is not None:
        return found.labels
    if crf is None and found.maps is not None:
        return threshold_labels(found.maps, _known(threshold), shape)
    if crf is None:
        return argmax_labels(_probs(found), shape, tags)
    if found.maps is not None:
        planes = planes_of_maps(found.maps, _known(threshold))
        labels = np.concatenate([[0], found.maps.classes + 1])
    else:
        kept = slice(None) if tags is None else np.append(True, tags)
        planes, labels = _probs(found)[kept], np.arange(len(_probs(found)))[kept]
    if len(labels) == 1:
        return np.full(shape, labels[0], np.uint8)
    return crf_labels(image, planes, labels, crf, scale=scale, backend=backend, device=device)


def _known(threshold: float | None) -> float:
    assert threshold is not None, "maps are judged by a threshold"
    return threshold


def _probs(found: Outputs) -> NDArray[np.float32]:
    assert found.probs is not None, "a stage judges labels, maps or probabilities"
    return found.probs


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
