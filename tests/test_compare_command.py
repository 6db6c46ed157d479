"""`wsssbench compare`: cells paired by seed and image; unlike protocols refused with what differs."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from wsssbench.cli.main import main
from wsssbench.judging.judge import score_split
from wsssbench.metrics import Iou, confusion_counts
from wsssbench.records.store import cell_folder, read_record, write_record
from wsssbench.scores.boundary import BoundaryIou
from wsssbench.scores.confusion import Activation
from wsssbench.scores.counts_table import COUNTS, CountsTable
from wsssbench.scores.sparse import PrecisionAtCoverage
from wsssbench.statistics.paired import holm
from wsssbench.types import DatasetCard

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
fake_record, fake_terms = FAKE["fake_record"], FAKE["fake_terms"]
K = 2


def cell(
    runs: Path,
    method: str,
    seed: int,
    share: float,
    *,
    images: int = 20,
    data: int | None = None,
    **changes: Any,
) -> None:
    """A finished cell: labels that are right in `share` of the pixels of images drawn from `data`."""
    gold_draw = np.random.default_rng(seed if data is None else data)
    draw = np.random.default_rng([seed, len(method), ord(method[0])])
    counts = []
    for _ in range(images):
        gold = gold_draw.integers(0, K + 1, (6, 6)).astype(np.uint8)
        wrong = (gold + draw.integers(1, K + 1, gold.shape)) % (K + 1)
        said = np.where(draw.random(gold.shape) < share, gold, wrong).astype(np.uint8)
        counts.append(confusion_counts(gold, said, K))
    table = CountsTable.of([f"i{n}" for n in range(images)], counts)
    scores = dict(Iou().score(table.total(), K))
    record = fake_record(method, seed, scores.pop("miou"), scores=scores, **changes)
    terms = record.identity.terms
    folder = cell_folder(runs, terms.dataset, method, seed, terms.stage, terms.split, record.key)
    write_record(folder, record)
    table.save(folder / COUNTS)


def compare(*words: object) -> Any:
    return CliRunner().invoke(main, ["compare", *map(str, words)])


def test_the_better_method_is_found_on_every_seed_and_said_with_an_interval(tmp_path: Path) -> None:
    for seed in range(3):
        cell(tmp_path, "good", seed, 0.9)
        cell(tmp_path, "bad", seed, 0.6)
        cell(tmp_path, "same", seed, 0.9)
    done = compare("good", "bad", "same", "--runs", tmp_path, "--resamples", 500)
    assert done.exit_code == 0, done.output
    assert "## shapes: seg" in done.output
    assert "good - bad, classes: " in done.output
    assert "each with images of its own" in done.output
    found = {
        c["second"]: c
        for c in json.loads(compare("good", "bad", "same", "--runs", tmp_path, "--json").stdout)
    }
    bad, same = found["bad"]["differences"][0], found["same"]["differences"][0]
    assert bad["low"] > 20
    assert bad["p"] < 0.05 <= same["p"]
    assert same["low"] < 0 < same["high"]
    assert found["bad"]["adjusted"] == pytest.approx(2 * bad["p"])
    assert found["bad"]["seeds"] == [0, 1, 2]


def test_seeds_that_judge_the_same_images_are_resampled_over_both(tmp_path: Path) -> None:
    for seed in range(2):
        cell(tmp_path, "good", seed, 0.9, data=7)
        cell(tmp_path, "bad", seed, 0.6, data=7)
    (found,) = json.loads(compare("good", "bad", "--runs", tmp_path, "--json").stdout)
    assert found["same_images"]
    assert "over images (by rarest class) and seeds" in compare("good", "bad", "--runs", tmp_path).output


def test_one_seed_says_what_its_interval_leaves_out(tmp_path: Path) -> None:
    cell(tmp_path, "good", 0, 0.9)
    cell(tmp_path, "bad", 0, 0.6)
    assert "how training varies is not in the interval" in compare("good", "bad", "--runs", tmp_path).output


def test_only_seeds_that_both_have_are_compared(tmp_path: Path) -> None:
    for seed in (0, 1):
        cell(tmp_path, "good", seed, 0.9)
    for seed in (1, 2):
        cell(tmp_path, "bad", seed, 0.6)
    (found,) = json.loads(compare("good", "bad", "--runs", tmp_path, "--json").stdout)
    assert found["seeds"] == [1]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"terms": fake_terms(dataset_options={"size": 64})}, "dataset_options"),
        ({"terms": fake_terms(threshold_policy="oracle")}, "threshold_policy: fixed and oracle"),
        ({"terms": fake_terms(stage_version="2")}, "stage_version"),
    ],
)
def test_unlike_protocols_are_refused_with_the_fields(
    tmp_path: Path, other: dict[str, Any], said: str
) -> None:
    cell(tmp_path, "good", 0, 0.9)
    cell(tmp_path, "bad", 0, 0.6, **other)
    done = compare("good", "bad", "--runs", tmp_path)
    assert done.exit_code == 3
    assert said in done.output
    assert "next: " in done.output


def test_folders_stand_for_methods_and_the_same_method_may_come_from_two_places(tmp_path: Path) -> None:
    for seed in (0, 1):
        cell(tmp_path / "one", "good", seed, 0.9)
        cell(tmp_path / "two", "good", seed, 0.6)
    one, two = tmp_path / "one", tmp_path / "two"
    done = compare(one, two, "--json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    assert (found["first"], found["second"]) == (str(one), str(two))
    assert found["differences"][0]["difference"] > 10
    cell(one, "bad", 0, 0.2)
    done = compare(one, two)  # a folder of two methods
    assert done.exit_code == 3
    assert "was run in several ways" in done.output
    done = compare("good", two, "--runs", one, "--json")
    assert json.loads(done.stdout)[0]["first"] == "good"


def test_other_stages_have_nothing_in_common(tmp_path: Path) -> None:
    cell(tmp_path, "good", 0, 0.9)
    cell(tmp_path, "bad", 0, 0.6, terms=fake_terms(stage="pseudo"))
    done = compare("good", "bad", "--runs", tmp_path)
    assert done.exit_code == 3
    assert "good and bad have no stage in common" in done.output


def test_a_method_of_two_configurations_is_not_guessed(tmp_path: Path) -> None:
    cell(tmp_path, "good", 0, 0.9)
    cell(tmp_path, "good", 1, 0.9, config={"backbone": "large"})
    cell(tmp_path, "bad", 0, 0.6)
    done = compare("good", "bad", "--runs", tmp_path)
    assert done.exit_code == 3
    assert "good was run in several ways" in done.output
    assert "backbone" in done.output


def test_counts_of_other_images_are_refused_by_name(tmp_path: Path) -> None:
    cell(tmp_path, "good", 0, 0.9)
    cell(tmp_path, "bad", 0, 0.6, data=5)
    done = compare("good", "bad", "--runs", tmp_path)
    assert done.exit_code == 2
    assert "not of the same images" in done.output
    assert "bad/seed0" in done.output


def test_failures_and_limited_runs_do_not_count(tmp_path: Path) -> None:
    cell(tmp_path, "good", 0, 0.9)
    cell(tmp_path, "bad", 0, 0.6, terms=fake_terms(limit=8))
    done = compare("good", "bad", "--runs", tmp_path)
    assert done.exit_code == 2
    assert "no results of 'bad'" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [(["good"], "two methods are needed"), (["good", "bad", "--resamples", "5"], "resamples")],
)
def test_bad_questions_are_answered_with_the_next_step(tmp_path: Path, words: list[str], said: str) -> None:
    cell(tmp_path, "good", 0, 0.9)
    cell(tmp_path, "bad", 0, 0.6)
    done = compare(*words, "--runs", tmp_path)
    assert done.exit_code == 2
    assert said in done.output
    assert "next: " in done.output


def test_a_cell_without_its_counts_is_named(tmp_path: Path) -> None:
    cell(tmp_path, "good", 0, 0.9)
    cell(tmp_path, "bad", 0, 0.6)
    next(tmp_path.glob("shapes/bad/seed0/*/counts.npz")).unlink()
    done = compare("good", "bad", "--runs", tmp_path)
    assert done.exit_code == 2
    assert "the file of counts does not exist" in done.output


# --------------------------------------------------------------------------------------------- other metrics


def judged_cell(runs: Path, method: str, seed: int, share: float, metrics: tuple[Any, ...]) -> Path:
    """A finished cell on the same images for all seeds, with the counts of `metrics`; maps of the truth."""
    names = ("ring", "stripe")
    card = DatasetCard("shapes", "1", names, ("val",), "val", "val", "val", "generated", "none", "test", 16)
    golds = {}
    for n in range(12):
        golds[f"i{n}"] = np.zeros((12, 14), np.uint8)
        golds[f"i{n}"][n % 5 : n % 5 + 6, 3 : 9 + n % 4] = n % 2 + 1
    data = type("Data", (), {"card": card, "mask": staticmethod(golds.__getitem__)})
    draw = np.random.default_rng([seed, *method.encode()])

    def labels(id: str) -> np.ndarray:
        wrong = draw.random(golds[id].shape) > share * draw.uniform(0.9, 1)
        return np.where(wrong, draw.choice([0, 1, 2, 255], wrong.shape), golds[id]).astype(np.uint8)

    scores, table = score_split(data, tuple(golds), labels, metrics)  # type: ignore[arg-type]
    scores["pxap"] = {"pxap": 100 * share + seed, "n_images": 12}
    record = fake_record(method, seed)
    folder = cell_folder(runs, "shapes", method, seed, "seg", "val", record.key)
    write_record(folder, dataclasses.replace(record, scores=scores))
    table.save(folder / COUNTS)
    return folder


def lines_of(runs: Path, *words: object) -> dict[str, dict[str, Any]]:
    done = compare("good", "bad", "--runs", runs, "--resamples", 300, "--json", *words)
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    return {line["score"]: line for line in (*found["differences"], *found["others"])}


def test_metrics_of_labels_are_resampled_over_images_from_the_record_and_its_counts_alone(
    tmp_path: Path,
) -> None:
    metrics = (Iou(), BoundaryIou(), PrecisionAtCoverage(), Activation())
    for method, share in (("good", 0.9), ("bad", 0.6)):
        folder = judged_cell(tmp_path, method, 0, share, metrics)
        assert sorted(p.name for p in folder.iterdir()) == [COUNTS, "record.json"]
        scores = read_record(folder).scores
        lines = lines_of(tmp_path) if method == "bad" else {}
    for name in ("boundary_iou.boundary_iou", "precision_at_coverage.coverage", "pixel_accuracy"):
        line = lines[name]
        assert line["low"] < line["difference"] < line["high"]
        assert line["low"] > 0
        assert line["over"] == "images"
    assert lines["boundary_iou.boundary_iou"]["second"] == scores["boundary_iou"]["boundary_iou"]
    assert lines["activation.over_activation"]["second"] == pytest.approx(
        scores["activation"]["over_activation"]
    )
    assert lines["pxap.pxap"]["difference"] is None  # one seed, and no counts of the images
    assert lines["pxap.pxap"]["first"] - lines["pxap.pxap"]["second"] == pytest.approx(30)


def test_a_metric_without_counts_of_images_is_compared_over_seeds_and_the_table_says_so(
    tmp_path: Path,
) -> None:
    for seed in range(3):
        for method, share in (("good", 0.9), ("bad", 0.6)):
            judged_cell(tmp_path, method, seed, share + 0.01 * seed * (method == "bad"), (Iou(),))
    line = lines_of(tmp_path)["pxap.pxap"]
    assert line["over"] == "seeds"
    assert line["difference"] == pytest.approx(29)
    half = 4.303 * 1 / np.sqrt(3)  # Student's for 30, 29, 28
    assert (line["high"] - line["low"]) / 2 == pytest.approx(half, rel=0.3)
    done = compare("good", "bad", "--runs", tmp_path, "--resamples", 300)
    assert "Over seeds alone, and for one seed without an interval: pxap." in done.stdout
    assert lines_of(tmp_path)["miou"]["over"] == "images and seeds"


def test_holm_is_for_every_score_by_itself(tmp_path: Path) -> None:
    for method, share in (("good", 0.9), ("bad", 0.6), ("same", 0.9)):
        judged_cell(tmp_path, method, 0, share, (Iou(),))
    done = compare("good", "bad", "same", "--runs", tmp_path, "--resamples", 300, "--json")
    found = json.loads(done.stdout)
    for lines in zip(*(c["differences"] for c in found), strict=True):
        assert [line["adjusted"] for line in lines] == pytest.approx(holm([line["p"] for line in lines]))


HELD_OUT = fake_terms(threshold_policy="held-out", threshold_rule="2")


def test_rows_of_two_policies_are_compared_each_within_its_own(tmp_path: Path) -> None:
    for seed in range(2):
        for method, share in (("good", 0.9), ("bad", 0.6)):
            cell(tmp_path, method, seed, share)
            cell(tmp_path, method, seed, share - 0.1, terms=HELD_OUT)
    done = compare("good", "bad", "--runs", tmp_path)
    assert done.exit_code == 0, done.output
    assert "## shapes: seg on val; threshold_policy fixed" in done.output
    assert "## shapes: seg on val; threshold_policy held-out" in done.output
    found = json.loads(compare("good", "bad", "--runs", tmp_path, "--json").stdout)
    assert {c["terms"]["threshold_policy"] for c in found} == {"fixed", "held-out"}
    assert [c["seeds"] for c in found] == [[0, 1], [0, 1]]


def test_a_method_under_one_of_two_terms_is_compared_there(tmp_path: Path) -> None:
    cell(tmp_path, "good", 0, 0.9)
    cell(tmp_path, "good", 0, 0.9, terms=HELD_OUT)
    cell(tmp_path, "bad", 0, 0.6)
    (found,) = json.loads(compare("good", "bad", "--runs", tmp_path, "--json").stdout)
    assert found["terms"]["threshold_policy"] == "fixed"


def test_a_method_that_shares_no_terms_is_refused_beside_one_that_does(tmp_path: Path) -> None:
    cell(tmp_path, "good", 0, 0.9)
    cell(tmp_path, "bad", 0, 0.6)
    cell(tmp_path, "other", 0, 0.6, terms=HELD_OUT)
    done = compare("good", "bad", "other", "--runs", tmp_path)
    assert done.exit_code == 3
    assert "the protocols of good and other differ" in done.output
    assert "threshold_policy: fixed and held-out" in done.output


def test_a_stage_under_unlike_terms_is_left_out_and_named(tmp_path: Path) -> None:
    pseudo = {"stage": "pseudo", "judged": "pseudo"}
    cell(tmp_path, "good", 0, 0.9)
    cell(tmp_path, "bad", 0, 0.6)
    cell(tmp_path, "good", 0, 0.9, terms=fake_terms(**pseudo))
    cell(tmp_path, "bad", 0, 0.6, terms=fake_terms(**pseudo, threshold_policy="oracle"))
    done = compare("good", "bad", "--runs", tmp_path)
    assert done.exit_code == 0, done.output
    assert (
        "not compared: pseudo of good and bad on shapes (threshold_policy: fixed and oracle)" in done.stderr
    )
    assert "## shapes: pseudo" not in done.output
    assert compare("good", "bad", "--runs", tmp_path, "--stage", "pseudo").exit_code == 3


def test_two_custom_stages_of_one_name_that_judge_unlike_things_are_refused(tmp_path: Path) -> None:
    mine = {"stage": "mine", "custom": True, "split": "train", "tags_at_evaluation": True}
    cell(tmp_path, "good", 0, 0.9, terms=fake_terms(**mine, judged="maps"))
    cell(tmp_path, "bad", 0, 0.6, terms=fake_terms(**mine, judged="pseudo"))
    done = compare("good", "bad", "--runs", tmp_path)
    assert done.exit_code == 3
    assert "judged: maps and pseudo" in done.output


def test_scores_of_which_less_is_better_are_named(tmp_path: Path) -> None:
    cell(tmp_path, "good", 0, 0.9)
    cell(tmp_path, "bad", 0, 0.6)
    done = compare("good", "bad", "--runs", tmp_path)
    assert "Lower is better: fp_ratio, fn_ratio" in done.output
    (found,) = json.loads(compare("good", "bad", "--runs", tmp_path, "--json").stdout)
    better = {d["score"]: d["better"] for d in found["differences"]}
    assert (better["miou"], better["fp_ratio"]) == ("higher", "lower")
