"""What `wsssbench errors` prints: the ladder's three tables, the table of slices, how to read them; or JSON.

Numbers come in as they are; what they are made of must not enter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from wsssbench.identity import plain
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.table_parts import grid
from wsssbench.scores.counts_table import CountsTable
from wsssbench.scores.ladder import KINDS
from wsssbench.scores.slices import Slice

if TYPE_CHECKING:
    from wsssbench.scores.image_counts import ImageArrays
    from wsssbench.statistics.error_intervals import Estimate, Estimates, Name


LADDER_READING = (
    "A wrong pixel has one kind: abstained (no label), wrong tag (a class that the image does not have), "
    "class swap (another class of the image), boundary (object and background confused near an outline, "
    "within 2 % of the image diagonal: all of an object that is thinner than twice that), context false "
    "positive (object for background elsewhere), part only (background for object elsewhere, missed objects "
    "among them). What the kinds gain alone does not add up, because mIoU is not a sum of errors."
)
READING = (
    "IoU and recall are means over classes; by the number of classes in the image the background counts as "
    "a class, elsewhere it does not. The size of a class is its area over that of the image; the slices by "
    "company judge the classes that are found both alone and with others."
)
LESS = "\0"  # marks a column of differences
INTERVALS = (
    "Numbers are means over seeds, in brackets their interval of 95 %, by a bootstrap over {what}; a "
    "difference is paired by seed and image. Without an interval: too few images.{one}"
)


def as_text(methods: Sequence[MethodErrors]) -> str:
    """Markdown; a column for each method, then for the first one less each other."""
    terms = methods[0].cells[0].cell.record.identity.terms
    drawn = " (drawn again for each seed)" * (not terms.split_fingerprint)
    parts = [f"## {terms.dataset}: {terms.stage} on {terms.split}{drawn}, errors"]
    columns = _columns(methods)
    if any(("miou",) in column for column in columns.values()):
        steps: list[tuple[str, Name]] = [("nothing", ("miou",))]
        steps += [(f"+ {_words(kind)}", ("ladder", kind)) for kind in KINDS]
        parts += [
            "mIoU (%) after repairing one kind of error after the other",
            _grid("repaired", steps, columns, ".2f"),
            "mIoU (points) gained by repairing one kind alone",
            _grid("kind", [(_words(kind), ("alone", kind)) for kind in KINDS], columns, "+.2f"),
            "Share of the wrong pixels (%)",
            _grid("kind", [(_words(kind), ("share", kind)) for kind in KINDS], columns, ".1f"),
            LADDER_READING,
        ]
    return "\n\n".join(
        [*parts, "Slices (%)", grid(_slice_lines(methods, columns)), READING, _how(methods, drawn)]
    )


def _columns(methods: Sequence[MethodErrors]) -> dict[str, Estimates]:
    """Numbers by the head of their column, with LESS before that of a difference."""
    own = {_head(m): m.estimates for m in methods}
    return own | {f"{LESS}{methods[0].title} - {m.title}": m.less for m in methods if m.less}


def _head(method: MethodErrors) -> str:
    count = len(method.cells)
    return method.title if count == 1 else f"{method.title} ({count} seeds)"


def _how(methods: Sequence[MethodErrors], drawn: str) -> str:
    several = any(len(m.cells) > 1 for m in methods)
    what = "seeds, each with images of its own" if several and drawn else "images (by rarest class) and seeds"
    one = " One seed: how training varies is not in the interval."
    alone = any(len(m.cells) == 1 for m in methods)
    return INTERVALS.format(what=what if several else "images (by rarest class)", one=one * alone)


def _grid(head: str, lines: Iterable[tuple[str, Name]], columns: Mapping[str, Estimates], form: str) -> str:
    return grid([{head: word, **_cells(name, columns, form)} for word, name in lines])


def _cells(name: Name, columns: Mapping[str, Estimates], form: str) -> dict[str, str]:
    """The number called `name` of every column; differences with their sign."""
    forms = {title: f"+{form.lstrip('+')}" if title.startswith(LESS) else form for title in columns}
    return {title.removeprefix(LESS): _cell(c.get(name), forms[title]) for title, c in columns.items()}


def _cell(estimate: Estimate | None, form: str) -> str:
    if estimate is None or estimate.value is None:
        return ""
    if estimate.low is None or estimate.high is None:
        return format(estimate.value, form)
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def _slice_lines(methods: Sequence[MethodErrors], columns: Mapping[str, Estimates]) -> list[dict[str, str]]:
    """Two lines per slice that any cell has images of."""
    slices = [part for method in methods for cell in method.cells for part in cell.slices]
    lines = []
    for group, name in dict.fromkeys((part.group, part.name) for part in slices):
        here = [part for part in slices if (part.group, part.name) == (group, name)]
        if not any(part.images for part in here):
            continue
        head = {
            "slice": f"{group}: {name}",
            "images": _range(part.images for part in here),
            "classes": _range(part.classes for part in here),
        }
        for score, title in (("iou", "IoU"), ("recall", "recall")):
            lines.append({**head, "score": title, **_cells((group, name, score), columns, ".2f")})
    return lines


def _range(numbers: Iterable[int]) -> str:
    """ "5", or "4 to 6" where seeds draw different images."""
    known = list(numbers)
    return " to ".join(map(str, sorted({min(known), max(known)})))


def _words(kind: str) -> str:
    return kind.replace("_", " ")


# ---------------------------------------------------------------------------------------------------- JSON


def as_data(methods: Sequence[MethodErrors]) -> dict[str, Any]:
    """JSON types, with null for what is not defined: each cell by itself, then methods with intervals."""
    cells = [cell for method in methods for cell in method.cells]
    return {
        "terms": plain(cells[0].cell.record.identity.terms),
        "cells": [
            {
                "title": cell.title,
                "method": cell.cell.record.method,
                "seed": cell.cell.record.identity.seed,
                "record": str(cell.cell.path),
                "ladder": cell.ladder,
                "slices": [plain(part) for part in cell.slices],
            }
            for cell in cells
        ],
        "methods": [_numbers(m.title, m.estimates, seeds=_seeds(m)) for m in methods],
        "differences": [
            _numbers(f"{methods[0].title} - {m.title}", m.less, first=methods[0].title, second=m.title)
            for m in methods
            if m.less
        ],
    }


def _seeds(method: MethodErrors) -> list[int]:
    return [cell.cell.record.identity.seed for cell in method.cells]


def _numbers(title: str, estimates: Estimates, **more: Any) -> dict[str, Any]:
    lines = [{"name": list(name), **asdict(estimate)} for name, estimate in estimates.items()]
    return {"title": title, **more, "numbers": lines}


@dataclass(frozen=True)
class CellErrors:
    """What is known of one cell; `ladder` is `ErrorLadder`'s scores, None where it could not be counted, and
    `counts` what it has counted in each image."""

    title: str
    cell: StoredRecord
    table: CountsTable
    slices: tuple[Slice, ...]
    ladder: Mapping[str, Any] | None = None
    counts: Mapping[str, ImageArrays] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodErrors:
    """The cells of one method and configuration, and its numbers over their seeds with intervals; `less` is
    the first method's less these."""

    title: str
    cells: tuple[CellErrors, ...]
    estimates: Estimates
    less: Estimates = field(default_factory=dict)
