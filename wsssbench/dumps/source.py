"""One file of another repository: what is asked of it, and the checks that all kinds share.

Every check is an error of the file's (BadData with its name); no value is changed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.dumps.array_files import kind_of
from wsssbench.dumps.safe_pickle import settled
from wsssbench.errors import BadData
from wsssbench.types import IGNORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.files.label_palette import LabelPalettes
    from wsssbench.types import Mask

SLACK_PX = 1.5  # of a side of planes: what rounding at a stride, once or twice, may add or take off
HINT = "name the format that the file was written in, or write the file again"


@dataclass(frozen=True)
class Source:
    """A file, the K classes of its data set, and what the user has said of it."""

    path: Path
    classes: int
    class_index: int | None = None  # whose map it is, where the file does not say: 0-based
    rescale: bool = False
    shape: tuple[int, int] | None = None  # (H, W) of its image, where that is known
    palettes: LabelPalettes | None = None  # of the pictures in its folder; None: their numbers hold

    def bad(self, what: str, hint: str = HINT) -> BadData:
        """The error that this file is wrong."""
        return BadData(what, where=self.path, hint=hint)

    def array(self, value: Any, name: str) -> NDArray[Any]:
        """`value` as an array of numbers; BadData where it is none or damaged."""
        try:
            found = settled(value)
            if isinstance(found, (list, tuple)) and all(type(item) is int for item in found):
                found = np.array(found, np.int64)  # a list of lists may be endless
        except (ValueError, OverflowError) as error:
            raise self.bad(f"{name} is damaged ({error})") from error
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
            raise self.bad(f"{name} holds {kind_of(found)}, not an array of numbers")
        return found

    def planes(self, value: Any, name: str, axes: int = 3) -> NDArray[np.float32]:
        """`value` as finite float32 with `axes` axes, none of the last two empty."""
        array = self.array(value, name)
        if array.ndim != axes or 0 in array.shape[-2:]:
            raise self.bad(f"{name} has the shape {array.shape}, not {axes} axes")
        with np.errstate(over="ignore"):  # a float64 that no float32 can hold becomes infinite: see below
            planes: NDArray[np.float32] = array.astype(np.float32)
        if not np.isfinite(planes).all():
            raise self.bad(f"{name} has values that are not finite", "look for a division by zero")
        return planes

    def check_sides(self, height: int, width: int) -> None:
        """BadData unless planes of this size show the whole image, and no more, at some stride."""
        if self.shape is None or _is_scaled((height, width), self.shape):
            return
        size, image = f"{width}x{height} px", f"{self.shape[1]}x{self.shape[0]} px"
        turned = _is_scaled((width, height), self.shape)
        what = "its sides are exchanged" if turned else "another ratio of the sides"
        hint = "save (height, width) planes" if turned else "cut padding off, or enlarge them to the image"
        raise self.bad(f"planes of {size} for an image of {image} (width x height): {what}", hint)

    def class_ids(self, keys: Any, least: int, most: int) -> NDArray[np.int64]:
        """`keys` less `least` as (n,) int64; BadData for a key beyond least..most, or twice."""
        array = self.array(keys, "its list of classes")
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise self.bad(f"its list of classes has the shape {array.shape} and type {array.dtype}")
        wrong = array[(array < least) | (array > most)]
        if wrong.size:
            hint = f"this format numbers classes {least}..{most}: name another format, or the right data set"
            raise self.bad(f"class {wrong[0]} is outside {least}..{most}", hint)
        if len(np.unique(array)) != len(array):
            raise self.bad("a class stands twice")
        return array.astype(np.int64) - least

    def labels(self, labels: NDArray[Any]) -> Mask:
        """(H, W) labels as uint8; BadData for one outside 0..K that is not 255."""
        if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "biu":
            raise self.bad(f"labels of the shape {labels.shape} and type {labels.dtype}")
        wrong = np.unique(labels[((labels < 0) | (labels > self.classes)) & (labels != IGNORE)])
        if wrong.size:
            values = ", ".join(map(str, wrong[:5].tolist()))
            hint = f"labels are 0 for background, 1..{self.classes} for classes, {IGNORE} for none"
            raise self.bad(f"the mask has label {values}, outside 0..{self.classes}", hint)
        mask: Mask = labels.astype(np.uint8)
        return mask


def _is_scaled(size: tuple[int, int], whole: tuple[int, int]) -> bool:
    """Whether one factor makes `size` of `whole`, each side rounded."""
    factors = [
        ((part - SLACK_PX) / side, (part + SLACK_PX) / side) for part, side in zip(size, whole, strict=True)
    ]
    return factors[0][0] <= factors[1][1] and factors[1][0] <= factors[0][1]
