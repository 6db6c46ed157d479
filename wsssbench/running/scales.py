"""Multi-scale testing of any step that gives probabilities: scales and mirror images averaged.

What the step before said of an image is turned with it: its planes lie over the whole image, at a stride of
their own, so that they are mirrored only; labels have one number for each pixel, and are scaled as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wsssbench.errors import BadData
from wsssbench.types import Kind, Outputs, Predictor


class MultiScale(Predictor):
    """A predictor that averages another's probabilities over scales and flips, on the grid of scale 1."""

    def __init__(self, predictor: Predictor, scales: Sequence[float], *, flip: bool) -> None:
        self.predictor, self.scales, self.flip = predictor, scales, flip
        self.images_per_call = predictor.images_per_call

    def __call__(
        self,
        images: Sequence[Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> Sequence[Outputs]:
        plain = self._probs(images, tags, given)  # they set the grid, and are one of the views
        sums = [torch.zeros_like(probs) for probs in plain]
        views = [
            (scale, flip) for scale in self.scales for flip in ((False, True) if self.flip else (False,))
        ]
        for scale, flip in views:
            found = plain
            if (scale, flip) != (1.0, False):
                turned = [_turned(image, scale, flip) for image in images]
                sizes = [(image.shape[-2], image.shape[-1]) for image in turned]
                before = [_turned_outputs(*each, flip) for each in zip(given, sizes, strict=True)]
                found = self._probs(turned, tags, before)
            for total, probs in zip(sums, found, strict=True):
                probs = probs.flip(-1) if flip else probs
                total += F.interpolate(
                    probs[None], size=total.shape[-2:], mode="bilinear", align_corners=False
                )[0]
        return [Outputs(probs=(total / len(views)).numpy()) for total in sums]

    def _probs(
        self, images: Sequence[Tensor], tags: NDArray[np.bool_] | None, given: Sequence[Outputs]
    ) -> list[Tensor]:
        outputs = self.predictor(images, tags, given, frozenset({"probs"}))
        if any(o.probs is None for o in outputs):
            hint = "its card says that it gives them: return them, or take them out of `gives`"
            raise BadData("the step was asked for probs and returned none", where="several scales", hint=hint)
        return [torch.from_numpy(np.asarray(o.probs, np.float32)) for o in outputs]


def _turned(image: Tensor, scale: float, flip: bool) -> Tensor:
    """uint8 (3, H, W) scaled bilinearly, sizes rounded, and mirrored where `flip` says so."""
    if scale != 1.0:
        height, width = (max(1, round(side * scale)) for side in image.shape[-2:])
        size = (height, width)
        resized = F.interpolate(image[None].float(), size=size, mode="bilinear", align_corners=False)
        image = resized[0].round().clamp(0, 255).to(torch.uint8)
    return image.flip(-1) if flip else image


def _turned_outputs(given: Outputs, size: tuple[int, int], flip: bool) -> Outputs:
    """What was said of an image, for its view of (H, W) = `size`; `tag_scores` hold for every view."""
    maps, probs, labels, mined = given.maps, given.probs, given.labels, given.mined
    if maps is not None and flip:
        maps = dataclasses.replace(maps, values=_mirrored(maps.values))
    return dataclasses.replace(
        given,
        maps=maps,
        probs=_mirrored(probs) if probs is not None and flip else probs,
        labels=None if labels is None else _turned_labels(labels, size, flip),
        mined=None if mined is None else _turned_labels(mined, size, flip),
    )


def _turned_labels(labels: NDArray[np.uint8], size: tuple[int, int], flip: bool) -> NDArray[np.uint8]:
    """(H, W) labels at `size`, each pixel that of the nearest one, and mirrored where `flip` says so."""
    pixels = torch.from_numpy(np.array(labels))[None, None]
    resized: NDArray[np.uint8] = F.interpolate(pixels, size=size, mode="nearest-exact")[0, 0].numpy()
    return _mirrored(resized) if flip else resized


def _mirrored(planes: NDArray[Any]) -> NDArray[Any]:
    """(..., H, W) with the columns in reverse; contiguous, as torch wants its arrays."""
    return np.ascontiguousarray(planes[..., ::-1])
