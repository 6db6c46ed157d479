"""The losses of RRM: balanced cross-entropy, and the gated dense energy with its constants."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wsssbench.distributed import normaliser
from wsssbench.ops.energy import PAPER_WEIGHT, Gradient, dense_energy, energy_weight
from wsssbench.planning.stages import sigma_scale
from wsssbench.types import IGNORE, Context
from wsssbench_methods.network_options import EnergyOptions


@dataclass(frozen=True)
class EnergyPlan:
    """The constants of the dense energy; widths are of a VOC image, the weight of 160x160 pixels."""

    weight: float
    scale: float
    sigma_xy: float
    sigma_rgb: float
    gradient: Gradient
    recompute_scale: bool = False


def energy_plan(c: EnergyOptions, *, recompute_scale: bool = False) -> EnergyPlan:
    """The energy that these options ask for."""
    return EnergyPlan(
        c.energy_weight, c.energy_scale, c.energy_sigma_xy, c.energy_sigma_rgb, c.gradient, recompute_scale
    )


def check_energy(crop: int, scale: float) -> None:
    """ValueError where of a crop of `crop` pixels a side no pixel is left for the energy at `scale`."""
    if int(crop * scale) < 1:
        raise ValueError(f"energy_scale = {scale} leaves no pixel of a crop of {crop}")


def balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """CE over background pixels plus CE over foreground pixels, each a mean of its own; a scalar.

    logits (B, C, H, W) float32, labels (B, H, W) uint8 in {0..C-1, 255}. The sum has weight 1 and is not
    halved (code, tool/myTool.py). A side without pixels adds nothing; the code's mean would be NaN (B6).
    Where processes share a batch the means are over the pixels of all of them.
    """
    target = labels.long()
    each = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
    sides = ((target == 0).float(), ((target != 0) & (target != IGNORE)).float())
    counts = normaliser(torch.stack([side.sum() for side in sides]), len(labels))
    total: Tensor = sum((each * side).sum() / count for side, count in zip(sides, counts, strict=True))
    return total


def energy_of(
    logits: Tensor, image: Tensor, valid: Tensor, labels: Tensor, plan: EnergyPlan, ctx: Context
) -> Tensor:
    """The gated dense energy of logits (B, C, S, S), its weight adapted to the number of filtered pixels.

    image (B, 3, S, S) in 0..255, valid (B, S, S) bool, labels (B, S, S) with 255 where the gate is open.
    """
    side = int(logits.shape[-1] * plan.scale)
    return dense_energy(
        logits.softmax(1),
        image.float(),
        valid,
        labels,
        sigma_rgb=plan.sigma_rgb,
        sigma_xy=plan.sigma_xy * sigma_scale(ctx.card),
        scale=plan.scale,
        weight=plan.weight / PAPER_WEIGHT * energy_weight(side**2),
        backend=ctx.filter_backend,
        gradient=plan.gradient,
        recompute_scale=plan.recompute_scale,
    )
