"""Time to draw one `shapes` image of 96 pixels; meant to stay under 5 ms. No assertion on time."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from speed_turns import others_watched

from wsssbench_datasets.shapes import Shapes, ShapesConfig

DRAWN = 100  # images a round


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
