"""What a chart shows, as plain data: panels of series, and the same numbers as a table for those who read.

No drawing here, and no knowledge of methods: `wsssbench.reporting.page.curves` and `.training` fill charts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wsssbench.reporting.page.grids import Cell, Grid

SHOWN = 6  # series that are on at first: more colours are hard to tell apart
TOLD = 11  # points of a long curve in its table of numbers


@dataclass(frozen=True)
class Series:
    """One line, set of bars, or cloud of points; `colour` counts through the page's colours."""

    name: str
    y: tuple[float | None, ...]
    x: tuple[float, ...] = ()  # empty: the panel's labels
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """What a chart shows at one time; a reader chooses among several by name."""

    series: tuple[Series, ...]
    labels: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Chart:
    """One chart and the sentence that says what it shows."""

    title: str
    kind: Literal["bar", "line", "scatter"]
    x: str
    y: str
    panels: tuple[Panel, ...]
    note: str = ""
    stacked: bool = False
    horizontal: bool = False
    choice: str = "show"  # what a reader chooses among panels

    def data(self) -> dict[str, Any]:
        """JSON types for the page's script, numbers to five digits."""
        own = {name: getattr(self, name) for name in ("title", "kind", "x", "y", "stacked", "horizontal")}
        return {**own, "shown": SHOWN, "panels": [_panel_data(panel) for panel in self.panels]}

    def numbers(self) -> list[Grid]:
        """The same as tables, long curves thinned."""
        return [_numbers(self, panel) for panel in self.panels]


def rounded(value: float | None) -> float | None:
    """`value` to five significant digits; None where it is no number."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def _panel_data(panel: Panel) -> dict[str, Any]:
    series = [
        {"name": s.name, "colour": s.colour, "dashed": s.dashed, "y": [rounded(v) for v in s.y]}
        | ({"x": [rounded(v) for v in s.x]} if s.x else {})
        for s in panel.series
    ]
    return {"name": panel.name, "labels": list(panel.labels), "series": series}


def _numbers(chart: Chart, panel: Panel) -> Grid:
    caption = f"{chart.title}{f': {panel.name}' if panel.name else ''}, {chart.y or chart.x}"
    if panel.labels or len({s.x for s in panel.series}) == 1 < len(panel.series[0].x):
        return _by_point(caption, chart.x, panel)
    return _by_series(caption, chart, panel)


def _by_point(caption: str, x: str, panel: Panel) -> Grid:
    """A line for each label or x, a column for each series."""
    labels = panel.labels or tuple(f"{v:g}" for v in panel.series[0].x)
    chosen = range(len(labels)) if panel.labels else _spaced(len(labels))
    body = tuple((Cell(labels[i]), *(_cell(s.y[i]) for s in panel.series)) for i in chosen)
    return Grid(caption, (x, *(s.name for s in panel.series)), body)


def _by_series(caption: str, chart: Chart, panel: Panel) -> Grid:
    """A line for each series: of a point its place, of a curve where it starts, ends and is lowest."""
    if all(len(s.y) == 1 for s in panel.series):
        body = [(Cell(s.name), _cell(s.x[0]), _cell(s.y[0])) for s in panel.series]
        return Grid(caption, ("series", chart.x, chart.y), tuple(body))
    known = [(s, [v for v in s.y if v is not None]) for s in panel.series]
    curves = [(Cell(s.name), _cell(y[0]), _cell(min(y)), _cell(y[-1])) for s, y in known if y]
    return Grid(caption, ("series", "first", "lowest", "last"), tuple(curves))


def _spaced(n: int) -> list[int]:
    """At most TOLD of 0..n-1, both ends among them, evenly spaced."""
    return sorted({round(i * (n - 1) / (TOLD - 1)) for i in range(TOLD)}) if n else []


def _cell(value: float | None) -> Cell:
    return Cell("") if value is None else Cell(f"{value:.4g}", value)


def mean_of(values: Iterable[Any]) -> float | None:
    """Mean of the finite numbers among `values`."""
    known = [float(v) for v in values if isinstance(v, (int, float)) and math.isfinite(v)]
    return sum(known) / len(known) if known else None


def means(lists: Sequence[Sequence[Any]]) -> tuple[float | None, ...]:
    """Place by place, the mean over lists of one length; () without any."""
    return tuple(mean_of(column) for column in zip(*lists, strict=False))
