"""The figure that compares masks by eye: image, truth and each method, the same images in every row.

Which images and whose labels is the caller's choice, by a rule that the caption states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from wsssbench.masks import VOID_COLOUR, voc_palette
from wsssbench.reporting.figures.style import WIDTH_IN, literal, styled
from wsssbench.types import IGNORE

if TYPE_CHECKING:
    from wsssbench.types import Image

    Column: TypeAlias = tuple[str, Sequence[Image]]  # title, (H, W, 3) uint8 pictures

GAP_IN, TITLE_IN, LEGEND_IN = 0.04, 0.2, 0.2
WIDEST_IN = 1.5  # of a picture
ENTRY_IN = 1.1  # of the legend


@styled
def masks_figure(columns: Sequence[Column], legend: Mapping[int, str], most_in: float = WIDTH_IN) -> Figure:
    """A titled column per entry, a row per image; `legend` maps the labels that are shown to their names.

    It is at most `most_in` inches wide. Pictures keep their pixels: a mask is not smoothed. ValueError for
    ragged columns.
    """
    if not columns or len({len(pictures) for _, pictures in columns}) != 1 or not columns[0][1]:
        raise ValueError("every column needs the same number of pictures, at least one")
    width = min(most_in, len(columns) * (WIDEST_IN + GAP_IN))
    cell = width / len(columns) - GAP_IN
    heights = [
        max(cell * p.shape[0] / p.shape[1] for p in row) for row in zip(*(c[1] for c in columns), strict=True)
    ]
    per_line = max(1, int(width / ENTRY_IN))
    below = LEGEND_IN * -(-len(legend) // per_line)
    height = TITLE_IN + sum(heights) + GAP_IN * len(heights) + below
    figure = Figure(figsize=(width, height))
    for i, (title, pictures) in enumerate(columns):
        left, top = i * (cell + GAP_IN) + GAP_IN / 2, height - TITLE_IN
        figure.text(
            (left + cell / 2) / width, (top + 0.05) / height, literal(title, 22), ha="center", fontsize=7.5
        )
        for picture, row in zip(pictures, heights, strict=True):
            top -= row
            panel = figure.add_axes((left / width, top / height, cell / width, row / height))
            panel.imshow(picture, interpolation="none")
            panel.set_axis_off()
            top -= GAP_IN
    if legend:
        figure.legend(
            handles=_patches(legend), loc="lower center", ncols=per_line, handlelength=1.2, borderpad=0.1
        )
    return figure


def _patches(legend: Mapping[int, str]) -> list[Patch]:
    palette = voc_palette() / 255.0
    palette[IGNORE] = np.array(VOID_COLOUR) / 255.0
    return [
        Patch(facecolor=tuple(palette[label]), edgecolor="black", linewidth=0.4, label=literal(name, 18))
        for label, name in sorted(legend.items())
    ]
