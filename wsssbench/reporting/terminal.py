"""Rows in a terminal: the columns of the tables that fit its width, and what must be known to read
them. What stands in a cell is decided in `wsssbench.reporting.tables`, whose tables have everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from wsssbench.reporting.conditions import facts
from wsssbench.reporting.rows import Row
from wsssbench.reporting.table_parts import filled, heading, row_cells

NEEDED = ("rank", "method", "mIoU")
# Conditions, of which the line below a table says the most important ones.
CONDITIONS = ("supervision", "tags at evaluation", "threshold", "CRF", "backend", "arithmetic", "pretraining")
NUMBERS = "\nmIoU in %: mean ± sd over seeds [interval of 95 %] (number of seeds)"
SPACE = 2  # cells between two columns


def print_rows(rows: Sequence[Row], console: Console | None = None) -> None:
    """Print a table for each group of equal terms to stdout, no wider than the terminal."""
    console = console or Console(highlight=False)
    tables = [list(group) for _, group in groupby(rows, key=lambda row: row.terms_hash)]
    for table in tables:
        for part in parts_of(table, tables, console.width):
            console.print(part)
    if tables:
        console.print(Text(NUMBERS, style="dim"))


def parts_of(table: Sequence[Row], tables: Sequence[Sequence[Row]], width: int) -> list[RenderableType]:
    """Heading, table in at most `width` cells, the terms in a sentence, failures."""
    others = [other[0].terms for other in tables if other is not table]
    lines = [row_cells(row, table) for row in table]
    grid = Table(box=None, pad_edge=False, padding=(0, SPACE, 0, 0), header_style="dim")
    for name in fitting(lines, width):
        wraps = name == "method"
        grid.add_column(name, justify="left" if wraps else "right", no_wrap=not wraps, overflow="fold")
    for row, line in zip(table, lines, strict=True):
        style = "red" if row.failed else "bold" if row.rank == 1 else None
        grid.add_row(*(Text(line[str(column.header)]) for column in grid.columns), style=style)
    title = Text(f"\n{heading(table[0].terms, others)}", style="bold")
    failures = [Text(f"failed {failure}", "red") for row in table for failure in row.failures]
    return [title, grid, Text(sentence(table), style="dim"), *failures]


def fitting(lines: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """The columns to show, in their order: those that are needed, then others that fit; never empty ones."""
    names = filled(lines)
    wide = {n: max(cell_len(text) for text in (n, *(line[n] for line in lines))) + SPACE for n in names}
    chosen = [name for name in names if name in NEEDED]
    for name in names:
        if name not in (*chosen, *CONDITIONS) and sum(wide[n] for n in (*chosen, name)) - SPACE <= width:
            chosen.append(name)
    return [name for name in names if name in chosen]


def sentence(table: Sequence[Row]) -> str:
    """Under which terms the numbers were judged."""
    row = next((row for row in table if not row.failed), table[0])
    known = facts(row.terms, row.n_images)
    return "; ".join(known[name] for name in ("images", "tags", "threshold", "CRF") if name in known)
