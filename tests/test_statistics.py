"""The paired bootstrap: scores as the judge's, intervals that cover, rare classes that stay, Holm."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from wsssbench.metrics import Iou, confusion_counts
from wsssbench.scores.confusion import Accuracy, ErrorRatios
from wsssbench.scores.counts_table import CountsTable, ImagePixels
from wsssbench.scores.images import score_images
from wsssbench.scores.sparse import PrecisionAtCoverage
from wsssbench.statistics.bootstrap import image_weights, rarest_class, widening
from wsssbench.statistics.paired import SUMMARIES, Difference, compare_counts, holm

K = 4
NAMES = ("background", "a", "b", "c", "d")


def table(draw: np.random.Generator, images: int = 12, agree: float = 0.7) -> CountsTable:
    """Confusions of small random label maps, void and abstained pixels among them; class d in one image."""
    counts = []
    for number in range(images):
        gold = draw.choice([0, 1, 2, 3, 255], (8, 9)).astype(np.uint8)
        if number == 3:
            gold[:2] = 4
        said = draw.choice([0, 1, 2, 3, 4, 255], (8, 9))
        counts.append(
            confusion_counts(gold, np.where(draw.random((8, 9)) < agree, gold, said).astype(np.uint8), K)
        )
    return CountsTable.of([f"i{n}" for n in range(images)], counts)


def by_name(found: list[Difference]) -> dict[str, Difference]:
    return {d.score: d for d in found}


def test_scores_are_those_of_the_metric() -> None:
    draw = np.random.default_rng(0)
    one, other = table(draw), table(draw, agree=0.4)
    counts = [t.by_image(K) for t in (one, other)]
    found = by_name(compare_counts([counts[0]], [counts[1]], NAMES, same_images=True, resamples=100))
    for side, tabled in (("first", one), ("second", other)):
        others = (PrecisionAtCoverage(), Accuracy(), ErrorRatios())
        expected = dict(score_images(tabled, K))
        for metric in (*others, Iou()):
            expected |= metric.score(tabled.total(), K)
        for name in SUMMARIES:
            near = 1e-5 if name == "image_miou" else 1e-9  # of an image in float32
            assert getattr(found[name], side) == pytest.approx(expected[name], abs=near)
        for name, value in zip(NAMES, expected["per_class"], strict=True):
            assert getattr(found[name], side) == pytest.approx(value, abs=1e-9)


def test_a_method_does_not_differ_from_itself() -> None:
    counts = [table(np.random.default_rng(s)).by_image(K) for s in range(3)]
    for d in compare_counts(counts, counts, NAMES, same_images=False, resamples=200):
        assert (d.difference, d.low, d.high, d.smallest) == (0, 0, 0, 0)
        assert d.p == 1
        assert not d.shown


def test_a_class_of_one_image_stays_in_every_resample() -> None:
    counts = table(np.random.default_rng(1)).by_image(K)
    stratum = rarest_class(counts.truth)
    assert np.bincount(stratum, minlength=5)[4] == 1
    weights = image_weights(stratum, 300, np.random.default_rng(0))
    assert (weights[:, stratum == 4] == 1).all()
    for value in np.unique(stratum):
        assert (weights[:, stratum == value].sum(1) == (stratum == value).sum()).all()
    assert weights[:, stratum != 4].std() > 0.5


def test_the_same_draws_give_the_same_numbers_and_others_nearly_so() -> None:
    draw = np.random.default_rng(2)
    a, b = [table(draw, 40).by_image(K)], [table(draw, 40, 0.5).by_image(K)]
    b = [ImagePixels(b[0].hit, a[0].truth, b[0].said)]
    first, again, other = (
        compare_counts(a, b, NAMES, same_images=True, resamples=1000, seed=s)[0] for s in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert first.low == pytest.approx(other.low, abs=0.5)


def gaussian_seeds(
    draw: np.random.Generator, seeds: int, spread: float
) -> list[tuple[ImagePixels, ImagePixels]]:
    """Pairs of one image whose IoU differs by a normal number of points with mean zero."""
    pairs = []
    for shift in draw.normal(0, spread, seeds):
        truth = np.full((1, 2), 100_000, np.float32)
        hits = [np.array([[50_000, 50_000 + round(x)]], np.float32) for x in (1000 * shift, 0)]
        pairs.append(tuple(ImagePixels(hit, truth, hit) for hit in hits))
    return pairs  # type: ignore[return-value]


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_of_few_seeds_cover_the_truth_as_often_as_they_say(seeds: int) -> None:
    draw, covered, rejected, studies = np.random.default_rng(3), 0, 0, 300
    for _ in range(studies):
        pairs = gaussian_seeds(draw, seeds, 1.0)
        d = compare_counts(
            [a for a, _ in pairs],
            [b for _, b in pairs],
            ("background", "a"),
            same_images=False,
            resamples=400,
        )[0]
        covered += d.low <= 0 <= d.high
        rejected += d.p < 0.05
    assert covered / studies > 0.9  # of resampling alone it is 0.75 to 0.85
    assert rejected / studies < 0.09


def test_an_interval_over_images_covers_the_truth_as_often_as_it_says() -> None:
    draw, covered, studies, n = np.random.default_rng(4), 0, 200, 60
    truth = np.full((n, 2), 1000, np.float32)
    for _ in range(studies):  # both methods equally good, each image an independent draw of errors
        hits = [draw.integers(300, 900, (n, 2)).astype(np.float32) for _ in range(2)]
        a, b = (ImagePixels(hit, truth, hit) for hit in hits)
        d = compare_counts([a], [b], ("background", "a"), same_images=True, resamples=400)[0]
        covered += d.low <= 0 <= d.high
    assert 0.9 < covered / studies <= 0.99


def test_the_smallest_difference_is_found_in_four_of_five_studies() -> None:
    draw, n = np.random.default_rng(5), 80
    truth = np.full((n, 2), 1000, np.float32)

    def study(gain: float) -> Difference:
        hits = [(draw.integers(300, 800, (n, 2)) + extra).astype(np.float32) for extra in (gain, 0)]
        a, b = (ImagePixels(hit, truth, hit) for hit in hits)
        return compare_counts([a], [b], ("background", "a"), same_images=True, resamples=300)[0]

    points_per_pixel = study(100).difference / 100
    gain = study(0).smallest / points_per_pixel
    found = sum(study(gain).shown for _ in range(200))
    assert 0.68 < found / 200 < 0.92


def test_the_widening_is_students() -> None:
    assert widening(5) == pytest.approx(np.sqrt(5 / 4) * stats.t.ppf(0.975, 4) / stats.norm.ppf(0.975))
    assert widening(1000) == pytest.approx(1, abs=0.01)


def test_holm_takes_the_smallest_times_their_number_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_a_score_without_truth_is_not_a_number_and_does_not_stop_the_others() -> None:
    counts = table(np.random.default_rng(6)).by_image(K + 1)  # a class that no image has
    found = by_name(compare_counts([counts], [counts], (*NAMES, "e"), same_images=True, resamples=100))
    assert np.isnan(found["e"].difference)
    assert np.isfinite(found["miou"].first)
