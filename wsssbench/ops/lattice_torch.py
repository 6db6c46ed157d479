"""The permutohedral lattice in plain torch: it runs on any device, and on a GPU where Triton cannot.

The same operator as `lattice_cpu` (see `kernels` for the idea), built by sorting instead of hashing and
filtered by index_add and gathers. A batch is one lattice: the image's index is part of a vertex's key.
Building waits for the device once (the number of vertices); filtering never does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wsssbench.ops.filters import Filter

# A vertex is known by sum_i coordinate_i * KEY_FACTORS[i] modulo 2^64. Keys are linear: a neighbour's key is
# a sum; that any two of a million vertices share a key has a probability near 2^-25. Random odd numbers.
KEY_FACTORS = (
    -7046029254386353131, 6364136223846793005, -4417276706812531889, 2685821657736338717, 1181783497276652981,
    -3335678366873096957, 4768777513237032717, -8663945395140668459,
)  # fmt: skip
IMAGE_FACTOR = -2960836687156960739


class TorchLatticeFilter(Filter):
    """The filter over `features`, (B, N, d) float32 divided by the widths, d <= 8; images do not mix."""

    @torch.no_grad()
    def __init__(self, features: Tensor) -> None:
        batch, points, d = features.shape
        offsets, ranks, nearest = _simplex(features.reshape(-1, d).float())
        self._weights = _barycentric(offsets, ranks)
        factors = torch.tensor(
            [*KEY_FACTORS[:d], 0], device=features.device
        )  # the last coordinate is implied
        image = torch.arange(batch, device=features.device).repeat_interleave(points) * IMAGE_FACTOR
        keys = _corner_keys(ranks, nearest, factors, image)
        vertices, ids = torch.unique(keys, return_inverse=True)
        self._ids = ids
        self._pairs = [_neighbours(vertices, (d + 1) * factor - factors.sum()) for factor in factors]
        self._vertices = len(vertices)
        self._gain = 1 / (1 + 2.0**-d)  # the published filter's factor when slicing

    @torch.no_grad()
    def between(self, before: Tensor, planes: Tensor, after: Tensor) -> Tensor:
        values = (planes.float() * before[:, None]).transpose(1, 2)
        rows = values.reshape(-1, values.shape[-1])
        corners = range(self._ids.shape[1])
        table = rows.new_zeros(
            self._vertices + 1, rows.shape[1]
        )  # the last row stands for missing neighbours
        for k in corners:
            table.index_add_(0, self._ids[:, k], rows * self._weights[:, k, None])
        for one, other in self._pairs:
            table = table + 0.5 * (table[one] + table[other])
        out = torch.zeros_like(rows)
        for k in corners:
            out.addcmul_(table[self._ids[:, k]], self._weights[:, k, None])
        return out.mul_(self._gain).view(values.shape).transpose(1, 2) * after[:, None]


def _simplex(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lifted (N, d) points: offsets from the nearest zero-coloured vertex, their ranks, the vertex."""
    d = features.shape[1]
    i = torch.arange(d, device=features.device)
    scaled = features * (math.sqrt(2 / 3) * (d + 1) / ((i + 1) * (i + 2)).double().sqrt()).float()
    tails = scaled.flip(1).cumsum(1).flip(1)  # sum of the scaled features from j on
    zero = torch.zeros_like(scaled[:, :1])
    lifted = torch.cat([tails, zero], dim=1) - torch.cat([zero, (i + 1) * scaled], dim=1)
    step = torch.floor(lifted / (d + 1) + 0.5)
    excess = step.sum(1, keepdim=True).long()
    offsets = lifted - step * (d + 1)
    ranks = torch.argsort(offsets, dim=1, descending=True, stable=True).argsort(1) + excess
    turn = ((ranks < 0).long() - (ranks > d).long()) * (d + 1)  # back onto the plane sum = 0
    return offsets - turn, ranks + turn, step.long() * (d + 1) + turn


def _barycentric(offsets: Tensor, ranks: Tensor) -> Tensor:
    """Weights (N, d + 1) of the corners: differences of the offsets in the order of their ranks."""
    size = offsets.shape[1]
    ordered = torch.empty_like(offsets).scatter_(1, ranks, offsets / size).flip(1)
    weights = ordered - ordered.roll(1, dims=1)
    weights[:, 0] += 1
    return weights


def _corner_keys(ranks: Tensor, nearest: Tensor, factors: Tensor, image: Tensor) -> Tensor:
    """Keys (N, d + 1): corner k adds k to all coordinates, d + 1 less to those of the k highest ranks."""
    size = ranks.shape[1]
    by_rank = torch.empty_like(ranks).scatter_(1, ranks, factors.expand_as(ranks))
    taken = by_rank.flip(1).cumsum(1).roll(1, dims=1)  # factors of the k highest ranks
    taken[:, 0] = 0
    corner = torch.arange(size, device=ranks.device) * factors.sum() - size * taken
    return ((nearest * factors).sum(1) + image)[:, None] + corner


def _neighbours(vertices: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers (M + 1,) of the vertices one step on and one step back; M where there is none."""
    return _find(vertices, vertices + step), _find(vertices, vertices - step)


def _find(vertices: Tensor, keys: Tensor) -> Tensor:
    missing = len(vertices)
    at = torch.searchsorted(vertices, keys).clamp_max(missing - 1)
    at = torch.where(vertices[at] == keys, at, missing)
    return torch.cat([at, at.new_full((1,), missing)])
