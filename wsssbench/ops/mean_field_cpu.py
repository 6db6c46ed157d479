"""The mean field on the CPU: its filters, its memory and its steps; the loops are `mean_field_kernels`.

Arrays in, arrays out: numpy float32, no torch. The spatial filter is the same for all images of one size, so
it is kept here between calls; `lattice_cpu` builds the bilateral one. Importing this module imports numba.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from wsssbench.ops import mean_field_kernels
from wsssbench.ops.kernels import Floats, Keys
from wsssbench.ops.lanes import WIDTH
from wsssbench.ops.lattice_cpu import LOCK, CpuLattice, blurred, build, filter_planes, normalised

MOST_TERMS = 32  # of a stencil: beyond, splatting, blurring and slicing on a lattice is cheaper


class Stencil(NamedTuple):
    """A filter on a grid as a weighted sum of near points: out[n] = sum_k weights[n, k] q[n + offsets[k]]."""

    offsets: Keys  # (K,) distances in a flattened image; K = 0 is not a stencil
    weights: Floats  # (N, K), 0 where the neighbour is not in the image


@lru_cache(maxsize=4)
def spatial_filter(height: int, width: int, sigma: float, compat: float) -> tuple[CpuLattice | None, Stencil]:
    """The normalised filter of positions alone: it does not depend on the image, so it is kept.

    Where its sums have few terms they are a stencil, else there is a lattice and an empty stencil.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32) / np.float32(sigma)
    lattice = normalised(build(np.stack([x.ravel(), y.ravel()], axis=-1)[None]), 1, compat)
    reach = math.floor(4 * sigma)  # to a corner, blurred along two axes at most, and back: 4 edges of sigma
    if (2 * reach + 1) ** 2 <= 2 * MOST_TERMS:
        stencil = _stencil(lattice, height, width, reach)
        if len(stencil.offsets) <= MOST_TERMS:
            return None, stencil
    return lattice, Stencil(np.empty(0, np.int64), np.empty((height * width, 0), np.float32))


def _stencil(lattice: CpuLattice, height: int, width: int, reach: int) -> Stencil:
    """The lattice's matrix, column by column: the answers to points so far apart that they do not mix."""
    side = 2 * reach + 1
    y, x = (a.ravel() for a in np.mgrid[:height, :width])
    channel = y % side * side + x % side
    impulses = (channel == np.arange(side**2)[:, None]).astype(np.float32)[None]
    answers = filter_planes(lattice, impulses, np.empty_like(impulses))[0]
    offsets, weights = [], []
    for dy, dx in np.ndindex(side, side):
        row, column = y + dy - reach, x + dx - reach
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        answer = answers[row % side * side + column % side, np.arange(len(y))] * inside
        if answer.any():
            offsets.append((dy - reach) * width + dx - reach)
            weights.append(answer)
    return Stencil(np.array(offsets), np.ascontiguousarray(np.stack(weights, axis=1)))


def mean_field(unary: Floats, lattice: CpuLattice, stencil: Stencil, labels: int, iterations: int) -> Floats:
    """Marginals (B, A * L, N) of (B, A * L, N) energies, channels alternative by alternative."""
    batch, channels, points = unary.shape
    width = -(-channels // WIDTH) * WIDTH
    halo = int(abs(stencil.offsets).max(initial=0))
    q = np.zeros((2, batch * (points + 2 * halo if len(stencil.offsets) else 0), width), np.float32)
    rows = np.empty((2, len(lattice.members), width), np.float32)
    tables = np.empty((2, len(lattice.gains), width), np.float32)
    table, out = tables[0], np.empty_like(unary)
    with LOCK:
        for step in range(iterations + 1):
            now, then = step & 1, (step + 1) & 1
            mean_field_kernels.update(
                unary, labels, out, stencil.offsets, stencil.weights, q[now], q[then],
                lattice.ids, lattice.weights, lattice.first, lattice.members, table, rows[now], rows[then],
                step == 0, step == iterations,
            )  # fmt: skip
            if step < iterations:
                table = blurred(lattice, rows[then], tables)
    return out
