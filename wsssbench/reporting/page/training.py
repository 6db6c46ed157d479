"""Where a record's steps lie on disk, the curves that their logs hold, and where their time went.

A step's folder is named by its key, which everything in a record determines; nothing is opened but logs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsssbench.errors import BadData
from wsssbench.files.atomic import safe_name
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.page.charts import Chart, Panel, Series, mean_of
from wsssbench.reporting.page.sections import Line, Section
from wsssbench.reporting.throughput import ThroughputTable
from wsssbench.verifying.recorded import recorded_steps

LOG = "log.jsonl"
POINTS = 200  # of a curve: more than a page has pixels for
CURVES = 24  # of a chart: more cannot be told apart
FIRST = ("total", "loss")  # the losses that a reader wants first, where they exist


@dataclass(frozen=True)
class Curve:
    """The losses of one training, thinned: each (n,) with the share of the training that is done, in %."""

    name: str
    done: tuple[float, ...]
    losses: Mapping[str, tuple[float | None, ...]]


# -------------------------------------------------------------------------------------------- where steps lie


def step_folders(cell: StoredRecord) -> list[tuple[str, Path]]:
    """Name and folder of each step of the cell's recipe; whether the folder is there is not asked."""
    try:
        return [(step.name, step.folder) for step in recorded_steps(cell)]
    except BadData:  # labels that came as files
        return []


# --------------------------------------------------------------------------------------------------- curves


def training_charts(sections: Sequence[Section]) -> list[Chart]:
    """A chart for each kind of step that has logs, of one seed; what steps share stands by itself."""
    logs = _logs(sections)
    charts = []
    for step in dict.fromkeys(step for step, _, _ in logs):
        own = [(name, path) for kind, name, path in logs if kind == step]
        curves = [curve for name, path in own[:CURVES] if (curve := read_curve(path, name)) is not None]
        left = f" {len(own) - CURVES} more are left out." if len(own) > CURVES else ""
        charts += [_training_chart(step, curves, left)] if any(c.losses for c in curves) else []
    return charts


def _logs(sections: Sequence[Section]) -> list[tuple[str, str, Path]]:
    """(step, name of the curve, file) of every training behind the sections, each file once."""
    found: dict[Path, tuple[str, list[Line]]] = {}
    homes: dict[Path, None] = {}
    for section, line in ((s, line) for s in sections for line in s.lines):
        cell = None if section.seed is None else line.cell(section.seed)
        for step, folder in step_folders(cell) if cell else ():
            homes.setdefault(folder.parent)
            if (folder / LOG).is_file():
                found.setdefault(folder / LOG, (step, []))[1].append(line)
    own = [(step, _named(lines), path) for path, (step, lines) in found.items()]
    steps = {safe_name(step.name) for s in sections for r in s.rows for step in r.identity.recipe}
    shared = (path for home in homes for path in _shared_logs(home, steps))
    return own + [(path.parent.name.rpartition("-")[0], path.parent.name, path) for path in shared]


def _named(lines: Sequence[Line]) -> str:
    """The row with the shortest recipe, and how many others share this training."""
    titles = {line.title: len(line.row.identity.recipe) for line in lines}
    first = min(titles, key=lambda title: (titles[title], len(title), title))
    return first + (f" and {len(titles) - 1} more" if len(titles) > 1 else "")


def _shared_logs(home: Path, steps: Collection[str]) -> Iterator[Path]:
    """Logs of work that several steps share: folders called like none of the `steps`, without a fit."""
    for path in sorted(home.glob(f"*/{LOG}")):
        called = path.parent.name.rpartition("-")[0]
        if called not in steps and not (path.parent / "fitted.json").exists():
            yield path


