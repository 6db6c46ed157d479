"""Planes resized by a scale, as `torch.nn.functional.interpolate` does it, and faster where the scale is 1/2.

Bilinear resizing to half the size (align_corners off) is the mean of 2 x 2 pixels, nearest the first of them:
the same at the price of one pass over the memory. Resizing alone lives here, nothing of what for.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate


def bilinear(planes: Tensor, scale: float, recompute: bool) -> Tensor:
    """(B, C, H, W) -> (B, C, floor(scale * H), floor(scale * W)) float32, differentiable.

    `recompute` resizes by the ratio of the sizes instead of by `scale`.
    """
    planes = planes.float()
    if halves(planes, scale, recompute):
        if planes.device.type == "cpu":
            return cast(Tensor, _Halved.apply(planes))
        return avg_pool2d(planes, 2)  # repeats bit for bit, backwards too; resizing on a GPU does not
    return interpolate(
        planes, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=recompute
    )


def nearest_pixels(planes: Tensor, scale: float, recompute: bool) -> Tensor:
    """The same with the nearest pixel instead of a mean, of any dtype, and without a gradient."""
    planes = planes.detach()
    if halves(planes, scale, recompute):
        height, width = (side // 2 * 2 for side in planes.shape[-2:])
        return planes[..., :height:2, :width:2].float()
    return interpolate(planes.float(), scale_factor=scale, mode="nearest", recompute_scale_factor=recompute)


def halves(planes: Tensor, scale: float, recompute: bool) -> bool:
    """Whether every resized pixel stands for 2 x 2 pixels: the ratio of odd sizes is not 1/2."""
    height, width = planes.shape[-2:]
    return scale == 0.5 and min(height, width) > 1 and not (recompute and (height % 2 or width % 2))


class _Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, planes: Tensor) -> Tensor:
        from wsssbench.ops.kernels import halve
        from wsssbench.ops.lattice_cpu import LOCK

        ctx.shape = planes.shape
        height, width = planes.shape[-2:]
        half = planes.new_empty(*planes.shape[:-2], height // 2, width // 2)
        with LOCK:
            halve(planes.detach().contiguous().flatten(0, 1).numpy(), half.flatten(0, 1).numpy())
        return half

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        from wsssbench.ops.kernels import halve_back
        from wsssbench.ops.lattice_cpu import LOCK

        full = grads[0].new_empty(ctx.shape)
        with LOCK:
            halve_back(grads[0].float().contiguous().flatten(0, 1).numpy(), full.flatten(0, 1).numpy())
        return full
