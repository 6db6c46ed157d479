"""The error ladder: hand-made errors of each kind, and gains checked by editing the prediction itself."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsssbench.errors import BadData
from wsssbench.metrics import Iou, add_counts, confusion_counts
from wsssbench.scores.ladder import (
    KINDS,
    NO_ERROR,
    ErrorLadder,
    error_kinds,
    ladder_counts,
    outline_band,
    repaired_miou,
)
from wsssbench.types import Metric

K = 4
SIDE = 100  # diagonal 141.4: the band is 3 px wide
seeds = st.integers(0, 2**32 - 1)
Pair = tuple[np.ndarray, np.ndarray]


def scene() -> np.ndarray:
    """Class 1 in rows and columns 20 to 49, class 2 to its right in columns 50 to 79, background around."""
    gold = np.zeros((SIDE, SIDE), np.uint8)
    gold[20:50, 20:50] = 1
    gold[20:50, 50:80] = 2
    return gold


def kinds_of(gold: np.ndarray, said: np.ndarray, tags: np.ndarray | None = None) -> dict[str, int]:
    """Pixels of each kind that occurs."""
    kinds = error_kinds(gold, said, tags)
    return {KINDS[k]: int((kinds == k).sum()) for k in np.unique(kinds[kinds != NO_ERROR])}


def random_images(seed: int, count: int = 3) -> list[Pair]:
    """(gold, predicted) with objects, void, untagged classes and abstained pixels."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        shape = tuple(int(n) for n in rng.integers(8, 60, 2))
        gold, said = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        for labels in (gold, said, said):
            for label in rng.choice([1, 2, 3, 4, 255, 0], 3):
                top, left = (int(rng.integers(0, side)) for side in shape)
                height, width = (int(n) for n in rng.integers(1, 30, 2))
                labels[top : top + height, left : left + width] = label
        said = np.where(rng.random(shape) < rng.random(), gold, said).astype(np.uint8)
        noise = rng.random(shape) < 0.1
        said[noise] = rng.choice([0, 1, 2, 3, 4, 255], int(noise.sum()))
        said[(said == 255) & (rng.random() < 0.5)] = 0
        images.append((gold, said))
    return images


def miou_of(pairs: list[Pair]) -> float | None:
    return Iou().score(add_counts([confusion_counts(g, p, K) for g, p in pairs]), K)["miou"]


# ---------------------------------------------------------------------------------------- one kind each


def test_a_perfect_prediction_has_no_error():
    assert kinds_of(scene(), scene()) == {}


def test_a_class_that_the_image_does_not_have_is_a_wrong_tag_wherever_it_is():
    said = scene()
    said[30:35, 30:35], said[80:85, 80:85], said[18:20, 30:32] = (
        3,
        4,
        3,
    )  # in an object, far off, at an outline
    assert kinds_of(scene(), said) == {"wrong_tag": 25 + 25 + 4}


def test_another_class_of_the_image_is_a_swap_also_along_the_line_between_the_two():
    said = scene()
    said[30:40, 49:55], said[30:40, 45:50] = 1, 2
    assert kinds_of(scene(), said) == {"class_swap": 5 * 10 + 5 * 10}


def test_an_object_in_the_background_away_from_outlines_is_a_context_false_positive():
    said = scene()
    said[70:90, 70:90] = 1
    assert kinds_of(scene(), said) == {"context_false_positive": 400}


def test_the_image_border_is_no_outline():
    said = scene()
    said[95:, :] = 2
    assert kinds_of(scene(), said) == {"context_false_positive": 500}


def test_background_in_the_middle_of_an_object_is_part_only():
    said = scene()
    said[25:45, 25:45] = 0
    assert kinds_of(scene(), said) == {"part_only": 400}


def test_background_along_the_line_between_two_objects_is_part_only():
    said = scene()
    said[30:40, 48:52] = 0
    assert kinds_of(scene(), said) == {"part_only": 40}


def test_a_missed_object_is_boundary_within_the_band_and_part_only_inside():
    gold = np.zeros((SIDE, SIDE), np.uint8)
    gold[20:50, 20:50] = 1
    assert kinds_of(gold, np.zeros_like(gold)) == {"part_only": 24 * 24, "boundary": 900 - 24 * 24}


def test_an_object_grown_by_four_pixels_errs_three_at_the_boundary_and_one_in_context():
    gold, said = np.zeros((2, SIDE, SIDE), np.uint8)
    gold[20:50, 20:50], said[16:54, 16:54] = 1, 1
    assert kinds_of(gold, said) == {"context_false_positive": 38**2 - 36**2, "boundary": 36**2 - 30**2}


def test_silence_is_abstained_on_objects_background_and_outlines():
    said = scene()
    said[15:60, 15:90] = 255
    assert kinds_of(scene(), said) == {"abstained": 45 * 75}


def test_given_tags_stand_above_the_classes_of_the_mask():
    said = scene()
    said[30:35, 30:35], said[40:45, 60:65] = 2, 3
    tags = np.array([True, False, True, False])  # class 2 is in the mask and not among the tags
    assert kinds_of(scene(), said) == {"class_swap": 25, "wrong_tag": 25}
    assert kinds_of(scene(), said, tags) == {"wrong_tag": 25, "class_swap": 25}
    assert error_kinds(scene(), said, tags)[32, 32] == KINDS.index("wrong_tag")


