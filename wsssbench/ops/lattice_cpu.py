"""The permutohedral lattice on the CPU: built and filtered by compiled loops.

Arrays in, arrays out: numpy float32, no torch. This module prepares memory and calls the loops; choosing a
backend, features and torch tensors belong to `gaussian` and `mean_field`. Importing it imports numba, so
import it where it is used. A batch is one lattice, because the image's index is part of a vertex's key.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np

from wsssbench.errors import WsssError
from wsssbench.ops import kernels, lattice_build
from wsssbench.ops.kernels import Floats, Ids, Keys
from wsssbench.ops.lanes import WIDTH

KEY_LIMIT = 2**62  # packed keys are int64
BAND_POINTS, MOST_BANDS = 2**14, 8  # points of a band, roughly: more bands feed more cores but share less
# numba's default thread pool breaks when two Python threads start parallel loops at once.
LOCK = threading.RLock()


class CpuLattice(NamedTuple):
    """One lattice of B images of N points, cut into K bands each: M vertices, counted from 1, and R rows."""

    ids: Ids  # (B * N, corners) rows of each point, counted from its band's first
    weights: Floats  # (B * N, corners) what the point gives to each and takes from each
    first: Keys  # (B * K + 1,) first row of each band
    members: Ids  # (R,) the vertex of each row
    start: Keys  # (M + 2,) first place of each vertex in the next list
    rows: Ids  # (R,) the rows of each vertex, in the order of the bands
    pairs: Ids  # (axes, M + 1, 2) neighbours along each axis, 0 = none
    counts: Keys  # (axes,) the first so many vertices, 0 among them, have this axis
    gains: Floats  # (M + 1,) factor of each vertex


def embedding_scale(d: int) -> Floats:
    """(d,) factors that make the lattice's blur a unit Gaussian in feature space (Adams et al. 2010, 3.1)."""
    i = np.arange(d)
    return np.asarray(np.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2)), np.float32)


def key_strides(features: Floats) -> tuple[Keys, int, int]:
    """How the first d coordinates of a vertex pack into one integer: strides (d + 1,), offset, range."""
    d = features.shape[-1]
    low, high = (embedding_scale(d) * x for x in _feature_range(features))
    if not np.isfinite([low, high]).all():
        raise WsssError("features of a Gaussian filter are not finite", hint="check the image and the widths")
    lift = np.triu(np.ones((d, d)))  # coordinate j of the lifted point: sum of x[j:] minus j * x[j - 1]
    lift[np.arange(1, d), np.arange(d - 1)] -= np.arange(1, d)
    bottom = np.where(lift > 0, lift * low, lift * high).sum(1)
    top = np.where(lift > 0, lift * high, lift * low).sum(1)
    margin = 3 * (d + 1)  # the simplex around the point, and its vertices' neighbours
    first = np.floor(bottom).astype(object) - margin
    sizes = np.ceil(top).astype(object) + margin + 1 - first
    strides, span = np.zeros(d + 1, np.int64), 1
    for j in range(d):
        strides[j], span = span if span < KEY_LIMIT else 0, span * int(sizes[j])
    if span >= KEY_LIMIT:
        raise WsssError(
            "the widths of a Gaussian filter are too small for a lattice", hint="use larger widths"
        )
    return strides, -int((first * strides[:d].astype(object)).sum()), span


def _feature_range(features: Floats) -> tuple[Floats, Floats]:
    """Smallest and largest of each feature (d,); not finite where some point's is not."""
    columns = [features[..., j] for j in range(features.shape[-1])]  # numpy reduces these ten times faster
    return np.array([c.min() for c in columns]), np.array([c.max() for c in columns])


def band_count(points: int) -> int:
    """Bands of an image of so many points: a power of two, so that they share out evenly among cores."""
    bands = 1
    while bands < MOST_BANDS and bands * BAND_POINTS < points:
        bands *= 2
    return bands


