"""Scores of the confusion beside IoU, against torchmetrics, pixel loops and cases worked out by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from wsssbench.errors import BadData
from wsssbench.metrics import Iou, add_counts, confusion_counts, confusion_matrix
from wsssbench.scores.boundary import BoundaryIou
from wsssbench.scores.boundary_f import BoundaryF
from wsssbench.scores.compatible import Compatible
from wsssbench.scores.confusion import Accuracy, Activation, ConfusionPairs, ErrorRatios
from wsssbench.scores.counts_table import CountsTable
from wsssbench.scores.images import score_images
from wsssbench.scores.sparse import PrecisionAtCoverage
from wsssbench.types import Metric

K = 4
ALL = (
    Accuracy,
    ErrorRatios,
    Activation,
    ConfusionPairs,
    PrecisionAtCoverage,
    BoundaryIou,
    BoundaryF,
    Compatible,
)
POOLED = (Accuracy(), ErrorRatios(), Activation(), ConfusionPairs(), PrecisionAtCoverage(), Compatible())
seeds = st.integers(0, 2**32 - 1)
Pair = tuple[np.ndarray, np.ndarray]


def row(*labels: int) -> np.ndarray:
    return np.array([labels], np.uint8)


def random_images(seed: int, count: int = 5, abstain: bool = True) -> list[Pair]:
    """(gold, predicted) of random sizes, with void, absent classes and, sometimes, an image of void alone."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        shape = tuple(rng.integers(1, 9, 2))
        present = rng.permutation(K + 1)[: rng.integers(1, K + 1)]
        gold = rng.choice([*present, 255], shape)
        gold[:] = 255 if rng.random() < 0.15 else gold
        said = np.where(rng.random(shape) < 0.5, gold, rng.choice([*range(K + 1), 255], shape))
        said[(said == 255) & (not abstain)] = 0
        images.append((gold.astype(np.uint8), said.astype(np.uint8)))
    return images


def counted(images: list[Pair]):
    return add_counts(confusion_counts(gold, said, K) for gold, said in images)


def tabled(images: list[Pair]) -> CountsTable:
    ids = [f"img{i}" for i in range(len(images))]
    return CountsTable.of(ids, [confusion_counts(gold, said, K) for gold, said in images])


def pixels(images: list[Pair]) -> list[tuple[int, int]]:
    """(gold, predicted) of every pixel with truth."""
    both = [pair for gold, said in images for pair in zip(gold.flat, said.flat, strict=True)]
    return [(int(g), int(p)) for g, p in both if g != 255]


def tp_fp_fn(pairs: list[tuple[int, int]], k: int) -> tuple[int, int, int]:
    tp = fp = fn = 0
    for g, p in pairs:
        tp += g == p == k
        fp += p == k != g
        fn += g == k != p
    return tp, fp, fn


def average(values) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


# ------------------------------------------------------------------------------------------------ matrix


def test_the_matrix_has_truth_in_rows_and_what_abstained_in_the_last_column():
    counts = confusion_counts(row(0, 1, 1, 1, 255), row(0, 0, 1, 255, 1), 1)
    assert confusion_matrix(counts, 1).tolist() == [[1, 0, 0], [1, 1, 1]]
    assert confusion_matrix(counts, 1).dtype == np.int64


@pytest.mark.parametrize("metric", [cls() for cls in ALL], ids=lambda metric: metric.name)
def test_impossible_labels_are_refused_with_their_file(metric):
    with pytest.raises(BadData, match=r"prediction has label 5.*x\.png"):
        metric.count(row(0, 5), row(0, 0), K, "x.png")
    with pytest.raises(BadData, match=r"truth has label 254.*y\.png"):
        metric.count(row(0, 0), row(0, 254), K, "x.png", "y.png")
    with pytest.raises(BadData, match="shape"):
        metric.count(row(0), row(0, 0), K)


