"""Compiled loops that halve the planes of the dense energy, and take its gradient the same way back.

They read and write each plane once, so they cost what the memory costs: a half to a sixth of the general
interpolation, whose values they give (up to the order of a sum of four). Only numba functions over numpy
arrays live here; when halving is what was asked for, `halving` decides.
"""

from __future__ import annotations

import numba
import numpy as np

from wsssbench.ops.kernels import Floats, compiled

QUARTER = np.float32(0.25)


@compiled(parallel=True)
def halve(full: Floats, half: Floats) -> None:
    """half[y, x] = mean of full[2y : 2y + 2, 2x : 2x + 2]: (P, H, W) planes into (P, H // 2, W // 2)."""
    for p in numba.prange(half.shape[0]):
        for y in range(half.shape[1]):
            above, below, row = full[p, 2 * y], full[p, 2 * y + 1], half[p, y]
            for x in range(half.shape[2]):
                upper, lower = above[2 * x] + above[2 * x + 1], below[2 * x] + below[2 * x + 1]
                row[x] = (upper + lower) * QUARTER


@compiled(parallel=True)
def halve_back(half: Floats, full: Floats) -> None:
    """The adjoint: full[2y : 2y + 2, 2x : 2x + 2] = half[y, x] / 4; 0 in an odd last row or column."""
    for p in numba.prange(half.shape[0]):
        for y in range(half.shape[1]):
            above, below, row = full[p, 2 * y], full[p, 2 * y + 1], half[p, y]
            for x in range(half.shape[2]):
                value = row[x] * QUARTER
                above[2 * x] = value
                above[2 * x + 1] = value
            for x in range(2 * half.shape[2], full.shape[2]):
                above[x] = 0
            for x in range(full.shape[2]):
                below[x] = above[x]
        for y in range(2 * half.shape[1], full.shape[1]):
            for x in range(full.shape[2]):
                full[p, y, x] = 0
