"""Differences of two methods in any metric: from what it has counted in each image, as far as that was kept,
else from the scores of each seed alone.

A metric's own `score` is called for every resample, so that a third-party metric has intervals too; the
scores of `wsssbench.statistics.paired` are faster and need not be asked for here. Files must not enter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.metrics import SIDE
from wsssbench.statistics.bootstrap import rarest_class
from wsssbench.statistics.paired import Difference, differences

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
    truth: NDArray[np.int64]
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
    names, strata = _numbers(name, pairs), [rarest_class(first.truth) for first, _ in pairs]
    titles, score = [f"{name}.{number}" for number in names], _score(metric, names, unpack, classes)
    how = {"resamples": min(resamples, RESAMPLES), "seed": seed}
    return differences(titles, tables, strata, score, same_images=same_images, **how)


def _of_seeds(
    name: str, pairs: Sequence[tuple[Judged, Judged]], resamples: int, seed: int
) -> list[Difference]:
    """From recorded scores: seeds alone are drawn, and one seed has no interval."""
    names = _numbers(name, pairs)
    tables = [
        np.array([[_number(side.scores[name].get(n)) for side in pair for n in names]]) for pair in pairs
    ]
    titles, strata = [f"{name}.{number}" for number in names], [np.zeros(1, np.int64)] * len(tables)
    how = {"resamples": resamples, "seed": seed}
    found = differences(titles, tables, strata, np.asarray, same_images=False, **how)
    none: dict[str, Any] = dict.fromkeys(("difference", "low", "high", "p", "smallest"), float("nan"))
    return [replace(d, over="seeds", **(none if len(pairs) == 1 else {})) for d in found]


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
