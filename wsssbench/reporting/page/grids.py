"""Rows -> tables of a page: cells with what they are sorted by, badges, and a bar for the interval.

The columns are those of the markdown tables, so that both say the same; HTML itself must not enter here, it
is the template's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from wsssbench.identity import Record
from wsssbench.reporting.conditions import facts
from wsssbench.reporting.rows import Number, Row
from wsssbench.reporting.sections import Line
from wsssbench.reporting.table_parts import TextTable, definition, number_in
from wsssbench.reporting.tables import class_lines, row_cells
from wsssbench.reporting.throughput import phase_cells, phase_names

AS_BADGES = ("supervision", "tags at evaluation", "threshold", "CRF")  # of a row: the protocol that made it
HEADED = ("rank", "method", "mIoU", "% of full")  # columns that are built here


@dataclass(frozen=True)
class Badge:
    """A word on the protocol; `kind` is how much it should worry: plain, note or warn."""

    text: str
    kind: str = "plain"


@dataclass(frozen=True)
class Whisker:
    """An interval on a scale of 0 to 100."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class Cell:
    """One cell: its text, and the number it is sorted by (None: by its text)."""

    text: str
    value: float | None = None
    badges: tuple[Badge, ...] = ()
    whisker: Whisker | None = None


@dataclass(frozen=True)
class Grid:
    """A table; the first column names the row."""

    caption: str
    head: tuple[str, ...]
    body: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Of each column, whether its cells hold numbers."""
        columns = zip(*self.body, strict=True)
        return tuple(any(c.value is not None for c in column) for column in columns) or (False,) * len(
            self.head
        )


def grid_of(caption: str, lines: Sequence[Mapping[str, Cell]], note: str = "") -> Grid:
    """The table of `lines`; columns without any content are dropped."""
    head = [name for name in lines[0] if any(_filled(line[name]) for line in lines)] if lines else []
    return Grid(caption, tuple(head), tuple(tuple(line[name] for name in head) for line in lines), note)


def _filled(cell: Cell) -> bool:
    return bool(cell.text or cell.badges or cell.whisker)


def text_cell(text: str) -> Cell:
    """A cell sorted by the number it starts with, if it starts with one."""
    return Cell(text, number_in(text))


def text_grid(text: TextTable) -> Grid:
    """A table as it stands in the other formats, but that the method, where there is one, comes first."""
    names = sorted(text.lines[0], key=lambda name: name != "method") if text.lines else []
    lines = [
        {n: Cell(line[n]) if n == names[0] else text_cell(line[n]) for n in names} for line in text.lines
    ]
    return grid_of(text.title, lines, text.note)


# --------------------------------------------------------------------------------------------- main table


def main_grid(caption: str, rows: Sequence[Row]) -> Grid:
    """One line per row: method with badges, mIoU with its interval, and the other columns of the report."""
    span = _span(rows)
    return grid_of(caption, [_main_line(row, rows, span) for row in rows], definition(rows))


def _main_line(row: Row, rows: Sequence[Row], span: tuple[float, float]) -> dict[str, Cell]:
    texts = row_cells(row, rows)
    line = {"method": Cell(row.title, badges=row_badges(row, texts)), "rank": text_cell(texts["rank"])}
    line |= _spread(row.numbers.get("miou"), span)
    line["seeds"] = Cell(_seeds(row.seeds), float(len(row.seeds)))
    line["% of full"] = text_cell(texts["% of full"])
    others = [name for name in texts if name not in (*HEADED, *AS_BADGES)]
    return line | {name: text_cell(texts[name]) for name in others}


def row_badges(row: Row, texts: Mapping[str, str]) -> tuple[Badge, ...]:
    """What made this row and is not the whole table's, and what to know before believing it."""
    made = [Badge(f"learned from {' and '.join(row.identity.supervision) or 'nothing'}")]
    made += [Badge(f"threshold {texts['threshold']}")] if row.identity.threshold is not None else []
    made += [Badge(f"CRF {texts['CRF']}")] if texts["CRF"] != "no" else []
    return (*made, *(Badge(text, "warn") for text in row.badges))


def _spread(number: Number | None, span: tuple[float, float]) -> dict[str, Cell]:
    """Mean, standard deviation and interval over seeds."""
    if number is None:
        return dict.fromkeys(("mIoU", "± sd", "95 % interval"), Cell(""))
    line = {"mIoU": Cell(f"{number.mean:.2f}", number.mean), "± sd": Cell(""), "95 % interval": Cell("")}
    if number.interval is None:
        return line
    low, high = number.interval
    line["± sd"] = Cell(f"{number.sd:.2f}", number.sd)
    line["95 % interval"] = Cell(f"{low:.2f} to {high:.2f}", low, whisker=_whisker(number, span))
    return line


def _span(rows: Sequence[Row]) -> tuple[float, float]:
    """The ends of all intervals."""
    numbers = [row.numbers["miou"] for row in rows if "miou" in row.numbers]
    ends = [end for number in numbers for end in (number.interval or (number.mean,))]
    return (min(ends), max(ends)) if ends else (0.0, 1.0)


def _whisker(number: Number, span: tuple[float, float]) -> Whisker:
    low, high = number.interval or (number.mean, number.mean)
    width = (span[1] - span[0]) or 1.0
    return Whisker(*(round(100 * (v - span[0]) / width, 1) for v in (low, number.mean, high)))


def _seeds(seeds: Sequence[int]) -> str:
    """ "0–4 (5)" or "1, 7 (2)"."""
    own = sorted(set(seeds))
    row = len(own) > 2 and own == list(range(own[0], own[-1] + 1))
    shown = f"{own[0]}–{own[-1]}" if row else ", ".join(map(str, own))
    return f"{shown} ({len(seeds)})" if seeds else ""


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
