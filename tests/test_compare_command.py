"""`wsssbench compare`: cells paired by seed and image; unlike protocols refused with what differs."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from wsssbench.cli import main
from wsssbench.judge import COUNTS, CountsTable
from wsssbench.metrics import Iou, confusion_counts
from wsssbench.store import cell_folder, write_record

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


def test_other_stages_have_nothing_in_common(tmp_path: Path) -> None:
    cell(tmp_path, "good", 0, 0.9)
    cell(tmp_path, "bad", 0, 0.6, terms=fake_terms(stage="pseudo"))
    done = compare("good", "bad", "--runs", tmp_path)
    assert done.exit_code == 3
    assert "share no results of any stage" in done.output


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
    assert "no such counts" in done.output