@pytest.mark.parametrize("cls", ALL)
def test_every_class_is_a_metric_whose_scores_are_plain_numbers_even_where_nothing_is_defined(cls):
    metric: Metric = cls()
    assert (metric.needs, metric.better in ("higher", "lower"), bool(metric.unit)) == ("labels", True, True)
    void = np.full((3, 3), 255, np.uint8)
    for gold, said in [(void, np.zeros_like(void)), *random_images(3)]:
        counts = metric.count(said, gold, K)
        assert {array.dtype for array in counts.values()} <= {np.dtype(np.int64)}
        assert_plain(metric.score(counts, K))


def assert_plain(value) -> None:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            assert_plain(each)
    else:
        assert type(value) in (int, float, str, type(None))
        assert value == value  # no NaN


# ---------------------------------------------------------------------------------------- accuracy, errors


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_agrees_with_torchmetrics(seed):
    images = [*random_images(seed, abstain=False), (row(*range(K + 1)), row(*range(K, -1, -1)))]
    weighted = MulticlassJaccardIndex(num_classes=K + 1, average="weighted", ignore_index=255)
    macro = MulticlassAccuracy(num_classes=K + 1, average="macro", ignore_index=255)
    for gold, said in images:
        for oracle in (weighted, macro):
            oracle.update(torch.from_numpy(said).long(), torch.from_numpy(gold).long())
    ours = Accuracy().score(counted(images), K)
    assert ours["frequency_weighted_iou"] == pytest.approx(100 * float(weighted.compute()), rel=1e-5)
    assert ours["mean_class_accuracy"] == pytest.approx(100 * float(macro.compute()), rel=1e-5)
    assert ours["per_class"] == Iou().score(counted(images), K)["recall_per_class"]


@pytest.mark.parametrize("seed", range(20))
def test_error_ratios_and_activation_agree_with_a_pixel_loop(seed):
    images = random_images(seed, 1 + seed % 4)
    pairs = pixels(images)
    ratios, activation = (m.score(counted(images), K) for m in (ErrorRatios(), Activation()))
    for k in range(K + 1):
        tp, fp, fn = tp_fp_fn(pairs, k)
        there = tp + fn > 0
        assert ratios["fp_ratio_per_class"][k] == (
            pytest.approx(100 * fp / (tp + fp + fn)) if there else None
        )
        assert ratios["fn_ratio_per_class"][k] == (
            pytest.approx(100 * fn / (tp + fp + fn)) if there else None
        )
        assert activation["over_activation_per_class"][k] == (pytest.approx(fp / tp) if tp else None)
        assert activation["under_activation_per_class"][k] == (pytest.approx(fn / tp) if tp else None)
        assert (k in activation["never_hit"]) == (there and not tp)
    assert ratios["fp_ratio"] == pytest.approx(average(ratios["fp_ratio_per_class"]))
    assert ratios["fn_ratio_foreground"] == pytest.approx(average(ratios["fn_ratio_per_class"][1:]))
    assert activation["over_activation"] == pytest.approx(
        average(activation["over_activation_per_class"][1:])
    )


@given(seeds)
def test_iou_and_both_error_ratios_make_a_hundred(seed):
    counts = counted(random_images(seed))
    iou, ratios = Iou().score(counts, K), ErrorRatios().score(counts, K)
    parts = zip(iou["per_class"], ratios["fp_ratio_per_class"], ratios["fn_ratio_per_class"], strict=True)
    assert all(part == (None, None, None) or sum(part) == pytest.approx(100) for part in parts)


def test_activation_by_hand():
    gold, said = row(1, 1, 1, 1, 0, 0, 0, 2), row(1, 1, 255, 0, 1, 0, 0, 0)
    result = Activation().score(confusion_counts(gold, said, K), K)
    assert result["over_activation_per_class"] == [1.0, 0.5, None, None, None]
    assert result["under_activation_per_class"] == [0.5, 1.0, None, None, None]
    assert (result["over_activation"], result["under_activation"], result["never_hit"]) == (0.5, 1.0, [2])


# --------------------------------------------------------------------------------------------------- pairs


