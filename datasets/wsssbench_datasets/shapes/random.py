"""Random numbers and value noise of the generated set `shapes`, equal bit for bit on every machine.

Numbers come from a bit generator's raw stream (numpy keeps it stable; the methods of Generator are not
kept) and go through + - * /, comparisons and floor in float64 alone: IEEE arithmetic fixes their bits,
where sin, exp, pow, fft, sums and matrix products depend on the processor. Nothing else may enter.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

UNIT = 2.0**-53  # a raw number's upper 53 bits times this: uniform in [0, 1)


class Draws:
    """One stream of random numbers, named by what it is for: equal names, equal numbers."""

    def __init__(self, *names: object) -> None:
        digest = hashlib.sha256("/".join(str(name) for name in names).encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * UNIT

    def integer(self, count: int) -> int:
        """A number in 0..count-1."""
        return (int(self._bits.random_raw()) * count) >> 64

    def uniforms(self, *shape: int) -> Floats:
        """`shape` float64 in [0, 1)."""
        size = 1
        for side in shape:
            size *= side
        raw = self._bits.random_raw(size) >> np.uint64(11)
        return (raw.astype(np.float64) * UNIT).reshape(shape)

    def direction(self) -> tuple[float, float]:
        """A unit vector (x, y), by the rational parametrisation of the circle."""
        t, sign = self.uniform(-1.0, 1.0), 1.0 - 2.0 * self.integer(2)
        return sign * (1.0 - t * t) / (1.0 + t * t), sign * 2.0 * t / (1.0 + t * t)


def value_noise(draws: Draws, px: int, cell: float) -> Floats:
    """(px, px) float64 in [0, 1]: octaves from `cell` pixels down to 2, amplitude halved with the cell.

    That is a spectrum near 1/f. The sum is stretched by 1.7 about its middle, because octaves average out.
    """
    total, weight, amplitude = np.zeros((px, px)), 0.0, 1.0
    while cell >= 2.0:
        total += amplitude * _octave(draws, px, cell)
        weight += amplitude
        amplitude, cell = amplitude * 0.5, cell * 0.5
    middle = total * (1.7 / weight) - 0.35
    return np.minimum(np.maximum(middle, 0.0), 1.0)


def _octave(draws: Draws, px: int, cell: float) -> Floats:
    """(px, px) random lattice values `cell` pixels apart, joined by smoothsteps, the lattice shifted."""
    size = int(px / cell) + 3
    grid = draws.uniforms(size, size)
    for _ in range(2):
        place = (np.arange(px) + 0.5) / cell + draws.uniform()
        lower = np.floor(place)
        t = place - lower
        ease = (t * t * (3.0 - 2.0 * t))[:, None]
        index = lower.astype(np.int64)
        start = grid[index]
        # rows first; the transposed result brings the columns to the front for the second turn
        grid = np.ascontiguousarray((start + (grid[index + 1] - start) * ease).T)
    return grid
