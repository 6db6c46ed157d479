"""Which records a row stands for: lists among their scores (curves, bins) never become numbers of a row.

Grouped by the rules of `wsssbench.reporting.rows`, so that a figure and a table have the same rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from wsssbench.identity import Record
from wsssbench.reporting.rows import Row, rows_of
from wsssbench.reporting.table_parts import heading


@dataclass(frozen=True)
class Line:
    """A row and its finished records, by seed."""

    row: Row
    records: tuple[Record, ...]

    def scores(self, metric: str) -> list[dict[str, Any]]:
        """The scores of one metric, of the records that have it."""
        return [dict(r.scores[metric]) for r in self.records if r.scores.get(metric)]

    def lists(self, metric: str, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(seeds, n) one list of numbers of each record; None becomes NaN; (0, 0) without any."""
        found = [scores[name] for scores in self.scores(metric) if scores.get(name)]
        lengths = {len(values) for values in found}
        if len(lengths) != 1:  # none, or records of different grids
            return np.zeros((0, 0))
        return np.array([[np.nan if v is None else v for v in values] for values in found], np.float64)


@dataclass(frozen=True)
class Table:
    """Lines of equal terms in the order of their ranks, and what tells the table from others."""

    title: str
    lines: tuple[Line, ...]

    @property
    def finished(self) -> list[Line]:
        return [line for line in self.lines if not line.row.failed]


def tables_of(
    records: Iterable[Record],
    *,
    limited: bool = False,
    stale: Collection[str] = (),
    methods: Sequence[str] = (),
    stages: Sequence[str] = (),
) -> list[Table]:
    """The tables that `rows_of` makes; `methods` and `stages`, where given, are the only ones that are kept.

    Rows keep the rank that they have among all.
    """
    known = list(records)
    rows = rows_of(known, limited=limited, stale=stale)
    finished = {record.key: record for record in known if record.status == "ok"}
    kept = [
        r for r in rows if (not methods or r.method in methods) and (not stages or r.terms.stage in stages)
    ]
    if methods:
        kept.sort(key=lambda row: (rows.index(_first_of(row, rows)), methods.index(row.method)))
    groups = [list(group) for _, group in groupby(kept, key=lambda row: row.terms_hash)]
    terms = [group[0].terms for group in groups]
    return [
        Table(
            heading(group[0].terms, [other for other in terms if other is not group[0].terms]),
            tuple(Line(row, tuple(finished[key] for key in row.keys)) for row in group),
        )
        for group in groups
    ]


def _first_of(row: Row, rows: Sequence[Row]) -> Row:
    """The first row of the table that `row` stands in."""
    return next(other for other in rows if other.terms_hash == row.terms_hash)
