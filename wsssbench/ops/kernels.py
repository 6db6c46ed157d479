"""Compiled loops that filter on a permutohedral lattice, and two that halve planes for `halving`.

Only numba functions over numpy arrays live here: no torch, no caching, no checks of user input (`lattice_cpu`
does those). The lattice is that of Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the
Permutohedral Lattice" (2010): points give their values to the corners of their simplex (splat), the corners
are blurred along d + 1 axes with [1/2, 1, 1/2], and read back (slice). `lattice_build` finds the corners.

An image is cut into bands of consecutive points, a number that depends on the image's size alone. A band adds
its points in order to rows of its own, one per vertex that it touches; a vertex then adds its rows in the
order of the bands. So every sum has a fixed order, and results repeat bit for bit on any number of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import event
from numpy.typing import NDArray

from wsssbench.ops.lanes import WIDTH, load, madd, store, transpose, zeros

Floats = NDArray[np.float32]
Ids = NDArray[np.uint32]  # unsigned: numba then leaves out the test for negative indices
Keys = NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])

ROWS = 64  # points that are handled together, so that their channels stay in the nearest cache
COMPILING = "compiling the filter, about 30 s; later runs find it compiled"
QUARTER, HALF, ONE = np.float32(0.25), np.float32(0.5), np.float32(1)


def compiled(*, parallel: bool = False, inner: bool = False, inline: bool = False) -> Callable[[F], F]:
    """numba's decorator with this package's settings, typed so that mypy keeps the signatures."""
    # contract: fused multiply-add. No reassociation, so that the order of sums stays as written.
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "nsz", "nnan"}, "error_model": "numpy"}
    if inline:
        options["inline"] = "always"
    if inner:  # called by compiled functions alone: needs no way in from Python
        options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    if parallel:  # loops over numba.prange alone: looking for others costs seconds of compilation
        others = ("numpy", "comprehension", "reduction", "setitem", "stencil", "inplace_binop", "fusion")
        options["parallel"] = {**dict.fromkeys(others, False), "prange": True}
    return cast("Callable[[F], F]", numba.njit(cache=True, **options))


class CompileNotice(event.Listener):
    """Logs once that loops are compiled: a first call waits for that, and numba keeps them."""

    said = False

    def on_start(self, event: event.Event) -> None:
        if not self.said and event.data["dispatcher"].py_func.__module__.startswith("wsssbench.ops."):
            CompileNotice.said = True
            logging.getLogger("wsssbench").warning(COMPILING)

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", CompileNotice())  # type: ignore[no-untyped-call]


@compiled(inner=True)
def band_points(job: Any, first: Keys, batch: int, points: int) -> tuple[int, int, int]:
    """The image of a band, and its first and last point there: whole blocks of ROWS but for the end."""
    bands = (first.shape[0] - 1) // batch
    b, size = job // bands, ((points + bands * ROWS - 1) // (bands * ROWS)) * ROWS
    return b, min((job - b * bands) * size, points), min((job - b * bands + 1) * size, points)


@compiled(inner=True)
def turn(source: Floats, target: Floats) -> None:
    """target = source transposed; both sides multiples of WIDTH."""
    for n in range(0, source.shape[0], WIDTH):
        for c in range(0, source.shape[1], WIDTH):
            transpose(source, n, c, target, c, n)


@compiled(inline=True)
def slice_block(
    corners: int, count: int, ids: Ids, weights: Floats, point: int, rows: Floats, base: int, block: Floats
) -> None:
    """block[n] = sum of weight * rows[base + corner] over the corners of points point, point + 1, ..."""
    for n in range(count):
        for c in range(0, block.shape[1], WIDTH):
            total = zeros()
            for k in range(corners):
                total = madd(total, weights[point + n, k], load(rows, base + ids[point + n, k], c))
            store(total, block, n, c)


@compiled(inline=True)
def splat_block(
    corners: int, count: int, ids: Ids, weights: Floats, point: int, rows: Floats, base: int, block: Floats
) -> None:
    """rows[base + corner] += weight * block[n] for every corner of points point, point + 1, ..."""
    for n in range(count):
        for c in range(0, block.shape[1], WIDTH):
            value = load(block, n, c)
            for k in range(corners):
                at = base + ids[point + n, k]
                store(madd(load(rows, at, c), weights[point + n, k], value), rows, at, c)


@compiled(inner=True)
def spread(table: Floats, members: Ids, first: int, last: int, rows: Floats) -> None:
    """rows[r] = table[vertex of r] for the rows first..last of a band: its own copy of what it reads."""
    for r in range(first, last):
        for c in range(0, rows.shape[1], WIDTH):
            store(load(table, members[r], c), rows, r, c)


@compiled(inner=True)
def clear(rows: Floats, first: int, last: int) -> None:
    """rows[first:last] = 0; as an assignment numba makes it several times slower."""
    for r in range(first, last):
        for c in range(0, rows.shape[1], WIDTH):
            store(zeros(), rows, r, c)


@compiled(inline=True)
def scaled(source: Floats, factors: Floats, target: Floats) -> None:
    """target = source * factors, for as many as there are factors.

    Callers pass pieces of rows: indices that are sums, like [start + n], keep the compiler from vectorising.
    """
    for n in range(factors.shape[0]):
        target[n] = source[n] * factors[n]


@compiled(inner=True)
def _splat_band(
    job: Any, values: Floats, factors: Floats, ids: Ids, weights: Floats, first: Keys, rows: Floats
) -> None:
    channels, points = values.shape[1:]
    planes, block = np.zeros((rows.shape[1], ROWS), np.float32), np.empty((ROWS, rows.shape[1]), np.float32)
    b, begin, end = band_points(job, first, values.shape[0], points)
    clear(rows, first[job], first[job + 1])
    for start in range(begin, end, ROWS):
        count = min(ROWS, end - start)
        for c in range(channels):
            scaled(values[b, c, start : start + count], factors[b, start : start + count], planes[c])
        turn(planes, block)
        point, base = b * points + start, first[job]
        if ids.shape[1] == 6:  # a number that the compiler knows, so that it unrolls the loop over corners
            splat_block(6, count, ids, weights, point, rows, base, block)
        else:
            splat_block(ids.shape[1], count, ids, weights, point, rows, base, block)


@compiled(inner=True)
def _slice_band(
    job: Any, table: Floats, members: Ids, first: Keys, rows: Floats, ids: Ids, weights: Floats,
    factors: Floats, out: Floats,
) -> None:  # fmt: skip
    channels, points = out.shape[1:]
    planes, block = np.empty((rows.shape[1], ROWS), np.float32), np.zeros((ROWS, rows.shape[1]), np.float32)
    b, begin, end = band_points(job, first, out.shape[0], points)
    spread(table, members, first[job], first[job + 1], rows)
    for start in range(begin, end, ROWS):
        count = min(ROWS, end - start)
        point, base = b * points + start, first[job]
        if ids.shape[1] == 6:
            slice_block(6, count, ids, weights, point, rows, base, block)
        else:
            slice_block(ids.shape[1], count, ids, weights, point, rows, base, block)
        turn(block, planes)
        for c in range(channels):
            scaled(planes[c], factors[b, start : start + count], out[b, c, start : start + count])


@compiled(parallel=True)
def splat(values: Floats, factors: Floats, ids: Ids, weights: Floats, first: Keys, rows: Floats) -> None:
    """Every band adds what its points of (B, C, N) values, times (B, N) factors, give to its `rows`."""
    for job in numba.prange(first.shape[0] - 1):
        # prange counts in unsigned numbers; one type is one compilation
        _splat_band(np.int64(job), values, factors, ids, weights, first, rows)


@compiled(parallel=True)
def gather(rows: Floats, start: Keys, listed: Ids, gains: Floats, counts: Keys, tables: Floats) -> None:
    """table[v] = gain of v * sum of its rows, in the table (2, M + 1, P) from which v is blurred first."""
    for v in numba.prange(gains.shape[0]):
        axis = 0
        while counts[axis] <= v:
            axis += 1
        for c in range(0, rows.shape[1], WIDTH):
            total = zeros()
            for e in range(start[v], start[v + 1]):
                total = madd(total, gains[v], load(rows, listed[e], c))
            store(total, tables[axis & 1], v, c)


@compiled(parallel=True)
def blur(tables: Floats, pairs: Ids, counts: Keys) -> None:
    """Along each axis new = old + (one neighbour + other neighbour) / 2; two tables (2, M + 1, P) take turns.

    Row 0 is zero and stands for a neighbour that does not exist. The first `counts` rows have such an axis.
    """
    for axis in range(pairs.shape[0]):
        old, new = tables[axis & 1], tables[(axis + 1) & 1]
        for v in numba.prange(counts[axis]):
            for c in range(0, old.shape[1], WIDTH):
                total = madd(load(old, v, c), HALF, load(old, pairs[axis, v, 0], c))
                store(madd(total, HALF, load(old, pairs[axis, v, 1], c)), new, v, c)


@compiled(parallel=True)
def slice_bands(
    table: Floats, members: Ids, first: Keys, rows: Floats, ids: Ids, weights: Floats, factors: Floats,
    out: Floats,
) -> None:  # fmt: skip
    """Read a blurred table (M + 1, P) back into (B, C, N) `out`, times (B, N) factors, by way of `rows`."""
    for job in numba.prange(first.shape[0] - 1):
        _slice_band(np.int64(job), table, members, first, rows, ids, weights, factors, out)


@compiled()
def join(
    first: Keys, totals: Floats, near_ids: Ids, near_weights: Floats, ids: Ids, weights: Floats,
    all_ids: Ids, all_weights: Floats,
) -> None:  # fmt: skip
    """Divide a batch's weights by the roots of `totals` (B * N,), and put corners on another lattice first.

    That one's corners (N, .) serve every image; its rows come behind the band's own, counted from `first`.
    """
    points, skip = near_ids.shape
    for job in range(first.shape[0] - 1):
        b, begin, end = band_points(job, first, ids.shape[0] // points, points)
        behind = np.uint32(first[job + 1] - first[job])
        for n in range(begin, end):
            point = b * points + n
            for k in range(skip):
                all_ids[point, k], all_weights[point, k] = near_ids[n, k] + behind, near_weights[n, k]
            norm = ONE / np.sqrt(totals[point] + np.float32(1e-20))
            for k in range(ids.shape[1]):
                all_ids[point, skip + k], all_weights[point, skip + k] = (
                    ids[point, k],
                    weights[point, k] * norm,
                )


# ------------------------------------------------------------ halving the planes of the dense energy
# They read and write each plane once: a half to a sixth of what the general interpolation costs.


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
