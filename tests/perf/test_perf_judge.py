"""Scoring VOC-sized masks beside PIL's decoding of the same files, and beside the field's usual evaluator.

As many pairs as VOC val has; the files are a hundred different ones under many names. Run as conftest.py
says; in the ordinary suite there are a few pairs and no peers.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from speed_peers import decoded, usual_confusion
from speed_turns import CORES, Peer, beside

from wsssbench.judging.judge import score_split
from wsssbench.masks import read_labels, voc_palette
from wsssbench.types import DatasetCard
from wsssbench_datasets.shapes.dataset import Shapes, ShapesConfig

PAIRS, DRAWN, CLASSES = 1449, 100, 20


class MaskFolder:
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


def pairs(folder: Path, count: int, drawn: int) -> tuple[MaskFolder, Path, list[str]]:
    """Truth and predictions as palette PNGs of 500 x 375; a prediction is the truth, moved and relabelled."""
    scenes = Shapes(ShapesConfig(image_px=500, train=drawn, max_objects=4), 1000)
    draw = np.random.default_rng(0)
    for name in ("truth", "said"):
        (folder / name).mkdir()
    ids = [f"{n:06}" for n in range(count)]
    for n, id in enumerate(scenes.ids("train")):
        mask = scenes.mask(id)[:375] * np.uint8(draw.integers(1, 5))
        said = np.where(np.roll(mask, draw.integers(1, 15, 2), (0, 1)) > 0, mask.max(), 0).astype(np.uint8)
        for labels, name in ((mask, "truth"), (said, "said")):  # as the field's scripts save them
            picture = Image.fromarray(labels)
            picture.putpalette(voc_palette().tobytes())
            picture.save(folder / name / f"{ids[n]}.png")
    for n, id in enumerate(ids[drawn:]):
        for name in ("truth", "said"):
            shutil.copy(folder / name / f"{ids[n % drawn]}.png", folder / name / f"{id}.png")
    return MaskFolder(folder / "truth"), folder / "said", ids


@pytest.mark.benchmark(group="scoring")
def test_scoring_pairs_of_masks(benchmark: Any, tmp_path: Path) -> None:
    data, said, ids = pairs(tmp_path, *((PAIRS, DRAWN) if benchmark.enabled else (6, 6)))
    files = [folder / f"{id}.png" for id in ids for folder in (data.root, said)]

    def score() -> Any:
        return score_split(data, ids, lambda id: read_labels(said / f"{id}.png"), threads=CORES)  # type: ignore[arg-type]

    matrix = np.zeros((CLASSES + 1, CLASSES + 1), np.int64)
    total = score()[1].total()
    matrix[total["gold"], total["predicted"]] = total["pixels"]
    assert (matrix == usual_confusion(data.root, said, ids, CLASSES)).all()
    beside(
        benchmark,
        f"scoring {len(ids)} pairs of 500x375",
        score,
        Peer(f"PIL's decoding alone, {CORES} threads", lambda: decoded(files, CORES), bar=1.3, at_most=True),
        Peer(
            "PIL and numpy.bincount an image, 1 thread",
            lambda: usual_confusion(data.root, said, ids, CLASSES),
            bar=2.5,
        ),
        rounds=5,
        threads=CORES,
        note="the confusion matrices are equal; ours counts pairs as quick as these in one thread",
    )
