"""The table of formats: what each file looks like, how its producers count classes, which range they write.

A new format is a line here and, where its shape is new, a reader beside the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from wsssbench.dumps import map_formats, prob_formats
from wsssbench.dumps.label_pictures import Picture, read_colours, read_palette_colours
from wsssbench.dumps.source import Source
from wsssbench.masks import read_labels

Holds = Literal["labels", "maps", "probs"]
FROM_ZERO = "keys are classes from 0"
FROM_ONE = "keys begin with 0 for background, classes follow from 1"
LABELS = "0 background, class + 1, 255 none"
PLANES = "plane 0 background, plane class + 1"
BY_MAX = "0..1, each map divided by its largest value"
LOGITS = "logits, enlarged to the image; then their softmax"


@dataclass(frozen=True)
class DumpFormat:
    """One kind of file. `keys`: how it counts classes; `values`: the range that its producers write."""

    name: str
    holds: Holds
    keys: str
    values: str
    producers: tuple[str, ...]
    fits: Callable[[Any], bool]  # whether a file's content has this form
    read: Callable[[Source, Any], Any]
    automatic: bool = True  # whether "auto" finds it by content; the others must be named

    def __str__(self) -> str:
        named = "" if self.automatic else "; must be named"
        makers = ", ".join(self.producers)
        return f"{self.name}: {self.holds} as of {makers} ({self.keys}; {self.values}{named})"


def _has(*names: str) -> Callable[[Any], bool]:
    """Whether the content is a dict with these names."""
    return lambda content: isinstance(content, dict) and content.keys() >= set(names)


def _has_only(*names: str) -> Callable[[Any], bool]:
    return lambda content: isinstance(content, dict) and content.keys() == set(names)


def _is_array(axes: int, kinds: str) -> Callable[[Any], bool]:
    """Whether the content is a bare array with so many axes, of one of these kinds of numbers."""
    return lambda found: isinstance(found, np.ndarray) and found.ndim == axes and found.dtype.kind in kinds


def _is_picture(coloured: bool) -> Callable[[Any], bool]:
    return lambda content: isinstance(content, Picture) and content.coloured == coloured


def _has_palette(content: Any) -> bool:
    return isinstance(content, Picture) and content.palette


def _read_indices(source: Source, content: Picture) -> Any:
    return source.labels(read_labels(content.path, source.palettes))


def _read_colours(source: Source, content: Picture) -> Any:
    return source.labels((read_colours if content.coloured else read_palette_colours)(content.path))


def _maps(
    name: str, key: str, values: str, makers: tuple[str, ...], from_one: bool = False, automatic: bool = True
) -> DumpFormat:
    keys = FROM_ONE if from_one else FROM_ZERO
    read = partial(map_formats.read_keyed_maps, name=key, from_one=from_one)
    return DumpFormat(name, "maps", keys, values, makers, _has("keys", key), read, automatic)


def _logits(name: str, key: str, producers: tuple[str, ...], automatic: bool = True) -> DumpFormat:
    read = partial(prob_formats.read_logits, key=key)
    return DumpFormat(name, "probs", PLANES, LOGITS, producers, _has(key), read, automatic)


IRN, PUZZLE, HOUSE = ("IRN", "ReCAM", "ToCo"), ("PuzzleCAM",), ("wsssbench",)
FORMATS: tuple[DumpFormat, ...] = (
    DumpFormat("index", "labels", LABELS, "PNG of mode P or L",
               ("most repositories",), _is_picture(False), _read_indices),
    DumpFormat("colours", "labels", LABELS, "RGB PNG in the colours of the VOC palette",
               ("AFA", "ToCo", "WeCLIP"), _is_picture(True), _read_colours),
    DumpFormat("palette-colours", "labels", LABELS, "PNG of mode P, by VOC's colours in its palette",
               ("image optimisers",), _has_palette, _read_colours, automatic=False),
    DumpFormat("index-npy", "labels", LABELS, "a bare array (H, W) of whole numbers",
               ("own scripts",), _is_array(2, "iu"), Source.labels),
    DumpFormat("psa", "maps", FROM_ZERO,
               "0..1: PSA divides by the largest value, SEAM and MCTformer also take off the least",
               ("PSA", "SEAM", "MCTformer"), map_formats.is_class_dict, map_formats.read_class_dict),
    _maps("irn", "high_res", BY_MAX, IRN),
    _maps("irn-strided", "cam", f"{BY_MAX}; a quarter of the image's size", IRN, automatic=False),
    _maps("puzzlecam", "hr_cam", BY_MAX, PUZZLE, from_one=True),
    _maps("puzzlecam-strided", "cam", f"{BY_MAX}; a quarter of the image's size", PUZZLE,
          from_one=True, automatic=False),
    _maps("puzzlecam-rw", "rw", "0..1, all maps of a random walk divided by the largest value of all", PUZZLE,
          from_one=True),
    _maps("clip-es", "attn_highres", "0..1 in float16, each map from its least to its largest",
          ("CLIP-ES",)),
    DumpFormat("wsol", "maps", "one map; the class is given beside", "0..1", ("wsolevaluation",),
               _is_array(2, "f"), map_formats.read_single_map),
    DumpFormat("wsssbench-maps", "maps", FROM_ZERO, "0..1 in float16, .npz", HOUSE,
               _has_only("classes", "values"),
               partial(map_formats.read_keyed_maps, name="values", keys="classes")),
    DumpFormat("psa-crf", "probs", "0 background, class + 1", "marginals that sum to 1", ("PSA", "SEAM"),
               prob_formats.is_crf_dict, prob_formats.read_crf_dict, automatic=False),
    _logits("afa", "msc_segs", ("AFA",)),
    _logits("afa-single", "segs", ("AFA",), automatic=False),
    _logits("weclip", "msc_seg", ("WeCLIP", "ToCo")),
    DumpFormat("deeplab", "probs", PLANES, LOGITS, ("deeplab-pytorch",),
               prob_formats.is_logits, prob_formats.read_logits),
    DumpFormat("probs", "probs", PLANES, "a bare array that sums to 1", ("own scripts",),
               prob_formats.is_probs, prob_formats.read_probs),
    DumpFormat("wsssbench-probs", "probs", PLANES, "sums to 1, float16, .npz", HOUSE,
               _has_only("probs"), partial(prob_formats.read_probs, key="probs")),
)  # fmt: skip


def list_formats() -> tuple[DumpFormat, ...]:
    """All formats, labels first; `str` of one is a line of help."""
    return FORMATS
