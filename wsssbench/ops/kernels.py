"""Compiled loops that filter on a permutohedral lattice, and the mean-field update that runs on it.

Only numba functions over numpy arrays live here: no torch, no caching, no checks of user input (`lattice_cpu`
does those). Every sum has a fixed order that does not depend on the number of threads, so results repeat bit
for bit. The lattice is that of Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the
Permutohedral Lattice" (2010): points give their values to the corners of their simplex (splat), the corners
are blurred along d + 1 axes with [1/2, 1, 1/2], and read back (slice). `lattice_build` finds the corners.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.uint32]  # unsigned: numba then leaves out the test for negative indices
Keys = NDArray[np.int64]
Octet = tuple[Any, Any, Any, Any, Any, Any, Any, Any]
F = TypeVar("F", bound=Callable[..., Any])

WIDTH = 8  # channels that one vector instruction handles; rows are padded to a multiple of it
ROWS = 64  # pixels whose mean-field update is one job
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)


def compiled(*, parallel: bool = False, inline: bool = False) -> Callable[[F], F]:
    """numba's decorator with this package's settings, typed so that mypy keeps the signatures."""
    # contract: fused multiply-add. No reassociation, so that the order of sums stays as written.
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "nsz", "nnan"}, "error_model": "numpy"}
    if inline:
        options["inline"] = "always"
    return cast("Callable[[F], F]", numba.njit(parallel=parallel, cache=True, **options))


@compiled(inline=True)
def _madd(acc: Octet, w: Any, row: Floats, c: int) -> Octet:
    """acc + w * row[c : c + 8], spelled out so that it becomes one vector instruction."""
    return (
        acc[0] + w * row[c], acc[1] + w * row[c + 1], acc[2] + w * row[c + 2], acc[3] + w * row[c + 3],
        acc[4] + w * row[c + 4], acc[5] + w * row[c + 5], acc[6] + w * row[c + 6], acc[7] + w * row[c + 7],
    )  # fmt: skip


@compiled(inline=True)
def _store(acc: Octet, row: Floats, c: int) -> None:
    for k in range(8):
        row[c + k] = acc[k]


@compiled(inline=True)
def _store_sum(acc: Octet, base: Floats, row: Floats, c: int) -> None:
    for k in range(8):
        row[c + k] = acc[k] + base[c + k]


@compiled(parallel=True)
def splat(values: Floats, start: Keys, points: Ids, shares: Floats, out: Floats) -> None:
    """out[v] = sum of share * values[point] over the points of vertex v. values (N, P), out (M + 1, P)."""
    for v in numba.prange(start.shape[0] - 1):
        for c in range(0, values.shape[1], WIDTH):
            acc = (ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
            for e in range(np.uint64(start[v]), np.uint64(start[v + 1])):
                acc = _madd(acc, shares[e], values[points[e]], c)
            _store(acc, out[v], c)


@compiled(parallel=True)
def blur(old: Floats, pairs: Ids, new: Floats) -> None:
    """new = old + (one neighbour + other neighbour) / 2 along one axis; tables (M + 1, P), last row zero."""
    for v in numba.prange(pairs.shape[0]):
        a, b = old[pairs[v, 0]], old[pairs[v, 1]]
        here, there = old[v], new[v]
        for c in range(old.shape[1]):
            there[c] = here[c] + HALF * (a[c] + b[c])


@compiled(parallel=True)
def slice_points(table: Floats, ids: Ids, weights: Floats, out: Floats) -> None:
    """out[n] = sum over corners of weight * table[corner]. table (M + 1, P), out (N, P)."""
    for n in numba.prange(ids.shape[0]):
        for c in range(0, out.shape[1], WIDTH):
            acc = (ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
            for k in range(ids.shape[1]):
                acc = _madd(acc, weights[n, k], table[ids[n, k]], c)
            _store(acc, out[n], c)


@compiled(inline=True)
def _exp(x: Any) -> Any:
    """e^x for x <= 0 in float32 (Cephes' polynomial, 2 ulp), without a call so that loops vectorise."""
    x = x if x > np.float32(-87.0) else np.float32(-87.0)
    x = x if x < ZERO else ZERO
    whole = np.floor(x * LOG2_E + HALF)
    x = x - whole * LN2_HIGH - whole * LN2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * x + np.float32(1.3981999507e-3)
    p = p * x + np.float32(8.3334519073e-3)
    p = p * x + np.float32(4.1665795894e-2)
    p = p * x + np.float32(1.6666665459e-1)
    p = p * x + np.float32(5.0000001201e-1)
    power = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))
    return (p * x * x + x + ONE) * power.view(np.float32)


@compiled()
def _softmax(out: Floats, first: int, last: int, alternatives: int, labels: int) -> None:
    """Softmax in place over each run of `labels` entries of rows first..last; padding behind them stays."""
    # Turned round, so that the inner loops run over pixels and vectorise.
    planes = np.zeros((alternatives * labels, ROWS), np.float32)
    top, total = np.empty(ROWS, np.float32), np.empty(ROWS, np.float32)
    for c in range(planes.shape[0]):
        plane = planes[c]
        for n in range(last - first):
            plane[n] = out[first + n, c]
    for start in range(0, planes.shape[0], labels):
        for n in range(ROWS):
            top[n] = planes[start, n]
            total[n] = ZERO
        for c in range(start + 1, start + labels):
            plane = planes[c]
            for n in range(ROWS):
                top[n] = plane[n] if plane[n] > top[n] else top[n]
        for c in range(start, start + labels):
            plane = planes[c]
            for n in range(ROWS):
                plane[n] = _exp(plane[n] - top[n])
                total[n] += plane[n]
        for n in range(ROWS):
            total[n] = ONE / total[n]
        for c in range(start, start + labels):
            plane = planes[c]
            for n in range(last - first):
                out[first + n, c] = plane[n] * total[n]


@compiled(parallel=True)
def softmax_rows(logits: Floats, alternatives: int, labels: int, out: Floats) -> None:
    """out[n] = softmax of logits[n] over each alternative's labels; both (N, P)."""
    for block in numba.prange((out.shape[0] + ROWS - 1) // ROWS):
        first, last = block * ROWS, min(block * ROWS + ROWS, out.shape[0])
        for n in range(first, last):
            for c in range(logits.shape[1]):
                out[n, c] = logits[n, c]
        _softmax(out, first, last, alternatives, labels)


@compiled(parallel=True)
def update_rows(
    logits: Floats,
    table_a: Floats, ids_a: Ids, weights_a: Floats,
    table_b: Floats, ids_b: Ids, weights_b: Floats,
    alternatives: int, labels: int, out: Floats,
) -> None:  # fmt: skip
    """out[n] = softmax(logits[n] + slice of table a + slice of table b): one mean-field update, fused."""
    for block in numba.prange((out.shape[0] + ROWS - 1) // ROWS):
        first, last = block * ROWS, min(block * ROWS + ROWS, out.shape[0])
        for n in range(first, last):
            for c in range(0, logits.shape[1], WIDTH):
                acc = (ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
                for k in range(ids_a.shape[1]):
                    acc = _madd(acc, weights_a[n, k], table_a[ids_a[n, k]], c)
                for k in range(ids_b.shape[1]):
                    acc = _madd(acc, weights_b[n, k], table_b[ids_b[n, k]], c)
                # Added last: a sum that starts from memory does not stay in one vector register.
                _store_sum(acc, logits[n], out[n], c)
        _softmax(out, first, last, alternatives, labels)