def read_curve(path: Path, name: str) -> Curve | None:
    """The log's losses, mean of each of at most POINTS stretches; None without any whole line."""
    lines = [line for line in _lines(path) if line["losses"] and line["total"]]
    if not lines:
        return None
    names = dict.fromkeys(loss for line in lines for loss in line["losses"])
    width = -(-len(lines) // POINTS)
    parts = [lines[i : i + width] for i in range(0, len(lines), width)]
    done = tuple(100 * part[-1]["done"] / part[-1]["total"] for part in parts)
    return Curve(
        name, done, {n: tuple(mean_of(x["losses"].get(n) for x in part) for part in parts) for n in names}
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines of a log, the last of each step of the training: an interrupted one repeats some."""
    found: dict[Any, dict[str, Any]] = {}
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
            found[line["done"]] = {name: line[name] for name in ("done", "total", "losses")}
        except (ValueError, KeyError, TypeError):  # a line that was cut off when the machine stopped
            continue
    return iter(found.values())


def _training_chart(step: str, curves: Sequence[Curve], left: str) -> Chart:
    names = dict.fromkeys(name for curve in curves for name in curve.losses)
    ordered = sorted(names, key=lambda name: (name not in FIRST, list(names).index(name)))
    panels = []
    for loss in ordered:
        own = [(n, curve) for n, curve in enumerate(curves) if loss in curve.losses]
        panels.append(Panel(tuple(Series(c.name, c.losses[loss], c.done, n) for n, c in own), name=loss))
    note = (
        f"Mean of each of at most {POINTS} stretches of the log. A row's line is of one seed; one called "
        f"like a folder is of work that rows share, of any seed.{left}"
    )
    title = f"Training: {step}"
    return Chart(title, "line", "done (%)", "loss", tuple(panels), note, choice="loss")


# ------------------------------------------------------------------------------------------ where time goes


def phase_chart(sections: Sequence[Section]) -> Chart | None:
    """Seconds of training by phase, for each row once, mean over seeds."""
    bars: dict[str, Mapping[str, float]] = {}
    machines: dict[str, None] = {}
    for line in (line for section in sections for line in section.lines):
        for step in dict.fromkeys(step for cell in line.cells for step in _phases(cell)):
            bars.setdefault(f"{line.title}: {step}", _mean_phases(line, step))
        machines |= dict.fromkeys(_machine(cell) for cell in line.cells)
    where = ", ".join(machines)
    note = f"What the steps of a row have cost, shared work in full, mean over seeds. Measured on {where}."
    return _stacked("Where training time goes", "seconds", bars, note)


def bench_chart(table: ThroughputTable) -> Chart | None:
    """Milliseconds of each phase of a measured step or call."""
    rows = [row for row in table.data()["rows"] if row["phases_ms"]]
    bars = {f"{row['method']}: {row['step']}, {row['what']}": row["phases_ms"] for row in rows}
    return _stacked(f"Where a step's time goes: {table.machine}", "ms", bars, "Mean of the measured steps.")


def _phases(cell: StoredRecord) -> Mapping[str, Mapping[str, float]]:
    phases: Mapping[str, Mapping[str, float]] = cell.record.timing.get("fit_phases", {})
    return phases


def _mean_phases(line: Line, step: str) -> dict[str, float]:
    own = [_phases(cell)[step] for cell in line.cells if step in _phases(cell)]
    names = dict.fromkeys(name for phases in own for name in phases)
    return {name: mean_of(phases.get(name) for phases in own) or 0.0 for name in names}


def _machine(cell: StoredRecord) -> str:
    hardware = cell.record.provenance.get("hardware", {})
    return str(hardware.get("gpu") or hardware.get("cpu") or "an unknown machine")


def _stacked(title: str, unit: str, bars: Mapping[str, Mapping[str, float]], note: str) -> Chart | None:
    bars = {name: phases for name, phases in bars.items() if phases}
    if not bars:
        return None
    phases = _phase_order(bars.values())
    values = [tuple(own.get(phase, 0.0) for own in bars.values()) for phase in phases]
    series = tuple(
        Series(phase, y, colour=n) for n, (phase, y) in enumerate(zip(phases, values, strict=True))
    )
    panel = Panel(series, tuple(bars))
    return Chart(title, "bar", "row", unit, (panel,), note, stacked=True, horizontal=True)


def _phase_order(bars: Iterable[Mapping[str, float]]) -> list[str]:
    """Phases by what they cost altogether, most first, so that the first colours are the widest."""
    total: dict[str, float] = {}
    for phases in bars:
        for name, seconds in phases.items():
            total[name] = total.get(name, 0.0) + seconds
    return sorted(total, key=lambda name: (-total[name], name))
