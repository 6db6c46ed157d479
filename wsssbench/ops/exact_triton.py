"""The exact Gaussian filter on a GPU: prepares what the fused kernel reads and starts it.

Triton's interpreter runs the same kernel on CPU tensors, which is how it is tested without a GPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wsssbench.ops import exact_kernels
from wsssbench.ops.triton_launch import launch

# A program is 4 warps, Triton's default. With 64 x 64 pairs of points and 32 channels a thread needs about
# 165 registers, so three programs share a processor and hide each other's waiting. Twice the rows would read
# the values half as often and save a tenth of the instructions, but leave room for two programs only.
ROWS = 64  # points i of one program
COLUMNS = {16: 64, 32: 64, 64: 32}  # points j of one turn of its loop, by the channels of the program
WIDTH = math.sqrt(math.log2(math.e) / 2)  # exp(-|f|^2 / 2) = 2^(-|WIDTH f|^2)


class FusedExactFilter:
    """The filter over `features`, (B, N, d) float32 divided by the widths, d >= 1; each image is on its own.

    Values must be finite: infinities come out as NaN.
    """

    @torch.no_grad()
    def __init__(self, features: Tensor) -> None:
        # Distances do not change and lose less to rounding when the positions are small numbers.
        centred = features.double() - features.double().mean(1, keepdim=True)
        self._features = _padded((centred * WIDTH).float().transpose(1, 2))

    def __call__(self, values: Tensor) -> Tensor:
        """(B, N, C) float32 -> (B, N, C) float32."""
        ones = values.new_ones(values.shape[:2], dtype=torch.float32)
        return self.between(ones, values.transpose(1, 2), ones).transpose(1, 2)

    @torch.no_grad()
    def between(self, before: Tensor, planes: Tensor, after: Tensor) -> Tensor:
        """after * K (before * planes): planes (B, C, N), not points by channels; factors (B, N)."""
        out = torch.empty(planes.shape, dtype=torch.float32, device=planes.device)
        values, after = _padded(planes.float(), before.float()), after.float().contiguous()
        (batch, channels, points), (_, dimensions, padded) = planes.shape, self._features.shape
        block = channel_block(channels)
        launch(
            exact_kernels.gaussian_sum, (padded // ROWS, -(-channels // block), batch),
            self._features, values, after, out, points, padded, channels,
            dimensions, ROWS, COLUMNS[block], block,
        )  # fmt: skip
        return out


def channel_block(channels: int) -> int:
    """How many channels one program filters: a power of two, 16 to 64."""
    return min((size for size in COLUMNS if size >= channels), default=max(COLUMNS))


def _padded(planes: Tensor, factor: Tensor | None = None) -> Tensor:
    """Planes (B, C, N), times a factor (B, N), with zeros to a whole number of ROWS."""
    batch, channels, points = planes.shape
    out = planes.new_empty(batch, channels, -(-points // ROWS) * ROWS)
    if factor is None:
        out[..., :points] = planes
    else:
        torch.mul(planes, factor.unsqueeze(1), out=out[..., :points])
    out[..., points:] = 0
    return out
