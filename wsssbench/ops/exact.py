"""The Gaussian filter itself: sum_j exp(-|f_i - f_j|^2 / 2) v_j, tile by tile, on CPU and GPU.

Quadratic in the number of pixels, and another operator than the permutohedral lattice, whose constant and
shape differ. No N x N matrix is ever held; approximations must not enter. On a GPU a fused kernel takes its
place (`exact_triton`), where Triton is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

TILE_ENTRIES = {"cpu": 2**21, "cuda": 2**26}  # kernel values held at once: 8 MB, 256 MB


class ExactFilter:
    """The filter over `features`, (B, N, d) float32 divided by the widths; each image is on its own."""

    def __init__(self, features: Tensor) -> None:
        # Distances do not change and lose less to rounding when the positions are small numbers.
        self._features = (features - features.mean(1, keepdim=True)).contiguous()

    @torch.no_grad()
    def __call__(self, values: Tensor) -> Tensor:
        """(B, N, C) float32 -> (B, N, C) float32."""
        values, out = values.float().contiguous(), torch.empty(values.shape, device=values.device)
        points = values.shape[1]
        tile = max(1, TILE_ENTRIES.get(values.device.type, 2**21) // max(points, 1))
        with _full_float32(values.device.type):
            for features, image, result in zip(self._features, values, out, strict=True):
                for first in range(0, points, tile):
                    rows = features[first : first + tile]
                    # Without the matrix product |a|^2 + |b|^2 - 2ab, which cancels in float32.
                    distance = torch.cdist(rows, features, compute_mode="donot_use_mm_for_euclid_dist")
                    result[first : first + tile] = distance.square_().mul_(-0.5).exp_() @ image
        return out


@contextmanager
def _full_float32(device_type: str) -> Iterator[None]:
    """No autocast and no TF32 inside: a training loop may have asked for either."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
