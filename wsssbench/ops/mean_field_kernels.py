"""Compiled mean-field iterations on a spatial and a bilateral lattice.

Q <- softmax(-unary + slice of the blurred spatial table + slice of the blurred bilateral table), alternative
by alternative. One pass over the points slices, updates and splats, so marginals stay in the nearest cache.
Where the spatial widths are small, a `Stencil` stands for the whole spatial filter. Only numba functions over
numpy arrays live here; what a lattice is, and why results repeat, is said in `kernels`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from wsssbench.ops.kernels import (
    HALF,
    ONE,
    ROWS,
    Floats,
    Ids,
    Keys,
    band_points,
    clear,
    compiled,
    slice_block,
    splat_block,
    spread,
    turn,
)
from wsssbench.ops.lanes import WIDTH, load, madd, store, zeros

LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
E5, E4, E3 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
E2, E1 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1)
LEAST, ZERO = np.float32(-87), np.float32(0)


@compiled(inline=True)
def exp(x: Floats, top: Floats, bits: NDArray[np.int32], powers: Floats, total: Floats) -> None:
    """x = e^(x - top) for x <= top, to 1e-7, which is added to `total`; all of ROWS numbers.

    2^n times Cephes' polynomial for the rest. 2^n is made in `bits`, which `powers` reads as float32.
    """
    for n in range(ROWS):
        y = x[n] - top[n]
        y = y if y > LEAST else LEAST
        nearest = np.int32(y * LOG2_E - HALF)  # cuts off, and y <= 0
        whole = np.float32(nearest)
        rest = -LN2_LOW * whole + (-LN2_HIGH * whole + y)
        series = (((E5 * rest + E4) * rest + E3) * rest + E2) * rest + E1
        series = series * rest + HALF
        x[n] = (series * rest * rest + rest) + ONE
        bits[n] = (nearest + np.int32(127)) << np.int32(23)
    for n in range(ROWS):
        x[n] *= powers[n]
        total[n] += x[n]


@compiled(inner=True)
def _softmax(planes: Floats, labels: int, alternatives: int) -> None:
    """Softmax in place over each run of `labels` rows of (P, ROWS) planes; the rows behind them stay."""
    top, total, bits = np.empty(ROWS, np.float32), np.empty(ROWS, np.float32), np.empty(ROWS, np.int32)
    powers = bits.view(np.float32)
    for first in range(0, alternatives * labels, labels):
        row = planes[first]
        for n in range(ROWS):
            top[n] = row[n]
            total[n] = ZERO
        for c in range(first + 1, first + labels):
            row = planes[c]
            for n in range(ROWS):
                top[n] = top[n] if top[n] > row[n] else row[n]
        for c in range(first, first + labels):
            exp(planes[c], top, bits, powers, total)
        for c in range(first, first + labels):
            row = planes[c]
            for n in range(ROWS):
                row[n] /= total[n]


@compiled(inner=True)
def _add_stencil(
    block: Floats, count: int, first: int, offsets: Keys, weights: Floats, q: Floats, at: int
) -> None:
    """block[n] += sum over k of weights[n, k] * q[at + n + offsets[k]]."""
    for n in range(count):
        for c in range(0, block.shape[1], WIDTH):
            lanes = zeros()
            for k in range(offsets.shape[0]):
                lanes = madd(lanes, weights[first + n, k], load(q, at + n + offsets[k], c))
            store(madd(load(block, n, c), ONE, lanes), block, n, c)


@compiled(inner=True)
def _keep(block: Floats, count: int, q: Floats, at: int) -> None:
    for n in range(count):
        for c in range(0, block.shape[1], WIDTH):
            store(load(block, n, c), q, at + n, c)


@compiled(inner=True)
def _update_band(
    job: Any, unary: Floats, labels: int, out: Floats,
    offsets: Keys, stencil: Floats, q_in: Floats, q_out: Floats,
    ids: Ids, weights: Floats, first: Keys, members: Ids, table: Floats, rows_in: Floats, rows_out: Floats,
    fresh: bool, done: bool,
) -> None:  # fmt: skip
    """One update of one band: read what it needs, softmax, splat (or write to `out` when done).

    Points have the 6 corners of a bilateral lattice and a stencil, or 9, the 3 of a spatial one among them.
    """
    batch, channels, points = unary.shape
    width, base, image = rows_in.shape[1], first[job], q_in.shape[0] // batch
    b, begin, end = band_points(job, first, batch, points)
    if not fresh:
        spread(table, members, base, first[job + 1], rows_in)
    clear(rows_out, base, first[job + 1])
    both = ids.shape[1] == 9
    block, planes = np.zeros((ROWS, width), np.float32), np.zeros((width, ROWS), np.float32)
    for start in range(begin, end, ROWS):
        count, point = min(ROWS, end - start), b * points + start
        at = b * image + (image - points) // 2 + start  # behind the halo
        if not fresh:
            if both:  # the compiler knows both numbers of corners, and unrolls the loops over them
                slice_block(9, count, ids, weights, point, rows_in, base, block)
            else:
                slice_block(6, count, ids, weights, point, rows_in, base, block)
                _add_stencil(block, count, start, offsets, stencil, q_in, at)
        turn(block, planes)
        for c in range(channels):
            for n in range(count):
                planes[c, n] -= unary[b, c, start + n]
        _softmax(planes, labels, channels // labels)
        if done:
            for c in range(channels):
                for n in range(count):
                    out[b, c, start + n] = planes[c, n]
        else:
            turn(planes, block)
            if both:
                splat_block(9, count, ids, weights, point, rows_out, base, block)
            else:
                splat_block(6, count, ids, weights, point, rows_out, base, block)
                _keep(block, count, q_out, at)
        if fresh:
            clear(block, 0, ROWS)


@compiled(parallel=True)
def update(
    unary: Floats, labels: int, out: Floats, offsets: Keys, stencil: Floats, q_in: Floats, q_out: Floats,
    ids: Ids, weights: Floats, first: Keys, members: Ids, table: Floats, rows_in: Floats, rows_out: Floats,
    fresh: bool, done: bool,
) -> None:  # fmt: skip
    """One update of every band of (B, C, N) `unary`; see `mean_field_cpu.mean_field` for the arrays."""
    for job in numba.prange(first.shape[0] - 1):
        _update_band(
            np.int64(job), unary, labels, out, offsets, stencil, q_in, q_out,
            ids, weights, first, members, table, rows_in, rows_out, fresh, done,
        )  # fmt: skip
