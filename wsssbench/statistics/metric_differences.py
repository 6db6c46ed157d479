"""Differences of two methods in any metric: from what it has counted in each image, as far as that was kept,
else from the scores of each seed alone.

A metric's own `score` is asked for every resample, so that a stranger's metric has intervals too; the scores
of `wsssbench.statistics.paired` are faster and need not be asked for here. Files must not enter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.metrics import SIDE
from wsssbench.statistics.bootstrap import rarest_class, replicates
from wsssbench.statistics.paired import Difference, difference_of

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from wsssbench.scores.counts_table import CountsTable
    from wsssbench.statistics.bootstrap import Columns, Floats, Score
    from wsssbench.types import Counts, Metric

    Unpack: TypeAlias = Callable[[Floats], Counts]  # summed columns (M,) -> counts

RESAMPLES = 1000  # at most: each asks the metric twice for every seed


@dataclass(frozen=True)
class Judged:
    """One seed of a method: its counts, the truth of its images (n, C), and its recorded scores by metric."""

    table: CountsTable
    truth: Columns
    scores: Mapping[str, Mapping[str, Any]]


def metric_differences(
    name: str,
    metric: Metric | None,
    pairs: Sequence[tuple[Judged, Judged]],
    classes: int,
    *,
    same_images: bool,
    resamples: int,
    seed: int = 0,
) -> list[Difference]:
    """Of every number of one metric, named `metric.number`, first less second; `pairs` are of one seed each.

    `metric` is None where it is not installed. Numbers that a method lacks are left out.
    """
    columns = None if metric is None else _columns(metric, pairs, classes)
    if metric is None or columns is None:
        return _of_seeds(name, pairs, resamples, seed)
    tables, unpack = columns
    names = _numbers(name, pairs)
    score = _score(metric, names, unpack, classes)
    point = np.stack([_sides(score, t.sum(0, dtype=np.float64)[None])[0] for t in tables])  # (S, 2, Q)
    strata = [rarest_class(first.truth) for first, _ in pairs]
    drawn = replicates(
        tables, strata, lambda sums: _less(score, sums), same_images=same_images,
        resamples=min(resamples, RESAMPLES), seed=seed,
    )  # fmt: skip
    return _differences(name, names, point, drawn)


def _of_seeds(
    name: str, pairs: Sequence[tuple[Judged, Judged]], resamples: int, seed: int
) -> list[Difference]:
    """From recorded scores: seeds alone are drawn, and one seed has no interval."""
    names = _numbers(name, pairs)
    point = np.array(
        [[[_number(side.scores[name].get(n)) for n in names] for side in pair] for pair in pairs]
    )
    tables = [both.reshape(1, -1) for both in point]

    def less(sums: Columns | Floats) -> Floats:
        first, second = np.moveaxis(np.asarray(sums, np.float64).reshape(len(sums), 2, -1), 1, 0)
        return np.asarray(first - second)

    none = [np.zeros(1, np.int64)] * len(tables)
    drawn = replicates(tables, none, less, same_images=False, resamples=resamples, seed=seed)
    if len(pairs) == 1:
        drawn = np.full_like(drawn, np.nan)
    return [replace(d, over="seeds") for d in _differences(name, names, point, drawn)]


def _differences(name: str, numbers: Sequence[str], point: Floats, drawn: Floats) -> list[Difference]:
    named = [f"{name}.{number}" for number in numbers]
    return [difference_of(title, point[:, :, q], drawn[:, q]) for q, title in enumerate(named)]


def _numbers(name: str, pairs: Sequence[tuple[Judged, Judged]]) -> list[str]:
    """The numbers that every cell has recorded of the metric, in order."""
    each = [side.scores.get(name, {}) for pair in pairs for side in pair]
    return [
        key for key in each[0] if key != "n_images" and all(np.isfinite(_number(s.get(key))) for s in each)
    ]


def _number(value: Any) -> float:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if plain else float("nan")


def _score(metric: Metric, names: Sequence[str], unpack: Unpack, classes: int) -> Score:
    """The metric's numbers, (R, Q), of the summed columns (R, M) of one method."""

    def score(sums: Columns | Floats) -> Floats:
        found = [metric.score(unpack(np.rint(line.astype(np.float64))), classes) for line in sums]
        return np.array([[_number(numbers.get(name)) for name in names] for numbers in found])

    return score


def _sides(score: Score, sums: Columns | Floats) -> Floats:
    """(R, 2, Q) scores of both methods, whose columns are side by side."""
    half = sums.shape[1] // 2
    return np.stack([score(sums[:, :half]), score(sums[:, half:])], axis=1)


def _less(score: Score, sums: Columns | Floats) -> Floats:
    both = _sides(score, sums)
    return np.asarray(both[:, 0] - both[:, 1])


# ------------------------------------------------------------------------------------------------- columns


def _columns(
    metric: Metric, pairs: Sequence[tuple[Judged, Judged]], classes: int
) -> tuple[list[Columns], Unpack] | None:
    """Of each pair what the metric has counted, (n, 2 M), and how it becomes counts; None where not kept."""
    tables = [side.table for pair in pairs for side in pair]
    if metric.from_confusion:
        return _of_confusion(pairs)
    kept = [table.more.get(metric.name) for table in tables]
    shapes = [None if arrays is None else {n: a.shape for n, a in arrays.items()} for arrays in kept]
    if not shapes[0] or any(shape != shapes[0] for shape in shapes):
        return None
    layout = shapes[0]

    def dense(table: CountsTable) -> Columns:
        parts = [table.more[metric.name][name].dense(len(table.ids)) for name in layout]
        return np.concatenate(parts, axis=1)

    def unpack(line: Floats) -> Counts:
        cuts = np.cumsum([int(np.prod(shape)) for shape in layout.values()])[:-1]
        parts = np.split(line.astype(np.int64), cuts)
        return {name: part.reshape(layout[name]) for name, part in zip(layout, parts, strict=True)}

    return [np.concatenate([dense(a.table), dense(b.table)], axis=1) for a, b in pairs], unpack


def _of_confusion(pairs: Sequence[tuple[Judged, Judged]]) -> tuple[list[Columns], Unpack]:
    codes = [_codes(side.table) for pair in pairs for side in pair]
    cells = np.unique(np.concatenate(codes))

    def dense(table: CountsTable) -> Columns:
        whole = np.zeros((len(table.ids), len(cells)), np.float32)
        whole[table.image, np.searchsorted(cells, _codes(table))] = table.pixels
        return whole

    def unpack(line: Floats) -> Counts:
        gold, predicted = np.divmod(cells, SIDE)
        return {"gold": gold, "predicted": predicted, "pixels": line.astype(np.int64)}

    return [np.concatenate([dense(a.table), dense(b.table)], axis=1) for a, b in pairs], unpack


def _codes(table: CountsTable) -> NDArray[np.int64]:
    return table.gold * SIDE + table.predicted
