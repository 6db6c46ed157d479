"""Rows -> tables of a page: cells with what they are sorted by, badges, and a bar for the interval.

The columns are those of the markdown tables, so that both say the same; HTML itself must not enter here, it
is the template's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsssbench.identity import Terms
from wsssbench.reporting.conditions import augmentation, crf_words, ground_truth, judged_size
from wsssbench.reporting.page.sections import Section
from wsssbench.reporting.rows import Number, Row
from wsssbench.reporting.table_parts import definition
from wsssbench.reporting.tables import class_lines, row_cells
from wsssbench.reporting.throughput import MB, ThroughputTable

NUMBER = re.compile(r"-?\d+(\.\d+)?")
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
    found = NUMBER.match(text)
    return Cell(text, float(found[0]) if found else None)


# --------------------------------------------------------------------------------------------- main table


def main_grid(section: Section) -> Grid:
    """One line per row: method with badges, mIoU with its interval, and the other columns of the report."""
    rows = section.rows
    span = _span(rows)
    return grid_of(section.heading, [_main_line(row, rows, span) for row in rows], definition(rows))


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


def protocol_badges(terms: Terms) -> list[Badge]:
    """What all rows of a table have in common."""
    oracle = terms.threshold_policy == "oracle"
    badges = [
        Badge(f"stage {terms.stage} v{terms.stage_version}"),
        Badge(f"split {terms.split}"),
        Badge(f"image tags {'given' if terms.tags_at_evaluation else 'not given'} at evaluation"),
        Badge(f"threshold policy {terms.threshold_policy}", "warn" if oracle else "plain"),
        Badge(
            "no CRF by the stage" if terms.crf is None else f"dense CRF by the stage {crf_words(terms.crf)}"
        ),
        Badge(augmentation(terms)),
        Badge(f"truth: {ground_truth(terms)}"),
        Badge(f"judged {judged_size(terms)}"),
        Badge(f"{terms.dataset} {terms.dataset_version}, {len(terms.classes) + 1} classes"),
        Badge(
            f"split {terms.split_fingerprint[:8]}" if terms.split_fingerprint else "drawn anew by each seed"
        ),
    ]
    badges += [Badge("custom stage", "warn")] if terms.custom else []
    badges += [Badge("earlier protocol", "warn")] if terms.earlier else []
    return badges + ([Badge(f"limit {terms.limit}", "warn")] if terms.limit is not None else [])


def failures(section: Section) -> list[str]:
    """Why cells failed, and later attempts at cells, by row."""
    return [failure for row in section.rows for failure in row.failures]


# ------------------------------------------------------------------------------------------ other tables


def class_grid(section: Section) -> Grid | None:
    """IoU of each class; None where no row has any."""
    lines = [{name: text_cell(text) for name, text in line.items()} for line in class_lines(section.rows)]
    return grid_of("IoU per class (%), mean over seeds", lines) if lines else None


def bench_grid(table: ThroughputTable) -> Grid:
    """One line for each thing that was timed."""
    data = table.data()
    caption = f"Throughput: {data['dataset']}{table.apart} on {table.machine}"
    return grid_of(caption, [_bench_line(row) for row in data["rows"]], data["definition"])


def _bench_line(row: Mapping[str, Any]) -> dict[str, Cell]:
    low, high = row["quartiles_ms"]
    peak = row["peak_bytes"]
    method = f"{row['method']} ({row['variant']})" if row["variant"] else row["method"]
    return {
        "method": Cell(method),
        "step": Cell(row["step"]),
        "what": Cell(row["what"]),
        "images/s": Cell(f"{row['images_per_s']:.1f}", row["images_per_s"]),
        "median ms": Cell(f"{row['median_ms']:.1f}", row["median_ms"]),
        "quartiles ms": Cell(f"{low:.1f} to {high:.1f}", low),
        "peak MB": Cell("") if peak is None else Cell(f"{peak / MB:.0f}", peak / MB),
        "batch": Cell(str(row["batch"]), row["batch"]),
        "measured": Cell(str(len(row["times_ms"])), float(len(row["times_ms"]))),
        "arithmetic": Cell(row["precision"]),
        "backend": Cell(row["backend"]),
    }