def test_void_is_no_error_and_the_outline_runs_through_its_middle():
    gold = np.zeros((SIDE, SIDE), np.uint8)
    gold[20:60, 20:60] = 255
    gold[24:56, 24:56] = (
        1  # a ring of void, 4 px wide: the outline is 2 px inside it, the band ends 1 px after
    )
    said = np.ones_like(gold)
    kinds = error_kinds(gold, said)
    assert (kinds[gold == 255] == NO_ERROR).all()
    assert kinds[40, 19] == KINDS.index("boundary")
    assert kinds[40, 18] == KINDS.index("context_false_positive")


def test_the_band_is_two_percent_of_the_diagonal_on_both_sides_of_the_outline():
    gold = np.zeros((300, 400), np.uint8)
    gold[:, 200:] = 3
    columns = np.flatnonzero(outline_band(gold).all(0))
    assert columns.tolist() == list(range(190, 210))  # 2 % of 500 px
    assert outline_band(gold).sum() == 20 * 300


def test_an_image_of_void_alone_has_no_errors_and_no_scores():
    gold, said = np.full((9, 9), 255, np.uint8), np.ones((9, 9), np.uint8)
    scores = ErrorLadder().score(ladder_counts(gold, said, K), K)
    assert scores["miou"] is None
    assert set(scores["alone"].values()) == set(scores["share"].values()) == {None}


# ------------------------------------------------------------------------------------------ what must hold


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=seeds)
def test_kinds_are_disjoint_and_hold_every_wrong_pixel_and_no_other(seed):
    for gold, said in random_images(seed):
        wrong = (gold != 255) & (gold != said)
        assert np.array_equal(error_kinds(gold, said) != NO_ERROR, wrong)
        counts = ladder_counts(gold, said, K)
        kinds = error_kinds(gold, said)
        assert counts["missed"].sum() == wrong.sum()
        assert counts["right"].sum() == ((gold == said) & (gold != 255)).sum()
        for kind, label in itertools.product(range(len(KINDS)), range(K + 1)):
            assert counts["missed"][kind, label] == ((kinds == kind) & (gold == label)).sum()
            assert counts["false"][kind, label] == ((kinds == kind) & (said == label)).sum()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=seeds)
def test_gains_from_counts_are_those_of_predictions_that_were_edited(seed):
    pairs = random_images(seed)
    scores = ErrorLadder().score(add_counts([ladder_counts(g, p, K) for g, p in pairs]), K)
    miou = miou_of(pairs)
    assert scores["miou"] == miou

    def edited(chosen: tuple[str, ...]) -> float | None:
        numbers = [KINDS.index(kind) for kind in chosen]
        return miou_of([(g, np.where(np.isin(error_kinds(g, p), numbers), g, p)) for g, p in pairs])

    for n, (kind, after) in enumerate(scores["ladder"]):
        assert kind == KINDS[n]
        assert after == edited(KINDS[: n + 1])
        assert scores["alone"][kind] == edited((kind,)) - miou


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=seeds)
def test_every_step_of_the_ladder_goes_up_and_the_last_is_a_hundred(seed):
    counts = add_counts([ladder_counts(g, p, K) for g, p in random_images(seed)])
    scores = ErrorLadder().score(counts, K)
    steps = [scores["miou"], *(miou for _, miou in scores["ladder"])]
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(steps))
    assert steps[-1] == repaired_miou(counts, K, KINDS) == 100
    assert min(scores["alone"].values()) >= 0
    if counts["missed"].sum():
        assert math.isclose(sum(scores["share"].values()), 100)


def test_images_add_up():
    pairs = random_images(3)
    parts = [ErrorLadder().count(p, g, K) for g, p in pairs]
    total = add_counts([add_counts(parts[:1]), add_counts(parts[1:])])
    assert set(total) == {"right", "missed", "false"}
    assert all(total[n].dtype == np.int64 and (total[n] == sum(p[n] for p in parts)).all() for n in total)


def test_the_metric_is_one_and_refuses_what_is_no_label_with_its_place():
    metric: Metric = ErrorLadder()
    assert (metric.name, metric.needs, metric.unit, metric.better) == (
        "error_ladder",
        "labels",
        "%",
        "higher",
    )
    with pytest.raises(BadData, match="label 7"):
        metric.count(np.full((4, 4), 7, np.uint8), np.zeros((4, 4), np.uint8), K)
    with pytest.raises(BadData, match="shape"):
        metric.count(np.zeros((4, 5), np.uint8), np.zeros((4, 4), np.uint8), K)
    with pytest.raises(BadData, match="2 tags for 4 classes"):
        ladder_counts(scene(), scene(), K, np.ones(2, bool))


def test_it_is_installed_under_its_name():
    from wsssbench.plugins.table import Plugins

    assert Plugins().load("metrics", "error_ladder") is ErrorLadder
