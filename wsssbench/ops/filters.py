"""What a filter of images is, and the exact one, in plain torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

TILE_ENTRIES = {"cpu": 2**21, "cuda": 2**26}  # values of an exact filter held at once: 8 MB, 256 MB


class Filter(ABC):
    """A linear, symmetric filter K of a batch of images, without a gradient."""

    def __call__(self, values: Tensor) -> Tensor:
        """K values: (B, N, C) float32 -> (B, N, C) float32."""
        ones = values.new_ones(values.shape[:2], dtype=torch.float32)
        return self.between(ones, values.transpose(1, 2), ones).transpose(1, 2)

    @abstractmethod
    def between(self, before: Tensor, planes: Tensor, after: Tensor) -> Tensor:
        """after * K (before * planes): planes (B, C, N), as images lie; factors (B, N)."""


class ExactFilter(Filter):
    """The Gaussian sum itself, tile by tile; no N x N matrix is ever held. Quadratic in the number of pixels.

    In plain torch, on a GPU too. Another operator than the lattice, whose constant and shape differ.
    """

    def __init__(self, features: Tensor) -> None:
        # Distances do not change and lose less to rounding when the positions are small numbers.
        self._features = (features - features.mean(1, keepdim=True)).contiguous()

    @torch.no_grad()
    def between(self, before: Tensor, planes: Tensor, after: Tensor) -> Tensor:
        values = (planes.float() * before[:, None]).transpose(1, 2).contiguous()
        out, points = torch.empty_like(values), values.shape[1]
        tile = max(1, TILE_ENTRIES.get(values.device.type, 2**21) // max(points, 1))
        with _full_float32(values.device.type):
            for features, image, result in zip(self._features, values, out, strict=True):
                for first in range(0, points, tile):
                    rows = features[first : first + tile]
                    # Without the matrix product |a|^2 + |b|^2 - 2ab, which cancels in float32.
                    distance = torch.cdist(rows, features, compute_mode="donot_use_mm_for_euclid_dist")
                    result[first : first + tile] = distance.square_().mul_(-0.5).exp_() @ image
        return out.transpose(1, 2) * after[:, None]


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
