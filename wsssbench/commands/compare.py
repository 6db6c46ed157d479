"""`wsssbench compare`: the first method against each other one, from the counts that the judge kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from wsssbench.errors import BadData, NotComparable, UnknownName, WsssError, nearest
from wsssbench.judge import COUNTS, CountsTable
from wsssbench.report.rows import configuration
from wsssbench.statistics import LEVEL, SUMMARIES, Difference, ImageCounts, compare_counts, holm
from wsssbench.store import StoredRecord, find_records
from wsssbench.types import plain

MOVERS = 5  # classes that are shown at most


@dataclass(frozen=True)
class Comparison:
    """The first method minus another one, on the cells of one stage that both have."""

    dataset: str
    stage: str
    first: str
    second: str
    seeds: tuple[int, ...]
    images: int  # judged by each seed
    same_images: bool
    differences: tuple[Difference, ...]  # the summaries, then each class
    adjusted: float = 1.0  # p of the mIoU, adjusted for the number of methods in this stage

    @property
    def miou(self) -> Difference:
        return self.differences[0]


def compare_command(
    methods: Sequence[str], runs: Sequence[Path], stage: str | None, resamples: int, seed: int, as_json: bool
) -> None:
    """Print the differences of `methods[0]` to each of the others, for each data set and stage they share."""
    found = compare_runs(methods, runs, stage, resamples, seed)
    click.echo(json.dumps([_as_data(c) for c in found], indent=1) if as_json else as_text(found))


def compare_runs(
    methods: Sequence[str], runs: Sequence[Path], stage: str | None, resamples: int, seed: int
) -> list[Comparison]:
    """`compare_methods` of all records below `runs`; WsssError where too little or too much is asked for."""
    if len(methods) < 2:
        hint = "as `wsssbench compare rrm cam`"
        raise WsssError("two methods are needed to compare", where="compare", hint=hint)
    if not 100 <= resamples <= 1_000_000:
        raise WsssError("between 100 and 1,000,000 resamples", where="--resamples", hint="10000 is the usual")
    cells = [cell for root in runs for cell in find_records(root)]
    return compare_methods(cells, methods, stage, resamples, seed)


def compare_methods(
    cells: Sequence[StoredRecord], methods: Sequence[str], stage: str | None, resamples: int, seed: int = 0
) -> list[Comparison]:
    """Comparisons by data set and stage, Holm's adjustment over the other methods of each."""
    good = [c for c in cells if c.record.status == "ok" and c.record.identity.terms.limit is None]
    for name in methods:
        known = sorted({c.record.method for c in good})
        if name not in known:
            raise UnknownName(f"no results of {name!r}", where="compare", hint=nearest(name, known))
    places: dict[tuple[str, str], dict[str, list[StoredRecord]]] = {}
    for cell in good:
        terms = cell.record.identity.terms
        if cell.record.method in methods and stage in (None, terms.stage):
            place = places.setdefault((terms.dataset, terms.stage), {})
            place.setdefault(cell.record.method, []).append(cell)
    found = []
    for place in places.values():
        others = [name for name in dict.fromkeys(methods[1:]) if name in place and methods[0] in place]
        here = [_compare(place[methods[0]], place[name], resamples, seed) for name in others]
        adjusted = holm([c.miou.p for c in here])
        found += [replace(c, adjusted=p) for c, p in zip(here, adjusted, strict=True)]
    if not found:
        what = f"stage {stage}" if stage else "any stage"
        raise NotComparable(f"{methods[0]} and the others share no results of {what}", where="compare")
    return found


def _compare(first: list[StoredRecord], second: list[StoredRecord], resamples: int, seed: int) -> Comparison:
    """One pair on one stage; NotComparable where protocols differ, naming the fields."""
    for cells in (first, second):
        _one_configuration(cells)
    one, other = (cells[0].record.identity.terms for cells in (first, second))
    differing = sorted(name for name, value in plain(one).items() if value != plain(other)[name])
    names = f"{first[0].record.method} and {second[0].record.method}"
    if differing:
        said = "; ".join(f"{n}: {plain(one)[n]} and {plain(other)[n]}" for n in differing)
        raise NotComparable(f"the protocols of {names} differ", where=said, hint="run both under equal terms")
    mine, theirs = ({c.record.identity.seed: c for c in cells} for cells in (first, second))
    seeds = sorted(set(mine) & set(theirs))
    if not seeds:
        raise NotComparable(
            f"{names} share no seed", where=one.stage, hint=f"run both with seeds {sorted(mine)}"
        )
    pairs = [_paired(mine[s], theirs[s], len(one.classes)) for s in seeds]
    truth = [a.truth for a, _ in pairs]
    same = all(t.shape == truth[0].shape and (t == truth[0]).all() for t in truth)
    classes = ["background", *one.classes]
    differences = compare_counts(
        [a for a, _ in pairs], [b for _, b in pairs], classes,
        same_images=same, resamples=resamples, seed=seed,
    )  # fmt: skip
    return Comparison(
        one.dataset, one.stage, first[0].record.method, second[0].record.method,
        tuple(seeds), len(truth[0]), same, tuple(differences),
    )  # fmt: skip


