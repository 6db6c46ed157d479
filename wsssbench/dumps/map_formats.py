"""Class activation maps of other repositories, as `Maps`: classes ascending, float32, values as they were.

Which key holds the maps and how its classes are counted is all that tells these files apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.dumps.source import Source
from wsssbench.types import IGNORE, Maps

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLACK = 1e-3  # what float16 may add to a 1
RESCALE = "ask for rescaling, which divides each map by its largest value"


def is_class_dict(content: Any) -> bool:
    """Whether `content` is a dict whose keys are whole numbers, or an empty one."""
    return isinstance(content, dict) and all(type(key) is int for key in content)


def read_keyed_maps(
    source: Source, content: Mapping[Any, Any], name: str, keys: str = "keys", *, from_one: bool = False
) -> Maps:
    """A dict with the classes under `keys` and the maps (T, h, w) under `name`; BadData where they disagree.

    With `from_one` the keys begin with a 0 for the background, which has no map, and classes count from 1.
    """
    found = source.array(content[keys], keys)
    if from_one:
        if found.ndim != 1 or found.size == 0 or found[0] != 0:
            raise source.bad("its keys do not begin with 0 for the background, as PuzzleCAM's do")
        found = found[1:]
    least = int(from_one)
    classes = source.class_ids(found, least, least + source.classes - 1)
    return checked_maps(source, classes, source.planes(content[name], name))


def read_class_dict(source: Source, content: Mapping[int, Any]) -> Maps:
    """A dict {class 0..K-1: (H, W)}; an empty one gives no maps, of one pixel.

    SEAM writes (x - min - 1e-5) / (max - min + 1e-5), a little below 0 where nothing was found and -1 where a
    whole map is empty: what is negative becomes 0, which no threshold of 0 or more can tell from it.
    """
    classes = source.class_ids(list(content), 0, source.classes - 1)
    if not content:
        return Maps(classes, np.zeros((0, 1, 1), np.float32))
    planes = np.maximum(stacked_planes(source, content), 0)
    return checked_maps(source, classes, planes)


def stacked_planes(source: Source, content: Mapping[int, Any]) -> NDArray[np.float32]:
    """(n, H, W) of a dict's values in its order; BadData where two differ in size."""
    planes = [source.planes(value, f"the map of class {key}", axes=2) for key, value in content.items()]
    shapes = {plane.shape for plane in planes}
    if len(shapes) > 1:
        raise source.bad(f"its maps differ in size: {', '.join(map(str, sorted(shapes)[:3]))}")
    return np.stack(planes)


def read_single_map(source: Source, content: NDArray[Any]) -> Maps:
    """A bare (H, W) map of the class that the user names.

    wsolevaluation squeezes images of any ratio into a square, and so are its maps.
    """
    if source.class_index is None:
        hint = "say whose map it is (a class, 0-based): such files belong to data sets of one class per image"
        if looks_like_labels(content, source.classes):
            what = f"these look like labels as {content.dtype}: whole numbers in 0..{source.classes}"
            raise source.bad(what, f"save labels as uint8, as PNG (mode P or L) or .npy; if a map: {hint}")
        raise source.bad("one map without a class", hint)
    classes = source.class_ids([source.class_index], 0, source.classes - 1)
    planes = source.planes(content, "the map", axes=2)[None]
    if planes.shape[1] == planes.shape[2]:
        source = replace(source, shape=None)
    return checked_maps(source, classes, planes)


def looks_like_labels(values: NDArray[Any], classes: int) -> bool:
    """Whether an array holds whole numbers alone, 0..classes, 255 or -1, and not 0 alone."""
    found = np.unique(values)
    return bool(np.isin(found, [*range(classes + 1), IGNORE, -1]).all() and found.any())


def checked_maps(source: Source, classes: NDArray[np.int64], planes: NDArray[np.float32]) -> Maps:
    """`planes` (T, h, w) as maps; BadData unless there is one per class, in [0, 1] or to be rescaled."""
    if len(classes) != len(planes):
        raise source.bad(f"{len(planes)} maps for {len(classes)} classes")
    if len(planes):
        source.check_sides(*planes.shape[1:])
    if source.rescale:
        planes = np.maximum(planes, 0)
        largest = planes.max((1, 2), keepdims=True, initial=0)
        planes = np.divide(planes, largest, out=np.zeros_like(planes), where=largest > 0)
    low, high = planes.min(initial=0), planes.max(initial=0)
    if low < 0 or high > 1 + SLACK:
        raise source.bad(f"its maps reach from {low:.4g} to {high:.4g}, beyond 0..1", RESCALE)
    order = np.argsort(classes)
    return Maps(classes[order], planes[order])
