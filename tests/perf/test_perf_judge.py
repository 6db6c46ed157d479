"""Scoring VOC-sized masks beside PIL's decoding of the same files, and beside the field's usual evaluator.

Run with `pytest tests/perf/test_perf_judge.py --benchmark-enable`; the ratios are in extra_info. Without it
each case runs once, on a few images, and no peer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsssbench.judging.judge import score_split
from wsssbench.masks import read_labels, write_labels
from wsssbench.process import keep_memory
from wsssbench.types import DatasetCard
from wsssbench_datasets.shapes import Shapes, ShapesConfig

PAIRS, CLASSES = 300, 20  # pairs of files; VOC val has 1,449
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Folder:
    """A data set that has nothing but masks, in a folder."""

    card = DatasetCard(
        name="masks",
        version="1",
        class_names=tuple(f"class {k}" for k in range(CLASSES)),
        splits=("val",),
        fit_split="val",
        label_split="val",
        eval_split="val",
        label_source="generated",
        licence="",
        source="",
        image_px=500,
    )

    def __init__(self, root: Path) -> None:
        self.root = root

    def mask(self, id: str) -> NDArray[np.uint8]:
        return read_labels(self.root / f"{id}.png")


def pairs(folder: Path, count: int) -> tuple[Folder, Path, list[str]]:
    """Truth and predictions as palette PNGs of 500 x 375; a prediction is the truth, moved and relabelled."""
    scenes = Shapes(ShapesConfig(image_px=500, train=count, max_objects=4), 1000)
    draw = np.random.default_rng(0)
    for name in ("truth", "said"):
        (folder / name).mkdir()
    for id in scenes.ids("train"):
        mask = scenes.mask(id)[:375] * np.uint8(draw.integers(1, 5))
        said = np.where(np.roll(mask, draw.integers(1, 15, 2), (0, 1)) > 0, mask.max(), 0).astype(np.uint8)
        write_labels(folder / "truth" / f"{id}.png", mask)
        write_labels(folder / "said" / f"{id}.png", said)
    return Folder(folder / "truth"), folder / "said", list(scenes.ids("train"))


def decode(paths: Sequence[Path]) -> None:
    """What no scorer can do without: every file, by PIL, on all cores."""
    with ThreadPoolExecutor(CORES) as pool:
        for _ in pool.map(lambda path: np.asarray(Image.open(path)), paths):
            pass


def usual(truth: Path, said: Path, ids: Sequence[str]) -> NDArray[np.int64]:
    """The confusion matrix as the field's scripts make it: a bincount an image, on one core."""
    total = np.zeros((CLASSES + 1, CLASSES + 1), np.int64)
    for id in ids:
        gold, label = (np.asarray(Image.open(folder / f"{id}.png")) for folder in (truth, said))
        valid = (gold >= 0) & (gold < CLASSES + 1)
        both = (CLASSES + 1) * gold[valid].astype(int) + label[valid]
        total += np.bincount(both, minlength=(CLASSES + 1) ** 2).reshape(total.shape)
    return total


def median(work: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def test_scoring_pairs_of_masks(benchmark: Any, tmp_path: Path) -> None:
    keep_memory()
    data, said, ids = pairs(tmp_path, PAIRS if benchmark.enabled else 6)
    files = [folder / f"{id}.png" for id in ids for folder in (data.root, said)]

    def score() -> Any:
        return score_split(data, ids, lambda id: read_labels(said / f"{id}.png"), threads=CORES)  # type: ignore[arg-type]

    matrix = np.zeros((CLASSES + 1, CLASSES + 1), np.int64)
    total = score()[1].total()
    matrix[total["gold"], total["predicted"]] = total["pixels"]
    assert (matrix == usual(data.root, said, ids)).all()
    benchmark.pedantic(score, rounds=5 if benchmark.enabled else 1)
    if benchmark.enabled:
        ours = benchmark.stats.stats.median
        benchmark.extra_info["over_decoding"] = round(ours / median(lambda: decode(files)), 2)
        benchmark.extra_info["faster_than_usual"] = round(
            median(lambda: usual(data.root, said, ids)) / ours, 2
        )
