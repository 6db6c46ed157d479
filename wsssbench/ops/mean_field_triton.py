"""The mean field on a GPU: both lattices, their norms and the steps; nothing here waits for the device.

The lattice of positions is the same for all images of one size, so it is kept between calls, and all images
of a batch share it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from wsssbench.identity import CrfSet
from wsssbench.ops import lattice_triton, mean_field_triton_kernels
from wsssbench.ops.gaussian import bilateral_features, spatial_features
from wsssbench.ops.lattice_triton import TILES, TritonLattice, power_of_two
from wsssbench.ops.triton_launch import launch


class Normalised(NamedTuple):
    """D^-1/2 K D^-1/2 on a lattice, D being the sums of K's rows: norms (and `compat`) are in the weights."""

    lattice: TritonLattice
    splat: Tensor  # (P * S,) of the entries, vertex by vertex
    slice: Tensor  # (P, S) of the points' corners; with the lattice's gain and the compatibility


def normalised(lattice: TritonLattice, compat: float) -> Normalised:
    """The filter of `lattice` with its norms, times `compat`."""
    ones = lattice.weights.new_ones(len(lattice.ids), 1)
    sums = torch.empty_like(ones)
    lattice_triton.read(lattice, lattice_triton.blurred(lattice, ones, lattice.room(ones)), sums)
    norms = torch.rsqrt(sums + 1e-20)
    splat = lattice.entry_weights * norms[:, 0].index_select(0, lattice.entry_points)
    return Normalised(lattice, splat, lattice.weights * norms * (lattice.gain * compat))


@lru_cache(maxsize=8)
def spatial_filter(height: int, width: int, sigma: float, compat: float, device: torch.device) -> Normalised:
    """The normalised filter of positions alone, for images of one size."""
    return normalised(lattice_triton.build(spatial_features(1, height, width, sigma, device)), compat)


@torch.no_grad()
def mean_field(unary: Tensor, image: Tensor, params: CrfSet) -> Tensor:
    """Marginals like `unary` (B, A, L, H, W) float32, of images (B, H, W, 3) uint8 on the same device."""
    batch, alternatives, labels, height, width = unary.shape
    near = spatial_filter(height, width, params.gauss_xy, params.gauss_compat, unary.device)
    features = bilateral_features(image, params.bilateral_xy, params.bilateral_rgb)
    far = normalised(lattice_triton.build(features), params.bilateral_compat)
    unary, points, padded = unary.contiguous(), height * width, power_of_two(labels)
    channels = power_of_two(alternatives * padded)
    out, q = torch.empty_like(unary), unary.new_zeros(batch * points, channels)
    rooms, near_table, far_table = (near.lattice.room(q, batch), far.lattice.room(q)), q, q
    block = max(1, TILES.read // padded)
    for step in range(params.iterations + 1):
        if step:
            near_table = lattice_triton.blurred(near.lattice, q, rooms[0], batch, near.splat)
            far_table = lattice_triton.blurred(far.lattice, q, rooms[1], 1, far.splat)
        launch(
            mean_field_triton_kernels.update, (-(-points // block), batch, alternatives),
            unary, out, q, points, labels, alternatives,
            near_table, near.lattice.ids, near.slice, near.lattice.rows,
            far_table, far.lattice.ids, far.slice,
            step == 0, step == params.iterations, near.lattice.corners, far.lattice.corners,
            padded, channels, block,
        )  # fmt: skip
    return out
