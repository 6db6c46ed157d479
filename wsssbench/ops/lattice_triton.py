"""The permutohedral lattice on a GPU by Triton kernels: the operator of `lattice_cpu`, built and filtered
without the host ever waiting for the device.

A batch is one lattice: the image's index is part of a vertex's key. The number of vertices is known on the
device alone, so tables have room for as many as there could be (one per point and corner), unless that is
more than ROOMY bytes: then the number is waited for once, when the lattice is built. Triton's interpreter
runs the same kernels on the CPU (TRITON_INTERPRET=1), which is how they are tested without a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from wsssbench.ops import lattice_triton_kernels as kernels
from wsssbench.ops.filters import Filter
from wsssbench.ops.lattice_torch import KEY_FACTORS
from wsssbench.ops.triton_launch import launch

ROOMY = 2**31  # bytes of two tables for 32 channels: 13 images of 321x321 with positions and colours
PROGRAMS = 2048  # that walk vertices together: about 16 for each processor of a large GPU


@dataclass(frozen=True)
class Tiles:
    """How much one program works on at a time; any powers of two give the same numbers but for rounding."""

    points: int = 128
    entries: int = 512
    vertices: int = 32
    read: int = 1024  # floats that are read back: 8 for each of 128 threads
    listed: int = 2048  # floats of a list that are added up: 16 for each of 128 threads
    segment: int = 32  # entries of one segment
    segments: int = 16  # of one vertex that are added at a time


TILES = Tiles()


@dataclass(frozen=True)
class TritonLattice:
    """S = d + 1 corners of each point, lists of points by vertex, and who touches whom."""

    ids: Tensor  # (P, S) int32 vertices, from 1
    weights: Tensor  # (P, S) float32 barycentric
    entry_points: Tensor  # (P * S,) int32 points, vertex by vertex
    entry_weights: Tensor  # (P * S,) float32
    segments: Tensor  # int32 first entries of the segments, from 1
    lists: Tensor  # int32 first segments of the vertices, from 1
    pairs: tuple[Tensor, ...]  # for each of S axes (rows, 2) int32 neighbours
    counts: tuple[Tensor, Tensor]  # int32 numbers of vertices and of segments, on the device
    rows: int  # of a table: row 0 is zero

    @property
    def corners(self) -> int:
        return self.ids.shape[1]

    @property
    def gain(self) -> float:
        """The published filter's factor when slicing."""
        return 1 / (1 + 2.0 ** (1 - self.corners))

    def room(self, rows: Tensor, copies: int = 1) -> tuple[Tensor, Tensor]:
        """Two tables (copies * self.rows, C) in which `blurred` works on rows like these."""
        tables = rows.new_empty(2, copies, self.rows, rows.shape[1])
        tables[:, :, 0] = 0
        return tables[0].flatten(0, 1), tables[1].flatten(0, 1)


@torch.no_grad()
def build(features: Tensor) -> TritonLattice:
    """The lattice of features (B, N, d) float32 divided by the widths, d <= 8; images do not mix."""
    points, d = features.shape[1:]
    flat, corners = features.float().reshape(-1, d).contiguous(), d + 1
    columns, (scale, factors) = power_of_two(corners), _constants(d, features.device)
    total, entries = len(flat), len(flat) * corners

    def new(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=flat.device)

    weights, keys = new(total, corners, dtype=torch.float32), new(entries, dtype=torch.int64)
    launch(
        kernels.embed, (_blocks(total, TILES.points),),
        flat, scale, factors, weights, keys, total, points, corners, columns, TILES.points,
    )  # fmt: skip
    keys, order = torch.sort(keys, stable=True)
    opens = torch.ones(entries, dtype=torch.bool, device=flat.device)
    torch.ne(keys[1:], keys[:-1], out=opens[1:])
    vertex = opens.cumsum(0, dtype=torch.int32)
    opens[:: TILES.segment] = True  # lists are cut at round places
    segment = opens.cumsum(0, dtype=torch.int32)
    ids, entry_points, entry_weights = new(total, corners), new(entries), new(entries, dtype=torch.float32)
    segments, lists, vertex_keys = new(entries + 2), new(entries + 2), new(entries + 2, dtype=torch.int64)
    counts = new(2)
    launch(
        kernels.number, (_blocks(entries, TILES.entries),),
        keys, order, vertex, segment, weights, entry_points, entry_weights, ids, segments, lists, vertex_keys,
        counts, entries, corners, TILES.entries,
    )  # fmt: skip
    rows = entries + 1
    if 2 * rows * 32 * 4 > ROOMY:
        rows = int(counts.max()) + 1
    pairs = new(corners, rows, 2)
    launch(
        kernels.neighbours, (_walkers(rows, TILES.vertices),),
        vertex_keys, factors, counts, pairs, rows, rows.bit_length(), corners, columns, TILES.vertices,
    )  # fmt: skip
    lengths = (counts[:1], counts[1:])
    return TritonLattice(
        ids, weights, entry_points, entry_weights, segments, lists, pairs.unbind(), lengths, rows
    )


