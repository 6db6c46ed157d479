"""Published numbers below a table of a page: the same lines and reasons as in the markdown report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wsssbench.reporting.beside import beside
from wsssbench.reporting.page.grids import Badge, Cell, Grid, grid_of, text_cell
from wsssbench.reporting.page.sections import Section
from wsssbench.reporting.published import Published
from wsssbench.reporting.published_text import HEADING, ReportedBlock, reported_cells


@dataclass(frozen=True)
class Reported:
    """What stands below one table; no grid where no number fits."""

    heading: str
    definition: str
    left_out: tuple[str, ...]
    grid: Grid | None


def reported_part(section: Section, published: Sequence[Published]) -> Reported:
    """The published numbers of the section's terms, and why others are left out."""
    block = ReportedBlock(beside(section.rows, published))
    lines = [_line(entry) for entry in block.found.shown]
    grid = grid_of(HEADING, lines, block.definition()) if lines else None
    return Reported(HEADING, block.definition(), tuple(block.left_out()), grid)


def _line(entry: Published) -> dict[str, Cell]:
    """One line; the word "reported" is a badge here, and only the mIoU is sorted as a number."""
    texts = reported_cells(entry)
    line = {"method": Cell(texts.pop("method"), badges=(Badge(texts.pop("rank"), "note"),))}
    return line | {name: text_cell(text) if name == "mIoU" else Cell(text) for name, text in texts.items()}
