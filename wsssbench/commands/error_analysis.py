"""`wsssbench errors`: what each kind of error costs in finished cells (the ladder, from what was counted in
their images or else from masks and data set), and where they err (slices, from their counts alone).

Nothing is written; torch must not enter.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from wsssbench.commands.error_tables import CellErrors, MethodErrors
from wsssbench.commands.judged_data import JudgedData
from wsssbench.commands.named_rows import named_rows
from wsssbench.errors import BadData, NotComparable, WsssError
from wsssbench.identity import content_key
from wsssbench.judging.judge import score_split
from wsssbench.machine.process import keep_memory
from wsssbench.masks import read_labels
from wsssbench.metrics import Iou, checked
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.conditions import unlike_words
from wsssbench.reporting.rows import configuration
from wsssbench.scores.counts_table import COLUMNS, COUNTS, CountsTable
from wsssbench.scores.ladder import ErrorLadder
from wsssbench.scores.slices import all_slices
from wsssbench.statistics.error_intervals import SeedCounts, difference_estimates, method_estimates
from wsssbench.types import Dataset

MASKS = "masks"


def errors_command(rows: Sequence[str], *, as_json: bool, no_ladder: bool, **more: Any) -> None:
    """Print slices and ladders of the cells that `rows` name, a column for each method."""
    from wsssbench.commands.error_tables import as_data, as_text

    keep_memory()
    methods = found_errors(rows, ladder=not no_ladder, **more)
    click.echo(json.dumps(as_data(methods), indent=1, allow_nan=False) if as_json else as_text(methods))


def found_errors(
    rows: Sequence[str],
    runs: Sequence[Path],
    stage: str | None,
    options: Sequence[str],
    config: Path | None,
    *,
    resamples: int,
    ladder: bool,
) -> list[MethodErrors]:
    """Slices, and with `ladder` the costs of errors, of the cells that `rows` name, by method.

    `rows` and `stage` are as of `named_rows`. NotComparable where the terms of two cells differ.
    """
    named = named_rows(rows, runs, stage, "errors")
    cells = list({cell.path.resolve(): cell for many in named.values() for cell in many}.values())
    if not cells:
        hint = "leave --stage out, or name another"
        raise BadData(f"no results of the stage {stage}", where=", ".join(rows), hint=hint)
    for cell in cells:
        _check_terms(cells, cell)
    found = [_sliced(cell) for cell in cells]
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
    names = [name for name, _ in groups]  # a method that was run in several ways has its key, too
    titles = [n if names.count(n) == 1 else f"{n} {key[:8]}" for n, key in groups]
    all_cells = [[_to_resample(cell) for cell in group] for group in groups.values()]
    return [
        MethodErrors(
            title,
            tuple(group),
            method_estimates(cells, resamples),
            difference_estimates(all_cells[0], cells, resamples) if cells is not all_cells[0] else {},
        )
        for title, group, cells in zip(titles, groups.values(), all_cells, strict=True)
    ]


def _to_resample(cell: CellErrors) -> SeedCounts:
    identity = cell.cell.record.identity
    return SeedCounts.of(identity.seed, cell.table, len(identity.terms.classes), cell.counts)


def _check_terms(cells: Sequence[StoredRecord], other: StoredRecord) -> None:
    first = cells[0]
    differing = unlike_words(first.record.identity.terms, other.record.identity.terms)
    if differing:
        stages = sorted({cell.record.identity.terms.stage for cell in cells})
        choose = f", with --stage {stages[0]}" if len(stages) > 1 else ""
        what = f"the protocols of {first.path.parent} and {other.path.parent} differ"
        hint = f"name cells of one stage under equal terms{choose}"
        raise NotComparable(what, where=differing, hint=hint)


def _sliced(cell: StoredRecord) -> CellErrors:
    path, classes = cell.path.parent / COUNTS, len(cell.record.identity.terms.classes)
    table = CountsTable.load(path)
    checked({"gold": table.gold, "predicted": table.predicted}, classes, path, path)
    title = f"{cell.record.method} seed {cell.record.identity.seed}"
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
    """The data set that the cell was judged on; None, with the reason on stderr, where it cannot be opened.

    An error is raised where the command line names its options, and always where it is another data set.
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
