"""Outlines of bodies and patterns of parts for the generated set `shapes`: geometry alone, no colours.

Coordinates x, y run over [-1, 1] across a square canvas. Angles are met by dot products with unit vectors
and never computed, so that every machine gets the same pixels (see `random`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from wsssbench_datasets.shapes.random import Draws, Floats

    Bools: TypeAlias = NDArray[np.bool_]

C1, C2, C3 = 0.9238795325112867, 0.7071067811865476, 0.3826834323650898  # cosines of 22.5, 45, 67.5 degrees
COMPASS = (
    (1.0, 0.0), (C1, C3), (C2, C2), (C3, C1), (0.0, 1.0), (-C3, C1), (-C2, C2), (-C1, C3),
    (-1.0, 0.0), (-C1, -C3), (-C2, -C2), (-C3, -C1), (0.0, -1.0), (C3, -C1), (C2, -C2), (C1, -C3),
)  # fmt: skip
SIXTY = ((1.0, 0.0), (0.5, 0.8660254037844386), (-0.5, 0.8660254037844386))


def plane(px: int, across: tuple[float, float] = (1.0, 0.0)) -> tuple[Floats, Floats]:
    """Two (px, px) float64: coordinates of the pixel centres in a frame whose x axis points `across`."""
    line = (np.arange(px) + 0.5) * (2.0 / px) - 1.0
    x, y = line[None, :], line[:, None]
    c, s = across
    return c * x + s * y, c * y - s * x


def triangle_wave(x: Floats) -> Floats:
    """0 at whole numbers, 1 halfway between them."""
    t = x - np.floor(x)
    return 1.0 - np.abs(2.0 * t - 1.0)


# -------------------------------------------------------------------------------------- outlines of bodies


def outline(draws: Draws, px: int) -> Bools:
    """(px, px) bool: a random shape around the middle that stays in the unit circle."""
    shape = OUTLINES[draws.integer(len(OUTLINES))]
    x, y = plane(px, draws.direction())
    return shape(draws, x, y) & (x * x + y * y <= 1.0)


def _ellipse(draws: Draws, x: Floats, y: Floats) -> Bools:
    squeeze = 1.0 / draws.uniform(0.6, 1.0)
    return x * x + (y * squeeze) * (y * squeeze) <= 1.0


def _superellipse(draws: Draws, x: Floats, y: Floats) -> Bools:
    squeeze = 1.0 / draws.uniform(0.6, 1.0)
    a, b = x * x, (y * squeeze) * (y * squeeze)
    return a * a + b * b <= 0.55


def _polygon(draws: Draws, x: Floats, y: Floats) -> Bools:
    """A convex polygon of 3 to 8 sides, its corners cut by the unit circle."""
    sides, inside = 3 + draws.integer(6), np.ones(x.shape, dtype=bool)
    for k in range(sides):
        c, s = COMPASS[(k * 16 // sides + draws.integer(2)) % 16]
        inside &= c * x + s * y <= draws.uniform(0.5, 0.85)
    return inside


def _blob(draws: Draws, x: Floats, y: Floats) -> Bools:
    """The level set of a few soft balls around a larger one."""
    field = _ball(x, y, 0.95)
    for k in range(5):
        c, s = COMPASS[(3 * k + draws.integer(3)) % 16]
        far = draws.uniform(0.4, 0.75)
        field = field + _ball(x - far * c, y - far * s, draws.uniform(0.3, 0.75))
    return field >= 0.4


def _ball(x: Floats, y: Floats, radius: float) -> Floats:
    near = np.maximum(1.0 - (x * x + y * y) * (1.0 / (radius * radius)), 0.0)
    return near * near


def _bars(draws: Draws, x: Floats, y: Floats) -> Bools:
    """Two crossing boxes: L, T and X shapes."""
    thick, wide, shift = draws.uniform(0.36, 0.5), draws.uniform(0.36, 0.5), draws.uniform(-0.45, 0.45)
    return (np.abs(y) <= thick) | ((np.abs(x - shift) <= wide) & (np.abs(y + shift * 0.5) <= 0.9))


OUTLINES: tuple[Callable[[Draws, Floats, Floats], Bools], ...] = (
    _ellipse,
    _superellipse,
    _polygon,
    _blob,
    _bars,
)


# ---------------------------------------------------------------------------------------- patterns of parts


def disc(px: int) -> Bools:
    """(px, px) bool: the silhouette that all parts share, so that only the pattern tells the class."""
    x, y = plane(px)
    return x * x + y * y <= 1.0


def pattern(draws: Draws, name: str, px: int) -> Floats:
    """(px, px) float64 in [0, 1]: the pattern `name`, turned and shifted at random, 2x2 samples a pixel."""
    x, y = plane(2 * px, draws.direction())
    fine = PATTERNS[name](x, y, draws.uniform()).astype(np.float64)
    return (fine[0::2, 0::2] + fine[0::2, 1::2] + (fine[1::2, 0::2] + fine[1::2, 1::2])) * 0.25


def _stripes(x: Floats, y: Floats, phase: float) -> Bools:
    return triangle_wave(x * 1.5 + phase) > 0.5


def _checks(x: Floats, y: Floats, phase: float) -> Bools:
    return (triangle_wave(x + phase) > 0.5) ^ (triangle_wave(y + 0.5 * phase) > 0.5)


def _rings(x: Floats, y: Floats, phase: float) -> Bools:
    return triangle_wave(np.sqrt(x * x + y * y) * 1.6 + 0.25 + 0.2 * phase) > 0.5


def _spokes(x: Floats, y: Floats, phase: float) -> Bools:
    """Six sectors: the sign of a product of three lines through the middle."""
    product = x
    for c, s in SIXTY[1:]:
        product = product * (c * x + s * y)
    return product > 0.0


def _dots(x: Floats, y: Floats, phase: float) -> Bools:
    """Four dots, two by two."""
    a, b = np.abs(x) - 0.43, np.abs(y) - 0.43
    return a * a + b * b <= 0.07 + 0.02 * phase


def _cross(x: Floats, y: Floats, phase: float) -> Bools:
    arm = 0.2 + 0.08 * phase
    return (np.abs(x) <= arm) | (np.abs(y) <= arm)


def _zigzag(x: Floats, y: Floats, phase: float) -> Bools:
    return triangle_wave(y * 1.1 + triangle_wave(x * 1.1 + 0.5) * 0.7 + phase) > 0.5


def _halves(x: Floats, y: Floats, phase: float) -> Bools:
    return x > 0.3 * phase - 0.15


def _wedge(x: Floats, y: Floats, phase: float) -> Bools:
    """A triangle in the disc."""
    size = 0.36 + 0.1 * phase
    return (x <= size) & (-0.5 * x + SIXTY[1][1] * y <= size) & (-0.5 * x - SIXTY[1][1] * y <= size)


PATTERNS: Mapping[str, Callable[[Floats, Floats, float], Bools]] = {
    "stripes": _stripes,
    "checks": _checks,
    "rings": _rings,
    "spokes": _spokes,
    "dots": _dots,
    "cross": _cross,
    "zigzag": _zigzag,
    "halves": _halves,
    "wedge": _wedge,
}
