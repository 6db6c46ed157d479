"""Multi-scale testing of any step that gives probabilities: scales and mirror images averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wsssbench.errors import BadData
from wsssbench.types import Kind, Outputs, Predictor


class MultiScale:
    """A predictor that averages another's probabilities over scales and flips, on the grid of scale 1."""

    def __init__(self, predictor: Predictor, scales: Sequence[float], *, flip: bool) -> None:
        self.predictor, self.scales, self.flip = predictor, scales, flip

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
            turned = [_resized(image, scale).flip(-1) if flip else _resized(image, scale) for image in images]
            found = plain if (scale, flip) == (1.0, False) else self._probs(turned, tags, given)
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


def _resized(image: Tensor, scale: float) -> Tensor:
    """uint8 (3, H, W) scaled bilinearly, sizes rounded."""
    if scale == 1.0:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[-2:])
    size = (height, width)
    resized = F.interpolate(image[None].float(), size=size, mode="bilinear", align_corners=False)
    return resized[0].round().clamp(0, 255).to(torch.uint8)
