"""`wsssbench compare`: the first method against each other one, from the counts that the judge kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from wsssbench.commands.named_rows import named_rows
from wsssbench.errors import BadData, NotComparable, WsssError
from wsssbench.identity import Terms, content_key, plain
from wsssbench.plugins.table import Plugins
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.conditions import FACTS, row_conditions, shared_conditions, unlike_words
from wsssbench.reporting.rows import Row, configuration, rows_of
from wsssbench.reporting.table_parts import grid, heading
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

MOVERS = 5  # classes that are shown at most
# what SUMMARIES and `wsssbench errors` show of them, and what does not score the method
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
    rows: tuple[Row, ...] = ()  # of the two methods, for what made them

    @property
    def miou(self) -> Difference:
        return self.differences[0]

    @property
    def adjusted(self) -> float:
        """p of the mIoU, adjusted for the number of methods in this stage."""
        return self.miou.adjusted


def compare_command(rows: Sequence[str], *, as_json: bool, **more: Any) -> None:
    """Print the differences of the first of `rows` to each other one, for all terms that they share."""
    found = compare_runs(rows, **more, say=lambda text: click.echo(text, err=True))
    click.echo(json.dumps([_as_data(c) for c in found], indent=1) if as_json else as_text(found))


def compare_runs(
    rows: Sequence[str],
    runs: Sequence[Path],
    stage: str | None,
    resamples: int,
    seed: int,
    say: Callable[[str], None] = lambda text: None,
) -> list[Comparison]:
    """`compare_rows` of what `rows` name (`named_rows`): methods of `runs`, or folders of one method each.

    WsssError for fewer than two, and for too few or too many resamples; `say` as of `compare_rows`.
    """
    if len(set(rows)) < 2:
        hint = "as `wsssbench compare rrm cam`"
        raise WsssError("two methods are needed to compare", where="compare", hint=hint)
    if not 100 <= resamples <= 1_000_000:
        what = "the number of resamples must be between 100 and 1,000,000"
        raise WsssError(what, where="--resamples", hint="10000 is the usual")
    named = named_rows(rows, runs, stage, "compare")
    return compare_rows({word: [_called(word, c) for c in cells] for word, cells in named.items()},
                        resamples, seed, say)  # fmt: skip


def _called(name: str, cell: StoredRecord) -> StoredRecord:
    """The cell under the name that its row was asked for by: one method may come from two folders."""
    return replace(cell, record=replace(cell.record, method=name))


def compare_rows(
    rows: Mapping[str, Sequence[StoredRecord]],
    resamples: int,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> list[Comparison]:
    """The first of `rows` (cells by title) against each other, by equal terms, with Holm's adjusted p.

    NotComparable where one shares no terms with the first, with the fields that differ. `say` gets a line for
    each stage that is left out because the two have it under unlike terms alone.
    """
    first, *others = rows
    places: dict[str, dict[str, list[StoredRecord]]] = {}
    for name, own in rows.items():
        for cell in own:
            place = places.setdefault(content_key(cell.record.identity.terms), {})
            place.setdefault(name, []).append(cell)
    for name in others:
        unlike = _unlike_terms(rows[first], rows[name])
        if not any(first in place and name in place for place in places.values()):
            raise _share_nothing(first, name, unlike)
        for one, two in unlike:
            why = unlike_words(one, two)
            say(f"not compared: {one.stage} of {first} and {name} on {one.dataset} ({why})")
    found = []
    for place in places.values():
        if first in place:
            shared = [place[name] for name in others if name in place]
            found += _adjusted([_compare(place[first], cells, resamples, seed) for cells in shared])
    return found


def _unlike_terms(first: Sequence[StoredRecord], second: Sequence[StoredRecord]) -> list[tuple[Terms, Terms]]:
    """One pair of terms for each data set and stage that both have, but under unlike terms alone."""
    mine, theirs = (
        {content_key(c.record.identity.terms): c.record.identity.terms for c in cells}
        for cells in (first, second)
    )
    shared = {(terms.dataset, terms.stage) for key, terms in mine.items() if key in theirs}
    own, other = ({(t.dataset, t.stage): t for t in side.values()} for side in (mine, theirs))
    return [(own[place], other[place]) for place in own if place in other and place not in shared]


def _share_nothing(one: str, other: str, unlike: Sequence[tuple[Terms, Terms]]) -> NotComparable:
    """The error for two methods without equal terms: what differs in the first stage that both have."""
    if not unlike:
        hint = "leave --stage out, or run both in one stage"
        return NotComparable(f"{one} and {other} have no stage in common", where="compare", hint=hint)
    what = f"the protocols of {one} and {other} differ"
    return NotComparable(what, where=unlike_words(*unlike[0]), hint="run both under equal terms")


def _adjusted(here: Sequence[Comparison]) -> list[Comparison]:
    """The same with p adjusted, score by score, for the number of methods."""
    each = [{d.score: d.p for d in (*c.differences, *c.others) if np.isfinite(d.p)} for c in here]
    found: list[dict[str, float]] = [{} for _ in here]
    for score in dict.fromkeys(score for own in each for score in own):
        family = [i for i, own in enumerate(each) if score in own]
        for i, p in zip(family, holm([each[i][score] for i in family]), strict=True):
            found[i][score] = p

    def mended(many: Sequence[Difference], own: Mapping[str, float]) -> tuple[Difference, ...]:
        return tuple(replace(d, adjusted=own.get(d.score, d.adjusted)) for d in many)

    return [
        replace(c, differences=mended(c.differences, own), others=mended(c.others, own))
        for c, own in zip(here, found, strict=True)
    ]


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
    return grid(
        [
            {"difference": _names(c) if d is c.miou else "", **_cells(d),
             "seeds": str(len(c.seeds)) if d is c.miou else ""}
            for c in here
            for d in (*c.differences[: len(SUMMARIES)], *c.others)
            if not _is_plain(d, c)
        ]
    )  # fmt: skip


def _is_plain(d: Difference, c: Comparison) -> bool:
    """Whether a line would say nothing: what no prediction changes, and what only silence tells apart."""
    if d.score == "precision_of_labelled_pixels":
        return all(x.first == x.second == 100 for x in c.differences if x.score == "coverage")
    return d is not c.miou and d.first == d.second and d.low == d.high == 0


def _cells(d: Difference) -> dict[str, str]:
    known = np.isfinite(d.low)
    interval = f"{d.difference:+.2f} [{d.low:+.2f}, {d.high:+.2f}]"
    return {
        "score": d.score,
        "first": f"{d.first:.2f}",
        "second": f"{d.second:.2f}",
        "first - second [95 %]": interval if known else f"{d.first - d.second:+.2f}",
        "p": f"{d.p:.4f}" if known else "",
        "p (Holm)": f"{d.adjusted:.4f}" if known else "",
        "smallest": f"{d.smallest:.2f}" if known else "",
    }


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
    data["adjusted"] = c.adjusted
    data["terms"] = plain(c.rows[0].terms) if c.rows else {}
    data["methods"] = {
        row.method: {"badges": list(row.badges), **{name: fact(row) for name, fact in FACTS.items()}}
        for row in c.rows
    }
    for line in (*data["differences"], *data["others"]):
        line |= {k: None for k, v in line.items() if isinstance(v, float) and not np.isfinite(v)}
    return data
