"""What the measurements on a GPU need: JPEG files like VOC's, crops like the reference ones, a clock for
trainings, and what goes into `extra_info`, which reports/performance.py renders."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from speed_turns import Work

from wsssbench.files.image_files import read_rgb
from wsssbench.running.context import RunContext
from wsssbench.throughput.device import instruments_of
from wsssbench.types import NoConfig
from wsssbench_datasets.shapes.dataset import Shapes, ShapesConfig

if TYPE_CHECKING:
    from wsssbench.types import Image, Mask, Tags

CLASSES, DRAWN_CLASSES = 20, 9  # VOC's, and those that shapes can draw
ROUNDS, WARMUP = 30, 5
AT_ONCE = 5  # last steps of a training, more than are under way at a time
APART = "on a GPU these are measured alone: pytest tests/perf -m gpu --benchmark-enable"


def device_of(benchmark: Any, *, alone: bool) -> str:
    """ "cuda", or "cpu" where nothing is measured and there is no GPU; skips what cannot be measured."""
    there = torch.cuda.is_available()
    if not benchmark.enabled:
        return "cuda" if there else "cpu"
    if not there:
        pytest.skip("needs a CUDA device")
    if not alone:
        pytest.skip(APART)
    return "cuda"


def timed(benchmark: Any, device: str, work: Work, row: str, what: str, **more: Any) -> None:
    """Benchmark `work`, each time until the device is done, for the line `row` of the page."""
    tools = instruments_of(device)

    def whole() -> None:
        work()
        tools.synchronise()

    rounds = {"rounds": ROUNDS, "warmup_rounds": WARMUP} if benchmark.enabled else {}
    tools.reset_peak()
    benchmark.pedantic(whole, **rounds)
    if benchmark.enabled:
        benchmark.extra_info.update(what=what, gpu={"row": row, "peak_bytes": tools.peak_bytes(), **more})


# ---------------------------------------------------------------------------------------------- trainings


@dataclass
class Ticks(RunContext):
    """A context that notes when each step was reported, and nothing else of it."""

    times: list[float] = field(default_factory=list)

    def progress(
        self, done: int, total: int, images: int = 0, losses: Mapping[str, float] | None = None
    ) -> None:
        if images:
            self.times.append(time.perf_counter())


def steps_per_second(times: list[float], warmup: int) -> dict[str, float]:
    """The rate of the steps after `warmup`, and median and quartiles of the time of one in ms.

    Steps are reported late and the last ones all at once, when the device is done: those do not count.
    """
    laps = np.diff(times[warmup:-AT_ONCE])
    low, high = np.quantile(laps, (0.25, 0.75))
    return {
        "per_second": round(len(laps) / float(sum(laps)), 3),
        "median_ms": round(1000 * statistics.median(laps.tolist()), 3),
        "quartile1_ms": round(1000 * float(low), 3),
        "quartile3_ms": round(1000 * float(high), 3),
        "steps": len(laps),
    }


# --------------------------------------------------------------------------------------------------- data


class JpegShapes:
    """Drawings of `shapes` as JPEG files of VOC's size: 20 classes, of which nine occur, in one split."""

    Config: ClassVar[type] = NoConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, folder: Path, count: int, size: tuple[int, int]) -> None:
        height, width = size
        drawn = Shapes(ShapesConfig(image_px=width, classes=DRAWN_CLASSES, train=count), 1000)
        self.folder, self._ids = folder, drawn.ids("train")
        self._tags: dict[str, Tags] = {}
        names = tuple(f"class{k}" for k in range(CLASSES))
        self.card = replace(drawn.card, name="drawn", class_names=names, image_px=width, options={})
        draw = np.random.default_rng(0)
        for id in self._ids:
            image = drawn.image(id)[:height]
            noisy = np.clip(image + draw.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
            Pil.fromarray(noisy).save(folder / f"{id}.jpg", quality=92)
            self._tags[id] = np.append(drawn.tags(id), np.zeros(CLASSES - DRAWN_CLASSES, bool))

    def ids(self, split: str) -> tuple[str, ...]:
        return self._ids

    def image(self, id: str) -> Image:
        return read_rgb(self.folder / f"{id}.jpg")

    def tags(self, id: str) -> Tags:
        return self._tags[id]

    def mask(self, id: str) -> Mask:
        raise LookupError("no masks here")

    def fingerprint(self, split: str) -> str:
        return "drawn"


def drawn_crops(side: int = 321) -> list[dict[str, Any]]:
    """As the fixture `crops`, from drawings: the same numbers of tags, a soft spot for each one's CAM."""
    data = Shapes(ShapesConfig(image_px=side, classes=DRAWN_CLASSES, train=4), 1000)
    y, x = np.mgrid[:side, :side] / side
    found = []
    for number, (id, count) in enumerate(zip(data.ids("train"), (1, 2, 3, 1), strict=True)):
        draw = np.random.default_rng(number)
        centres = draw.uniform(0.2, 0.8, (count, 2))
        spots = [np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 0.04) for cy, cx in centres]
        tags = np.sort(draw.choice(CLASSES, count, replace=False))
        found.append({"image": data.image(id), "tags": tags, "cams": np.array(spots, np.float32)})
    return found
