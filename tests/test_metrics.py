"""IoU against two independent oracles, and the laws that its counts obey."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassJaccardIndex

from wsssbench.errors import BadData
from wsssbench.metrics import Iou, add_counts, confusion_counts
from wsssbench.types import Metric

K = 6
seeds = st.integers(0, 2**32 - 1)


def random_images(seed: int, count: int = 4, abstain: bool = True) -> list[tuple[np.ndarray, np.ndarray]]:
    """(gold, predicted) pairs with void pixels, absent classes and, sometimes, an image of void alone."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        shape = tuple(rng.integers(1, 12, 2))
        present = rng.permutation(K + 1)[: rng.integers(1, K + 1)]
        gold = rng.choice([*present, 255], shape).astype(np.uint8)
        gold[:] = 255 if rng.random() < 0.2 else gold
        said = [*range(K + 1), 255] if abstain else range(K + 1)
        images.append((gold, np.where(rng.random(shape) < 0.5, gold, rng.choice(said, shape))))
        if not abstain:
            images[-1][1][images[-1][1] == 255] = 0
    return [(gold, predicted.astype(np.uint8)) for gold, predicted in images]


def counted(images):
    return add_counts(confusion_counts(gold, predicted, K) for gold, predicted in images)


def scored(images):
    return Iou().score(counted(images), K)


def numpy_oracle(images) -> dict[str, list[float] | float | None]:
    """The definitions, pixel set by pixel set."""
    gold = np.concatenate([g.ravel() for g, _ in images])
    said = np.concatenate([p.ravel() for _, p in images])[gold != 255]
    gold = gold[gold != 255]
    here = [k for k in range(K + 1) if (gold == k).any()]
    iou = {k: ((gold == k) & (said == k)).sum() / ((gold == k) | (said == k)).sum() for k in here}
    predicted = [k for k in here if (said == k).any()]
    precision = [(gold[said == k] == k).mean() for k in predicted]
    recall = [(said[gold == k] == k).mean() for k in here]
    result = {"miou": [*iou.values()], "miou_foreground": [v for k, v in iou.items() if k], "recall": recall}
    result |= {"precision": precision, "coverage": said != 255, "pixel_accuracy": said == gold}
    means = {name: 100 * float(np.mean(v)) if len(v) else None for name, v in result.items()}
    return {**means, "per_class": [100 * iou[k] if k in iou else None for k in range(K + 1)]}


@pytest.mark.parametrize("seed", range(40))
def test_scores_agree_with_a_plain_numpy_loop(seed):
    images = random_images(seed, count=1 + seed % 4)
    ours, oracle = scored(images), numpy_oracle(images)
    for name, value in oracle.items():
        assert ours[name] == pytest.approx(value), name
    assert ours["left_out"] == [k for k, value in enumerate(oracle["per_class"]) if value is None]


@pytest.mark.parametrize("seed", range(100, 110))
def test_per_class_iou_agrees_with_torchmetrics(seed):
    images = random_images(seed, abstain=False)
    oracle = MulticlassJaccardIndex(num_classes=K + 1, average=None, ignore_index=255)
    for gold, predicted in images:
        oracle.update(torch.from_numpy(predicted).long(), torch.from_numpy(gold).long())
    theirs = oracle.compute().numpy() * 100
    for k, value in enumerate(scored(images)["per_class"]):
        if value is not None:  # torchmetrics says 0 for a class without truth
            assert value == pytest.approx(float(theirs[k]), rel=1e-5)


@pytest.mark.parametrize("seed", range(200, 205))
def test_miou_agrees_with_torchmetrics_where_every_class_occurs(seed):
    images = random_images(seed, abstain=False)
    images.append((np.arange(K + 1, dtype=np.uint8)[None], np.zeros((1, K + 1), np.uint8)))
    oracle = MulticlassJaccardIndex(num_classes=K + 1, average="macro", ignore_index=255)
    for gold, predicted in images:
        oracle.update(torch.from_numpy(predicted).long(), torch.from_numpy(gold).long())
    assert scored(images)["miou"] == pytest.approx(100 * float(oracle.compute()), rel=1e-5)


def test_abstaining_costs_recall_and_never_precision():
    gold = np.array([[0, 0, 1, 1]], np.uint8)
    guess = scored([(gold, np.array([[0, 1, 1, 1]], np.uint8))])
    abstain = scored([(gold, np.array([[0, 255, 1, 1]], np.uint8))])
    assert abstain["recall"] == guess["recall"] == 75
    assert (abstain["precision"], abstain["coverage"]) == (100, 75)
    assert guess["precision"] == pytest.approx(100 * (1 + 2 / 3) / 2)


