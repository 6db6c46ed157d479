"""From maps and probabilities to labels by a dense CRF."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from wsssbench.identity import CrfSet
from wsssbench.judging.labels import LOWEST, CrfCase, DenseCrf, planes_of_maps, stage_labels
from wsssbench.masks import argmax_labels, threshold_labels
from wsssbench.planning.stages import sigma_scale
from wsssbench.testing.tiny import TinyDataset
from wsssbench.types import Maps, Outputs

CRF = CrfSet(3, 3, 40, 13, 10, 5)
NOTHING = CrfSet(3, 0, 40, 13, 0, 5)  # kernels of no weight


def maps(count: int, seed: int = 0) -> Maps:
    values = np.random.default_rng(seed).random((count, 6, 9), np.float32)
    return Maps(np.arange(count) * 2, values)


def crf_labels(
    image: np.ndarray, planes: np.ndarray, labels: np.ndarray, crf: CrfSet, *, scale: float, backend: str
) -> np.ndarray:
    """The labels of one image."""
    (found,) = DenseCrf(crf, scale, backend).labels([CrfCase(image, planes, labels)])
    return found


def half_and_half(width: int = 40, height: int = 24) -> np.ndarray:
    """An image that is red on the left and blue on the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 200
    image[:, width // 2 :, 2] = 200
    return image


def test_widths_are_pixels_of_a_voc_image_and_shrink_with_smaller_ones() -> None:
    assert sigma_scale(dataclasses.replace(TinyDataset.card, image_px=500)) == 1.0
    assert sigma_scale(dataclasses.replace(TinyDataset.card, image_px=100)) == 0.2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 3])
def test_the_argmax_of_the_planes_is_the_label_that_the_threshold_gives(count: int, seed: int) -> None:
    found = maps(count, seed)
    planes = planes_of_maps(found, 0.4)
    assert planes.shape == (count + 1, 6, 9)
    assert np.allclose(planes.sum(0), 1, atol=1e-6)
    labels = np.concatenate([[0], found.classes + 1])[planes.argmax(0)]
    assert (labels == threshold_labels(found, 0.4, (6, 9))).all(), f"seed {seed}"


def test_without_any_map_everything_is_background() -> None:
    planes = planes_of_maps(maps(0), 0.3)
    assert planes.shape == (1, 6, 9)
    assert (planes == 1).all()


def test_a_threshold_of_0_is_the_lowest_probability_and_divides_by_nothing() -> None:
    found = Maps(np.array([0]), np.zeros((1, 2, 2), np.float32))
    found.values[0, 0, 0] = 2 * LOWEST
    planes = planes_of_maps(found, 0.0)
    assert np.isfinite(planes).all()
    assert planes.argmax(0).tolist() == [[1, 0], [0, 0]]


def test_a_crf_without_weights_gives_the_argmax() -> None:
    planes = planes_of_maps(maps(2), 0.4)
    image = half_and_half(9, 6)
    labels = crf_labels(image, planes, np.array([0, 1, 3]), NOTHING, scale=1.0, backend="exact")
    assert (labels == np.array([0, 1, 3])[planes.argmax(0)]).all()
    assert labels.dtype == np.uint8


def test_planes_of_another_size_are_resized_as_logarithms() -> None:
    planes = planes_of_maps(maps(2), 0.4)
    image = half_and_half(27, 18)
    labels = crf_labels(image, planes, np.arange(3), NOTHING, scale=1.0, backend="exact")
    assert (labels == argmax_labels(np.log(planes), (18, 27))).all()


@pytest.mark.parametrize("backend", ["lattice", "exact"])
def test_labels_follow_the_colours_of_the_image(backend: str) -> None:
    image = half_and_half()
    planes = np.full((2, 24, 40), 0.5, np.float32)
    planes[1, 8:16, 2:10], planes[0, 8:16, 2:10] = 0.95, 0.05  # a part of the red half alone is known
    planes[0, 8:16, 30:38], planes[1, 8:16, 30:38] = 0.95, 0.05
    labels = crf_labels(image, planes, np.array([0, 7]), CRF, scale=1.0, backend=backend)
    assert (labels[:, :18] == 7).mean() > 0.95
    assert (labels[:, 22:] == 0).mean() > 0.95


