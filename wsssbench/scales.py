"""Multi-scale testing of any step that gives probabilities: scales and mirror images averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wsssbench.types import Kind, Outputs, Predictor


class MultiScale:
    """A predictor that averages another's probabilities over scales and flips, on the grid of scale 1."""

    def __init__(self, predictor: Predictor, scales: Sequence[float], *, flip: bool) -> None:
        self.predictor, self.flip = predictor, flip
        self.scales = sorted(scales, key=lambda s: s != 1.0)  # scale 1 first: it sets the grid

    def __call__(
        self,
        images: Sequence[Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> Sequence[Outputs]:
        grids = [p.shape[-2:] for p in self._probs(images, tags, given)]
        sums = [torch.zeros(0)] * len(images)
        views = [
            (scale, flip) for scale in self.scales for flip in ((False, True) if self.flip else (False,))
        ]
        for scale, flip in views:
            turned = [_resized(image, scale).flip(-1) if flip else _resized(image, scale) for image in images]
            for i, probs in enumerate(self._probs(turned, tags, given)):
                probs = probs.flip(-1) if flip else probs
                probs = F.interpolate(probs[None], size=grids[i], mode="bilinear", align_corners=False)[0]
                sums[i] = sums[i] + probs if len(sums[i]) else probs
        return [Outputs(probs=(total / len(views)).numpy()) for total in sums]

    def _probs(
        self, images: Sequence[Tensor], tags: NDArray[np.bool_] | None, given: Sequence[Outputs]
    ) -> list[Tensor]:
        outputs = self.predictor(images, tags, given, frozenset({"probs"}))
        return [torch.from_numpy(np.asarray(o.probs, np.float32)) for o in outputs]


def _resized(image: Tensor, scale: float) -> Tensor:
    """uint8 (3, H, W) scaled bilinearly, sizes rounded."""
    if scale == 1.0:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[-2:])
    size = (height, width)
    resized = F.interpolate(image[None].float(), size=size, mode="bilinear", align_corners=False)
    return resized[0].round().clamp(0, 255).to(torch.uint8)
