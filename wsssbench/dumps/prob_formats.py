"""Probabilities of all classes as other repositories leave them: logits, marginals of a CRF, or themselves.

Out comes (C, h, w) float32 that sums to 1, at the size of the file; logits are brought to the size of the
image first, where that is known, as deeplab-pytorch, AFA and WeCLIP do: the argmax of enlarged logits is not
that of enlarged probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.dumps.map_formats import is_class_dict, stacked_planes
from wsssbench.dumps.source import Source
from wsssbench.masks import resize_bilinear

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLACK = 1e-2  # of a sum to 1: 81 classes in float16


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, h, w) float32 logits -> probabilities, over the first axis."""
    powers = np.exp(logits - logits.max(0))
    result: NDArray[np.float32] = powers / powers.sum(0)
    return result


def sums_to_one(planes: NDArray[Any]) -> bool:
    """Whether `planes` (C, h, w) could be probabilities."""
    if planes.dtype.kind != "f" or planes.ndim != 3 or planes.size == 0:
        return False
    with np.errstate(all="ignore"):  # what is not finite is said later
        total = planes.sum(0, dtype=np.float64)
        return bool((np.abs(total - 1) <= SLACK).all() and (planes >= 0).all())


def is_planes(content: Any) -> bool:
    """Whether `content` is a bare array (C, h, w), or one with a batch axis of 1, of real numbers."""
    if not isinstance(content, np.ndarray) or content.dtype.kind != "f":
        return False
    return content.ndim == 3 or (content.ndim == 4 and content.shape[0] == 1)


def is_logits(content: Any) -> bool:
    """Whether `content` is such an array and no probabilities yet."""
    return is_planes(content) and not is_probs(content)


def is_probs(content: Any) -> bool:
    """Whether `content` is such an array and sums to 1."""
    return is_planes(content) and sums_to_one(content[0] if content.ndim == 4 else content)


def is_crf_dict(content: Any) -> bool:
    """Whether `content` could be marginals by label: whole numbers, 0 for the background among them."""
    return is_class_dict(content) and 0 in content


def _planes(source: Source, content: Any, key: str) -> NDArray[np.float32]:
    """(C, h, w) of a bare array, or of that under `key` of a dict, maybe with a batch axis; BadData unless it
    has K + 1 planes."""
    name = key or "the array"
    array = source.array(content[key] if key else content, name)
    planes = source.planes(array[0] if array.ndim == 4 and len(array) == 1 else array, name)
    if len(planes) != source.classes + 1:
        hint = f"background and {source.classes} classes are expected: is this the right data set?"
        raise source.bad(f"{name} has {len(planes)} planes, not {source.classes + 1}", hint)
    source.check_sides(*planes.shape[1:])
    return planes


def read_logits(source: Source, content: Any, key: str = "") -> NDArray[np.float32]:
    """The softmax of bare logits, or of those under `key`."""
    logits = _planes(source, content, key)
    return softmax(logits if source.shape is None else resize_bilinear(logits, source.shape))


def read_probs(source: Source, content: Any, key: str = "") -> NDArray[np.float32]:
    """Bare probabilities, or those under `key`."""
    return _checked(source, _planes(source, content, key))


def read_crf_dict(source: Source, content: Mapping[int, Any]) -> NDArray[np.float32]:
    """A dict {0: background, class + 1: (H, W)} of marginals; a label that it does not name has none."""
    labels = source.class_ids(list(content), 0, source.classes)
    planes = stacked_planes(source, content)
    source.check_sides(*planes.shape[1:])
    probs = np.zeros((source.classes + 1, *planes.shape[1:]), np.float32)
    probs[labels] = planes
    return _checked(source, probs)


def _checked(source: Source, probs: NDArray[np.float32]) -> NDArray[np.float32]:
    if not sums_to_one(probs):
        raise source.bad("its planes do not sum to 1, so they are not probabilities")
    return probs
