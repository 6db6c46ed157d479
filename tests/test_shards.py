"""`wsssbench score --shard` and `wsssbench merge`: the row of a single pass, or one clear refusal."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from wsssbench.cli.main import main
from wsssbench.masks import read_labels, write_labels
from wsssbench.planning.plan import open_dataset
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins
from wsssbench.records.finding import find_records
from wsssbench.scores.counts_table import CountsTable

SMALL = ("-o", "shapes.preset=tiny", "-o", "shapes.val=7")
METRICS = "per_image,compatible,boundary_iou,boundary_f,error_ratios"


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def score(*more: object) -> Result:
    """`wsssbench score masks` of the seven images."""
    return call("score", "masks", "--dataset", "shapes", *SMALL, "--as", "mine", *more)


@pytest.fixture(autouse=True)
def masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """./masks: the true masks of the seven images, with a stripe of another class."""
    monkeypatch.chdir(tmp_path)
    options = {"shapes": {"preset": "tiny", "val": 7}}
    data = open_dataset("shapes", Plugins(), Settings(dataset_options=options), 0)
    Path("masks").mkdir()
    for number, id in enumerate(data.ids("val")):
        labels = data.mask(id).copy()
        labels[labels == 255] = 0
        labels[: 3 + number] = number % 3
        write_labels(Path("masks") / f"{id}.png", labels)
    return tmp_path / "masks"


def shards(of: int, *more: object, runs: str = "parts") -> None:
    for number in range(1, of + 1):
        result = score("--shard", f"{number}/{of}", "--runs", runs, *more)
        assert result.exit_code == 0, result.output


def the_record(runs: str) -> tuple[Path, dict[str, Any]]:
    (stored,) = find_records(runs)
    return stored.path.parent, json.loads(stored.path.read_text())


@pytest.mark.parametrize("of", [1, 2, 4, 7])
def test_merged_shards_are_the_row_of_a_single_pass(of: int) -> None:
    assert score("--runs", "whole", "--metrics", METRICS).exit_code == 0
    shards(of, "--metrics", METRICS)
    assert find_records("parts") == []  # a shard is not a row
    result = call("merge", "parts", "--runs", "runs")
    assert result.exit_code == 0, result.output
    (one, expected), (two, found) = the_record("whole"), the_record("runs")
    for name in ("key", "identity", "scores", "method", "status"):
        assert found[name] == expected[name]
    assert set(found["scores"]) == {"iou", *METRICS.split(",")}
    assert found["provenance"]["labels"] == expected["provenance"]["labels"]
    assert (one / "counts.npz").read_bytes() == (two / "counts.npz").read_bytes()
    assert one.relative_to("whole") == two.relative_to("runs")
    assert "| mine" in result.stdout
    verified = call("verify", "runs", *SMALL)
    assert verified.exit_code == 0, verified.output


def test_shards_of_several_folders_are_put_together_in_any_order_without_the_data(masks: Path) -> None:
    for number in (1, 2, 3):
        assert score("--shard", f"{number}/3", "--runs", f"node{number}").exit_code == 0
    shutil.rmtree(masks)
    seed = 3
    nodes = random.Random(seed).sample(["node1", "node2", "node3"], 3)
    assert call("merge", *nodes, "--runs", "runs").exit_code == 0, f"seed {seed}"
    ids = CountsTable.load(the_record("runs")[0] / "counts.npz").ids
    assert list(ids) == sorted(ids)
    assert len(ids) == 7


def test_two_rows_below_one_folder_are_both_put_together() -> None:
    shards(2)
    shards(3, "--as", "other")
    result = call("merge", "parts")
    assert result.exit_code == 0, result.output
    assert sorted(stored.record.method for stored in find_records("runs")) == ["mine", "other"]


def refused(*folders: str, code: int = 2) -> str:
    """What `merge` says when it refuses; nothing is written."""
    result = call("merge", *folders, "--runs", "runs")
    assert result.exit_code == code, result.output
    assert result.stderr.count("error:") == 1
    assert not Path("runs").exists()
    return result.stderr


def test_a_shard_that_is_missing_is_named() -> None:
    shards(4)
    shutil.rmtree(next(Path("parts").rglob("3-of-4")))
    said = refused("parts")
    assert "of 4 shards of mine 1 are missing: 3/4" in said
    assert "--shard 3/4" in said


def test_a_shard_that_is_there_twice_is_named() -> None:
    shards(2)
    shutil.copytree("parts", "copy")
    said = refused("parts", "copy")
    assert "shard 1/2 of mine is there twice" in said
    assert "copy" in said
    assert call("merge", "parts", "parts", "--runs", "runs").exit_code == 0  # one folder named twice is one


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (("--supervision", "tags"), "supervision"),
        (("--limit", "6"), "limit, the number of images, the list of images"),
        (("--metrics", "compatible"), "metrics"),
        (("-o", "shapes.preset=context"), "dataset_options"),
    ],
)
def test_unlike_shards_are_refused_with_what_differs(more: tuple[str, ...], what: str, masks: Path) -> None:
    assert score("--shard", "1/2", "--runs", "one").exit_code == 0
    if "shapes.preset=context" in more:  # other pictures under the same names
        options = {"shapes": {"preset": "context", "val": 7}}
        data = open_dataset("shapes", Plugins(), Settings(dataset_options=options), 0)
        for id in data.ids("val"):
            write_labels(masks / f"{id}.png", np.zeros_like(data.mask(id)))
    result = score("--shard", "2/2", "--runs", "two", *more)
    assert result.exit_code == 0, result.output
    said = refused("one", "two", code=3)
    assert "these shards of mine differ in " in said
    assert what in said


def test_shards_of_unlike_numbers_are_refused() -> None:
    shards(2)
    shards(3)
    assert "differ in the number of shards" in refused("parts", code=3)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 2}', '{"schema": 1, "part": "5/4"}'])
def test_a_damaged_shard_is_named(text: str) -> None:
    shards(2)
    next(Path("parts").rglob("shard.json")).write_text(text)
    said = refused("parts")
    assert "shard" in said
    assert "shard.json]" in said


def test_counts_of_other_images_are_refused() -> None:
    shards(2)
    one, two = sorted(Path("parts").rglob("counts.npz"))
    shutil.copy(one, two)
    assert "other images" in refused("parts")
    shards(7)
    for place in Path("parts").rglob("*-of-2"):
        shutil.rmtree(place)
    one, two = sorted(Path("parts").rglob("counts.npz"))[:2]
    shutil.copy(one, two)
    assert "not those that were to be scored" in refused("parts")


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "2/4/1", "-1/4", "1/0"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    result = score(f"--shard={text}", "--runs", "runs")
    assert (result.exit_code, "as --shard 2/4" in result.stderr) == (2, True)
    assert not Path("runs").exists()


def test_more_shards_than_images_are_refused() -> None:
    result = score("--shard", "8/8", "--runs", "runs")
    assert (result.exit_code, "7 images cannot be divided into 8 shards" in result.stderr) == (2, True)


def test_a_folder_without_shards_says_what_makes_them() -> None:
    Path("empty").mkdir()
    assert "score FOLDER" in refused("empty")
    assert "no such folder of shards" in refused("nowhere")


def test_a_shard_scored_again_replaces_the_older_one(masks: Path) -> None:
    shards(2)
    for path in masks.iterdir():
        write_labels(path, np.zeros_like(read_labels(path)))
    shards(2)
    assert score("--runs", "whole").exit_code == 0
    assert call("merge", "parts").exit_code == 0
    assert the_record("runs")[1]["scores"] == the_record("whole")[1]["scores"]
