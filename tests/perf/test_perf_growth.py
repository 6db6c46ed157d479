"""How the time of mining, dense CRF and dense energy grows with image, batch, classes and lattice.

The images are pieces of one mosaic of four real crops, cut about its middle, so that a larger one shows more
and not the same more smoothly. How to run it: conftest.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from speed_turns import CORES, Work, growth
from torch import Tensor
from torch.nn.functional import interpolate

from wsssbench.identity import CrfSet
from wsssbench.ops import lattice_cpu
from wsssbench.ops.energy import dense_energy
from wsssbench.ops.gaussian import bilateral_features
from wsssbench.ops.mean_field import mean_field
from wsssbench_methods.rrm.reliable_rule import reliable_labels_batch

SIDES, BATCHES, CLASSES, TAGS = (161, 241, 321, 481, 641), (1, 2, 4, 8), (2, 6, 21, 41, 81), (1, 2, 3, 5)
COLOUR_WIDTHS = (40, 20, 10, 5, 3)  # narrower colours: more vertices
LARGEST_RATIO = 1.6  # of the cost of a pixel at 641 to that at 321: near linear
INFERENCE = CrfSet(3, 3, 83, 5, 4)
Mosaic = Callable[[int, int], Tensor]


@pytest.fixture(scope="module")
def mosaic(crops: list[dict[str, Any]]) -> Mosaic:
    """`mosaic(side, batch)`: (batch, side, side, 3) uint8, turned by a quarter from one to the next."""
    one, two, three, four = (crop["image"] for crop in crops)
    whole = np.concatenate([np.concatenate([one, two], 1), np.concatenate([three, four], 1)])

    def cut(side: int, batch: int) -> Tensor:
        start = (len(whole) - side) // 2
        piece = whole[start : start + side, start : start + side]
        return torch.from_numpy(np.stack([np.rot90(piece, n) for n in range(batch)]))

    return cut


def planes(batch: int, count: int, side: int) -> Tensor:
    """(batch, count, side, side) probabilities as of a network's coarse grid."""
    coarse = 4 * torch.randn(batch, count, 12, 12, generator=torch.Generator().manual_seed(0))
    return interpolate(coarse, size=(side, side), mode="bilinear").softmax(1)


def mining(images: Tensor, tags: int) -> Work:
    cams = planes(len(images), tags + 1, images.shape[1])[:, 1:].contiguous()
    cams /= cams.amax((2, 3), keepdim=True)
    every = torch.ones(len(images), tags, dtype=torch.bool)
    return lambda: reliable_labels_batch(images, cams, every)


def crf(images: Tensor, labels: int, colour_width: float = INFERENCE.bilateral_rgb) -> Work:
    unary = -planes(len(images), labels, images.shape[1]).clamp(1e-5, 1).log()
    params = CrfSet(3, 3, INFERENCE.bilateral_xy, colour_width, 4)
    return lambda: mean_field(unary, images, params)


def energy(images: Tensor, classes: int) -> Work:
    batch, side = images.shape[:2]
    probs, pixels = planes(batch, classes, side).requires_grad_(), images.permute(0, 3, 1, 2).float()
    roi, labels = torch.ones(batch, side, side), torch.full((batch, side, side), 255, dtype=torch.uint8)

    def work() -> None:
        probs.grad = None
        dense_energy(probs, pixels, roi, labels).backward()

    return work


OPS: dict[str, tuple[Callable[[Tensor, int], Work], int, tuple[int, ...], str]] = {
    "mining": (mining, 2, TAGS, "tagged classes"),
    "dense CRF": (crf, 21, CLASSES, "labels"),
    "dense energy": (energy, 21, CLASSES, "classes"),
}


@pytest.mark.benchmark(group="growth")
@pytest.mark.parametrize("op", OPS)
def test_the_cost_of_a_pixel_hardly_grows_with_the_image(benchmark: Any, mosaic: Mosaic, op: str) -> None:
    make, count, _, name = OPS[op]
    works = {side: make(mosaic(side, 1), count) for side in SIDES}
    what = f"{op}, 1 image, {count} {name}"
    seconds = growth(benchmark, what, "side of the image, px", works, "pixel", threads=CORES)
    if benchmark.enabled:
        ratio = (seconds[641] / 641**2) / (seconds[321] / 321**2)
        found = {"ratio": round(ratio, 2), "bar": LARGEST_RATIO, "met": ratio <= LARGEST_RATIO}
        benchmark.extra_info["near_linear"] = {"from": 321, "to": 641, **found}
        assert ratio <= LARGEST_RATIO


@pytest.mark.benchmark(group="growth")
@pytest.mark.parametrize("op", OPS)
def test_time_against_the_batch(benchmark: Any, mosaic: Mosaic, op: str) -> None:
    make, count, _, name = OPS[op]
    side = 321 if benchmark.enabled else 96
    works = {batch: make(mosaic(side, batch), count) for batch in BATCHES}
    what = f"{op}, images of 321x321, {count} {name}"
    growth(benchmark, what, "images", works, "image", rounds=3, threads=CORES)


@pytest.mark.benchmark(group="growth")
@pytest.mark.parametrize("op", OPS)
def test_time_against_the_classes(benchmark: Any, mosaic: Mosaic, op: str) -> None:
    make, _, counts, name = OPS[op]
    side = 321 if benchmark.enabled else 96
    works = {count: make(mosaic(side, 1), count) for count in counts}
    growth(benchmark, f"{op}, 1 image of 321x321", name, works, "class", rounds=3, threads=CORES)


@pytest.mark.benchmark(group="growth")
def test_time_against_the_vertices_of_the_lattice(benchmark: Any, mosaic: Mosaic) -> None:
    images = mosaic(321 if benchmark.enabled else 96, 1)
    works = {vertices(images, width): crf(images, 21, width) for width in COLOUR_WIDTHS}
    what = (
        f"dense CRF, 1 image of 321x321, 21 labels, colour widths {COLOUR_WIDTHS[0]} to {COLOUR_WIDTHS[-1]}"
    )
    growth(benchmark, what, "vertices of the lattice", works, "", rounds=3, threads=CORES)


def vertices(images: Tensor, colour_width: float) -> int:
    lattice = lattice_cpu.build(bilateral_features(images, INFERENCE.bilateral_xy, colour_width).numpy())
    return len(lattice.gains) - 1
