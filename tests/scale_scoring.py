"""Scoring of N generated images of COCO's size and classes: CPU seconds and the most memory, for several N.

    python tests/scale_scoring.py 1000 5000 20000 40137

Each N is scored in a process of its own, so that the peak is that of its scoring. The masks are drawn from
the image's number when the judge asks for them: no files, so that the disk's cache is not measured with it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsssbench.judging.judge import score_split
from wsssbench.metrics import Iou
from wsssbench.scores.counts_table import CountsTable
from wsssbench.types import DatasetCard, Metric

COCO_VAL, CLASSES, SIZE = 40_137, 80, (480, 640)  # images of COCO 2014 val; with background 81 labels
OBJECTS = 7  # rectangles in one mask; COCO has about as many objects an image
HEAD = "| images | CPU s | CPU ms an image | peak MiB | kept, KiB an image |\n|---|---|---|---|---|"


CARD = DatasetCard(
    name="generated", version="1", class_names=tuple(f"class {k}" for k in range(CLASSES)), splits=("val",),
    fit_split="val", label_split="val", eval_split="val", label_source="generated", licence="none",
    source="generated", image_px=SIZE[1], generated=True,
)  # fmt: skip


@dataclass(frozen=True)
class Generated:
    """A data set of nothing but masks: rectangles of random classes, drawn anew whenever they are read."""

    images: int
    card: DatasetCard = CARD

    def ids(self, split: str) -> tuple[str, ...]:
        return tuple(f"{n:012d}" for n in range(self.images))

    def mask(self, id: str) -> NDArray[np.uint8]:
        """(480, 640) uint8 in {0..80, 255}."""
        return self._drawn(id, moved=0)

    def labels(self, id: str) -> NDArray[np.uint8]:
        """The prediction: every object moved, one of them taken for another class."""
        return self._drawn(id, moved=9)

    def _drawn(self, id: str, moved: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng(int(id))
        mask = np.zeros(SIZE, np.uint8)
        for k in rng.integers(1, CLASSES + 1, OBJECTS):
            top, left, height, width = rng.integers((0, 0, 20, 20), (400, 500, 240, 320)).tolist()
            mask[top + moved : top + moved + height, left : left + width] = k
        if moved:
            mask[mask == k] = k % CLASSES + 1
        else:
            mask[:2] = 255
        return mask


def scored(images: int, shard: slice = slice(None), metrics: Sequence[Metric] = (Iou(),)) -> Any:
    """Scores and counts of the first `images`, or of a shard of them."""
    data = Generated(images)
    return score_split(data, data.ids("val")[shard], data.labels, metrics)


def peak_bytes() -> int:
    """Most memory that this process has had at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(images: int) -> dict[str, float]:
    """CPU seconds and peak of scoring `images`, and the peak before it, in this process."""
    scored(20)  # what the first images load and allocate
    before, start = peak_bytes(), time.process_time()
    scored(images)
    return {"seconds": time.process_time() - start, "before": before, "peak": peak_bytes()}


def measure_apart(images: int) -> dict[str, float]:
    """`measure` in a fresh process."""
    command = [sys.executable, __file__, "--one", str(images)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def merged(images: int, shards: int, metrics: Sequence[Metric] = (Iou(),)) -> CountsTable:
    """The counts of every `shards`-th image, counted apart and put together."""
    tables = [scored(images, slice(n, None, shards), metrics)[1] for n in range(shards)]
    return CountsTable.concatenate(tables, Generated(images).ids("val"))


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["--one"]:
        print(json.dumps(measure(int(arguments[1]))))
        return
    print(HEAD)
    for images in map(int, arguments or ["1000", "5000", "20000", str(COCO_VAL)]):
        m = measure_apart(images)
        extra = (m["peak"] - m["before"]) / images / 1024
        row = (f"{images:,}", f"{m['seconds']:.1f}", f"{1000 * m['seconds'] / images:.2f}")
        print(f"| {' | '.join(row)} | {m['peak'] / 2**20:.0f} | {extra:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
