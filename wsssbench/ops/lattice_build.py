"""Compiled loops that build a permutohedral lattice: where points fall, which vertices exist, which touch.

A point of R^d is lifted to the plane sum(x) = 0 of R^(d+1), where it lies in a simplex of d + 1 vertices. A
vertex is known by its first d coordinates, packed into one integer key (`lattice_cpu` chooses the strides).
Keys are linear in the coordinates, so a neighbour's key is a sum. Only numba functions over arrays here, and
filtering is in `kernels`. Vertex numbers depend on the number of threads, the filter's results do not.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from wsssbench.ops.kernels import HALF, ONE, ZERO, Floats, Ids, Keys, compiled

LANES = 256  # points that are embedded together, so that loops over them vectorise
HASH_FACTOR = -7046029254386353131  # 2^64 / golden ratio, odd, as int64: Fibonacci hashing


@compiled()
def feature_range(features: Floats) -> tuple[Floats, Floats]:
    """Smallest and largest value of each column of (N, d)."""
    low, high = features[0].copy(), features[0].copy()
    for n in range(features.shape[0]):
        for j in range(features.shape[1]):
            low[j] = min(low[j], features[n, j])
            high[j] = max(high[j], features[n, j])
    return low, high


@compiled()
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


@compiled()
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


@compiled()
def _embed_block(
    features: Floats, scale: Floats, strides: Keys, base: int, first: int, keys: Keys, weights: Floats
) -> None:
    """Corners (keys) and barycentric weights of up to LANES points, starting at row `first`."""
    count, size = min(LANES, features.shape[0] - first), features.shape[1] + 1
    lifted = np.zeros((size, LANES), np.float32)
    nearest = np.empty((size, LANES), np.int32)
    rank = np.zeros((size, LANES), np.int32)
    _lift(features, scale, first, count, lifted)
    _round_to_simplex(lifted, nearest, rank)
    ordered = np.zeros((size, LANES), np.float32)  # offsets by rank, in units of the lattice
    stride_of_rank = np.zeros((size, LANES), np.int64)
    packed = np.zeros(LANES, np.int64)
    total = 0
    for j in range(size):
        row, near, order, stride = lifted[j], nearest[j], rank[j], strides[j]
        total += stride
        for p in range(LANES):
            packed[p] += np.int64(near[p]) * stride
        for k in range(size):
            offsets, jumps, wanted = ordered[k], stride_of_rank[k], np.int32(k)
            for p in range(LANES):
                offsets[p] += row[p] if order[p] == wanted else ZERO
            for p in range(LANES):
                jumps[p] += stride if order[p] == wanted else 0
    for k in range(size):
        high, low = ordered[size - 1 - k], ordered[(size - k) % size]
        base_share = ZERO if k else np.float32(size)
        jumps = stride_of_rank[(size - k) % size]
        for p in range(count):
            weights[first + p, k] = (high[p] - low[p] + base_share) * (ONE / np.float32(size))
            if k:  # corner k: add k to every coordinate, take d + 1 from those of the k highest ranks
                packed[p] += total - size * jumps[p]
            keys[first + p, k] = packed[p] + base


@compiled(parallel=True)
def embed(features: Floats, scale: Floats, strides: Keys, bases: Keys, keys: Keys, weights: Floats) -> None:
    """Fill `keys` and `weights` (B, N, d + 1) for `features` (B, N, d); `bases` (B,) tell images apart."""
    blocks = (features.shape[1] + LANES - 1) // LANES
    for job in numba.prange(features.shape[0] * blocks):
        b = job // blocks
        first = (job - b * blocks) * LANES
        _embed_block(features[b], scale, strides, bases[b], first, keys[b], weights[b])


@compiled(inline=True)
def _hash(key: int) -> int:
    return ((key * HASH_FACTOR) >> 20) & 0xFFFFFFFFFF


@compiled(inline=True)
def _part(code: int, parts: int) -> int:
    """The upper 16 of a hash's 40 bits, scaled to 0..parts - 1; the lower ones choose the slot."""
    return ((code >> 24) * parts) >> 16


