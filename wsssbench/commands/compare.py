"""`wsssbench compare`: the first method against each other one, from the counts that the judge kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from wsssbench.errors import BadData, NotComparable, UnknownName, WsssError, nearest
from wsssbench.identity import Terms, content_key, plain
from wsssbench.plugins.table import Plugins
from wsssbench.records.finding import find_records
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.conditions import FACTS, row_conditions, shared_conditions, unlike_words
from wsssbench.reporting.rows import Row, configuration, rows_of
from wsssbench.reporting.table_parts import heading
from wsssbench.scores.counts_table import COUNTS, CountsTable
from wsssbench.statistics.bootstrap import LEVEL
from wsssbench.statistics.metric_differences import Judged, metric_differences
from wsssbench.statistics.paired import (
    SUMMARIES,
    Difference,
    compare_counts,
    holm,
    what_is_drawn,
)
from wsssbench.types import Metric

RUN_FIRST = "`wsssbench run` makes them"
MOVERS = 5  # classes that are shown at most
# what SUMMARIES and `wsssbench errors` show of them, and what is no score of the method
COVERED = ("iou", "accuracy", "error_ratios", "per_image", "compatible", "error_ladder", "threshold")


@dataclass(frozen=True)
class Comparison:
    """The first method minus another one, on the cells of equal terms that both have."""

    dataset: str
    stage: str
    first: str
    second: str
    seeds: tuple[int, ...]
    images: int  # judged by each seed
    same_images: bool
    differences: tuple[Difference, ...]  # the summaries, then each class
    others: tuple[Difference, ...] = ()  # of the other metrics that both have recorded
    adjusted: float = 1.0  # p of the mIoU, adjusted for the number of methods in this stage
    rows: tuple[Row, ...] = ()  # of the two methods, for what made them

    @property
    def miou(self) -> Difference:
        return self.differences[0]


def compare_command(
    methods: Sequence[str], runs: Sequence[Path], stage: str | None, resamples: int, seed: int, as_json: bool
) -> None:
    """Print the differences of `methods[0]` to each of the others, for all terms that they share."""
    found = compare_runs(methods, runs, stage, resamples, seed, lambda text: click.echo(text, err=True))
    click.echo(json.dumps([_as_data(c) for c in found], indent=1) if as_json else as_text(found))


def compare_runs(
    methods: Sequence[str],
    runs: Sequence[Path],
    stage: str | None,
    resamples: int,
    seed: int,
    say: Callable[[str], None] = lambda text: None,
) -> list[Comparison]:
    """`compare_methods` of all records below `runs`; WsssError where too little or too much is asked for.

    `say` hears which stages are left out because two methods have them under unlike terms alone.
    """
    if len(methods) < 2:
        hint = "as `wsssbench compare rrm cam`"
        raise WsssError("two methods are needed to compare", where="compare", hint=hint)
    if not 100 <= resamples <= 1_000_000:
        raise WsssError("between 100 and 1,000,000 resamples", where="--resamples", hint="10000 is the usual")
    cells = [cell for root in runs for cell in find_records(root)]
    found = compare_methods(cells, methods, stage, resamples, seed)
    for text in _left_out(_cells_of(cells, methods, stage), found):
        say(text)
    return found


def compare_methods(
    cells: Sequence[StoredRecord], methods: Sequence[str], stage: str | None, resamples: int, seed: int = 0
) -> list[Comparison]:
    """Comparisons by equal terms, Holm's adjustment over the other methods of each.

    NotComparable where one of the methods shares no terms with the first, with the fields that differ.
    """
    every = _cells_of(cells, methods, stage)
    first, others = methods[0], list(dict.fromkeys(methods[1:]))
    places: dict[str, dict[str, list[StoredRecord]]] = {}
    for name, own in every.items():
        for cell in own:
            place = places.setdefault(content_key(cell.record.identity.terms), {})
            place.setdefault(name, []).append(cell)
    for name in others:
        if not any(first in place and name in place for place in places.values()):
            raise _share_nothing(every, first, name, stage)
    found = []
    for place in places.values():
        if first in place:
            shared = [place[name] for name in others if name in place]
            found += _adjusted([_compare(place[first], cells, resamples, seed) for cells in shared])
    return found


def _cells_of(
    cells: Sequence[StoredRecord], methods: Sequence[str], stage: str | None
) -> dict[str, list[StoredRecord]]:
    """The finished cells of each method; UnknownName for one that has none of any stage."""
    good = [c for c in cells if c.record.status == "ok" and c.record.identity.terms.limit is None]
    known = sorted({c.record.method for c in good})
    for name in methods:
        if name not in known:
            hint = nearest(name, known) if known else RUN_FIRST
            raise UnknownName(f"no results of {name!r}", where="compare", hint=hint)
    asked = [c for c in good if stage in (None, c.record.identity.terms.stage)]
    return {name: [c for c in asked if c.record.method == name] for name in methods}


def _pairs_of_terms(
    first: Sequence[StoredRecord], second: Sequence[StoredRecord]
) -> Iterator[tuple[Terms, Terms]]:
    """One pair of terms for each data set and stage that both have."""
    mine, theirs = ([c.record.identity.terms for c in cells] for cells in (first, second))
    places = {(terms.dataset, terms.stage): terms for terms in theirs}
    for own in {(terms.dataset, terms.stage): terms for terms in mine}.values():
        if (own.dataset, own.stage) in places:
            yield own, places[own.dataset, own.stage]


def _share_nothing(
    every: Mapping[str, Sequence[StoredRecord]], one: str, other: str, stage: str | None
) -> NotComparable:
    """The error for two methods without equal terms: what differs in the first stage that both have."""
    pair = next(_pairs_of_terms(every[one], every[other]), None)
    if pair is None:
        what = f"stage {stage}" if stage else "any stage"
        return NotComparable(f"{one} and {other} share no results of {what}", where="compare")
    what = f"the protocols of {one} and {other} differ"
    return NotComparable(what, where=unlike_words(*pair), hint="run both under equal terms")


def _left_out(every: Mapping[str, Sequence[StoredRecord]], found: Sequence[Comparison]) -> Iterator[str]:
    """A line for each stage that the first and another method have, but under unlike terms alone."""
    first, *others = every
    shared = {(c.second, c.dataset, c.stage) for c in found}
    for name in others:
        for one, two in _pairs_of_terms(every[first], every[name]):
            if (name, one.dataset, one.stage) not in shared:
                why = unlike_words(one, two)
                yield f"not compared: {one.stage} of {first} and {name} on {one.dataset} ({why})"


def _adjusted(here: Sequence[Comparison]) -> list[Comparison]:
    """The same with p adjusted, score by score, for the number of methods."""
    lines = [(i, d) for i, c in enumerate(here) for d in (*c.differences, *c.others) if np.isfinite(d.p)]
    found: dict[tuple[int, str], float] = {}
    for score in dict.fromkeys(d.score for _, d in lines):
        family = [(i, d.p) for i, d in lines if d.score == score]
        for (i, _), p in zip(family, holm([p for _, p in family]), strict=True):
            found[i, score] = p

    def mended(i: int, many: Sequence[Difference]) -> tuple[Difference, ...]:
        return tuple(replace(d, adjusted=found.get((i, d.score), d.adjusted)) for d in many)

    done = [
        replace(c, differences=mended(i, c.differences), others=mended(i, c.others))
        for i, c in enumerate(here)
    ]
    return [replace(c, adjusted=c.miou.adjusted) for c in done]


def _compare(first: list[StoredRecord], second: list[StoredRecord], resamples: int, seed: int) -> Comparison:
    """One pair under equal terms."""
    for cells in (first, second):
        _one_configuration(cells)
    one = first[0].record.identity.terms
    names = f"{first[0].record.method} and {second[0].record.method}"
    mine, theirs = ({c.record.identity.seed: c for c in cells} for cells in (first, second))
    seeds = sorted(set(mine) & set(theirs))
    if not seeds:
        raise NotComparable(
            f"{names} share no seed", where=one.stage, hint=f"run both with seeds {sorted(mine)}"
        )
    count = len(one.classes)
    pairs = [_paired(mine[s], theirs[s], count) for s in seeds]
    counts = [tuple(side.table.by_image(count) for side in pair) for pair in pairs]
    truth = [a.truth for a, _ in pairs]
    same = all(t.shape == truth[0].shape and (t == truth[0]).all() for t in truth)
    drawn: dict[str, Any] = {"same_images": same, "resamples": resamples, "seed": seed}
    differences = compare_counts(
        [a for a, _ in counts], [b for _, b in counts], ["background", *one.classes], **drawn
    )
    others = [replace(d, better=metric.better if metric else "")
              for name, metric in _other_metrics(pairs)
              for d in metric_differences(name, metric, pairs, count, **drawn)]  # fmt: skip
    over = what_is_drawn(len(seeds), same_images=same)
    return Comparison(
        one.dataset, one.stage, first[0].record.method, second[0].record.method,
        tuple(seeds), len(truth[0]), same, tuple(replace(d, over=over) for d in differences),
        tuple(replace(d, over=d.over or over) for d in others),
        rows=tuple(row for cells in (first, second) for row in rows_of(c.record for c in cells)),
    )  # fmt: skip


def _other_metrics(pairs: Sequence[tuple[Judged, Judged]]) -> list[tuple[str, Metric | None]]:
    """What all cells have recorded beside IoU and what follows from it; None for what is not installed."""
    each = [side.scores for pair in pairs for side in pair]
    names = [n for n in each[0] if n not in COVERED and all(n in scores for scores in each)]
    plugins = Plugins()
    known = plugins.names("metrics")
    return [(name, plugins.load("metrics", name)() if name in known else None) for name in names]


def _one_configuration(cells: list[StoredRecord]) -> None:
    """NotComparable where cells of one method under equal terms differ by more than their seed."""
    settings = [configuration(c.record) for c in cells]
    names = {n for s in settings for n in {**s, **settings[0]} if s.get(n) != settings[0].get(n)}
    if names:
        method = cells[0].record.method
        hint = "name a folder of runs in which it has one configuration"
        raise NotComparable(f"{method} was run in several ways", where=", ".join(sorted(names)), hint=hint)


def _paired(first: StoredRecord, second: StoredRecord, classes: int) -> tuple[Judged, Judged]:
    """Two cells with their counts, checked to be of the same images."""
    mine, theirs = (_judged(cell, classes) for cell in (first, second))
    if mine.table.ids != theirs.table.ids or not np.array_equal(mine.truth, theirs.truth):
        raise BadData(
            f"the counts are not of the same images and truth as those in {first.path.parent}",
            where=second.path.parent,
            hint="judge both again: wsssbench run --rerun all",
        )
    return mine, theirs


def _judged(cell: StoredRecord, classes: int) -> Judged:
    table = CountsTable.load(cell.path.parent / COUNTS)
    return Judged(table, table.by_image(classes).truth, cell.record.scores)


# -------------------------------------------------------------------------------------------------- output


def as_text(found: Sequence[Comparison]) -> str:
    """Markdown: one table for all of equal terms, then the classes that moved and how to read it."""
    parts = []
    tables = {c.rows[0].terms_hash: c.rows[0].terms for c in found}
    for own, terms in tables.items():
        here = [c for c in found if c.rows[0].terms_hash == own]
        others = [other for hash, other in tables.items() if hash != own]
        parts += [f"## {heading(terms, others)}", _table(here), *filter(None, map(_movers, here))]
        parts += _conditions(here)
    return "\n\n".join([*parts, _reading(found)])


def _table(here: Sequence[Comparison]) -> str:
    from tabulate import tabulate

    heads = ["difference", "score", "first", "second", "first - second [95 %]", "p", "p (Holm)", "smallest"]
    lines = [
        [_names(c) * (d is c.miou), *_cells(d), str(len(c.seeds)) * (d is c.miou)]
        for c in here
        for d in (*c.differences[: len(SUMMARIES)], *c.others)
        if not _is_plain(d, c)
    ]
    return str(tabulate(lines, [*heads, "seeds"], "github", disable_numparse=True))


def _is_plain(d: Difference, c: Comparison) -> bool:
    """Whether a line would say nothing: what no prediction changes, and what only silence tells apart."""
    if d.score == "precision_of_labelled_pixels":
        return all(x.first == x.second == 100 for x in c.differences if x.score == "coverage")
    return d is not c.miou and d.first == d.second and d.low == d.high == 0


def _cells(d: Difference) -> list[str]:
    numbers = [d.score, f"{d.first:.2f}", f"{d.second:.2f}"]
    if not np.isfinite(d.low):
        return [*numbers, f"{d.first - d.second:+.2f}", "", "", ""]
    interval = f"{d.difference:+.2f} [{d.low:+.2f}, {d.high:+.2f}]"
    return [*numbers, interval, f"{d.p:.4f}", f"{d.adjusted:.4f}", f"{d.smallest:.2f}"]


def _names(c: Comparison) -> str:
    return f"{_marked(c, c.first)} - {_marked(c, c.second)}"


def _marked(c: Comparison, method: str) -> str:
    """The method's name with what is not as usual about it."""
    badges = dict.fromkeys(badge for row in c.rows if row.method == method for badge in row.badges)
    return method + "".join(f" [{badge}]" for badge in badges)


