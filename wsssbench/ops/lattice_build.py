"""Compiled loops that build a permutohedral lattice: where points fall, which vertices exist, which touch.

A point of R^d is lifted to the plane sum(x) = 0 of R^(d+1), where it lies in a simplex of d + 1 vertices. A
vertex is known by its first d coordinates, packed into one integer key (`lattice_cpu` chooses the strides).
Keys are linear in the coordinates, so a neighbour's key is a sum. Each band of an image (see `kernels`)
numbers the vertices that it touches in the order of its points, and these lists are then merged in the order
of the bands. Only numba functions over arrays here; filtering is in `kernels`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from wsssbench.ops.kernels import HALF, ONE, Floats, Ids, Keys, band_points, compiled

LANES = 256  # points that are embedded together, so that loops over them vectorise
HASH_FACTOR = -7046029254386353131  # 2^64 / golden ratio, odd, as int64: Fibonacci hashing


@compiled(inner=True)
def _lift(features: Floats, scale: Floats, first: int, count: int, lifted: Floats) -> None:
    """lifted (d + 1, LANES), row j: sum of the scaled features from j on, minus j times feature j - 1."""
    tail = np.zeros(LANES, np.float32)
    for j in range(features.shape[1], 0, -1):
        row, factor, times = lifted[j], scale[j - 1], np.float32(j)
        for p in range(count):
            row[p] = features[first + p, j - 1] * factor
        for p in range(count):
            x = row[p]
            row[p] = tail[p] - times * x
            tail[p] += x
    row = lifted[0]
    for p in range(count):
        row[p] = tail[p]


@compiled(inner=True)
def _round_to_simplex(lifted: Floats, nearest: NDArray[np.int32], rank: NDArray[np.int32]) -> None:
    """The zero-coloured vertex `nearest` to each point; its offsets, which replace `lifted`; their `rank`."""
    size = lifted.shape[0]
    excess = np.zeros(LANES, np.int32)
    for j in range(size):
        row, near = lifted[j], nearest[j]
        for p in range(LANES):
            step = np.floor(row[p] * (ONE / np.float32(size)) + HALF)
            near[p] = np.int32(step) * np.int32(size)
            excess[p] += np.int32(step)
            row[p] -= step * np.float32(size)
    for i in range(size - 1):
        for j in range(i + 1, size):
            row, other, rank_i, rank_j = lifted[i], lifted[j], rank[i], rank[j]
            for p in range(LANES):
                below = np.int32(row[p] < other[p])
                rank_i[p] += below
                rank_j[p] += np.int32(1) - below
    for j in range(size):  # bring the vertex back onto the plane sum = 0
        row, near, order = lifted[j], nearest[j], rank[j]
        for p in range(LANES):
            moved = order[p] + excess[p]
            turn = np.int32(moved < 0) * np.int32(size) - np.int32(moved >= size) * np.int32(size)
            order[p] = moved + turn
            near[p] += turn
            row[p] -= np.float32(turn)


@compiled(inline=True)
def _corners(
    size: int, count: int, lifted: Floats, nearest: NDArray[np.int32], rank: NDArray[np.int32], strides: Keys,
    base: int, keys: Keys, weights: Floats, first: int, offsets: Floats, jumps: Keys,
) -> None:  # fmt: skip
    """Corners (keys) and barycentric weights (from row `first`) of the first `count` points of a block."""
    for p in range(count):
        key = base
        for j in range(size):
            at = rank[j, p]
            offsets[at], jumps[at] = lifted[j, p], strides[j]
            key += np.int64(nearest[j, p]) * strides[j]
        keys[p, 0] = key
        weights[first + p, 0] = (offsets[size - 1] - offsets[0] + np.float32(size)) * (ONE / np.float32(size))
        for k in range(1, size):  # corner k: add k to every coordinate, take d + 1 from the k highest ranks
            key += strides[size] - size * jumps[size - k]
            keys[p, k] = key
            weights[first + p, k] = (offsets[size - 1 - k] - offsets[size - k]) * (ONE / np.float32(size))


@compiled(inline=True)
def _hash(key: int) -> int:
    return ((key * HASH_FACTOR) >> 20) & 0xFFFFFFFFFF


@compiled(inner=True)
def _key_table(keys: Keys, count: int, size: int) -> tuple[Keys, Ids]:
    """An open-addressing table of `size` slots from each of the first `count` keys to its place there."""
    table, places = np.full(size, -1, np.int64), np.empty(size, np.uint32)
    for place in range(count):
        slot = _hash(keys[place]) & (size - 1)
        while table[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        table[slot], places[slot] = keys[place], place
    return table, places


@compiled(inner=True)
def _number(keys: Keys, ids: Ids, table: Keys, places: Ids, found: Keys, known: int) -> int:
    """Number (n, m) keys by first occurrence, after the `known` ones; the table must have room for all."""
    for n in range(keys.shape[0]):
        for k in range(keys.shape[1]):
            key = keys[n, k]
            slot = _hash(key) & (table.shape[0] - 1)
            while table[slot] >= 0 and table[slot] != key:
                slot = (slot + 1) & (table.shape[0] - 1)
            if table[slot] < 0:
                table[slot], places[slot], found[known] = key, known, key
                known += 1
            ids[n, k] = places[slot]
    return known


@compiled(inner=True)
def _number_band(
    job: Any, features: Floats, scale: Floats, strides: Keys, bases: Keys, first: Keys, ids: Ids,
    weights: Floats, found: Keys,
) -> int:  # fmt: skip
    """Corners, weights and vertices of one band; how many vertices."""
    batch, points, size = features.shape[0], features.shape[1], features.shape[2] + 1
    b, begin, end = band_points(job, first, batch, points)
    offsets, jumps = np.empty(size, np.float32), np.empty(size, np.int64)
    lifted = np.empty((size, LANES), np.float32)
    nearest, rank = np.empty((size, LANES), np.int32), np.empty((size, LANES), np.int32)
    keys, known = np.empty((LANES, size), np.int64), 0
    table, places = _key_table(found[job], 0, 8192)
    for start in range(begin, end, LANES):
        count, point = min(LANES, end - start), b * points + start
        if 2 * (known + LANES * size) > table.shape[0]:
            table, places = _key_table(found[job], known, 2 * table.shape[0])
        lifted[:] = 0
        rank[:] = 0
        _lift(features[b], scale, start, count, lifted)
        _round_to_simplex(lifted, nearest, rank)
        base = bases[b]
        if size == 6:  # a number that the compiler knows, so that it unrolls the loops
            _corners(6, count, lifted, nearest, rank, strides, base, keys, weights, point, offsets, jumps)
        else:
            _corners(size, count, lifted, nearest, rank, strides, base, keys, weights, point, offsets, jumps)
        known = _number(keys[:count], ids[point : point + count], table, places, found[job], known)
    return known


@compiled(parallel=True)
def number_bands(
    features: Floats, scale: Floats, strides: Keys, bases: Keys, first: Keys, ids: Ids, weights: Floats,
    found: Keys,
) -> None:  # fmt: skip
    """`ids` and `weights` (B * N, d + 1) of (B, N, d) features; a row of `found` for each band.

    `strides` (d + 2,) ends with the sum of the others; `bases` (B,) tell images apart. `first` (B * K + 1,)
    receives how many vertices each band has found.
    """
    for job in numba.prange(first.shape[0] - 1):
        first[job + 1] = _number_band(
            np.int64(job), features, scale, strides, bases, first, ids, weights, found
        )


@compiled()
def merge(found: Keys, first: Keys, members: Ids, vertices: Keys) -> tuple[int, Keys, Ids]:
    """Number the vertices of all bands from 1 into `members` (R,), list their keys; how many, and a table."""
    size = 4
    while size < 2 * members.shape[0]:
        size *= 2
    table, places = _key_table(vertices, 0, size)
    known = 0
    for job in range(first.shape[0] - 1):
        rows = members[first[job] : first[job + 1]].reshape(-1, 1)
        known = _number(found[job, : rows.shape[0]].reshape(-1, 1), rows, table, places, vertices, known)
    for r in range(members.shape[0]):
        members[r] += 1
    return known, table, places


@compiled()
def list_rows(members: Ids, start: Keys, rows: Ids) -> None:
    """List the rows of each vertex in their order; `start` zeros, becomes each one's first place."""
    for r in range(members.shape[0]):
        start[members[r] + 1] += 1
    for v in range(1, start.shape[0]):
        start[v] += start[v - 1]
    cursor = start.copy()
    for r in range(members.shape[0]):
        v = members[r]
        rows[cursor[v]] = r
        cursor[v] += 1


@compiled(inner=True)
def _find(key: int, table: Keys, places: Ids) -> int:
    slot = _hash(key) & (table.shape[0] - 1)
    while table[slot] >= 0:
        if table[slot] == key:
            return int(places[slot]) + 1
        slot = (slot + 1) & (table.shape[0] - 1)
    return 0


@compiled(parallel=True)
def neighbours(vertices: Keys, steps: Keys, table: Keys, places: Ids, out: Ids) -> None:
    """Fill `out` (d + 1, M + 1, 2): both neighbours of each vertex along each axis, 0 where there is none."""
    for v in numba.prange(vertices.shape[0]):
        for axis in range(steps.shape[0]):
            out[axis, v + 1, 0] = _find(vertices[v] + steps[axis], table, places)
            out[axis, v + 1, 1] = _find(vertices[v] - steps[axis], table, places)