def _one_configuration(cells: list[StoredRecord]) -> None:
    """NotComparable where cells of one method differ by more than their seed."""
    settings = [{**configuration(c.record), **plain(c.record.identity.terms)} for c in cells]
    names = {n for s in settings for n in {**s, **settings[0]} if s.get(n) != settings[0].get(n)}
    if names:
        method = cells[0].record.method
        hint = "name a folder of runs in which it has one configuration"
        raise NotComparable(f"{method} was run in several ways", where=", ".join(sorted(names)), hint=hint)


def _paired(first: StoredRecord, second: StoredRecord, classes: int) -> tuple[ImageCounts, ImageCounts]:
    """The counts of two cells, checked to be of the same images."""
    tables = [CountsTable.load(cell.path.parent / COUNTS) for cell in (first, second)]
    counts = [ImageCounts.of(table, classes) for table in tables]
    if tables[0].ids != tables[1].ids or not np.array_equal(counts[0].truth, counts[1].truth):
        raise BadData(
            f"the counts are not of the same images and truth as those in {first.path.parent}",
            where=second.path.parent,
            hint="judge both again: wsssbench run --rerun all",
        )
    return counts[0], counts[1]


# -------------------------------------------------------------------------------------------------- output


def as_text(found: Sequence[Comparison]) -> str:
    """Markdown: one table for each data set and stage, then the classes that moved and how to read it."""
    parts = []
    for dataset, stage in dict.fromkeys((c.dataset, c.stage) for c in found):
        here = [c for c in found if (c.dataset, c.stage) == (dataset, stage)]
        parts += [f"## {dataset}: {stage}", _table(here), *filter(None, map(_movers, here))]
    return "\n\n".join([*parts, _reading(found)])


def _table(here: Sequence[Comparison]) -> str:
    from tabulate import tabulate

    lines = [
        [
            f"{c.first} - {c.second}" if d is c.miou else "",
            d.score,
            f"{d.first:.2f}",
            f"{d.second:.2f}",
            f"{d.difference:+.2f} [{d.low:+.2f}, {d.high:+.2f}]",
            f"{d.p:.4f}",
            f"{c.adjusted:.4f}" if d is c.miou else "",
            f"{d.smallest:.2f}",
            f"{len(c.seeds)}" if d is c.miou else "",
        ]
        for c in here
        for d in c.differences[: len(SUMMARIES)]
    ]
    heads = [
        "difference",
        "score",
        "first",
        "second",
        "first - second [95 %]",
        "p",
        "p (Holm)",
        "smallest",
        "seeds",
    ]
    return str(tabulate(lines, heads, "github", disable_numparse=True))


def _movers(c: Comparison) -> str:
    """The classes whose IoU moved most, of those whose interval leaves zero out."""
    moved = [d for d in c.differences[len(SUMMARIES) :] if d.shown]
    largest = sorted(moved, key=lambda d: -abs(d.difference))[:MOVERS]
    said = ", ".join(f"{d.score} {d.difference:+.1f} [{d.low:+.1f}, {d.high:+.1f}]" for d in largest)
    return f"{c.first} - {c.second}, classes: {said} ({len(moved)} moved)." if said else ""


def _reading(found: Sequence[Comparison]) -> str:
    one_seed = any(len(c.seeds) == 1 for c in found)
    nested = any(not c.same_images and len(c.seeds) > 1 for c in found)
    return " ".join(
        [
            f"Points, on cells paired by seed; intervals of {LEVEL:.0%} by a paired bootstrap",
            "over seeds, each with images of its own."
            if nested
            else "over images (by rarest class) and seeds.",
            "One seed: how training varies is not in the interval." if one_seed else "",
            "p is two-sided; Holm's is for the mIoU of all methods of a table.",
            "smallest: the difference that such data show in four of five studies.",
        ]
    ).replace("  ", " ")


def _as_data(c: Comparison) -> dict[str, Any]:
    """With null for what is not defined."""
    data = {**asdict(c), "differences": [asdict(d) for d in c.differences]}
    for line in data["differences"]:
        line |= {k: None for k, v in line.items() if isinstance(v, float) and not np.isfinite(v)}
    return data
