"""A generated tree of COCO's shape for tests: tiny images with all 80 classes in each split, instances files
with polygons, run lengths and a crowd, PNG masks and lists. What masks must be is drawn with numpy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pil

from wsssbench_datasets.coco14.classes import CATEGORIES

SIZE = (20, 44)  # (H, W); eight cells of 10 x 10 and a strip that stays background
PER_IMAGE = 8  # images 1..10 of a split have the classes 1..80 by eights
OVERLAPS, EMPTY = 11, 12  # the last but one shows overlaps and a crowd, the last has no annotation
FIRST = {"train": 100, "val": 500_000}  # numbers of the two splits differ, as in COCO
IDS = tuple(CATEGORIES)


@dataclass
class CocoTree:
    """`root`/{train2014,val2014,annotations,SegmentationClass}, both lists in `root`/lists-*."""

    root: Path
    masks: dict[str, np.ndarray] = field(default_factory=dict)  # id -> (H, W): smaller on top, crowd as class
    labels: dict[str, tuple[int, ...]] = field(default_factory=dict)  # id -> annotated labels 1..80
    contents: dict[str, dict[str, Any]] = field(default_factory=dict)  # split -> the instances file

    def id(self, split: str, k: int) -> str:
        """The id of the k-th image of a split, from 1."""
        return f"COCO_{split}2014_{FIRST[split] + k:012d}"

    def ids(self, split: str, last: int = EMPTY) -> tuple[str, ...]:
        return tuple(self.id(split, k) for k in range(1, last + 1))

    def image(self, id: str) -> Path:
        return self.root / id.split("_")[1] / f"{id}.jpg"

    def mask(self, id: str) -> Path:
        return self.root / "SegmentationClass" / id.split("_")[1] / f"{id}.png"

    def instances(self, split: str) -> Path:
        return self.root / "annotations" / f"instances_{split}2014.json"

    def write_instances(self, split: str) -> None:
        self.instances(split).write_text(json.dumps(self.contents[split]))

    def write_tags(self, path: Path) -> Path:
        """The tags as the field's dict of multi-hot vectors; an image without annotation is left out."""
        table = {
            id: np.isin(np.arange(1, 81), own).astype(np.float32) for id, own in self.labels.items() if own
        }
        np.save(path, np.array(table, dtype=object), allow_pickle=True)
        return path


def cell(index: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of one of eight cells."""
    row, column = divmod(index, 4)
    return column * 10 + 1, row * 10 + 1, column * 10 + 9, row * 10 + 9


def polygon(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    return [[float(v) for v in (left, top, right, top, right, bottom, left, bottom)]]


def run_lengths(region: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed form: lengths of runs of 0, 1, 0, ... down the columns."""
    flat = region.ravel(order="F").astype(np.int8)
    ends = np.append(np.flatnonzero(np.diff(flat)) + 1, flat.size)
    counts = np.diff(np.concatenate([[0], ends])).tolist()
    return {"size": list(region.shape), "counts": ([0, *counts] if flat[0] else counts)}


def filled(box: tuple[int, int, int, int]) -> np.ndarray:
    left, top, right, bottom = box
    region = np.zeros(SIZE, bool)
    region[top:bottom, left:right] = True
    return region


# What the picture of overlaps holds, in the order of its annotations: (label, box, crowd). Label 1 is a
# person, 17 a dog, 3 a car; the dog lies on the person, the crowd of cars below both.
SMALL, LARGE, CROWD = (17, (12, 4, 20, 12), 0), (1, (5, 2, 30, 18), 0), (3, (0, 0, 40, 10), 1)


def build(root: Path) -> CocoTree:
    """Write the tree of two splits of twelve images."""
    tree, rng = CocoTree(root), np.random.default_rng(14)
    (root / "annotations").mkdir(parents=True)
    for split in FIRST:
        for folder in (root / f"{split}2014", root / "SegmentationClass" / f"{split}2014"):
            folder.mkdir(parents=True)
        categories = [{"id": id, "name": name, "supercategory": "any"} for id, name in CATEGORIES.items()]
        tree.contents[split] = {"images": [], "annotations": [], "categories": categories}
        for k in range(1, EMPTY + 1):
            _add_image(tree, split, k, rng)
        tree.contents[split]["images"].reverse()  # COCO's own order is none either
        tree.write_instances(split)
        for name, last in (("all", EMPTY), ("objects", OVERLAPS)):
            (root / f"lists-{name}").mkdir(exist_ok=True)
            lines = [f"{id} 1 2\n" for id in reversed(tree.ids(split, last))]
            (root / f"lists-{name}" / f"{split}.txt").write_text("".join(lines))
    return tree


def _add_image(tree: CocoTree, split: str, k: int, rng: np.random.Generator) -> None:
    id, grey = tree.id(split, k), k == 2
    pixels = rng.integers(0, 256, SIZE if grey else (*SIZE, 3), dtype=np.uint8)
    Pil.fromarray(pixels).save(tree.image(id), quality=90)
    image = {"id": FIRST[split] + k, "height": SIZE[0], "width": SIZE[1], "file_name": f"{id}.jpg"}
    tree.contents[split]["images"].append(image)
    mask, shown = np.zeros(SIZE, np.uint8), []
    if k <= 10:
        shown = [(PER_IMAGE * (k - 1) + i + 1, cell(i), 0) for i in range(PER_IMAGE)]
    elif k == OVERLAPS:
        shown = [SMALL, LARGE, CROWD]
    for n, (label, box, crowd) in enumerate(shown):
        _annotate(tree, split, label, box, crowd or (k == 1 and n == 3), crowd)
    for label, box, _ in (CROWD, LARGE, SMALL) if k == OVERLAPS else shown:
        mask[filled(box)] = label
    Pil.fromarray(mask).save(tree.mask(id))
    tree.masks[id], tree.labels[id] = mask, tuple(sorted(label for label, _, _ in shown))


def _annotate(
    tree: CocoTree, split: str, label: int, box: tuple[int, int, int, int], runs: bool, crowd: int
) -> None:
    annotations = tree.contents[split]["annotations"]
    annotations.append(
        {
            "id": len(annotations) + 1,
            "image_id": tree.contents[split]["images"][-1]["id"],
            "category_id": IDS[label - 1],
            "iscrowd": crowd,
            "area": float(filled(box).sum()),
            "segmentation": run_lengths(filled(box)) if runs else polygon(*box),
        }
    )