def test_pairs_are_ordered_by_the_share_of_golds_pixels():
    gold, said = row(0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3), row(3, 0, 0, 0, 0, 2, 1, 1, 1, 255, 255)
    result = ConfusionPairs().score(confusion_counts(gold, said, K), K)
    assert result["pairs"] == [[2, 1, 75.0], [1, 0, 50.0], [1, 2, 50.0], [0, 3, 25.0]]
    assert result["pairs_foreground"] == [[2, 1, 75.0], [1, 2, 50.0]]
    assert ConfusionPairs(longest=1).score(confusion_counts(gold, said, K), K)["pairs"] == [[2, 1, 75.0]]


@given(seeds)
def test_shares_of_one_gold_class_its_recall_and_its_silence_make_a_hundred(seed):
    images = random_images(seed)
    pairs, found = pixels(images), ConfusionPairs(99).score(counted(images), K)["pairs"]
    for g in {g for g, _ in pairs}:
        own = [p for gold, p in pairs if gold == g]
        rest = 100 * sum(p in (g, 255) for p in own) / len(own)
        assert rest + sum(share for gold, _, share in found if gold == g) == pytest.approx(100)


# -------------------------------------------------------------------------------------------------- sparse


def test_precision_and_coverage_by_hand():
    gold, said = row(0, 0, 0, 0, 1, 1, 1, 1, 255, 255), row(0, 255, 255, 1, 1, 1, 255, 255, 1, 255)
    result = PrecisionAtCoverage().score(confusion_counts(gold, said, K), K)
    assert result["precision_of_labelled_pixels"] == 75
    assert (result["coverage"], result["coverage_background"], result["coverage_foreground"]) == (50, 50, 50)
    assert result["coverage_per_class"][:3] == [50, 50, None]
    assert result["class_precision_of_labelled_pixels_per_class"][:2] == [100, pytest.approx(200 / 3)]
    assert result["miou_of_labelled_pixels_per_class"][:2] == [50, pytest.approx(200 / 3)]
    assert result["miou_abstained_as_error_per_class"][:2] == [25, 40]
    assert result["miou_abstained_as_background_per_class"][:2] == [pytest.approx(100 * 3 / 6), 40]


@given(seeds)
@settings(max_examples=50)
def test_companions_are_plain_iou_of_the_labels_with_255_replaced(seed):
    images = random_images(seed)
    result = PrecisionAtCoverage().score(counted(images), K)
    plain = Iou().score(counted(images), K)
    filled = Iou().score(counted([(g, np.where(p == 255, 0, p).astype(np.uint8)) for g, p in images]), K)
    silent = counted([(np.where(p == 255, 255, g).astype(np.uint8), p) for g, p in images])
    assert result["miou_abstained_as_error"] == pytest.approx(plain["miou"])
    assert result["miou_abstained_as_background"] == pytest.approx(filled["miou"])
    assert result["miou_of_labelled_pixels"] == pytest.approx(Iou().score(silent, K)["miou"])
    assert result["class_precision_of_labelled_pixels"] == pytest.approx(plain["precision"])
    assert result["coverage"] == plain["coverage"]


@given(seeds)
def test_without_abstained_pixels_all_mious_are_the_same(seed):
    counts = counted(random_images(seed, abstain=False))
    result, plain = PrecisionAtCoverage().score(counts, K), Iou().score(counts, K)["miou"]
    for name in ("of_labelled_pixels", "abstained_as_error", "abstained_as_background"):
        assert result[f"miou_{name}"] == pytest.approx(plain)
    assert result["coverage"] in (100, None)


def test_no_key_could_be_mistaken_for_plain_miou():
    keys = PrecisionAtCoverage().score(counted(random_images(1)), K).keys()
    assert not {"miou", "per_class", "precision", "miou_foreground"} & set(keys)


# -------------------------------------------------------------------------------------------------- images


def loop_over_images(images: list[Pair]) -> list[dict[int, float]]:
    """IoU in % of the classes in the truth of each image that has any."""
    result = []
    for image in images:
        pairs = pixels([image])
        sums = {k: tp_fp_fn(pairs, k) for k in {g for g, _ in pairs}}
        result.append({k: 100 * tp / (tp + fp + fn) for k, (tp, fp, fn) in sums.items()})
    return [iou for iou in result if iou]