def test_probabilities_of_zero_are_cut_and_do_no_harm() -> None:
    planes = np.zeros((2, 24, 40), np.float32)
    planes[0] = 1
    labels = crf_labels(half_and_half(), planes, np.array([0, 1]), CRF, scale=1.0, backend="lattice")
    assert (labels == 0).all()


def test_the_scale_changes_the_spatial_widths() -> None:
    image = np.random.default_rng(3).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    planes = np.random.default_rng(4).random((2, 24, 40), np.float32)
    planes /= planes.sum(0)
    weak = CrfSet(3, 3, 40, 13, 0, 5)
    wide, narrow, also = (
        crf_labels(image, planes, np.arange(2), crf, scale=scale, backend="exact")
        for crf, scale in ((weak, 1.0), (weak, 0.1), (dataclasses.replace(weak, gauss_xy=0.3), 1.0))
    )
    assert (wide != narrow).any()
    assert (narrow == also).all()


def mixed_cases(seed: int) -> list[CrfCase]:
    """Cases of three sizes and of one to four labels, in no order."""
    draw = np.random.default_rng(seed)
    cases = []
    for _ in range(24):
        height, width = ((24, 40), (40, 24), (30, 30))[draw.integers(3)]
        labels = np.sort(draw.choice(6, draw.integers(1, 5), replace=False))
        planes = draw.random((len(labels), height // 2, width // 2), np.float32)
        image = draw.integers(0, 256, (height, width, 3), np.uint8)
        cases.append(CrfCase(image, planes / planes.sum(0), labels))
    return cases


@pytest.mark.parametrize("backend", ["lattice", "exact"])
def test_cases_together_get_the_labels_that_each_gets_alone(backend: str) -> None:
    cases = mixed_cases(5)
    crf = DenseCrf(CRF, 1.0, backend)
    together = crf.labels(cases)
    assert len(together) == len(cases)
    for case, labels in zip(cases, together, strict=True):
        assert labels.shape == case.image.shape[:2]
        assert labels.dtype == np.uint8
        assert (labels == crf.labels([case])[0]).all()
        assert set(np.unique(labels)) <= set(case.labels)


def test_no_case_gives_no_labels() -> None:
    assert DenseCrf(CRF, 1.0, "lattice").labels([]) == []


@pytest.mark.parametrize("tags_given", [False, True])
@pytest.mark.parametrize("with_crf", [False, True])
def test_a_stage_treats_each_image_by_what_it_was_given_of_it(with_crf: bool, tags_given: bool) -> None:
    """Labels stay as they are, maps and probabilities become labels; one call is as good as four."""
    draw = np.random.default_rng(8)
    image = half_and_half()
    probs = draw.random((4, 12, 20), np.float32)
    labels = draw.integers(0, 4, (24, 40)).astype(np.uint8)
    found = [
        Outputs(probs=probs / probs.sum(0)),
        Outputs(labels=labels),
        Outputs(maps=Maps(np.array([0, 2]), draw.random((2, 12, 20), np.float32))),
        Outputs(maps=Maps(np.zeros(0, np.int64), np.zeros((0, 12, 20), np.float32))),
    ]
    tags = np.array([[True, False, True]] * 4) if tags_given else None
    crf = DenseCrf(CRF, 1.0, "lattice") if with_crf else None
    together = stage_labels(found, [image] * 4, crf, threshold=0.4, tags=tags)
    for at, outputs in enumerate(found):
        some = None if tags is None else tags[at : at + 1]
        (alone,) = stage_labels([outputs], [image], crf, threshold=0.4, tags=some)
        assert (together[at] == alone).all()
    assert (together[1] == labels).all()
    assert (together[3] == 0).all()
    assert not (tags_given and (together[0] == 2).any())
