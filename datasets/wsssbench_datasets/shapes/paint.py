"""The colours of a `shapes` image: background, bodies, parts and grain, painted on a given layout.

All arithmetic is float64 of the kinds that `random` allows, rounded once at the end.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wsssbench_datasets.shapes.forms import COMPASS, PATTERNS, disc, pattern, plane, triangle_wave
from wsssbench_datasets.shapes.random import Draws, value_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsssbench.types import Image
    from wsssbench_datasets.shapes.forms import Bools
    from wsssbench_datasets.shapes.random import Floats
    from wsssbench_datasets.shapes.scene import Layout, Thing
    from wsssbench_datasets.shapes.scene_options import ShapesConfig

APART = 0.45  # least distance of a body's colour from the background's and from other bodies', RGB in [0, 1]
PART_APART = 0.7  # least distance of a part's two colours
RELIEF, BACK_RELIEF = 0.10, 0.16  # largest swing of a texture about its colour, per channel
GRAIN = 0.03  # swing of the grey noise of single pixels
NAMES = tuple(PATTERNS)
PALETTE = (
    (0.86, 0.16, 0.16), (0.14, 0.62, 0.22), (0.16, 0.30, 0.86), (0.90, 0.80, 0.16), (0.70, 0.18, 0.76),
    (0.12, 0.74, 0.76), (0.92, 0.50, 0.12), (0.94, 0.58, 0.76), (0.42, 0.26, 0.12),
)  # fmt: skip


class Pair(NamedTuple):
    """The two colours, (3,) each, between which a texture swings."""

    first: Floats
    second: Floats

    @property
    def middle(self) -> Floats:
        """(3,) the colour halfway."""
        return (self.first + self.second) * 0.5

    def blend(self, field: Floats) -> Floats:
        """(h, w, 3) colours at `field` (h, w) in [0, 1]."""
        return self.first + field[:, :, None] * (self.second - self.first)


def paint(config: ShapesConfig, layout: Layout, *name: object) -> Image:
    """(H, W, 3) uint8: the image called `name`."""
    canvas, pairs = _background(config, layout.things, name)
    taken = [pair.middle for pair in pairs]
    for k, thing in enumerate(layout.things):
        draws = Draws(*name, "colours", k)
        body = _body(draws, config, thing, pairs[k], taken)
        canvas[thing.window][thing.body] = body[thing.body]
        _paint_part(draws, config, thing, canvas)
    grain = (Draws(*name, "grain").uniforms(*canvas.shape[:2]) - 0.5) * (2.0 * GRAIN)
    bytes_ = np.floor((canvas + grain[:, :, None]) * 255.0 + 0.5)
    return np.minimum(np.maximum(bytes_, 0.0), 255.0).astype(np.uint8)


# ---------------------------------------------------------------------------------------------- background


def _background(
    config: ShapesConfig, things: Sequence[Thing], name: tuple[object, ...]
) -> tuple[Floats, list[Pair]]:
    """(H, W, 3) colours, and for each thing the pair of colours behind it."""
    draws = Draws(*name, "background")
    px = config.image_px
    common = _textured(draws.uniforms(3) * 0.8 + 0.1, draws, BACK_RELIEF)
    field = value_noise(draws, px, px * draws.uniform(0.15, 0.5))
    canvas, pairs = common.blend(field), [common] * len(things)
    for k, thing in enumerate(things):
        if draws.uniform() < config.context:
            pairs[k] = _context_pair(thing.label)
            mixed = 0.5 * field + 0.5 * _context_bands(thing.label, px)
            here = _nearest(things, k, px)
            canvas[here] = pairs[k].blend(mixed)[here]
    return canvas, pairs


def _textured(middle: Floats, draws: Draws, relief: float) -> Pair:
    """A pair about `middle` (3,): a common swing in lightness and a smaller one in each channel."""
    swing = (draws.uniform(0.4, 1.0) + (draws.uniforms(3) - 0.5)) * (relief * 0.7)
    return Pair(middle - swing, middle + swing)


def _context_pair(label: int) -> Pair:
    """The background colours that come with a class: a muted palette colour, light and dark."""
    middle = np.array(PALETTE[(label + 4) % len(PALETTE)]) * 0.6 + 0.2
    return Pair(middle - BACK_RELIEF, middle + BACK_RELIEF)


def _context_bands(label: int, px: int) -> Floats:
    """(px, px) in [0, 1]: soft bands whose direction and width belong to the class."""
    across, _ = plane(px, COMPASS[(label * 5) % 8])
    return triangle_wave(across * (1.0 + 0.5 * (label % 4)))


def _nearest(things: Sequence[Thing], k: int, px: int) -> Bools:
    """(px, px) bool: pixels whose nearest object is `things[k]`."""
    line = np.arange(px) + 0.5
    far = []
    for thing in things:
        y, x = line - (thing.top + len(thing.body) * 0.5), line - (thing.left + len(thing.body) * 0.5)
        far.append((y * y)[:, None] + (x * x)[None, :])
    here = np.ones((px, px), dtype=bool)
    for other in range(len(things)):
        if other != k:
            here &= far[k] <= far[other]
    return here


# ------------------------------------------------------------------------------------------ bodies and parts


def _body(draws: Draws, config: ShapesConfig, thing: Thing, behind: Pair, taken: list[Floats]) -> Floats:
    """(s, s, 3) colours of a body before `behind`; its colours are added to `taken`."""
    size = len(thing.body)
    field = value_noise(draws, size, config.image_px * draws.uniform(0.05, 0.4))
    jitter = (draws.uniforms(3) - 0.5) * 0.2
    pairs = [_textured(_faded(_apart(draws, taken), behind, config.contrast), draws, RELIEF) for _ in "12"]
    across, shift = plane(size, draws.direction())[0], draws.uniform(-0.2, 0.2)
    if config.body == "camouflage":
        return behind.blend(field)
    if config.body == "class":
        own = np.array(PALETTE[thing.label]) + jitter
        return _textured(_faded(own, behind, config.contrast), draws, RELIEF).blend(field)
    if config.body == "two-tone":
        return np.where((across > shift)[:, :, None], pairs[0].blend(field), pairs[1].blend(field))
    return pairs[0].blend(field)


def _faded(colour: Floats, behind: Pair, contrast: float) -> Floats:
    """`colour` (3,) moved towards the background's middle: its distance from there times `contrast`."""
    return behind.middle + contrast * (colour - behind.middle)


