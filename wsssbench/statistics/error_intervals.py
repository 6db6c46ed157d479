"""How sure the numbers of the error ladder and of the slices are: with images and seeds resampled.

Tables of counts come in, numbers with intervals go out, by the words that name them. What is printed of them,
records and files must not enter; how images and seeds are drawn is `wsssbench.statistics.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.scores.counts_table import CountsTable, ImagePixels
from wsssbench.scores.ladder import KINDS
from wsssbench.scores.slices import SliceMembers, slice_parts
from wsssbench.statistics.bootstrap import interval_of, less, points, rarest_class, replicates
from wsssbench.statistics.paired import class_iou, mean_known

if TYPE_CHECKING:
    from typing import TypeAlias

    from wsssbench.scores.image_counts import ImageArrays
    from wsssbench.statistics.bootstrap import Columns, Floats, Score

    Name: TypeAlias = tuple[str, ...]  # ("ladder", "part_only"), ("size of the class", "over 20 %", "iou")
    Estimates: TypeAlias = Mapping[Name, "Estimate"]

RESAMPLES = 2000  # for intervals alone: the tails need no more
FEW = 5  # images: fewer do not show how they vary
STEPS = tuple(KINDS[: n + 1] for n in range(len(KINDS)))
LADDER_NAMES: tuple[Name, ...] = (
    ("miou",),
    *(("ladder", kind) for kind in KINDS),
    *(("alone", kind) for kind in KINDS),
    *(("share", kind) for kind in KINDS),
)


@dataclass(frozen=True)
class Estimate:
    """A number, in % or points, and its interval of 95 %; None where undefined, or too little is there."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ResampledScores:
    """Numbers of one cell that are resampled together: columns that add up, and what is made of them."""

    names: tuple[Name, ...]
    score: Score
    columns: Callable[[], Columns]  # made when asked for: all of them at once are large
    images: int  # that the numbers are of
    defined: bool


@dataclass(frozen=True)
class SeedCounts:
    """One seed of a method: its blocks by their first name, and the truth that its images show."""

    seed: int
    ids: tuple[str, ...]
    truth: Columns  # (n, C)
    blocks: Mapping[Name, ResampledScores]

    @classmethod
    def of(cls, seed: int, table: CountsTable, classes: int, ladder: Mapping[str, ImageArrays]) -> SeedCounts:
        """`classes` is K; without counts of the ladder it has no block of it."""
        pixels = table.by_image(classes)
        blocks = [_slice_block(part, pixels) for part in slice_parts(table, pixels)]
        blocks += [_ladder_block(ladder, len(table.ids))] if ladder else []
        named = {block.names[0]: block for block in blocks}
        return cls(seed, table.ids, pixels.truth.astype(np.float32), named)


def method_estimates(cells: Sequence[SeedCounts], resamples: int = RESAMPLES) -> dict[Name, Estimate]:
    """Means over the seeds of one method, with intervals; a seed without such a number is left out of it."""
    found: dict[Name, Estimate] = {}
    for name in _block_names(cells):
        known = [cell for cell in cells if _is_known(cell, name)]
        if known:
            block = known[0].blocks[name]
            own = _estimates(known, [[c.blocks[name] for c in known]], block.score, resamples)
            found |= {q: _in_percent(estimate) for q, estimate in own}
    return found


def difference_estimates(
    first: Sequence[SeedCounts], second: Sequence[SeedCounts], resamples: int = RESAMPLES
) -> dict[Name, Estimate]:
    """First less second, paired by the seeds that both have and by image; {} where they share no seed or the
    images of a seed are not the same."""
    theirs = {cell.seed: cell for cell in second}
    pairs = [(cell, theirs[cell.seed]) for cell in first if cell.seed in theirs]
    if any(a.ids != b.ids or not np.array_equal(a.truth, b.truth) for a, b in pairs):
        return {}
    found: dict[Name, Estimate] = {}
    for name in _block_names([cell for pair in pairs for cell in pair]):
        known = [pair for pair in pairs if all(_is_known(cell, name) for cell in pair)]
        if known:
            score = less(known[0][0].blocks[name].score)
            blocks = [[pair[side].blocks[name] for pair in known] for side in (0, 1)]
            found |= _estimates([a for a, _ in known], blocks, score, resamples)
    return found