class TritonLatticeFilter(Filter):
    """The filter over `features`, (B, N, d) float32 divided by the widths, d <= 8; images do not mix."""

    def __init__(self, features: Tensor) -> None:
        self.lattice = build(features)

    @torch.no_grad()
    def between(self, before: Tensor, planes: Tensor, after: Tensor) -> Tensor:
        batch, channels, points = planes.shape
        rows = planes.new_zeros(batch, points, power_of_two(channels), dtype=torch.float32)
        out = planes.new_empty(planes.shape, dtype=torch.float32)
        torch.mul(planes.float().transpose(1, 2), before.float()[..., None], out=rows[..., :channels])
        flat = rows.view(batch * points, -1)
        read(self.lattice, blurred(self.lattice, flat, self.lattice.room(flat)), flat)
        return torch.mul(rows[..., :channels].transpose(1, 2), after.float()[:, None], out=out)


def blurred(
    lattice: TritonLattice, rows: Tensor, room: tuple[Tensor, Tensor], copies: int = 1,
    weights: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Splat (copies * P, C) float32 rows, C a power of two, and blur; the one of the tables that has it.

    `copies` share the lattice, each with points of its own. `weights` of the entries replace the lattice's.
    """
    old, new = room  # what blurring writes first holds the sums of segments until then
    weights = lattice.entry_weights if weights is None else weights
    vertices, segments = lattice.counts
    points, channels = len(rows) // copies, rows.shape[1]
    _add_up(lattice, rows, points, lattice.segments, segments, new, copies, TILES.segment, weights)
    _add_up(lattice, new, lattice.rows, lattice.lists, vertices, old, copies, TILES.segments)
    for pairs in lattice.pairs:
        launch(
            kernels.blur, (_walkers(lattice.rows, TILES.vertices), copies),
            old, new, pairs, vertices, lattice.rows, channels, TILES.vertices,
        )  # fmt: skip
        old, new = new, old
    return old


def read(lattice: TritonLattice, table: Tensor, out: Tensor) -> None:
    """Slice `table` (rows, C) into `out` (P, C)."""
    channels = out.shape[1]
    together = max(1, TILES.read // channels)
    launch(
        kernels.read_back, (_blocks(len(out), together),),
        table, lattice.ids, lattice.weights, out, len(out), lattice.gain, lattice.corners, channels, together,
    )  # fmt: skip


def _add_up(
    lattice: TritonLattice, rows: Tensor, copy_rows: int, first: Tensor, count: Tensor, sums: Tensor,
    copies: int, width: int, weights: Tensor | None = None,
) -> None:  # fmt: skip
    channels = rows.shape[-1]
    together = max(1, TILES.listed // (width * channels))
    launch(
        kernels.add_up, (_walkers(lattice.rows, together), copies),
        rows, copy_rows, lattice.entry_points, lattice.entry_weights if weights is None else weights, first,
        count, sums, lattice.rows, weights is not None, channels, together, width,
    )  # fmt: skip


def _blocks(size: int, block: int) -> int:
    return max(1, -(-size // block))


def _walkers(size: int, block: int) -> int:
    return min(PROGRAMS, _blocks(size, block))


def power_of_two(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()


@lru_cache(maxsize=16)
def _constants(d: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """What `embed` scales features by (d,), and the factors of a key; kept, since a copy to a GPU waits."""
    scale = [math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) for i in range(d)]
    factors = [*KEY_FACTORS[:d], *[0] * (power_of_two(d + 1) - d)]
    return torch.tensor(scale, device=device), torch.tensor(factors, device=device)
