"""Figures of records in a page: pictures, and the numbers that they draw as tables for those who read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from wsssbench.reporting.figures.drawn import CAPTIONS, TITLES
from wsssbench.reporting.figures.style import file_bytes
from wsssbench.reporting.page.pictures import data_uri
from wsssbench.reporting.table_parts import TextTable

DPI = 130
SHOWN = 11  # points of a long curve in its table of numbers


@dataclass(frozen=True)
class Drawn:
    """One figure of the page and its numbers."""

    title: str
    caption: str
    uri: str
    size: tuple[int, int]  # width and height, px
    numbers: tuple[TextTable, ...]


def drawn(kind: str, figure: Figure, of: str = "") -> Drawn:
    """The figure of that kind; `of` distinguishes it from others of the kind."""
    title = TITLES[kind] + (f": {of}" if of else "")
    uri = data_uri(file_bytes(figure, "png", DPI), "png")
    numbers = (numbers_of(panel, title) for panel in figure.axes)
    width, height = (round(DPI * inches) for inches in figure.get_size_inches())
    return Drawn(title, CAPTIONS[kind], uri, (width, height), tuple(filter(None, numbers)))


def numbers_of(panel: Axes, title: str) -> TextTable | None:
    """What the panel's named lines and bars show: a line for each place on its axis, a column for each name.

    Of long curves SHOWN points, both ends among them; None for a panel without names.
    """
    columns: dict[str, Mapping[str, float]] = {}
    for line in panel.lines:
        xy = _spaced(np.asarray(line.get_xydata()).tolist())
        columns[str(line.get_label())] = {f"{x:.4g}": y for x, y in xy}
    for bars in (bars for bars in panel.containers if isinstance(bars, BarContainer)):
        upright = bars.orientation == "vertical"
        names = panel.get_xticklabels() if upright else panel.get_yticklabels()
        sizes = [bar.get_height() if upright else bar.get_width() for bar in bars]
        columns[str(bars.get_label())] = dict(zip((n.get_text() for n in names), sizes, strict=False))
    columns = {name.replace(r"\$", "$"): own for name, own in columns.items() if not name.startswith("_")}
    places = list(dict.fromkeys(place for own in columns.values() for place in own))
    if not panel.containers:
        places.sort(key=float)
    lines = [
        {"": at.replace(r"\$", "$")}
        | {name: f"{own[at]:.4g}" if at in own else "" for name, own in columns.items()}
        for at in places
    ]
    caption = f"{title}, {panel.get_ylabel() or panel.get_xlabel()}"
    return TextTable(caption, lines) if lines else None


def _spaced(points: list[list[float]]) -> list[list[float]]:
    """At most SHOWN of the points, evenly spaced, both ends among them."""
    last = len(points) - 1
    return (
        [points[i] for i in sorted({round(i * last / (SHOWN - 1)) for i in range(SHOWN)})] if points else []
    )
