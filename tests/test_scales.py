"""Multi-scale testing: what is averaged, on which grid, and what the predictor is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wsssbench.errors import BadData
from wsssbench.scales import MultiScale
from wsssbench.types import Outputs

PROBS = frozenset({"probs"})


class Pooled:
    """A predictor of stride 4 whose first plane is the brightness of the red channel; it notes its images."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, images: Sequence[Tensor], tags: Any, given: Any, want: Any) -> list[Outputs]:
        assert want == PROBS
        self.seen += images
        return [Outputs(probs=self.probs(image)) for image in images]

    def probs(self, image: Tensor) -> np.ndarray:
        red = F.avg_pool2d(image[:1].float() / 255, 4, ceil_mode=True)
        return torch.cat([red, 1 - red]).numpy()


def images() -> list[Tensor]:
    """Two smooth pictures of different size, uint8 (3, H, W)."""
    draw = torch.Generator().manual_seed(8)
    coarse = torch.rand(2, 3, 5, 6, generator=draw) * 255
    sizes = ((32, 40), (21, 30))
    return [
        F.interpolate(c[None], s, mode="bilinear")[0].to(torch.uint8)
        for c, s in zip(coarse, sizes, strict=True)
    ]


def ask(
    scales: tuple[float, ...], flip: bool, pictures: list[Tensor] | None = None
) -> tuple[list[Any], Pooled]:
    net = Pooled()
    found = MultiScale(net, scales, flip=flip)(pictures or images(), None, [Outputs()] * 2, PROBS)
    return [outputs.probs for outputs in found], net


def test_scale_1_alone_is_the_predictor_itself_and_runs_once() -> None:
    found, net = ask((1.0,), flip=False)
    assert all((probs == Pooled().probs(image)).all() for probs, image in zip(found, images(), strict=True))
    assert len(net.seen) == 2


def test_every_view_is_computed_once() -> None:
    _, net = ask((0.5, 1.0, 1.5), flip=True)
    assert len(net.seen) == 2 * 3 * 2
    sizes = [tuple(image.shape[1:]) for image in net.seen[::2]]
    assert sizes == [(32, 40), (16, 20), (16, 20), (32, 40), (48, 60), (48, 60)]
    assert all(image.dtype == torch.uint8 for image in net.seen)


@pytest.mark.parametrize("scales", [(0.5, 1.0, 2.0), (2.0, 0.5), (1.5,)])
@pytest.mark.parametrize("flip", [False, True])
def test_the_grid_is_that_of_scale_1_and_planes_sum_to_1(scales: tuple[float, ...], flip: bool) -> None:
    found, _ = ask(scales, flip)
    assert [probs.shape for probs in found] == [(2, 8, 10), (2, 6, 8)]
    assert all(probs.dtype == np.float32 for probs in found)
    assert all(np.allclose(probs.sum(0), 1, atol=1e-5) for probs in found)


def test_the_result_is_the_mean_over_views_turned_back() -> None:
    image = images()[0]
    (found, *_), _ = ask((1.0,), flip=True)
    mirrored = Pooled().probs(image.flip(-1))[..., ::-1]
    assert np.allclose(found, (Pooled().probs(image) + mirrored) / 2, atol=1e-6)


def test_mirroring_the_images_mirrors_the_result() -> None:
    straight, _ = ask((0.75, 1.0, 1.5), flip=True)
    turned, _ = ask((0.75, 1.0, 1.5), True, [image.flip(-1) for image in images()])
    for one, two in zip(straight, turned, strict=True):
        assert np.allclose(two, one[..., ::-1], atol=0.02)  # scaled images are rounded to bytes


def test_an_image_of_one_colour_stays_so_at_any_scale() -> None:
    flat = [torch.full((3, 17, 23), 51, dtype=torch.uint8)] * 2
    found, _ = ask((0.05, 0.5, 1.25), True, flat)
    assert all(np.allclose(probs[0], 0.2, atol=1e-5) for probs in found)


def test_tags_and_what_was_given_reach_the_predictor_at_every_scale() -> None:
    asked: list[tuple[Any, Any]] = []

    class Noting(Pooled):
        def __call__(self, images: Sequence[Tensor], tags: Any, given: Any, want: Any) -> list[Outputs]:
            asked.append((tags, given))
            return super().__call__(images, tags, given, want)

    tags, given = np.array([[True], [False]]), [Outputs(), Outputs()]
    MultiScale(Noting(), (0.5, 1.0), flip=False)(images(), tags, given, PROBS)
    assert asked == [(tags, given)] * 2


def test_a_step_that_gives_no_probabilities_is_told() -> None:
    def silent(images: Any, tags: Any, given: Any, want: Any) -> list[Outputs]:
        return [Outputs() for _ in images]

    with pytest.raises(BadData, match="asked for probs and returned none"):
        MultiScale(silent, (1.0, 0.5), flip=False)(images(), None, [], PROBS)
