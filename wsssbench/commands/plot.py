"""`wsssbench plot`: the figures that records (and the logs of their trainings) allow, as files.

What a figure shows is `wsssbench.reporting.figures`; here records and logs are found and files are named.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
from matplotlib.figure import Figure

from wsssbench.errors import BadData, UnknownName, WsssError, nearest
from wsssbench.files.atomic import atomic_write_text, safe_name
from wsssbench.machine.process import keep_memory
from wsssbench.planning.staleness import stale_keys
from wsssbench.plugins.table import Plugins
from wsssbench.records.finding import find_records
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.figures.bars import class_figure, ladder_figure, miou_figure
from wsssbench.reporting.figures.captions import CAPTIONS
from wsssbench.reporting.figures.cells import Table, tables_of
from wsssbench.reporting.figures.curves import (
    Log,
    coverage_figure,
    reliability_figure,
    threshold_figure,
    training_figure,
)
from wsssbench.reporting.figures.style import FORMATS, save
from wsssbench.verifying.recorded import recorded_steps

LOG, STEPS = "log.jsonl", "steps"
OF_A_TABLE = {
    "classes": class_figure,
    "thresholds": threshold_figure,
    "coverage": coverage_figure,
    "ladder": ladder_figure,
    "reliability": reliability_figure,
}
Named = tuple[str, str, Figure]  # file name without suffix, kind, figure


def plot_command(
    runs: Sequence[Path],
    out: Path,
    formats: Sequence[str],
    methods: Sequence[str],
    stages: Sequence[str],
    limited: bool,
) -> None:
    """Write every figure that the records below `runs` allow, and captions.md; print the files."""
    keep_memory()
    check_formats(formats)
    stored, tables = chosen_tables(runs, methods, stages, limited)
    captions = ["# Captions\n"]
    for name, kind, figure in [*table_figures(tables), *training_figures(stored, tables)]:
        files = save(figure, out / name, formats)
        captions.append(f"**{name}**: {CAPTIONS[kind]}\n")
        click.echo("\n".join(map(str, files)))
    if len(captions) == 1:
        raise BadData("these records have nothing to draw", where=", ".join(map(str, runs)))
    atomic_write_text(out / "captions.md", "\n".join(captions))
    click.echo(str(out / "captions.md"))


def check_formats(formats: Sequence[str]) -> None:
    """UnknownName for a format that no figure is written in."""
    for name in formats:
        if name not in FORMATS:
            raise UnknownName(f"no format {name!r}", where="--format", hint=nearest(name, FORMATS))
    if not formats:
        raise WsssError("no format is named", where="--format", hint=f"one or more of {', '.join(FORMATS)}")


def chosen_tables(
    runs: Sequence[Path], methods: Sequence[str], stages: Sequence[str], limited: bool
) -> tuple[list[StoredRecord], list[Table]]:
    """The records below `runs` and their tables, of these methods and stages where any are named.

    BadData without any row, UnknownName for a method or stage that no record has.
    """
    stored = list({s.path.resolve(): s for root in runs for s in find_records(root)}.values())
    records = [s.record for s in stored]
    known = {
        "--method": (methods, sorted({record.method for record in records})),
        "--stage": (stages, sorted({record.identity.terms.stage for record in records})),
    }
    for where, (asked, names) in known.items():
        for name in asked:
            if records and name not in names:
                raise UnknownName(f"no record of {name!r}", where=where, hint=nearest(name, names))
    stale = stale_keys(records, Plugins())
    tables = tables_of(records, limited=limited, stale=stale, methods=methods, stages=stages)
    if not tables:
        hidden = " (runs with --limit want --limited)" if records and not limited else ""
        raise BadData(f"no rows here{hidden}", where=", ".join(map(str, runs)), hint="name a folder of runs")
    return stored, tables


# ----------------------------------------------------------------------------------------------- of records


def table_figures(tables: Sequence[Table]) -> Iterator[Named]:
    """One of mIoU for each data set, then those that each table allows."""
    for dataset in dict.fromkeys(_dataset(table) for table in tables):
        figure = miou_figure([table for table in tables if _dataset(table) == dataset])
        if figure is not None:
            yield f"miou-{safe_name(dataset)}", "miou", figure
    for table, name in zip(tables, table_names(tables), strict=True):
        for kind, draw in OF_A_TABLE.items():
            figure = draw(table)
            if figure is not None:
                yield f"{kind}-{name}", kind, figure


def _dataset(table: Table) -> str:
    return table.lines[0].row.terms.dataset


def table_names(tables: Sequence[Table]) -> list[str]:
    """A file name for each table: data set, stage, split; where that is not enough the threshold policy, and
    where that is not enough either the hash of its terms."""
    names: list[str] = []
    heads = [table.lines[0].row for table in tables]
    for row in heads:
        terms = row.terms
        known = (terms.dataset, terms.stage, terms.split)
        longer = (*known, terms.threshold_policy)
        alike = [r.terms for r in heads if (r.terms.dataset, r.terms.stage, r.terms.split) == known]
        policies = Counter(t.threshold_policy for t in alike)
        parts = known if len(alike) == 1 else longer
        unique = len(alike) == 1 or policies[terms.threshold_policy] == 1
        names.append(safe_name("-".join(parts if unique else (*known, row.terms_hash[:8]))))
    return names


# ------------------------------------------------------------------------------------------------- of logs


def training_figures(stored: Sequence[StoredRecord], tables: Sequence[Table]) -> Iterator[Named]:
    """One for each step that left a log beside the records in these tables."""
    keys = {record.key for table in tables for line in table.lines for record in line.records}
    shown = [s for s in stored if s.record.key in keys]
    known, labels = _labels(stored), _labels(shown)
    found: dict[tuple[str, str], dict[str, list[Log]]] = {}
    for folder in sorted({s.path.resolve().parents[3] / STEPS for s in shown}):
        for path in sorted(folder.glob(f"*/{LOG}")):
            if path.parent in known and path.parent not in labels:
                continue  # of a method that was left out
            step = path.parent.name.rpartition("-")[0]
            logs = found.setdefault((folder.parent.name, step), {})
            logs.setdefault(labels.get(path.parent, step), []).append(read_log(path))
    ranks = [line.row.method for table in tables for line in table.lines]
    for (dataset, step), trainings in found.items():
        ordered = sorted(trainings, key=lambda name: ranks.index(name) if name in ranks else -1)
        figure = training_figure({name: trainings[name] for name in ordered})
        if figure is not None:
            yield f"training-{safe_name(dataset)}-{safe_name(step)}", "training", figure


def _labels(stored: Iterable[StoredRecord]) -> dict[Path, str]:
    """Folder of each recipe's step -> the shortest name of a method that it is a step of."""
    methods: dict[Path, set[str]] = {}
    for cell in stored:
        try:
            steps = recorded_steps(cell)
        except (BadData, KeyError, TypeError):  # labels that came as files, or a record that has kept less
            continue
        for planned in steps:
            methods.setdefault(planned.folder, set()).add(cell.record.method)
    return {folder: min(names, key=lambda name: (len(name), name)) for folder, names in methods.items()}


def read_log(path: Path) -> Log:
    """Losses by name, (step, value) each; lines that a killed run left unfinished are passed over."""
    log: dict[str, list[tuple[int, float]]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            losses = (entry.get("losses") or {}).items()
            values = [(name, int(entry["done"]), float(value)) for name, value in losses]
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        for name, step, value in values:
            log.setdefault(name, []).append((step, value))
    return log
