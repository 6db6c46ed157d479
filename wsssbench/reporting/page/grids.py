"""Rows -> tables of a page: cells with what they are sorted by, and badges.

The columns are those of the markdown tables, so that both say the same; HTML itself must not enter here, it
is the template's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from wsssbench.identity import Record
from wsssbench.reporting.conditions import facts
from wsssbench.reporting.rows import Row
from wsssbench.reporting.sections import Line
from wsssbench.reporting.table_parts import (
    TextTable,
    class_lines,
    definition,
    filled,
    number_in,
    row_cells,
)
from wsssbench.reporting.throughput import phase_cells, phase_names


@dataclass(frozen=True)
class Badge:
    """A word on the protocol; `kind` is how much it should worry: plain or warn."""

    text: str
    kind: str = "plain"


@dataclass(frozen=True)
class Cell:
    """One cell: its text, and the number it is sorted by (None: by its text)."""

    text: str
    value: float | None = None
    badges: Sequence[Badge] = ()


@dataclass(frozen=True)
class Grid:
    """A table; the first column names the row."""

    caption: str
    head: Sequence[str]
    body: Sequence[Sequence[Cell]]
    note: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether its cells hold numbers."""
        return [any(line[n].value is not None for line in self.body) for n in range(len(self.head))]


def text_grid(text: TextTable, badges: Sequence[Sequence[str]] = ()) -> Grid:
    """A table as it stands in the other formats, but that the method, where there is one, comes first.

    `badges`, where given, stand in the first cell of each line. A cell that begins with a number is sorted by
    it.
    """
    head = sorted(filled(text.lines), key=lambda name: name != "method")
    body = []
    for n, line in enumerate(text.lines):
        warnings = [Badge(badge, "warn") for badge in badges[n]] if badges else []
        rest = [Cell(line[name], number_in(line[name])) for name in head[1:]]
        body.append([Cell(line[head[0]], badges=warnings), *rest])
    return Grid(text.title, head, body, text.note)


def main_grid(caption: str, rows: Sequence[Row]) -> Grid:
    """One line per row, with the columns of the report."""
    lines = [{**row_cells(row, rows), "method": row.title} for row in rows]
    return text_grid(TextTable(caption, lines, definition(rows)), [row.badges for row in rows])


def protocol_badges(rows: Sequence[Row]) -> list[Badge]:
    """What all rows of a table have in common."""
    terms, images = rows[0].terms, next((row.n_images for row in rows if row.n_images is not None), None)
    unusual = {"stage": terms.custom, "threshold": terms.threshold_policy == "oracle"}
    unusual |= {"limit": True, "protocol": True}
    known = facts(terms, images)
    return [Badge(phrase, "warn" if unusual.get(name) else "plain") for name, phrase in known.items()]


# ------------------------------------------------------------------------------------------ other tables


def class_grid(rows: Sequence[Row]) -> Grid | None:
    """IoU of each class; None where no row has any."""
    lines = class_lines(rows)
    return text_grid(TextTable("IoU per class (%), mean over seeds", lines)) if lines else None


def phase_grid(lines: Sequence[Line]) -> Grid | None:
    """Seconds of training by phase, for each row and step once, mean over seeds; None without any."""
    timed: dict[str, dict[str, float]] = {}
    for line in lines:
        for step, phases in _mean_phases(line.records).items():
            timed.setdefault(f"{line.title}: {step}", phases)
    names = phase_names(timed.values())
    cells = [{"row": row, **phase_cells(phases, names, "seconds")} for row, phases in timed.items()]
    where = ", ".join(dict.fromkeys(_machine(record) for line in lines for record in line.records))
    note = f"What the steps of a row have cost, shared work in full, mean over seeds. Measured on {where}."
    return text_grid(TextTable("Where training time goes (seconds, share)", cells, note)) if cells else None


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
