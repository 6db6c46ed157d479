"""Reliable labels as a step: what it makes of given maps, with which classes, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsssbench.errors import WsssError
from wsssbench.nets.heads import normalise_cam, resize
from wsssbench.planning.stages import sigma_scale
from wsssbench.plugins.options import build_config
from wsssbench.running.context import RunContext
from wsssbench.testing.tiny import TinyDataset
from wsssbench.types import IGNORE, Maps, Outputs
from wsssbench_methods.reliable import Reliable, ReliablePredictor
from wsssbench_methods.rrm.reliable_rule import ReliableRule, reliable_labels

WANT: frozenset[Any] = frozenset({"labels"})


def predictor(folder: Path, **options: Any) -> ReliablePredictor:
    ctx = RunContext("cpu", "fp32", "lattice", TinyDataset.card, folder, None, 0, "reliable")
    return ReliablePredictor(build_config("reliable", Reliable, options), ctx)


def scene(px: int, seed: int = 0) -> tuple[torch.Tensor, Maps]:
    """A bright square on a dark ground, and a map of class 1 that is warm in its middle."""
    image = torch.full((3, px, px), 40, dtype=torch.uint8)
    image[:, px // 4 : 3 * px // 4, px // 4 : 3 * px // 4] = 200
    draw = np.random.default_rng(seed)
    image += torch.from_numpy(draw.integers(0, 9, (3, px, px)).astype(np.uint8))
    y, x = np.mgrid[: px // 4, : px // 4] / (px / 4) - 0.45
    warm = np.exp(-(y**2 + x**2) / 0.04).astype(np.float32)
    return image, Maps(np.array([1]), 3 * warm[None])  # the rule divides by the maximum


def test_labels_are_those_of_the_rule_on_maps_brought_to_the_image_and_to_one(tmp_path: Path) -> None:
    found = predictor(tmp_path, fraction=0.6)
    images, given = [], []
    for px in (48, 32, 48):  # two sizes in one call
        image, maps = scene(px, px)
        images.append(image)
        given.append(Outputs(maps=maps))
    for image, outputs, result in zip(images, given, found(images, None, given, WANT), strict=True):
        assert outputs.maps is not None
        cams = normalise_cam(resize(torch.from_numpy(outputs.maps.values)[None], image.shape[1:])[0])
        expected = reliable_labels(
            image.permute(1, 2, 0).contiguous(), cams, torch.tensor([1]), ReliableRule.of(found_config(0.6)),
            scale=sigma_scale(TinyDataset.card),
        )  # fmt: skip
        assert result.labels is not None
        assert (result.labels == expected.numpy()).all()
        assert set(np.unique(result.labels)) == {0, 2, IGNORE}


def found_config(fraction: float) -> Any:
    return build_config("reliable", Reliable, {"fraction": fraction})


def test_a_larger_fraction_labels_the_pixels_of_a_smaller_one_and_more(tmp_path: Path) -> None:
    image, maps = scene(64)
    few, many = (
        predictor(tmp_path, fraction=share)([image], None, [Outputs(maps=maps)], WANT)[0].labels
        for share in (0.2, 0.8)
    )
    assert few is not None
    assert many is not None
    assert (many[few == 2] == 2).all()
    assert (many == 2).sum() > 1.5 * (few == 2).sum()


def test_an_image_of_which_no_class_is_said_has_background_alone(tmp_path: Path) -> None:
    image, _ = scene(32)
    nothing = Outputs(maps=Maps(np.zeros(0, np.int64), np.zeros((0, 8, 8), np.float32)))
    labels = predictor(tmp_path)([image], None, [nothing], WANT)[0].labels
    assert labels is not None
    assert (labels == 0).all()


def test_without_maps_it_says_which_step_is_lacking(tmp_path: Path) -> None:
    with pytest.raises(WsssError, match="no maps") as error:
        predictor(tmp_path)([scene(32)[0]], None, [Outputs()], WANT)
    assert "before it" in str(error.value.hint)


def test_given_tags_leave_the_maps_of_other_classes_out(tmp_path: Path) -> None:
    image, maps = scene(48)
    classes = len(TinyDataset.card.class_names)
    noise = np.random.default_rng(1).random((classes, *maps.values.shape[1:])).astype(np.float32)
    noise[1] = maps.values[0]
    every, tags = Maps(np.arange(classes), noise), np.arange(classes)[None] == 1
    ask = predictor(tmp_path)
    own, cut, free = (
        ask([image], given, [Outputs(maps=found)], WANT)[0].labels
        for found, given in ((maps, None), (every, tags), (every, None))
    )
    assert np.array_equal(own, cut)
    assert not np.array_equal(own, free)