def test_prediction_of_a_class_without_truth_counts_against_the_truth_alone():
    result = scored([(np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 0, 1, 5]], np.uint8))])
    assert result["per_class"] == [100, 50, None, None, None, None, None]
    assert result["miou"] == 75
    assert result["left_out"] == [2, 3, 4, 5, 6]


def test_images_without_truth_pixels_leave_every_number_undefined():
    void = np.full((3, 4), 255, np.uint8)
    result = scored([(void, np.zeros((3, 4), np.uint8))])
    assert result["miou"] is result["precision"] is result["recall"] is result["coverage"] is None
    assert result["left_out"] == list(range(K + 1))
    assert scored([]) == result


def test_a_class_never_predicted_has_no_precision():
    result = scored([(np.array([[0, 1]], np.uint8), np.array([[0, 0]], np.uint8))])
    assert result["precision_per_class"][1] is None
    assert result["precision"] == 50


def test_triples_are_sparse_int64_and_keep_void_on_both_sides():
    counts = confusion_counts(np.array([[255, 0, 2]], np.uint8), np.array([[1, 255, 2]], np.uint8), K)
    assert all(array.dtype == np.int64 for array in counts.values())
    assert sorted(zip(*(counts[n].tolist() for n in ("gold", "predicted", "pixels")), strict=True)) == [
        (0, 255, 1), (2, 2, 1), (255, 1, 1),
    ]  # fmt: skip


def test_pixels_beyond_32_bits_are_counted_exactly():
    one = {name: np.array([value]) for name, value in (("gold", 0), ("predicted", 0), ("pixels", 2**40))}
    assert add_counts([one, one])["pixels"].tolist() == [2**41]


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        (np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), r"\(2, 3\).*x\.png"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), K + 1, np.uint8), r"prediction has label 7.*x\.png"),
        (np.full((2, 2), 254, np.uint8), np.zeros((2, 2), np.uint8), r"truth has label 254.*y\.png"),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.int64), r"int64.*x\.png"),
    ],
)
def test_impossible_labels_are_refused_with_their_place(gold, predicted, message):
    with pytest.raises(BadData, match=message):
        confusion_counts(gold, predicted, K, "x.png", "y.png")


def test_iou_is_a_metric_of_labels():
    metric: Metric = Iou()
    assert (metric.name, metric.needs, metric.better, metric.unit) == ("iou", "labels", "higher", "%")
    gold, predicted = random_images(7, 1)[0]
    assert same(metric.count(predicted, gold, K), confusion_counts(gold, predicted, K))


def test_counts_of_dense_arrays_add_array_by_array():
    total = add_counts([{"bins": np.array([1, 2])}, {"bins": np.array([3, 4])}])
    assert total["bins"].tolist() == [4, 6]
    with pytest.raises(ValueError, match="different kinds"):
        add_counts([{"bins": np.array([1])}, {"other": np.array([1])}])


def same(a, b) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in ("gold", "predicted", "pixels"))


@given(seeds, st.integers(0, 5))
def test_counts_of_parts_add_up_to_counts_of_the_whole(seed, cut):
    images = random_images(seed, 5)
    assert same(add_counts([counted(images[:cut]), counted(images[cut:])]), counted(images))


@given(seeds, st.permutations(range(5)))
def test_the_order_of_images_does_not_matter(seed, order):
    images = random_images(seed, 5)
    assert same(counted([images[i] for i in order]), counted(images))


@given(seeds, st.permutations(range(K + 1)))
def test_renaming_classes_permutes_the_classes_and_keeps_the_means(seed, names):
    images = random_images(seed)
    table = np.arange(256, dtype=np.uint8)
    table[: K + 1] = names
    before, after = scored(images), scored([(table[g], table[p]) for g, p in images])
    assert [after["per_class"][k] for k in names] == before["per_class"]
    for name in ("miou", "precision", "recall", "coverage", "pixel_accuracy"):
        assert after[name] == pytest.approx(before[name])


@given(seeds, st.integers(1, 60))
def test_counting_runs_and_counting_pixels_give_the_same_triples(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    flat = [np.repeat(rng.choice([*range(K + 1), 255], 40), length).astype(np.uint8) for _ in range(2)]
    gold, said = (
        np.roll(plane, shift)[: 36 * length].reshape(12, -1)
        for plane, shift in zip(flat, (0, 7), strict=True)
    )
    counts = confusion_counts(gold, said, K)
    expected = {
        (g, p): int(((gold == g) & (said == p)).sum()) for g in set(gold.flat) for p in set(said.flat)
    }
    found = zip(counts["gold"], counts["predicted"], counts["pixels"], strict=True)
    assert {(g, p): n for g, p, n in found} == {pair: n for pair, n in expected.items() if n}
    assert all(column.dtype == np.int64 for column in counts.values())
