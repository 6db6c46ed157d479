"""`wsssbench errors`: what each kind of error costs in finished cells (the ladder, from what was counted in
their images or else from masks and data set), and where they err (slices, from their counts alone).

Nothing is written; torch must not enter.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from wsssbench.commands.error_tables import CellErrors, MethodErrors
from wsssbench.commands.judged_data import JudgedData
from wsssbench.errors import BadData, NotComparable, WsssError
from wsssbench.identity import Record, content_key
from wsssbench.judging.judge import score_split
from wsssbench.machine.process import keep_memory
from wsssbench.masks import read_labels
from wsssbench.metrics import Iou, checked
from wsssbench.records.finding import find_records
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.conditions import unlike_words
from wsssbench.reporting.rows import configuration
from wsssbench.scores.counts_table import COLUMNS, COUNTS, CountsTable
from wsssbench.scores.ladder import ErrorLadder
from wsssbench.scores.slices import all_slices
from wsssbench.statistics.error_intervals import SeedCounts, difference_estimates, method_estimates
from wsssbench.types import Dataset

MASKS = "masks"


def errors_command(
    cells: Sequence[Path],
    options: Sequence[str],
    config: Path | None,
    resamples: int,
    as_json: bool,
    no_ladder: bool,
) -> None:
    """Print slices and ladders of the records at or below `cells`, a column for each method."""
    from wsssbench.commands.error_tables import as_data, as_text

    keep_memory()
    methods = found_errors(cells, options, config, resamples=resamples, ladder=not no_ladder)
    click.echo(json.dumps(as_data(methods), indent=1, allow_nan=False) if as_json else as_text(methods))


def found_errors(
    cells: Sequence[Path], options: Sequence[str], config: Path | None, *, resamples: int, ladder: bool
) -> list[MethodErrors]:
    """Slices, and with `ladder` the costs of errors, of the records at or below `cells`, by method."""
    found = sliced(cells)
    if ladder:
        judged = JudgedData(options, config)
        found = [_with_ladder(cell, judged) for cell in found]
    return by_method(found, resamples)


def by_method(found: Sequence[CellErrors], resamples: int) -> list[MethodErrors]:
    """The cells by method and configuration, in order, with intervals over images and seeds."""
    groups: dict[tuple[str, str], list[CellErrors]] = {}
    for cell in found:
        record = cell.cell.record
        groups.setdefault((record.method, content_key(configuration(record))), []).append(cell)
    names = titles([group[0].cell.record for group in groups.values()])
    all_cells = [[_to_resample(cell) for cell in group] for group in groups.values()]
    return [
        MethodErrors(
            name,
            tuple(group),
            method_estimates(cells, resamples),
            difference_estimates(all_cells[0], cells, resamples) if cells is not all_cells[0] else {},
        )
        for name, group, cells in zip(names, groups.values(), all_cells, strict=True)
    ]


def _to_resample(cell: CellErrors) -> SeedCounts:
    identity = cell.cell.record.identity
    return SeedCounts.of(identity.seed, cell.table, len(identity.terms.classes), cell.counts)


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
    differing = unlike_words(first.record.identity.terms, other.record.identity.terms)
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
    known = cell.table.more.get(ErrorLadder.name)
    if known:
        classes = len(cell.cell.record.identity.terms.classes)
        scores = ErrorLadder().score({name: array.total() for name, array in known.items()}, classes)
        ladder = {**scores, "n_images": len(cell.table.ids)}
        return dataclasses.replace(cell, ladder=ladder, counts=known)
    folder = cell.cell.path.parent / MASKS
    if not folder.is_dir():
        click.echo(f"{cell.title}: no ladder, the cell has no masks", err=True)
        return cell
    dataset = _dataset_of(cell, judged)
    return cell if dataset is None else count_ladder(cell, dataset, folder)


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


def count_ladder(cell: CellErrors, dataset: Dataset, folder: Path) -> CellErrors:
    """The cell with its ladder; BadData where masks and truth do not give its counts."""

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
    counts = table.more[ErrorLadder.name]
    return dataclasses.replace(cell, ladder=scores[ErrorLadder.name], counts=counts)
