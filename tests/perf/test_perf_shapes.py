"""Time to draw one `shapes` image of 96 pixels; meant to stay under 5 ms. No assertion on time."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from wsssbench_datasets.shapes import Shapes, ShapesConfig


@pytest.mark.parametrize("preset", ["default", "two-tone", "context"])
def test_drawing_one_image_and_mask(benchmark: Any, preset: str) -> None:
    options = Shapes.presets.get(preset, {})
    data = Shapes(ShapesConfig(**options, train=100_000), 1000)  # fresh ids: nothing comes from memory
    ids = itertools.cycle(data.ids("train"))
    image = benchmark(lambda: data.image(next(ids)))
    assert image.shape == (96, 96, 3)