def _apart(draws: Draws, taken: list[Floats]) -> Floats:
    """(3,) a random colour at least APART from all `taken`, or the farthest of 16; it is added to them."""
    colours = draws.uniforms(16, 3)
    gaps = [min(_distance(colour, other) for other in taken) for colour in colours]
    far = next((k for k, gap in enumerate(gaps) if gap >= APART), gaps.index(max(gaps)))
    taken.append(colours[far])
    return taken[-1]


def _distance(first: Floats, second: Floats) -> float:
    """Euclidean distance of two colours, summed in a fixed order."""
    r, g, b = (first - second).tolist()
    return math.sqrt(r * r + g * g + b * b)


def _paint_part(draws: Draws, config: ShapesConfig, thing: Thing, canvas: Floats) -> None:
    """Paint the part: its class's pattern, in its class's colour and white or in two random colours."""
    size = thing.spot[2]
    shade = pattern(draws, NAMES[thing.label], size)
    pair = _random_pair(draws) if config.part_colour == "random" else _class_pair(draws, thing.label)
    silhouette = disc(size)
    canvas[thing.part_window][silhouette] = pair.blend(shade)[silhouette]


def _class_pair(draws: Draws, label: int) -> Pair:
    """The palette colour of a class, a little jittered, and white."""
    return Pair(np.array(PALETTE[label]) + (draws.uniforms(3) - 0.5) * 0.1, np.array((0.97, 0.97, 0.97)))


def _random_pair(draws: Draws) -> Pair:
    """Two random colours that are PART_APART."""
    dark, light = draws.uniforms(3), draws.uniforms(8, 3)
    gaps = [_distance(colour, dark) for colour in light]
    far = next((k for k, gap in enumerate(gaps) if gap >= PART_APART), gaps.index(max(gaps)))
    return Pair(dark, light[far])
