"""Time to draw one `shapes` image of 96 pixels, meant to stay under 5 ms, and to cut a training crop out of a
JPEG file as VOC has them: what has to keep up with a GPU. No assertion on time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from speed_gpu import JpegShapes
from speed_turns import others_watched

from wsssbench.training.crops import CropBatches, CropRule
from wsssbench.types import View
from wsssbench_datasets.shapes.dataset import Shapes, ShapesConfig

DRAWN, CUT = 100, 64  # images a round


@pytest.mark.benchmark(group="drawing")
@pytest.mark.parametrize("preset", ["default", "two-tone", "context"])
def test_drawing_one_image_and_mask(benchmark: Any, preset: str) -> None:
    options = Shapes.presets.get(preset, {})
    data = Shapes(ShapesConfig(**options, train=100_000), 1000)  # fresh ids: nothing comes from memory
    ids, count = itertools.cycle(data.ids("train")), DRAWN if benchmark.enabled else 1
    with others_watched(benchmark):
        image = benchmark.pedantic(lambda: [data.image(next(ids)) for _ in range(count)][-1], rounds=5)
    benchmark.extra_info.update(what=f"drawing images of 96x96, preset {preset}", images=count)
    assert image.shape == (96, 96, 3)


@pytest.mark.benchmark(group="drawing")
def test_a_crop_out_of_a_jpeg_file(benchmark: Any, threads: Callable[[int], None], tmp_path: Path) -> None:
    threads(1)
    measuring = bool(benchmark.enabled)
    count, side = (CUT, 321) if measuring else (2, 33)
    data = JpegShapes(tmp_path, count, (375, 500) if measuring else (40, 48))
    view = View(data, data.card.fit_split, frozenset({"tags"}))
    crops = CropBatches(view, CropRule(side, (0.7, 1.3)), count, 0)
    with others_watched(benchmark):
        batch = benchmark.pedantic(lambda: crops(0), rounds=5, warmup_rounds=1)
    what = f"decoding a JPEG file of 500x375, scaling it, cutting a crop of {side}x{side}, one thread"
    benchmark.extra_info.update(what=what, images=count)
    assert batch.images.shape == (count, 3, side, side)