def _conditions(here: Sequence[Comparison]) -> list[str]:
    """What all rows of a table have in common, and what each method has."""
    rows = list({row.method: row for c in here for row in c.rows}.values())
    return [f"{shared_conditions(rows[0].terms)} {row_conditions(rows)}"] if rows else []


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
            "Points (ratios of activation), on cells paired by seed;",
            f"intervals of {LEVEL:.0%} by a paired bootstrap",
            "over seeds, each with images of its own."
            if nested
            else "over images (by rarest class) and seeds.",
            "One seed: how training varies is not in the interval." if one_seed else "",
            _over_seeds_alone(found),
            _lower_is_better(found),
            "p is two-sided; Holm's is for the methods of a table, score by score.",
            "smallest: the difference that such data show in four of five studies.",
        ]
    ).replace("  ", " ")


def _lower_is_better(found: Sequence[Comparison]) -> str:
    """The scores in these tables of which less is better."""
    shown = [d for c in found for d in (*c.differences[: len(SUMMARIES)], *c.others) if not _is_plain(d, c)]
    names = ", ".join(dict.fromkeys(d.score for d in shown if d.better == "lower"))
    return f"Lower is better: {names}." if names else ""


def _over_seeds_alone(found: Sequence[Comparison]) -> str:
    """Which metrics have kept no counts of the images."""
    alone = [d for c in found if c.same_images or len(c.seeds) == 1 for d in c.others if d.over == "seeds"]
    names = ", ".join(dict.fromkeys(d.score.partition(".")[0] for d in alone))
    return f"Over seeds alone, and for one seed without an interval: {names}." if names else ""


def _as_data(c: Comparison) -> dict[str, Any]:
    """With null for what is not defined."""
    data = asdict(replace(c, rows=()))
    del data["rows"]
    data["terms"] = plain(c.rows[0].terms) if c.rows else {}
    data["methods"] = {
        row.method: {"badges": list(row.badges), **{name: fact(row) for name, fact in FACTS.items()}}
        for row in c.rows
    }
    for line in (*data["differences"], *data["others"]):
        line |= {k: None for k, v in line.items() if isinstance(v, float) and not np.isfinite(v)}
    return data
