"""`wsssbench errors`: what each kind of error costs in finished cells (the ladder, where masks and data set
are there), and where they err (slices, from their counts alone). Nothing is written; torch must not enter."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from wsssbench.commands.judged_data import JudgedData, differences
from wsssbench.errors import BadData, NotComparable, WsssError
from wsssbench.judge import COLUMNS, COUNTS, CountsTable, score_split
from wsssbench.masks import read_labels
from wsssbench.metrics import Iou, checked
from wsssbench.process import keep_memory
from wsssbench.report.tables import grid
from wsssbench.scores.ladder import KINDS, ErrorLadder
from wsssbench.scores.slices import Slice, all_slices
from wsssbench.store import StoredRecord, find_records
from wsssbench.types import Dataset, Record, plain

MASKS = "masks"
LADDER_READING = (
    "A wrong pixel has one kind: abstained (no label), wrong tag (a class that the image does not have), "
    "class swap (another class of the image), boundary (object and background confused near an outline, "
    "within 2 % of the image diagonal: all of an object that is thinner than twice that), context false "
    "positive (object for background elsewhere), part only (background for object elsewhere, missed objects "
    "among them). What kinds gain alone does not add up: mIoU is no sum of errors."
)
READING = (
    "IoU and recall are means over classes; by the number of classes in the image the background is one of "
    "them, else it is none. The size of a class is its area over that of the image; company judges the "
    "classes that are found both alone and with others."
)


@dataclass(frozen=True)
class CellErrors:
    """What is known of one cell; `ladder` is `ErrorLadder`'s scores, None where it could not be counted."""

    title: str
    cell: StoredRecord
    table: CountsTable
    slices: tuple[Slice, ...]
    ladder: Mapping[str, Any] | None = None


def errors_command(
    cells: Sequence[Path], options: Sequence[str], config: Path | None, as_json: bool, no_ladder: bool
) -> None:
    """Print slices and ladders of the records at or below `cells`, a column for each."""
    keep_memory()
    found = sliced(cells)
    if not no_ladder:
        judged = JudgedData(options, config)
        found = [_with_ladder(cell, judged) for cell in found]
    click.echo(json.dumps(_as_data(found), indent=1, allow_nan=False) if as_json else as_text(found))


def sliced(places: Sequence[Path]) -> list[CellErrors]:
    """The cells at or below `places` with their slices; NotComparable where their terms differ."""
    records = {cell.path.resolve(): cell for place in places for cell in find_records(place)}
    cells = list(records.values())
    if not cells:
        hint = "name cells: <runs>/<data set>/<method>/seed0/<stage>-<split>-<key>"
        raise BadData("no record here", where=", ".join(map(str, places)), hint=hint)
    for cell in cells:
        if cell.record.status != "ok":
            raise BadData(f"this cell failed: {cell.record.reason}", where=cell.path, hint="run it again")
        _check_terms(cells[0], cell)
    return [
        _sliced(cell, title) for cell, title in zip(cells, titles([c.record for c in cells]), strict=True)
    ]


def _check_terms(first: StoredRecord, other: StoredRecord) -> None:
    differing = differences(first.record.identity.terms, plain(other.record.identity.terms))
    if differing:
        what = f"the protocols of {first.path.parent} and {other.path.parent} differ"
        raise NotComparable(what, where=differing, hint="name cells of one stage under equal terms")


def titles(records: Sequence[Record]) -> list[str]:
    """The shortest names that tell the records apart: method, with seed, with key, with number."""
    for seed, key in ((False, False), (True, False), (True, True)):
        names = [r.method + f" seed {r.identity.seed}" * seed + f" {r.key[:8]}" * key for r in records]
        if len(set(names)) == len(names):
            return names
    return [f"{name} #{n + 1}" for n, name in enumerate(names)]  # copies of one cell


def _sliced(cell: StoredRecord, title: str) -> CellErrors:
    path, classes = cell.path.parent / COUNTS, len(cell.record.identity.terms.classes)
    table = CountsTable.load(path)
    checked({"gold": table.gold, "predicted": table.predicted}, classes, path, path)
    return CellErrors(title, cell, table, tuple(all_slices(table, classes)))


# ------------------------------------------------------------------------------------------------ ladder


def _with_ladder(cell: CellErrors, judged: JudgedData) -> CellErrors:
    """The same with its ladder, or as it is, and why, where masks or data set are not there."""
    folder = cell.cell.path.parent / MASKS
    if not folder.is_dir():
        click.echo(f"{cell.title}: no ladder, the cell has no masks", err=True)
        return cell
    dataset = _dataset_of(cell, judged)
    if dataset is None:
        return cell
    return dataclasses.replace(cell, ladder=count_ladder(cell, dataset, folder))


