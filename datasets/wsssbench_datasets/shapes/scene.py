"""Where the objects of a `shapes` image stand: counts, classes, outlines, parts, places and the mask.

A scene depends on the generator's version, the data seed, the split, the index and the options, never on
other images. Options stay out of the random streams' names, so that a change of contrast, context or body
shows the same scenes made easier or harder. Colours live in `paint`; files must not enter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wsssbench_datasets.shapes.forms import disc, outline
from wsssbench_datasets.shapes.random import Draws

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from wsssbench.types import Mask
    from wsssbench_datasets.shapes.forms import Bools
    from wsssbench_datasets.shapes.scene_options import ShapesConfig

DIAMETER = {1: (0.45, 0.65), 2: (0.40, 0.55), 3: (0.32, 0.44), 4: (0.28, 0.38)}  # of a body, by object count
PART_SEEN, BODY_SEEN = 0.85, 0.5  # least visible share of an object's part and of its whole
TRIES = 24


@dataclass(frozen=True)
class Thing:
    """One object on a canvas of s pixels whose corner stands at `top`, `left` of the image."""

    label: int  # class, 0-based
    body: Bools  # (s, s), the part included
    spot: tuple[int, int, int]  # top, left and size m of the part's square on the canvas
    top: int
    left: int

    @property
    def window(self) -> tuple[slice, slice]:
        """The canvas in the image."""
        size = len(self.body)
        return slice(self.top, self.top + size), slice(self.left, self.left + size)

    @property
    def part_window(self) -> tuple[slice, slice]:
        """The part's square in the image."""
        top, left, size = self.spot
        return slice(self.top + top, self.top + top + size), slice(self.left + left, self.left + left + size)


@dataclass(frozen=True)
class Layout:
    """The objects of an image, first drawn first, and which one each pixel shows."""

    things: tuple[Thing, ...]
    owner: Mask  # (H, W): 0 background, k + 1 = things[k]
    mask: Mask  # (H, W): 0 background, class + 1


def draw_layout(config: ShapesConfig, *name: object) -> Layout:
    """The objects of the image called `name`: shapes and places, no colours."""
    draws = Draws(*name, "scene")
    count = config.min_objects + draws.integer(config.max_objects - config.min_objects + 1)
    owner = np.zeros((config.image_px, config.image_px), dtype=np.uint8)
    parts, things = owner.copy(), list[Thing]()
    for k in range(count):
        thing = _place(Draws(*name, "object", k), config, count, things, owner, parts)
        if thing is not None:
            things.append(thing)
            _stamp(thing, len(things), owner, parts)
    labels = np.array([0, *(thing.label + 1 for thing in things)], dtype=np.uint8)
    return Layout(tuple(things), owner, labels[owner])


def _place(
    draws: Draws, config: ShapesConfig, count: int, things: Sequence[Thing], owner: Mask, parts: Mask
) -> Thing | None:
    """A new object at the first place that leaves the earlier ones visible; None after TRIES places."""
    label = draws.integer(config.classes)
    least, most = DIAMETER[count]
    size = int(config.image_px * draws.uniform(least, most) + 0.5)
    body = outline(draws, size)
    spot = _part_spot(draws, body, config.part)
    free = config.image_px - size + 1
    for _ in range(TRIES):
        thing = Thing(label, body, spot, draws.integer(free), draws.integer(free))
        if _leaves_visible(thing, things, owner, parts):
            return thing
    return None


def _part_spot(draws: Draws, body: Bools, part: float) -> tuple[int, int, int]:
    """Top, left and size of the part's square; `body` is grown where the part would leave it."""
    size = max(int(part * len(body) + 0.5), 3)
    silhouette, free = disc(size), len(body) - size + 1
    best, missing = (0, 0), size * size + 1
    for _ in range(TRIES):
        top, left = draws.integer(free), draws.integer(free)
        outside = int(np.count_nonzero(silhouette & ~body[top : top + size, left : left + size]))
        if outside < missing:
            best, missing = (top, left), outside
        if missing == 0:
            break
    body[best[0] : best[0] + size, best[1] : best[1] + size] |= silhouette
    return (*best, size)


def _leaves_visible(thing: Thing, things: Sequence[Thing], owner: Mask, parts: Mask) -> bool:
    """True if each of the earlier `things` keeps enough of its part and of its body in sight."""
    hidden, covered = _pixels(parts[thing.window][thing.body]), _pixels(owner[thing.window][thing.body])
    part_left, body_left = _pixels(parts) - hidden, _pixels(owner) - covered
    return all(
        part_left[k] >= PART_SEEN * np.count_nonzero(disc(other.spot[2]))
        and body_left[k] >= BODY_SEEN * np.count_nonzero(other.body)
        for k, other in enumerate(things, 1)
    )


def _pixels(numbers: Mask) -> NDArray[np.int64]:
    """(5,) pixels of each object; index 0 counts the rest."""
    return np.bincount(numbers.ravel(), minlength=max(DIAMETER) + 1)


def _stamp(thing: Thing, number: int, owner: Mask, parts: Mask) -> None:
    """Enter `thing` on top of the earlier objects."""
    owner[thing.window][thing.body] = number
    parts[thing.window][thing.body] = 0
    parts[thing.part_window][disc(thing.spot[2])] = number
