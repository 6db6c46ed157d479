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
from wsssbench.plugins.contract import as_predictor
from wsssbench.running.scales import MultiScale
from wsssbench.types import Maps, Outputs, Predictor

PROBS = frozenset({"probs"})


class Pooled(Predictor):
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


class Repeating(Predictor):
    """A refiner that returns what it was given; labels become planes of 0 and 1 here."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.seen: list[tuple[Tensor, Any, Outputs]] = []

    def __call__(self, images: Sequence[Tensor], tags: Any, given: Any, want: Any) -> list[Outputs]:
        self.seen += zip(images, [None] * len(images) if tags is None else tags, given, strict=True)
        return [Outputs(probs=self.planes(getattr(before, self.kind))) for before in given]

    def planes(self, said: Any) -> np.ndarray:
        if isinstance(said, Maps):
            return np.concatenate([1 - said.values[:1], said.values])
        return said if said.ndim == 3 else (np.arange(4)[:, None, None] == said % 252).astype(np.float32)


def said_before() -> list[Outputs]:
    """What a step before might have said of `images()`: nothing in it is its own mirror image."""
    draw = np.random.default_rng(4)
    found = []
    for (height, width), stride in zip(((32, 40), (21, 30)), (4, 3), strict=True):
        probs = draw.random((3, -(-height // stride), -(-width // stride)), np.float32)
        blocks = draw.integers(0, 3, (-(-height // 4), -(-width // 4))).astype(np.uint8)
        labels = blocks.repeat(4, 0).repeat(4, 1)[:height, :width]
        maps = Maps(np.array([1]), probs[:1].copy())
        mined = np.where(labels == 2, 255, labels).astype(np.uint8)
        found.append(Outputs(maps, probs / probs.sum(0), labels, mined, probs[:, 0, 0]))
    return found


@pytest.mark.parametrize("kind", ["maps", "probs", "labels", "mined"])
@pytest.mark.parametrize(("scales", "flip"), [((1.0,), True), ((1.0, 2.0, 3.0), False), ((1.0, 3.0), True)])
def test_a_refiner_that_returns_what_it_was_given_gives_just_that(
    kind: str, scales: tuple[float, ...], flip: bool
) -> None:
    given, step = said_before(), Repeating(kind)
    found = MultiScale(step, scales, flip=flip)(images(), None, given, PROBS)
    for outputs, before in zip(found, given, strict=True):
        assert outputs.probs is not None
        wanted = step.planes(getattr(before, kind))
        if max(scales) == 1.0 or kind in ("maps", "probs"):
            np.testing.assert_allclose(outputs.probs, wanted, atol=1e-6)
        else:  # labels at 2 and 3 times the size come back mixed at their borders alone
            np.testing.assert_array_equal(outputs.probs.argmax(0), wanted.argmax(0))


@pytest.mark.parametrize("kind", ["maps", "probs", "labels", "mined"])
def test_what_was_given_lies_on_the_view_as_it_lay_on_the_image(kind: str) -> None:
    """A step whose planes are the red channel's says the same of a view as the view's own red does."""
    red = images()
    for image in red:
        image[:, :, : image.shape[-1] // 2] = 0  # a left half that is dark, and a right one that is not
        image[:, :, image.shape[-1] // 2 :] = 200
    dark = [(image[0].numpy() == 0).astype(np.uint8) for image in red]
    given = [
        Outputs(
            maps=Maps(np.array([0]), side[None, ::2, ::2].astype(np.float32)),
            probs=np.stack([1 - side, side]).astype(np.float32),
            labels=side,
            mined=side,
        )
        for side in dark
    ]
    step = Repeating(kind)
    MultiScale(step, (0.5, 1.0, 1.5), flip=True)(red, None, given, PROBS)
    assert len(step.seen) == 2 * 3 * 2
    for image, _, before in step.seen:
        said = getattr(before, kind)
        plane = said.values[0] if isinstance(said, Maps) else said if said.ndim == 2 else said[1]
        shape = (image.shape[1], image.shape[2])
        if kind in ("labels", "mined"):
            assert plane.shape == shape
            assert plane.dtype == np.uint8
        wide = F.interpolate(torch.from_numpy(plane)[None, None].float(), size=shape, mode="nearest-exact")
        assert ((wide[0, 0] > 0.5) == (image[0] < 100)).float().mean() > 0.9


def test_tags_and_scores_of_tags_are_the_same_for_every_view() -> None:
    tags, given, step = np.array([[True], [False]]), said_before(), Repeating("probs")
    MultiScale(step, (0.5, 1.0), flip=True)(images(), tags, given, PROBS)
    for n, (_, own, before) in enumerate(step.seen):
        assert (own == tags[n % 2]).all()
        assert before.tag_scores is given[n % 2].tag_scores


def test_as_many_images_go_together_as_the_step_wants() -> None:
    net = Pooled()
    assert MultiScale(net, (1.0,), flip=True).images_per_call == Predictor.images_per_call
    net.images_per_call = 3
    assert MultiScale(net, (1.0,), flip=True).images_per_call == 3


def test_a_step_that_gives_no_probabilities_is_told() -> None:
    def silent(images: Any, tags: Any, given: Any, want: Any) -> list[Outputs]:
        return [Outputs() for _ in images]

    with pytest.raises(BadData, match="asked for probs and returned none"):
        MultiScale(as_predictor(silent), (1.0, 0.5), flip=False)(images(), None, [Outputs()] * 2, PROBS)