@pytest.mark.parametrize("seed", range(20))
def test_image_scores_agree_with_a_loop_over_images(seed):
    images = random_images(seed, 1 + 3 * seed)
    result, oracle = score_images(tabled(images), K, worst_percent=30), loop_over_images(images)
    of_image = sorted(average(iou.values()) for iou in oracle)
    of_class = [sorted(iou[k] for iou in oracle if k in iou) for k in range(K + 1)]
    assert result["image_miou"] == pytest.approx(average(of_image))
    assert result["image_per_class"] == pytest.approx([average(values) for values in of_class])
    assert result["class_miou"] == pytest.approx(average(average(values) for values in of_class))
    worst = [values[: (len(values) * 3 + 9) // 10] for values in of_class]
    assert result["image_per_class_worst"] == pytest.approx([average(values) for values in worst])
    assert result["class_miou_worst"] == pytest.approx(average(average(values) for values in worst))
    assert result["image_miou_worst"] == pytest.approx(average(of_image[: (len(of_image) * 3 + 9) // 10]))
    assert [miou for _, miou in result["worst_images"]] == pytest.approx(of_image[:10])
    assert result["n_images"] == len(oracle)
    assert result["n_images_per_class"] == [len(values) for values in of_class]
    assert_plain(result)


def test_the_worst_tenth_of_thirty_images_is_three():
    images = [(row(*[1] * 30), row(*[1] * i, *[0] * (30 - i))) for i in range(30)]
    result = score_images(tabled(images), 1)
    assert result["image_miou_worst"] == pytest.approx(100 * (0 + 1 + 2) / 3 / 30)
    assert [id for id, _ in result["worst_images"]] == [f"img{i}" for i in range(10)]


def test_an_image_counts_as_much_as_another_however_large_it_is():
    images = [(row(*[1] * 100), row(*[1] * 100)), (row(1), row(0))]
    assert score_images(tabled(images), 1)["image_miou"] == 50
    assert Iou().score(counted(images), 1)["miou"] > 99


def test_without_truth_no_image_score_is_defined():
    result = score_images(tabled([(row(255), row(0))]), K)
    assert result["image_miou"] is result["class_miou"] is result["image_miou_worst"] is None
    assert (result["n_images"], result["image_per_class"]) == (0, [None] * (K + 1))


@given(seeds, st.permutations(range(5)))
def test_the_order_of_images_changes_no_image_score(seed, order):
    images = random_images(seed)
    before, after = score_images(tabled(images), K), score_images(tabled([images[i] for i in order]), K)
    for name in ("image_miou", "image_miou_worst", "class_miou", "class_miou_worst"):
        assert after[name] == pytest.approx(before[name])


# ---------------------------------------------------------------------------------------------------- laws


@given(seeds, st.permutations(range(1, K + 1)))
@settings(max_examples=40)
def test_renaming_foreground_classes_keeps_every_mean(seed, names):
    images = random_images(seed)
    table = np.arange(256, dtype=np.uint8)
    table[1 : K + 1] = names
    renamed = counted([(table[gold], table[said]) for gold, said in images])
    for metric in POOLED[:3] + POOLED[4:5]:
        before, after = metric.score(counted(images), K), metric.score(renamed, K)
        for key in before:
            if not key.endswith("per_class") and key != "never_hit":
                assert after[key] == pytest.approx(before[key]), (metric.name, key)


@given(seeds, st.integers(0, 5))
@settings(max_examples=40)
def test_counts_of_parts_add_up_to_counts_of_the_whole(seed, cut):
    images = random_images(seed)
    parts = add_counts([counted(images[:cut]), counted(images[cut:])])
    for metric in POOLED:
        assert metric.score(parts, K) == metric.score(counted(images), K)


def test_importing_the_scores_needs_neither_torch_nor_scipy():
    modules = ("boundary", "boundary_f", "compatible", "confusion", "images", "sparse")
    lines = ["import sys", *(f"import wsssbench.scores.{name}" for name in modules)]
    code = "\n".join([*lines, "sys.exit(str({'torch', 'pandas', 'scipy'} & set(sys.modules) or '') or 0)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
