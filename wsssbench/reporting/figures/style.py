"""How every figure looks, and how it becomes a file: colours, hatches, type sizes, equal bytes each time.

The colours are those of Okabe and Ito ("Color universal design", 2008), in an order that also grows lighter
and darker by turns, so that a grey copy stays readable; markers, dashes and hatches differ as well. Nothing
here knows what a figure shows.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context

from wsssbench.files.atomic import atomic_write_bytes

P = ParamSpec("P")
R = TypeVar("R")
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PURPLE, YELLOW, BLACK, GREY = "#56b4e9", "#cc79a7", "#f0e442", "#000000", "#8c8c8c"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, BLACK, YELLOW)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "oo", "++", "--")
WIDTH_IN = 6.8  # the text of a page in one column
MOST_LINES = len(COLOURS)  # of one panel: readers could not distinguish more
FORMATS = ("png", "svg", "pdf")
DPI = 200
STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#dddddd", "grid.linewidth": 0.6,
    "axes.linewidth": 0.7, "xtick.major.width": 0.7, "ytick.major.width": 0.7, "lines.linewidth": 1.5,
    "lines.markersize": 4.5, "hatch.linewidth": 0.5, "figure.facecolor": "white",
    "savefig.facecolor": "white", "svg.hashsalt": "wsssbench", "pdf.fonttype": 42, "axes.unicode_minus": True,
}  # fmt: skip
UNDATED: dict[str, dict[str, Any]] = {  # of each format, what would differ from day to day or place to place
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """`draw` in the common style of the figures, whatever the user's matplotlibrc says."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with context(STYLE, after_reset=True):
            return draw(*args, **kwargs)

    return drawn


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = WIDTH_IN, height: float = 3.0, **subplots: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of `width` x `height` inches and its panels, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **subplots)
    return figure, list(panels.ravel())


def file_bytes(figure: Figure, format: str, dpi: int = DPI) -> bytes:
    """The figure as "png", "svg" or "pdf": the same bytes each time (with one version of matplotlib)."""
    buffer = io.BytesIO()
    with context(STYLE, after_reset=True):
        figure.savefig(buffer, format=format, dpi=dpi, metadata=UNDATED[format])
    return buffer.getvalue()


def save(figure: Figure, stem: Path, formats: Sequence[str]) -> list[Path]:
    """Write `stem`.png, ... and return the paths."""
    paths = [stem.with_name(f"{stem.name}.{format}") for format in formats]
    for path, format in zip(paths, formats, strict=True):
        atomic_write_bytes(path, file_bytes(figure, format))
    return paths


def literal(text: str, longest: int = 44) -> str:
    """`text` as matplotlib draws it literally ($ begins no formula), cut in the middle where it is long."""
    if len(text) > longest:
        text = f"{text[: longest // 2]}…{text[-(longest // 2) + 1 :]}"
    return text.replace("$", r"\$")


def lines_of(number: int) -> dict[str, Any]:
    """Colour, marker and dashes of the line with that number."""
    marker = MARKERS[number % len(MARKERS)]
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": marker,
    }


def bars_of(number: int) -> dict[str, Any]:
    """Colour and hatch of the bars with that number; no black ones, on which whiskers would be lost."""
    k = number % len(COLOURS)
    colour, edge = (GREY if COLOURS[k] == BLACK else COLOURS[k]), (GREY if COLOURS[k] == YELLOW else "white")
    return {"color": colour, "hatch": HATCHES[k], "edgecolor": edge, "linewidth": 0.3}
