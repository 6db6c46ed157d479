"""Triton kernels that build a permutohedral lattice on a GPU and filter on it.

Only kernels live here; `lattice_triton` launches them, `kernels` says what splat, blur and slice are. A point
f of R^d falls into a simplex of S = d + 1 vertices, with barycentric weights w_0 .. w_d that add up to 1:

    splat  t[v] = sum over the points p that have v as their corner k of w_k(p) x[p]
    blur   t <- t + (t[one neighbour] + t[other neighbour]) / 2, along S axes in turn
    slice  y[p] = sum_k w_k(p) t[corner k of p]

Points and corners are listed vertex by vertex, so that splatting is a sum over consecutive entries: in a
fixed order, without atomics, and the same bits every time. A list is cut into segments of at most WIDTH
entries, since few vertices own thousands of them; the sums of segments are then added vertex by vertex by
the same kernel. Vertices and segments count from 1: row 0 of a table is zero and stands for a vertex that
does not exist. How many there are is known on the device alone, so kernels that walk them take steps of the
number of programs until they reach a count that they load: the host never waits for it.
"""

from __future__ import annotations

import triton
import triton.language as tl

IMAGE_FACTOR = tl.constexpr(-2960836687156960739)  # sets the keys of a batch's images apart; random and odd


@triton.jit
def embed(
    features, scale, factors, weights, keys, points, per_image,
    S: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Barycentric weights (points, S) and vertex keys (points, S) of features (points, S - 1).

    `scale` (S - 1,) lifts unit steps onto the plane. A key is sum_i coordinate_i * factor_i modulo 2^64, with
    `factors` (COLUMNS,) that are zero from the last coordinate on, which the others imply.
    """
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = n < points
    column = tl.arange(0, COLUMNS)[None, :]
    lifted = tl.zeros([BLOCK, COLUMNS], tl.float32)
    tail = tl.zeros([BLOCK], tl.float32)
    for i in tl.static_range(S - 1):  # coordinate j: the features from j on, less j times the one before
        j = S - 1 - i
        x = tl.load(features + n * (S - 1) + j - 1, mask=inside, other=0.0) * tl.load(scale + j - 1)
        lifted = tl.where(column == j, (tail - j * x)[:, None], lifted)
        tail += x
    lifted = tl.where(column == 0, tail[:, None], lifted)

    step = tl.where(column < S, tl.floor(lifted / S + 0.5), 0.0)  # to the nearest zero-coloured vertex
    offset = lifted - step * S
    rank = tl.zeros([BLOCK, COLUMNS], tl.int32) + tl.sum(step, 1).to(tl.int32)[:, None]
    for j in tl.static_range(S):
        other = tl.sum(tl.where(column == j, offset, 0.0), 1)[:, None]
        rank += ((other > offset) | ((other == offset) & (column > j))).to(tl.int32)
    turn = tl.where(rank < 0, S, 0) - tl.where(rank >= S, S, 0)  # back onto the plane sum = 0
    rank = tl.where(column < S, rank + turn, -1)
    offset -= turn

    factor = tl.load(factors + column)
    whole = tl.sum(factor, 1)
    key = tl.sum((step.to(tl.int64) * S + turn) * factor, 1) + n // per_image * IMAGE_FACTOR
    before = tl.sum(tl.where(rank == 0, offset, 0.0), 1) / S - 1
    for k in tl.static_range(S):  # corner k: add k to all coordinates, take S from the k highest ranks
        if k > 0:
            key += whole - S * tl.sum(tl.where(rank == S - k, factor, 0), 1)
        own = tl.sum(tl.where(rank == S - 1 - k, offset, 0.0), 1) / S
        tl.store(weights + n * S + k, own - before, mask=inside)
        tl.store(keys + n * S + k, key, mask=inside)
        before = own


@triton.jit
def number(
    keys, order, vertex, segment, weights, entry_points, entry_weights, ids, segments, lists, vertex_keys,
    counts, entries, S: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """From sorted `keys` and their `order`: who is whose corner, and where the lists begin.

    `vertex` and `segment` (entries,) number each entry's vertex and segment from 1. Segment i owns the
    entries segments[i] .. segments[i + 1] - 1, vertex v the segments lists[v] .. lists[v + 1] - 1; `counts`
    is (vertices, segments), `ids` (points, S) the corners, `entry_*` the points and weights list by list.
    """
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = e < entries
    v, s = tl.load(vertex + e, mask=inside, other=0), tl.load(segment + e, mask=inside, other=0)
    came_from = tl.load(order + e, mask=inside, other=0)
    tl.store(entry_points + e, (came_from // S).to(tl.int32), mask=inside)
    tl.store(entry_weights + e, tl.load(weights + came_from, mask=inside, other=0.0), mask=inside)
    tl.store(ids + came_from, v, mask=inside)
    after_one = inside & (e > 0)
    opens_vertex = inside & (v != tl.load(vertex + e - 1, mask=after_one, other=0))
    opens_segment = inside & (s != tl.load(segment + e - 1, mask=after_one, other=0))
    tl.store(segments + s, e.to(tl.int32), mask=opens_segment)
    tl.store(lists + v, s, mask=opens_vertex)
    tl.store(vertex_keys + v, tl.load(keys + e, mask=opens_vertex, other=0), mask=opens_vertex)
    last = e == entries - 1
    tl.store(segments + s + 1, (e + 1).to(tl.int32), mask=last)
    tl.store(lists + v + 1, s + 1, mask=last)
    tl.store(counts + e * 0, v, mask=last)
    tl.store(counts + e * 0 + 1, s, mask=last)


@triton.jit
def neighbours(
    vertex_keys, factors, counts, pairs, rows, halvings,
    S: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """pairs (S, rows, 2): the vertices a step along an axis away from each, by bisection; 0 where none is."""
    found = tl.load(counts)
    side = tl.arange(0, 2 * COLUMNS)[None, :]
    axis = side // 2
    factor = tl.load(factors + tl.arange(0, COLUMNS))
    step = S * tl.load(factors + axis) - tl.sum(factor, 0)
    step = tl.where(side % 2 == 0, step, -step)
    for block in range(tl.program_id(0), tl.cdiv(found, BLOCK), tl.num_programs(0)):
        v = block * BLOCK + 1 + tl.arange(0, BLOCK)[:, None]
        wanted = tl.load(vertex_keys + v, mask=v <= found, other=0) + step
        low = tl.zeros([BLOCK, 2 * COLUMNS], tl.int32) + 1  # the wanted key lies in low .. high, if anywhere
        high = tl.zeros([BLOCK, 2 * COLUMNS], tl.int32) + found
        for _ in range(halvings):
            middle = (low + high) // 2
            less = tl.load(vertex_keys + middle) < wanted
            low, high = tl.where(less, tl.minimum(middle + 1, high), low), tl.where(less, high, middle)
        there = tl.where(tl.load(vertex_keys + low) == wanted, low, 0)
        target = (axis.to(tl.int64) * rows + v) * 2 + side % 2
        tl.store(pairs + target, there, mask=(v <= found) & (axis < S))


@triton.jit
def add_up(
    rows, copy_rows, points, weights, first, count, sums, copy_sums,
    GATHERED: tl.constexpr, CHANNELS: tl.constexpr, SEGMENTS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """sums[s] = the rows first[s] .. first[s + 1] - 1, for s = 1 .. count; WIDTH of them at a time.

    GATHERED: not the rows themselves but those of `points`, times `weights`. Rows of CHANNELS floats; the
    second grid axis counts copies, each with tables of its own and the same lists.
    """
    many, channel = tl.load(count), tl.arange(0, CHANNELS)
    rows += tl.program_id(1).to(tl.int64) * copy_rows * CHANNELS
    sums += tl.program_id(1).to(tl.int64) * copy_sums * CHANNELS
    for block in range(tl.program_id(0), tl.cdiv(many, SEGMENTS), tl.num_programs(0)):
        s = block * SEGMENTS + 1 + tl.arange(0, SEGMENTS)
        begin = tl.load(first + s, mask=s <= many, other=0)
        end = tl.load(first + s + 1, mask=s <= many, other=0)
        total = tl.zeros([SEGMENTS, CHANNELS], tl.float32)
        for start in range(0, tl.max(end - begin, 0), WIDTH):
            e = begin[:, None] + start + tl.arange(0, WIDTH)[None, :]
            mine = e < end[:, None]
            if GATHERED:
                row = tl.load(points + e, mask=mine, other=0)
                weight = tl.load(weights + e, mask=mine, other=0.0)
                at = row.to(tl.int64)[:, :, None] * CHANNELS + channel[None, None, :]
                total += tl.sum(tl.load(rows + at, mask=mine[:, :, None], other=0.0) * weight[:, :, None], 1)
            else:
                at = e.to(tl.int64)[:, :, None] * CHANNELS + channel[None, None, :]
                total += tl.sum(tl.load(rows + at, mask=mine[:, :, None], other=0.0), 1)
        target = s.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
        tl.store(sums + target, total, mask=(s <= many)[:, None])


@triton.jit
def blur(old, new, pairs, counts, copy_rows, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """new = old + (one neighbour + other neighbour) / 2 along the axis that `pairs` (rows, 2) belong to."""
    found, channel = tl.load(counts), tl.arange(0, CHANNELS)[None, :]
    old += tl.program_id(1).to(tl.int64) * copy_rows * CHANNELS
    new += tl.program_id(1).to(tl.int64) * copy_rows * CHANNELS
    for block in range(tl.program_id(0), tl.cdiv(found, BLOCK), tl.num_programs(0)):
        v = block * BLOCK + 1 + tl.arange(0, BLOCK)
        inside = v <= found
        one = tl.load(pairs + 2 * v, mask=inside, other=0).to(tl.int64)
        other = tl.load(pairs + 2 * v + 1, mask=inside, other=0).to(tl.int64)
        at, mask = v.to(tl.int64)[:, None] * CHANNELS + channel, inside[:, None]
        both = tl.load(old + one[:, None] * CHANNELS + channel, mask=mask, other=0.0)
        both += tl.load(old + other[:, None] * CHANNELS + channel, mask=mask, other=0.0)
        tl.store(new + at, tl.load(old + at, mask=mask, other=0.0) + 0.5 * both, mask=mask)


@triton.jit
def read_back(
    table, ids, weights, out, points, gain, S: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr
):
    """out (points, CHANNELS) = gain * sum_k weights[., k] * table[ids[., k]]."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside, channel = n < points, tl.arange(0, CHANNELS)[None, :]
    total = tl.zeros([BLOCK, CHANNELS], tl.float32)
    for k in tl.static_range(S):
        corner = tl.load(ids + n * S + k, mask=inside, other=0).to(tl.int64)
        weight = tl.load(weights + n * S + k, mask=inside, other=0.0)
        row = tl.load(table + corner[:, None] * CHANNELS + channel, mask=inside[:, None], other=0.0)
        total += weight[:, None] * row
    tl.store(out + n[:, None] * CHANNELS + channel, gain * total, mask=inside[:, None])
