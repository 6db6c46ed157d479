"""The permutohedral lattice on the CPU: built, filtered and used for a mean field by compiled loops.

Arrays in, arrays out: numpy float32, no torch. This module prepares memory and calls `kernels`; choosing a
backend, features and torch tensors belong to `gaussian` and `mean_field`. Importing it imports numba, so
import it where it is used. A batch is one lattice, because the image's index is part of a vertex's key.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import lru_cache

import numba
import numpy as np

from wsssbench.errors import WsssError
from wsssbench.ops import kernels, lattice_build
from wsssbench.ops.kernels import WIDTH, Floats, Ids, Keys

KEY_LIMIT = 2**62  # packed keys are int64
# numba's default thread pool breaks when two Python threads start parallel loops at once.
_LOCK = threading.RLock()


@dataclass(frozen=True)
class Lattice:
    """One batch's lattice. E = B * N * (d + 1) memberships, M vertices."""

    ids: Ids  # (B * N, d + 1) vertices of each point
    weights: Floats  # (B * N, d + 1) what the point takes from each
    start: Keys  # (M + 1,) first place of each vertex in the two lists below
    points: Ids  # (E,) points of each vertex
    shares: Floats  # (E,) what each gives to the vertex
    pairs: Ids  # (d + 1, M, 2) neighbours along each axis, M = none

    @property
    def vertices(self) -> int:
        return int(self.pairs.shape[1])

    def blurred(self, values: Floats) -> Floats:
        """Splat (B * N, P) values and blur them: the table (M + 1, P), its last row zero."""
        old, new = (np.zeros((self.vertices + 1, values.shape[1]), np.float32) for _ in range(2))
        with _LOCK:
            kernels.splat(values, self.start, self.points, self.shares, old)
            for pairs in self.pairs:
                kernels.blur(old, pairs, new)
                old, new = new, old
        return old

    def filter(self, values: Floats) -> Floats:
        """Splat, blur and slice (B * N, C) values of any C."""
        return self.filter_padded(pad_channels(values))[:, : values.shape[1]]

    def filter_padded(self, values: Floats) -> Floats:
        """`filter` of (B * N, P) values, P a multiple of the vector width, in place."""
        with _LOCK:
            kernels.slice_points(self.blurred(values), self.ids, self.weights, values)
        return values

    def normalised(self, compat: float) -> Lattice:
        """The lattice of compat * D^-1/2 K D^-1/2, D the filter of ones (symmetric, as in pydensecrf)."""
        ones = np.ones((self.ids.shape[0], 1), np.float32)
        norm = 1 / np.sqrt(self.filter(ones)[:, 0] + np.float32(1e-20))
        weights = self.weights * (np.float32(compat) * norm)[:, None]
        return replace(self, weights=weights, shares=self.shares * norm[self.points])


def pad_channels(values: Floats) -> Floats:
    """A fresh (N, P) copy of (N, C) values, P the next multiple of the vector width, padded with zeros."""
    width = -(-values.shape[1] // WIDTH) * WIDTH
    padded = np.zeros((values.shape[0], width), np.float32)
    padded[:, : values.shape[1]] = values
    return padded


def embedding_scale(d: int) -> Floats:
    """(d,) factors that make the lattice's blur a unit Gaussian in feature space (Adams et al. 2010, 3.1)."""
    i = np.arange(d)
    return np.asarray(np.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2)), np.float32)


def key_strides(features: Floats) -> tuple[Keys, int, int]:
    """How the first d coordinates of a vertex pack into one integer: strides (d + 1,), offset, range."""
    d = features.shape[-1]
    if not np.isfinite(features).all():
        raise WsssError("features of a Gaussian filter are not finite", hint="check the image and the widths")
    low, high = (embedding_scale(d) * x for x in lattice_build.feature_range(features.reshape(-1, d)))
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


def build(features: Floats) -> Lattice:
    """The lattice of (B, N, d) float32 features, already divided by their widths."""
    batch, points, d = features.shape
    features = np.ascontiguousarray(features)
    strides, offset, span = key_strides(features)
    if span * batch >= KEY_LIMIT or batch * points * (d + 1) >= 2**32:
        raise WsssError("too many points for one lattice", hint="filter fewer images at a time")
    bases = np.arange(batch, dtype=np.int64) * span + offset
    keys = np.empty((batch, points, d + 1), np.int64)
    weights = np.empty((batch, points, d + 1), np.float32)
    with _LOCK:
        lattice_build.embed(features, embedding_scale(d), strides, bases, keys, weights)
        return _number_vertices(keys.reshape(-1), weights.reshape(-1, d + 1), strides)


def _number_vertices(keys: Keys, weights: Floats, strides: Keys) -> Lattice:
    corners, entries = weights.shape[1], keys.shape[0]
    parts = min(numba.get_num_threads(), 16)
    ids, sizes = np.empty(entries, np.uint32), np.zeros(parts, np.int64)
    # One row per part, each long enough for the worst case; pages that stay untouched cost no memory.
    found, counts = np.empty((parts, entries), np.int64), np.empty((parts, entries), np.int32)
    lattice_build.number(keys, ids, found, counts, sizes)
    vertices = np.concatenate([found[p, : sizes[p]] for p in range(parts)])
    start = np.zeros(vertices.shape[0] + 1, np.int64)
    np.cumsum(np.concatenate([counts[p, : sizes[p]] for p in range(parts)]), out=start[1:])
    members, shares = np.empty(entries, np.uint32), np.empty(entries, np.float32)
    offsets = np.cumsum(sizes) - sizes
    cursor = start[:-1].copy()
    lattice_build.gather_lists(keys, weights.reshape(-1), corners, offsets, cursor, ids, members, shares)
    pairs = np.empty((corners, vertices.shape[0], 2), np.uint32)
    steps = corners * strides - strides.sum()  # a step along an axis: + d there, - 1 elsewhere
    lattice_build.neighbours(vertices, steps, *lattice_build.vertex_table(vertices), pairs)
    # The published filter multiplies by 1 / (1 + 2^-d), d the number of features, when slicing.
    gain = np.float32(1 / (1 + 2.0 ** -(corners - 1)))
    return Lattice(ids.reshape(-1, corners), weights * gain, start, members, shares, pairs)


@lru_cache(maxsize=4)
def spatial_lattice(batch: int, height: int, width: int, sigma: float, compat: float) -> Lattice:
    """The normalised lattice of positions alone: it does not depend on the image, so it is kept."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / np.float32(sigma)
    features = np.stack([x.ravel(), y.ravel()], axis=-1)
    return build(np.repeat(features[None], batch, axis=0)).normalised(compat)


def mean_field_rows(
    logits: Floats, spatial: Lattice, bilateral: Lattice, alternatives: int, labels: int, iterations: int
) -> Floats:
    """Marginals (B * N, P) of `logits` (B * N, P) = minus unary, channels alternative by alternative."""
    q = np.empty_like(logits)
    with _LOCK:
        kernels.softmax_rows(logits, alternatives, labels, q)
        for _ in range(iterations):
            near, alike = spatial.blurred(q), bilateral.blurred(q)
            kernels.update_rows(
                logits, near, spatial.ids, spatial.weights, alike, bilateral.ids, bilateral.weights,
                alternatives, labels, q,
            )  # fmt: skip
    return q