def _in_percent(estimate: Estimate) -> Estimate:
    """The same with an interval within 0..100, which that of few seeds may leave."""
    if estimate.low is None or estimate.high is None:
        return estimate
    return Estimate(estimate.value, max(0.0, estimate.low), min(100.0, estimate.high))


def _block_names(cells: Sequence[SeedCounts]) -> list[Name]:
    return list(dict.fromkeys(name for cell in cells for name in cell.blocks))


def _is_known(cell: SeedCounts, name: Name) -> bool:
    block = cell.blocks.get(name)
    return block is not None and block.defined


def _estimates(
    cells: Sequence[SeedCounts], sides: Sequence[Sequence[ResampledScores]], score: Score, resamples: int
) -> Iterator[tuple[Name, Estimate]]:
    """Of one block in several cells; `sides` are its blocks, of the one method or of both."""
    tables = [
        np.concatenate([block.columns() for block in blocks], axis=1) for blocks in zip(*sides, strict=True)
    ]
    same = all(np.array_equal(cell.truth, cells[0].truth) for cell in cells)
    point = points(tables, score).mean(0)
    strata = [rarest_class(cell.truth) for cell in cells]
    drawn = replicates(tables, strata, score, same_images=same, resamples=resamples)
    enough = min(block.images for block in sides[0]) >= FEW
    for q, name in enumerate(sides[0][0].names):
        low, high = interval_of(drawn[:, q]) if enough else (float("nan"), float("nan"))
        yield name, Estimate(*(float(x) if np.isfinite(x) else None for x in (point[q], low, high)))


# -------------------------------------------------------------------------------------------------- slices


def _slice_block(part: SliceMembers, pixels: ImagePixels) -> ResampledScores:
    member = part.member & part.judged
    names = tuple((part.group, part.name, score) for score in ("iou", "recall"))

    def columns() -> Columns:
        sides = (np.where(member, side, 0) for side in (pixels.hit, pixels.truth, pixels.said))
        return np.concatenate([side.astype(np.float32) for side in sides], axis=1)

    defined = bool(pixels.truth[member].any())
    return ResampledScores(names, _slice_scores, columns, int(part.member.any(1).sum()), defined)


def _slice_scores(sums: Columns | Floats) -> Floats:
    """(R, 2) IoU and recall in %, means over the classes with truth, of (R, 3 C) hit, truth, said."""
    hit, truth, said = np.split(sums.astype(np.float64), 3, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = np.where(truth > 0, hit / truth, np.nan)
    return 100 * np.stack([mean_known(class_iou(hit, truth, said)), mean_known(recall)], axis=-1)


# -------------------------------------------------------------------------------------------------- ladder


def _ladder_block(counts: Mapping[str, ImageArrays], images: int) -> ResampledScores:
    """Of the counts of `ErrorLadder`: right (C,), missed and false (kinds, C)."""
    parts = [counts[name] for name in ("right", "missed", "false")]

    def columns() -> Columns:
        return np.concatenate([part.dense(images) for part in parts], axis=1)

    defined = any(len(part.value) for part in parts[:2])
    return ResampledScores(LADDER_NAMES, ladder_scores, columns, images, defined)


def ladder_scores(sums: Columns | Floats) -> Floats:
    """(R, 19) numbers of LADDER_NAMES, as `ErrorLadder` has them, of (R, 13 C) right, missed and false."""
    kinds = len(KINDS)
    parts = sums.astype(np.float64).reshape(len(sums), 1 + 2 * kinds, -1)
    right, missed, false = parts[:, 0], parts[:, 1 : 1 + kinds], parts[:, 1 + kinds :]

    def miou(repaired: Sequence[str]) -> Floats:
        mended = np.isin(KINDS, list(repaired))
        hit, truth = right + missed[:, mended].sum(1), right + missed.sum(1)
        return 100 * mean_known(class_iou(hit, truth, hit + false[:, ~mended].sum(1)))

    before, pixels = miou(()), missed.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = 100 * pixels / pixels.sum(1, keepdims=True)
    steps = [before, *(miou(step) for step in STEPS), *(miou((kind,)) - before for kind in KINDS)]
    return np.concatenate([np.stack(steps, axis=-1), shares], axis=-1)
