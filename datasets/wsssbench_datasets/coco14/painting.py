"""Masks painted from COCO's instances with pycocotools, an optional extra. No file is read here.

Instances overlap, and the field has painted them in two ways. The script that AFA's README names, whose masks
CLIP-ES and WeCLIP share, keeps the smaller object on top and paints crowds like objects; ReCAM's code paints
in the order of the file, a later object over an earlier one, and leaves crowds out. The row says which.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from wsssbench.errors import WsssError
from wsssbench.types import IGNORE
from wsssbench_datasets.coco14.instances import Instance, Outline, run_lengths

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask

Overlap: TypeAlias = Literal["smaller", "later"]
Crowd: TypeAlias = Literal["class", "background", "void"]
PAINTING = "1"  # version of the rules below: part of the fingerprint of painted masks


def require_pycocotools() -> None:
    """WsssError where masks cannot be painted here."""
    if find_spec("pycocotools") is None:
        hint = "pip install 'wsssbench[coco]', or give PNG masks: -o coco14.masks=FOLDER"
        raise WsssError("masks from the instances file need pycocotools", where="coco14.masks", hint=hint)


def painted(instances: Sequence[Instance], size: tuple[int, int], overlap: Overlap, crowd: Crowd) -> Mask:
    """(H, W) uint8: 0, labels 1..80, and 255 where a crowd is void and no object covers it."""
    mask = np.zeros(size, np.uint8)
    for each in bottom_first(instances, overlap, crowd):
        mask[region(each.outline, size)] = IGNORE if each.crowd and crowd == "void" else each.label
    return mask


def bottom_first(instances: Sequence[Instance], overlap: Overlap, crowd: Crowd) -> list[Instance]:
    """The instances in the order in which they are painted.

    Of two of one area the earlier is on top, as in that script; void crowds lie below all.
    """
    order = list(instances)
    if overlap == "smaller":
        order = sorted(order, key=lambda each: each.area)[::-1]
    if crowd == "background":
        return [each for each in order if not each.crowd]
    return sorted(order, key=lambda each: not each.crowd) if crowd == "void" else order


def region(outline: Outline, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool: the pixels of an outline, polygons as pycocotools fills them."""
    if isinstance(outline, array):
        return filled(outline.tolist(), size)
    if not outline:
        return np.zeros(size, bool)
    from pycocotools import mask as coco_mask  # late: an optional extra

    return filled(run_lengths(coco_mask.merge(coco_mask.frPyObjects(list(outline), *size))["counts"]), size)


def filled(runs: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool of run lengths that go down the columns, outside first."""
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(size[::-1]).T
