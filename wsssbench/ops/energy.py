"""The gated dense energy loss of RRM (Zhang et al., AAAI 2020, section 3.3), value and gradient.

-(1/B) sum_k <S_k, G * (W S_k)> with W the bilateral Gaussian filter, S the masked probabilities and G a gate
that is open where no label is known. A loss and its gradient live here, no training.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from wsssbench.errors import UnknownName, nearest
from wsssbench.ops.filters import Filter
from wsssbench.ops.gaussian import bilateral_features, gaussian_filter
from wsssbench.ops.halving import bilinear, nearest_pixels
from wsssbench.types import IGNORE

Gradient = Literal["published", "true"]
PAPER_WEIGHT = 1e-7  # default of the published code's --densecrfloss
PAPER_PIXELS = 160 * 160  # crops of 321, scaled by 0.5


def energy_weight(pixels: int) -> float:
    """The weight for `pixels` filtered pixels that equals the paper's at its own size.

    The energy is a sum over pairs of pixels, so the paper's 1e-7 at N0 = 160 * 160 becomes 1e-7 (N0 / N)^2.
    """
    return PAPER_WEIGHT * (PAPER_PIXELS / pixels) ** 2


def dense_energy(
    probs: Tensor, image: Tensor, roi: Tensor, labels: Tensor, *,
    sigma_rgb: float = 15.0, sigma_xy: float = 100.0, scale: float = 0.5, weight: float = PAPER_WEIGHT,
    backend: str = "lattice", gradient: Gradient = "published", recompute_scale: bool = False,
) -> Tensor:  # fmt: skip
    """The energy times `weight`, a scalar that is differentiable with respect to `probs`.

    `probs` (B, C, H, W) probabilities; `image` (B, 3, H, W) RGB in 0..255; `roi` (B, H, W), 1 on real pixels
    and 0 on padding; `labels` (B, H, W) uint8, 255 = unknown. All are resized by `scale` first; `sigma_xy` is
    in unscaled pixels. `gradient="published"` is the published backward pass, which doubles the first
    term of the derivative instead of adding the second; "true" is the derivative with the gate held fixed.
    `recompute_scale` resizes by the ratio of the sizes, as torch before 1.6 did, instead of by `scale`.
    """
    if gradient not in ("published", "true"):
        raise UnknownName(f"unknown gradient {gradient!r}", hint=nearest(gradient, ("published", "true")))
    small = bilinear(probs, scale, recompute_scale)
    planes = (image, roi.unsqueeze(1), labels.unsqueeze(1))
    image, roi, labels = (nearest_pixels(x, scale, recompute_scale) for x in planes)
    mask = roi[:, 0]
    gate = (mask - small.detach().amax(1)).clamp_min(0)
    gate = torch.where(labels[:, 0] == IGNORE, torch.ones_like(gate), gate)
    features = bilateral_features(image.permute(0, 2, 3, 1), sigma_xy * scale, sigma_rgb)
    energy = _GatedEnergy.apply(small, mask, gate, gaussian_filter(features, backend), gradient)
    return weight * cast(Tensor, energy)


class _GatedEnergy(torch.autograd.Function):
    """Value and hand-written gradient; the filter is linear and self-adjoint."""

    @staticmethod
    def forward(ctx: Any, probs: Tensor, mask: Tensor, gate: Tensor, f: Filter, gradient: Gradient) -> Tensor:
        gated = _between(mask, f, probs, gate * mask)
        if ctx.needs_input_grad[0]:
            # The derivative has two terms; the published code takes the first one twice.
            ctx.times = 2 if gradient == "published" else 1
            second = None if gradient == "published" else _between(gate * mask, f, probs, mask)
            ctx.save_for_backward(gated if second is None else gated + second)
        return -_inner(probs, gated) / len(probs)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * (-ctx.times * outputs[0] / len(slope)), None, None, None, None


def _between(before: Tensor, f: Filter, planes: Tensor, after: Tensor) -> Tensor:
    """after * filter of (before * planes): planes (B, C, H, W), the factors (B, H, W)."""
    return f.between(before.flatten(1), planes.flatten(2), after.flatten(1)).view(planes.shape)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """The sum of a * b over everything, a scalar; on the CPU in an order that does not depend on threads."""
    if a.device.type != "cpu":
        return (a * b).sum()
    rows = (x.detach().reshape(-1, x.shape[-1]).numpy() for x in (a, b))
    return a.new_tensor(np.einsum("rx,rx->r", *rows).sum(dtype=np.float64))
