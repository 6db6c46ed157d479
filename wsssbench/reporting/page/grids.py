"""Rows and records -> tables of a page, with the columns of the markdown tables, so that both say the same.

HTML itself must not enter here, it is the template's.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from wsssbench.identity import Record
from wsssbench.reporting.conditions import facts
from wsssbench.reporting.rows import Row
from wsssbench.reporting.sections import Line, Section
from wsssbench.reporting.table_parts import TextTable, class_lines, definition, row_cells
from wsssbench.reporting.throughput import phase_cells, phase_names
from wsssbench.scores.confusion import ConfusionPairs


def section_tables(section: Section) -> list[TextTable]:
    """One line per row, with the columns of the report; where known, IoU of each class, and confusions."""
    rows = section.rows
    lines = [{**row_cells(row, rows), "method": row.title} for row in rows]
    tables = [
        TextTable(section.heading, lines, definition(rows), badges=[row.badges for row in rows]),
        TextTable("IoU per class (%), mean over seeds", class_lines(rows)),
        TextTable("Confusion pairs (truth → prediction, % of the truth's pixels)", _confusions(section)),
    ]
    return [table for table in tables if table.lines]


def _confusions(section: Section) -> list[dict[str, str]]:
    """The most frequent confusions of each row whose records have the metric, of the first seed."""
    names, lines = section.class_names, []
    for line in section.lines:
        for scores in line.scores(ConfusionPairs.name)[:1]:
            pairs = (f"{names[gold]} → {names[said]} {share:.1f}" for gold, said, share in scores["pairs"])
            lines.append({"method": line.title, "pairs": "; ".join(pairs)})
    return lines


def protocol_badges(rows: Sequence[Row]) -> list[tuple[str, bool]]:
    """What all rows of a table have in common, and whether that is a warning."""
    terms, images = rows[0].terms, next((row.n_images for row in rows if row.n_images is not None), None)
    unusual = {"stage": terms.custom, "threshold": terms.threshold_policy == "oracle"}
    unusual |= {"limit": True, "protocol": True}
    return [(phrase, unusual.get(name, False)) for name, phrase in facts(terms, images).items()]


def phase_table(lines: Sequence[Line]) -> TextTable | None:
    """Seconds of training by phase, for each row and step once, mean over seeds; None without any."""
    timed: dict[str, dict[str, float]] = {}
    for line in lines:
        for step, phases in _mean_phases(line.records).items():
            timed.setdefault(f"{line.title}: {step}", phases)
    names = phase_names(timed.values())
    cells = [{"row": row, **phase_cells(phases, names, "seconds")} for row, phases in timed.items()]
    where = ", ".join(dict.fromkeys(_machine(record) for line in lines for record in line.records))
    note = f"What the steps of a row have cost, shared work in full, mean over seeds. Measured on {where}."
    return TextTable("Where training time goes (seconds, share)", cells, note) if cells else None


def _mean_phases(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Seconds of each phase by step, of the records that say it."""
    found: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for step, phases in record.timing.get("fit_phases", {}).items():
            for phase, seconds in phases.items():
                found.setdefault(step, {}).setdefault(phase, []).append(float(seconds))
    return {step: {name: fmean(own) for name, own in phases.items()} for step, phases in found.items()}


def _machine(record: Record) -> str:
    hardware = record.provenance.get("hardware", {})
    return str(hardware.get("gpu") or hardware.get("cpu") or "an unknown machine")
