"""What a metric has counted in each image, kept sparsely: most classes are in few images.

So that a metric that looks at the labels themselves can be resampled, and handed to others, without masks.
What the counts mean must not enter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from wsssbench.types import Counts

    SparseArray: TypeAlias = tuple[
        tuple[int, ...], NDArray[np.int32], NDArray[np.int64]
    ]  # shape, cells, values

PREFIX = "of"  # of the members of a counts file: of/<metric>/<array>/<column>
COLUMNS = ("shape", "image", "cell", "value")
MOST_CELLS = 10**8  # of one array; the largest histograms have a million


@dataclass(frozen=True)
class ImageArrays:
    """One array of a metric's counts in each of n images: the values that are not zero."""

    shape: tuple[int, ...]  # of one image's array
    image: NDArray[np.int32]  # (m,)
    cell: NDArray[np.int32]  # (m,) in the flat array
    value: NDArray[np.int64]  # (m,)

    @classmethod
    def of(cls, images: Sequence[SparseArray]) -> ImageArrays:
        """Of one array per image, all of one shape."""
        cells, values = ([image[part] for image in images] for part in (1, 2))
        image = np.repeat(np.arange(len(images), dtype=np.int32), [len(c) for c in cells])
        return cls(images[0][0], image, np.concatenate(cells), np.concatenate(values))

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def dense(self, images: int) -> NDArray[np.float32]:
        """(images, size) float32."""
        whole = np.zeros((images, self.size), np.float32)
        whole[self.image, self.cell] = self.value
        return whole

    def total(self) -> NDArray[np.int64]:
        """The sum over images, in its shape."""
        whole = np.zeros(self.size, np.int64)
        np.add.at(whole, self.cell, self.value)
        return whole.reshape(self.shape)

    def fits(self, images: int) -> bool:
        """Whether all places are within `images` and the shape."""
        places = ((self.image, images), (self.cell, self.size))
        return all(not len(x) or 0 <= x.min() <= x.max() < most for x, most in places)


def sparse_counts(counts: Counts) -> dict[str, SparseArray]:
    """The arrays of one image by name, without their zeros."""
    found = {}
    for name, array in counts.items():
        flat = np.asarray(array, np.int64).ravel()
        cells = np.flatnonzero(flat)
        found[name] = (tuple(np.shape(array)), cells.astype(np.int32), flat[cells])
    return found


def image_arrays(images: Sequence[Mapping[str, SparseArray]]) -> dict[str, ImageArrays]:
    """The arrays of one metric by name, of the `sparse_counts` of every image; {} where shapes differ."""
    shapes = {tuple((name, array[0]) for name, array in sorted(image.items())) for image in images}
    if len(shapes) != 1:
        return {}
    return {name: ImageArrays.of([image[name] for image in images]) for name, _ in shapes.pop()}


def concatenated(
    shards: Sequence[Mapping[str, Mapping[str, ImageArrays]]], places: Sequence[NDArray[np.int32]]
) -> dict[str, dict[str, ImageArrays]]:
    """What all shards have counted in arrays of one shape; image i of shard s becomes image places[s][i]."""

    def joined(parts: Sequence[ImageArrays]) -> ImageArrays:
        image = np.concatenate([at[part.image] for at, part in zip(places, parts, strict=True)])
        order = np.argsort(image, kind="stable")
        cell, value = (np.concatenate([getattr(part, name) for part in parts])[order] for name in COLUMNS[2:])
        return ImageArrays(parts[0].shape, image[order], cell, value)

    def shapes(shard: Mapping[str, Mapping[str, ImageArrays]], metric: str) -> dict[str, tuple[int, ...]]:
        return {name: arrays.shape for name, arrays in shard.get(metric, {}).items()}

    first = shards[0] if shards else {}
    common = [m for m in first if all(shapes(shard, m) == shapes(first, m) for shard in shards)]
    return {m: {name: joined([shard[m][name] for shard in shards]) for name in first[m]} for m in common}


def to_members(metrics: Mapping[str, Mapping[str, ImageArrays]]) -> dict[str, NDArray[Any]]:
    """Plain arrays for an npz, by the name of their member; names with a slash have no place there."""
    return {
        f"{PREFIX}/{metric}/{name}/{column}": np.asarray(getattr(arrays, column))
        for metric, parts in metrics.items()
        for name, arrays in parts.items()
        if "/" not in metric + name
        for column in COLUMNS
    }


def from_members(members: Mapping[str, NDArray[Any]], images: int) -> dict[str, dict[str, ImageArrays]]:
    """What `to_members` made; ValueError or KeyError where it does not add up."""
    names = dict.fromkeys(name.rpartition("/")[0] for name in members if name.startswith(f"{PREFIX}/"))
    found: dict[str, dict[str, ImageArrays]] = {}
    for name in names:
        _, metric, part = name.split("/")
        shape, image, cell, value = (members[f"{name}/{column}"] for column in COLUMNS)
        arrays = ImageArrays(
            tuple(shape.tolist()), image.astype(np.int32), cell.astype(np.int32), value.astype(np.int64)
        )
        if math.prod(arrays.shape) > MOST_CELLS:
            raise ValueError(f"{name} has the impossible shape {arrays.shape}")
        if len({len(image), len(cell), len(value)}) > 1 or not arrays.fits(images):
            raise ValueError(f"{name} has columns that do not fit each other")
        found.setdefault(metric, {})[part] = arrays
    return found
