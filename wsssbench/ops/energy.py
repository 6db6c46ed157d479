"""The gated dense energy loss of RRM (Zhang et al., AAAI 2020, section 3.3), value and gradient.

-(1/B) sum_k <S_k, G * (W S_k)> with W the bilateral Gaussian filter, S the masked probabilities and G a gate
that is open where no label is known. A loss and its gradient live here, no training.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wsssbench.errors import UnknownName, nearest
from wsssbench.ops.gaussian import Filter, bilateral_features, gaussian_filter
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
    small = interpolate(
        probs.float(), scale_factor=scale, mode="bilinear", align_corners=False,
        recompute_scale_factor=recompute_scale,
    )  # fmt: skip
    planes = (image, roi.unsqueeze(1), labels.unsqueeze(1))
    image, roi, labels = (_nearest(x, scale, recompute_scale) for x in planes)
    mask = roi[:, 0]
    gate = (mask - small.detach().amax(1)).clamp_min(0)
    gate = torch.where(labels[:, 0] == IGNORE, torch.ones_like(gate), gate)
    features = bilateral_features(image.permute(0, 2, 3, 1), sigma_xy * scale, sigma_rgb)
    energy = _GatedEnergy.apply(small, mask, gate, gaussian_filter(features, backend), gradient)
    return weight * cast(Tensor, energy)


def _nearest(x: Tensor, scale: float, recompute: bool) -> Tensor:
    plane = x.detach().float()
    return interpolate(plane, scale_factor=scale, mode="nearest", recompute_scale_factor=recompute)


def _filter_planes(f: Filter, planes: Tensor) -> Tensor:
    """(B, C, H, W) planes through a filter of (B, N, C) values."""
    return f(planes.flatten(2).transpose(1, 2)).transpose(1, 2).view(planes.shape)


class _GatedEnergy(torch.autograd.Function):
    """Value and hand-written gradient; the filter is linear and self-adjoint."""

    @staticmethod
    def forward(ctx: Any, probs: Tensor, mask: Tensor, gate: Tensor, f: Filter, gradient: Gradient) -> Tensor:
        mask, gate = mask.unsqueeze(1), gate.unsqueeze(1)
        masked = probs * mask
        gated = _filter_planes(f, masked).mul_(gate)
        if ctx.needs_input_grad[0]:
            slope = 2 * gated if gradient == "published" else gated + _filter_planes(f, gate * masked)
            ctx.save_for_backward(slope.mul_(mask))
        return -(masked * gated).sum() / len(probs)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * (-outputs[0] / len(slope)), None, None, None, None