def build(features: Floats) -> CpuLattice:
    """The lattice of (B, N, d) float32 features, already divided by their widths."""
    batch, points, d = features.shape
    features = np.ascontiguousarray(features)
    strides, offset, span = key_strides(features)
    if span * batch >= KEY_LIMIT or batch * points * (d + 1) >= 2**32:
        raise WsssError("too many points for one lattice", hint="filter fewer images at a time")
    bases = np.arange(batch, dtype=np.int64) * span + offset
    bands = band_count(points)
    first = np.zeros(batch * bands + 1, np.int64)
    ids = np.empty((batch * points, d + 1), np.uint32)
    weights = np.empty((batch * points, d + 1), np.float32)
    # One row per band, each long enough for the worst case; pages that stay untouched cost no memory.
    found = np.empty((batch * bands, (points // bands + kernels.ROWS) * (d + 1)), np.int64)
    with LOCK:
        lattice_build.number_bands(
            features, embedding_scale(d), np.append(strides, strides.sum()), bases, first, ids, weights, found
        )
        np.cumsum(first, out=first)
        members, vertices = np.empty(first[-1], np.uint32), np.empty(first[-1], np.int64)
        count, table, places = lattice_build.merge(found, first, members, vertices)
        pairs = np.zeros((d + 1, count + 1, 2), np.uint32)
        steps = (d + 1) * strides - strides.sum()  # a step along an axis: + d there, - 1 elsewhere
        lattice_build.neighbours(vertices[:count], steps, table, places, pairs)
    # The published filter multiplies by 1 / (1 + 2^-d), d the number of features, when slicing.
    gains = np.full(count + 1, 1 / (1 + 2.0**-d), np.float32)
    counts = np.full(d + 1, count + 1, np.int64)
    return CpuLattice(ids, weights, first, members, *_listed(members, count), pairs, counts, gains)


def _listed(members: Ids, vertices: int) -> tuple[Keys, Ids]:
    """`start` and `rows` of a lattice."""
    start, rows = np.zeros(vertices + 2, np.int64), np.empty_like(members)
    lattice_build.list_rows(members, start, rows)
    return start, rows


def filter_planes(
    lattice: CpuLattice,
    values: Floats,
    out: Floats,
    before: Floats | None = None,
    after: Floats | None = None,
) -> Floats:
    """Splat, blur and slice (B, C, N) values into `out`, which is returned.

    Each point's values are multiplied by `before` and its results by `after`, both (B, N), 1 when not given.
    """
    ones = np.ones(values.shape[::2], np.float32)
    before, after = ones if before is None else before, ones if after is None else after
    width = -(-values.shape[1] // WIDTH) * WIDTH
    rows = np.empty((len(lattice.members), width), np.float32)
    tables = np.empty((2, len(lattice.gains), width), np.float32)
    with LOCK:
        kernels.splat(values, before, lattice.ids, lattice.weights, lattice.first, rows)
        table = blurred(lattice, rows, tables)
        kernels.slice_bands(
            table, lattice.members, lattice.first, rows, lattice.ids, lattice.weights, after, out
        )
    return out


def blurred(lattice: CpuLattice, rows: Floats, tables: Floats) -> Floats:
    """The blurred vertices (M + 1, P) of splatted rows (R, P), in one of the two `tables`."""
    kernels.gather(rows, lattice.start, lattice.rows, lattice.gains, lattice.counts, tables)
    kernels.blur(tables, lattice.pairs, lattice.counts)
    table: Floats = tables[len(lattice.pairs) & 1]
    return table


def normalised(lattice: CpuLattice, batch: int, compat: float, near: CpuLattice | None = None) -> CpuLattice:
    """The lattice of compat * D^-1/2 K D^-1/2, D the filter of ones (symmetric, as in pydensecrf).

    With `near`, a normalised lattice of one image that serves all, the sum of both: one lattice whose points
    have the corners of both and whose vertices do not touch.
    """
    points = len(lattice.ids) // batch
    ones = np.ones((batch, 1, points), np.float32)
    totals = filter_planes(lattice, ones, np.empty_like(ones)).ravel()
    nothing = np.empty((points, 0), np.uint32), np.empty((points, 0), np.float32)
    near_ids, near_weights = (near.ids, near.weights) if near else nothing
    shape = (batch * points, near_ids.shape[1] + lattice.ids.shape[1])
    ids, weights = np.empty(shape, np.uint32), np.empty(shape, np.float32)
    with LOCK:
        kernels.join(
            lattice.first, totals, near_ids, near_weights, lattice.ids, lattice.weights, ids, weights
        )
    lattice = lattice._replace(ids=ids, weights=weights, gains=lattice.gains * np.float32(compat))
    return _with_vertices(lattice, batch, near) if near else lattice


def _with_vertices(lattice: CpuLattice, batch: int, near: CpuLattice) -> CpuLattice:
    """The lattice with the rows and vertices of `near` behind its own, for every band and every image."""
    own, each, bands = len(lattice.gains), len(near.gains) - 1, len(near.first) - 1
    vertices, axes, late = own - 1 + batch * each, len(lattice.pairs), len(lattice.pairs) - len(near.pairs)
    members = []
    for job in range(batch * bands):
        b, band = divmod(job, bands)
        members.append(lattice.members[lattice.first[job] : lattice.first[job + 1]])
        members.append(near.members[near.first[band] : near.first[band + 1]] + np.uint32(own - 1 + b * each))
    everyone = np.concatenate(members)
    pairs = np.zeros((axes, vertices + 1, 2), np.uint32)
    pairs[:, :own] = lattice.pairs
    for b in range(batch):  # blurred along the last axes, so that both are done at once
        place = slice(own + b * each, own + (b + 1) * each)
        shift = np.uint32(own - 1 + b * each)
        pairs[late:, place] = np.where(near.pairs[:, 1:] > 0, near.pairs[:, 1:] + shift, 0)
    first = lattice.first + np.append(0, np.cumsum(np.tile(np.diff(near.first), batch)))
    counts = np.where(np.arange(axes) < late, own, vertices + 1)
    gains = np.concatenate([lattice.gains, np.tile(near.gains[1:], batch)])
    return CpuLattice(
        lattice.ids, lattice.weights, first, everyone, *_listed(everyone, vertices), pairs, counts, gains
    )