@compiled()
def _grown(table: Keys, ids: NDArray[np.int32]) -> tuple[Keys, NDArray[np.int32]]:
    """The open-addressing table with twice the slots."""
    size = 2 * table.shape[0]
    new_table, new_ids = np.full(size, -1, np.int64), np.empty(size, np.int32)
    for old in range(table.shape[0]):
        key = table[old]
        if key >= 0:
            slot = _hash(key) & (size - 1)
            while new_table[slot] >= 0:
                slot = (slot + 1) & (size - 1)
            new_table[slot], new_ids[slot] = key, ids[old]
    return new_table, new_ids


@compiled()
def _number(keys: Keys, part: int, parts: int, ids: Ids, found: Keys, counts: NDArray[np.int32]) -> int:
    """Number the distinct keys of one part of the key space by first occurrence; returns how many."""
    table, slots, known = np.full(4096, -1, np.int64), np.empty(4096, np.int32), 0
    for e in range(keys.shape[0]):
        key = keys[e]
        code = _hash(key)
        if _part(code, parts) != part:
            continue
        slot = code & (table.shape[0] - 1)
        while table[slot] >= 0 and table[slot] != key:
            slot = (slot + 1) & (table.shape[0] - 1)
        if table[slot] < 0:
            table[slot], slots[slot], found[known], counts[known] = key, known, key, 0
            known += 1
            if 2 * known > table.shape[0]:
                counts[known - 1] += 1
                ids[e] = known - 1
                table, slots = _grown(table, slots)
                continue
        ids[e] = slots[slot]
        counts[slots[slot]] += 1
    return known


@compiled(parallel=True)
def number(keys: Keys, ids: Ids, found: Keys, counts: NDArray[np.int32], sizes: Keys) -> None:
    """Number the distinct keys of `keys` (E,) within their part; one row of `found`, `counts` per part."""
    for part in numba.prange(sizes.shape[0]):
        sizes[part] = _number(keys, part, sizes.shape[0], ids, found[part], counts[part])


@compiled()
def _gather_part(
    keys: Keys, weights: Floats, corners: int, part: int, parts: int, offset: int, cursor: Keys, ids: Ids,
    points: Ids, shares: Floats,
) -> None:  # fmt: skip
    for e in range(keys.shape[0]):
        if _part(_hash(keys[e]), parts) == part:
            v = ids[e] + offset
            ids[e] = v
            at = cursor[v]
            cursor[v] = at + 1
            points[at] = e // corners
            shares[at] = weights[e]


@compiled(parallel=True)
def gather_lists(
    keys: Keys,
    weights: Floats,
    corners: int,
    offsets: Keys,
    cursor: Keys,
    ids: Ids,
    points: Ids,
    shares: Floats,
) -> None:
    """List, per vertex, the points that touch it and their weights, in the order of the points.

    `cursor` (M,) holds each vertex's first place in the lists and is used up; `ids` become global numbers.
    """
    for part in numba.prange(offsets.shape[0]):
        _gather_part(
            keys, weights, corners, part, offsets.shape[0], offsets[part], cursor, ids, points, shares
        )


@compiled()
def vertex_table(vertices: Keys) -> tuple[Keys, NDArray[np.int32]]:
    """An open-addressing table from key to vertex number."""
    size = 4
    while size < 2 * vertices.shape[0]:
        size *= 2
    table, ids = np.full(size, -1, np.int64), np.empty(size, np.int32)
    for v in range(vertices.shape[0]):
        slot = _hash(vertices[v]) & (size - 1)
        while table[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        table[slot], ids[slot] = vertices[v], v
    return table, ids


@compiled()
def _find(key: int, missing: int, table: Keys, ids: NDArray[np.int32]) -> int:
    slot = _hash(key) & (table.shape[0] - 1)
    while table[slot] >= 0:
        if table[slot] == key:
            return int(ids[slot])
        slot = (slot + 1) & (table.shape[0] - 1)
    return missing


@compiled(parallel=True)
def neighbours(vertices: Keys, steps: Keys, table: Keys, ids: NDArray[np.int32], out: Ids) -> None:
    """Fill `out` (d + 1, M, 2): the two neighbours of each vertex along each axis, M where there is none."""
    count = vertices.shape[0]
    for v in numba.prange(count):
        for axis in range(steps.shape[0]):
            out[axis, v, 0] = _find(vertices[v] + steps[axis], count, table, ids)
            out[axis, v, 1] = _find(vertices[v] - steps[axis], count, table, ids)
