"""A picture of masks: image, truth and each method side by side, with titles and the classes' colours.

PIL only. Which images are shown and where the labels come from is the caller's choice.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from wsssbench.files.atomic import atomic_write_bytes
from wsssbench.masks import VOID_COLOUR, voc_palette
from wsssbench.types import IGNORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Column: TypeAlias = tuple[str, Sequence[NDArray[np.uint8]]]  # title, (H, W, 3) RGB pictures

GAP, LINE, TEXT = 6, 20, 13  # px: between cells, height of a line of text, size of its letters


def montage(
    path: Path | str,
    columns: Sequence[Column],
    legend: Mapping[int, str] | None = None,
    cell_px: int = 180,
) -> None:
    """Write a grid with one titled column per entry and one row per picture, `cell_px` wide cells.

    `legend` maps labels to class names, drawn as coloured squares below. The suffix of `path` says the
    format (png, jpg). Small pictures are enlarged without smoothing, so that a mask keeps its edges.
    """
    if not columns or len({len(pictures) for _, pictures in columns}) != 1 or not columns[0][1]:
        raise ValueError("every column needs the same number of pictures, at least one")
    rows = [[_cell(p, cell_px) for p in row] for row in zip(*(c[1] for c in columns), strict=True)]
    heights = [max(cell.height for cell in row) for row in rows]
    width = GAP + len(columns) * (cell_px + GAP)
    lines = _legend_lines(legend or {}, width)
    height = LINE + sum(h + GAP for h in heights) + GAP + LINE * len(lines)
    canvas = PilImage.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(TEXT)
    for i, (title, _) in enumerate(columns):
        left = GAP + i * (cell_px + GAP)
        draw.text((left, 3), _fitted(title, font, cell_px), fill="black", font=font)
        top = LINE
        for row, row_height in zip(rows, heights, strict=True):
            canvas.paste(row[i], (left, top + (row_height - row[i].height) // 2))
            top += row_height + GAP
    for number, line in enumerate(lines):
        _draw_legend(draw, line, height - LINE * (len(lines) - number), font)
    _save(canvas, Path(path))


Font: TypeAlias = "ImageFont.FreeTypeFont | ImageFont.ImageFont"


def _cell(picture: NDArray[np.uint8], cell_px: int) -> PilImage.Image:
    """`picture` at the width of a cell: enlarged without smoothing, reduced smoothly."""
    image = PilImage.fromarray(np.ascontiguousarray(picture))
    size = (cell_px, max(1, round(image.height * cell_px / image.width)))
    up = cell_px >= image.width
    return image.resize(size, PilImage.Resampling.NEAREST if up else PilImage.Resampling.LANCZOS)


def _fitted(text: str, font: Font, width: int) -> str:
    """`text`, cut so that it is at most `width` px wide."""
    while len(text) > 1 and font.getlength(text) > width:
        text = text.rstrip("…")[:-1] + "…" if len(text) > 2 else text[:1]
    return text


Entry: TypeAlias = tuple[int, int, str]  # left edge in px, label, name


def _legend_lines(legend: Mapping[int, str], width: int) -> list[list[Entry]]:
    """The legend's entries, broken into lines that fit."""
    font = ImageFont.load_default(TEXT)
    lines: list[list[Entry]] = []
    left = width
    for label, name in sorted(legend.items()):
        needs = round(font.getlength(name)) + LINE + 2 * GAP
        if left + needs > width:
            lines.append([])
            left = GAP
        lines[-1].append((left, label, name))
        left += needs
    return lines


def _draw_legend(draw: ImageDraw.ImageDraw, line: Sequence[Entry], top: int, font: Font) -> None:
    for left, label, name in line:
        red, green, blue = VOID_COLOUR if label == IGNORE else (int(v) for v in voc_palette()[label])
        box = (left, top + 3, left + TEXT, top + 3 + TEXT)
        draw.rectangle(box, fill=(red, green, blue), outline="black")
        draw.text((left + LINE, top + 1), name, fill="black", font=font)


def _save(canvas: PilImage.Image, path: Path) -> None:
    buffer = io.BytesIO()
    kind = {".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower(), "PNG")
    canvas.save(buffer, format=kind, **({"quality": 90} if kind == "JPEG" else {"optimize": True}))
    atomic_write_bytes(path, buffer.getvalue())