def _dataset_of(cell: CellErrors, judged: JudgedData) -> Dataset | None:
    """The data set that the cell was judged on; None, with a word why, where it is not there.

    What the command line says of a data set must be right: then its errors are raised, and always where it is
    another data set.
    """
    record = cell.cell.record
    try:
        return judged(record)
    except NotComparable:
        raise
    except WsssError as error:
        if judged.is_asked_for(record):
            raise
        click.echo(f"{cell.title}: no ladder, the data set cannot be opened: {error}", err=True)
        return None


def count_ladder(cell: CellErrors, dataset: Dataset, folder: Path) -> dict[str, Any]:
    """The scores of `ErrorLadder`; BadData where masks and truth do not give the counts of the cell."""

    def path(id: str) -> Path:
        return folder / f"{id}.png"

    scores, table = score_split(
        dataset,
        cell.table.ids,
        lambda id: read_labels(path(id)),
        (Iou(), ErrorLadder()),
        where=path,
        threads=2,
    )
    if any(not np.array_equal(getattr(table, name), getattr(cell.table, name)) for name in COLUMNS):
        hint = "open the data set that was judged, or judge again; --no-ladder shows the slices alone"
        raise BadData("masks and truth do not give the cell's counts", where=folder, hint=hint)
    return scores[ErrorLadder.name]


# ------------------------------------------------------------------------------------------------ output


def as_text(found: Sequence[CellErrors]) -> str:
    """Markdown: the ladder's three tables, the table of slices, and how to read them."""
    terms = found[0].cell.record.identity.terms
    drawn = " (drawn anew from each seed)" * (not terms.split_fingerprint)
    parts = [f"## {terms.dataset}: {terms.stage} on {terms.split}{drawn}, errors"]
    counted = [cell for cell in found if cell.ladder is not None]
    if counted:
        parts += [
            "mIoU (%) after repairing one kind of error after the other",
            grid(_ladder_lines(counted)),
            "mIoU (points) gained by repairing one kind alone",
            grid(_kind_lines(counted, "alone", "+.2f")),
            "Share of the wrong pixels (%)",
            grid(_kind_lines(counted, "share", ".1f")),
            LADDER_READING,
        ]
    return "\n\n".join([*parts, "Slices (%)", grid(_slice_lines(found)), READING])


def _ladder_lines(found: Sequence[CellErrors]) -> list[dict[str, str]]:
    steps = [(cell.title, [cell.ladder["miou"], *(m for _, m in cell.ladder["ladder"])])
             for cell in found if cell.ladder is not None]  # fmt: skip
    names = ("nothing", *(f"+ {_words(kind)}" for kind in KINDS))
    return [{"repaired": name, **{title: _number(mious[i]) for title, mious in steps}}
            for i, name in enumerate(names)]  # fmt: skip


def _kind_lines(found: Sequence[CellErrors], part: str, form: str) -> list[dict[str, str]]:
    parts = [(cell.title, cell.ladder[part]) for cell in found if cell.ladder is not None]
    return [{"kind": _words(kind), **{title: _number(values[kind], form) for title, values in parts}}
            for kind in KINDS]  # fmt: skip


def _slice_lines(found: Sequence[CellErrors]) -> list[dict[str, str]]:
    """Two lines per slice that any cell has images of."""
    lines = []
    for group, name in dict.fromkeys((s.group, s.name) for cell in found for s in cell.slices):
        here = {c.title: s for c in found for s in c.slices if (s.group, s.name) == (group, name)}
        if not any(part.images for part in here.values()):
            continue
        head = {
            "slice": f"{group}: {name}",
            "images": _range(s.images for s in here.values()),
            "classes": _range(s.classes for s in here.values()),
        }
        for score, title in (("iou", "IoU"), ("recall", "recall")):
            values = {c.title: _number(getattr(here.get(c.title), score, None)) for c in found}
            lines.append({**head, "score": title, **values})
    return lines


def _range(numbers: Any) -> str:
    """ "5", or "4 to 6" where seeds draw different images."""
    known = list(numbers)
    return " to ".join(map(str, sorted({min(known), max(known)})))


def _number(value: float | None, form: str = ".2f") -> str:
    return "" if value is None else format(value, form)


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _as_data(found: Sequence[CellErrors]) -> dict[str, Any]:
    """JSON types, with null for what is not defined."""
    cells = [
        {
            "title": cell.title,
            "method": cell.cell.record.method,
            "seed": cell.cell.record.identity.seed,
            "record": str(cell.cell.path),
            "ladder": cell.ladder,
            "slices": [plain(part) for part in cell.slices],
        }
        for cell in found
    ]
    return {"terms": plain(found[0].cell.record.identity.terms), "cells": cells}
