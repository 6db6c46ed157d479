"""`wsssbench errors`: ladders and slices of finished cells, and what is said where they cannot be had."""

from __future__ import annotations

import dataclasses
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from wsssbench.cli.main import main
from wsssbench.identity import plain
from wsssbench.judging.judge import score_folder
from wsssbench.masks import read_labels, write_labels
from wsssbench.metrics import Iou
from wsssbench.records.store import cell_folder, read_record, write_record
from wsssbench.scores.counts_table import COUNTS
from wsssbench.scores.ladder import KINDS, ErrorLadder
from wsssbench_datasets.shapes.dataset import PRESETS, Shapes, ShapesConfig

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
fake_record, fake_terms = FAKE["fake_record"], FAKE["fake_terms"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def errors(*words: object) -> Result:
    return CliRunner().invoke(main, ["errors", *map(str, words)])


def as_json(*words: object) -> dict[str, Any]:
    done = errors(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def cell(method: str = "cam", seed: int = 0, grown: int = 0, **terms: Any) -> Path:
    """A finished cell on tiny `shapes`: the truth, in class 1 where pixels to the right are an object."""
    data = Shapes(ShapesConfig(**PRESETS["tiny"]), seed)
    card = data.card
    fields = {
        "dataset_options": plain(card.options_of("val")),
        "classes": card.class_names,
        "dataset_version": card.version,
    }
    record = fake_record(method, seed, terms=fake_terms(**{**fields, **terms}))
    folder = cell_folder(Path("runs"), "shapes", method, seed, record.identity.terms.stage, "val", record.key)
    for id in data.ids("val"):
        labels = data.mask(id)
        for _ in range(grown):
            labels = np.where((labels == 0) & (np.roll(labels, -1, 1) > 0), 1, labels).astype(np.uint8)
        write_labels(folder / "masks" / f"{id}.png", labels)
    scores, counts = score_folder(data, "val", folder / "masks")
    counts.save(folder / COUNTS)
    write_record(folder, dataclasses.replace(record, scores=scores))
    return folder


def test_one_cell_gets_three_tables_of_kinds_and_its_slices():
    done = errors(folder := cell(grown=2))
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    assert "## shapes: seg on val (drawn again for each seed), errors" in done.stdout
    assert [f"+ {kind.replace('_', ' ')}" in done.stdout for kind in KINDS] == [True] * len(KINDS)
    for words in ("100.00", "gained by repairing one kind alone", "size of the class: over 20 %", "alone"):
        assert words in done.stdout
    (found,) = as_json(folder)["cells"]
    assert found["ladder"]["miou"] == read_record(folder).scores["iou"]["miou"]
    assert found["ladder"]["ladder"][-1] == ["abstained", 100]
    assert found["ladder"]["share"]["boundary"] > 0
    assert {part["group"] for part in found["slices"]} >= {"classes in the image", "size of the class"}


def test_a_generated_set_is_drawn_from_the_records_options_and_seed():
    assert as_json(cell(seed=3, grown=1))["cells"][0]["ladder"]["share"]["part_only"] == 0


def test_several_cells_make_one_table_with_a_column_each():
    places = [cell("cam", grown=3), cell("rrm", grown=1)]
    done = errors(*places)
    assert done.exit_code == 0, done.output
    heads = [
        line for line in done.stdout.splitlines() if line.startswith(("| repaired", "| kind", "| slice"))
    ]
    assert len(heads) == 4
    assert all(head.index(" cam ") < head.index(" rrm ") for head in heads)
    first, second = as_json(*places)["cells"]
    assert first["ladder"]["miou"] < second["ladder"]["miou"]


def test_seeds_of_one_method_are_told_apart_and_a_folder_above_stands_for_its_cells():
    cell(seed=0)
    cell(seed=1)
    titles = [found["title"] for found in as_json("runs/shapes/cam")["cells"]]
    assert titles == ["cam seed 0", "cam seed 1"]


def test_methods_are_named_as_for_compare_and_a_folder_may_stand_beside_one():
    cell("cam", grown=3)
    folder = cell("rrm", grown=1)
    cell("rrm", stage="seg+crf")
    by_name = as_json("cam", "rrm", "--stage", "seg")
    assert [found["method"] for found in by_name["cells"]] == ["cam", "rrm"]
    assert as_json("cam", folder) == by_name
    Path("runs").rename("elsewhere")
    assert as_json("cam", "rrm", "--stage", "seg", "--runs", "elsewhere")["methods"] == by_name["methods"]
    done = errors("cam", "nothing", "--runs", "elsewhere")
    assert done.exit_code == 2
    assert "no results of 'nothing'" in done.output


def test_a_method_with_several_stages_needs_a_choice():
    cell("cam")
    cell("cam", stage="pseudo")
    done = errors("cam")
    assert done.exit_code == 3
    assert "stage: pseudo and seg" in done.output
    assert "--stage pseudo" in done.output
    done = errors("cam", "--stage", "seed")
    assert done.exit_code == 2
    assert "no results of the stage seed" in done.output


def test_without_masks_the_slices_stand_alone_and_stderr_says_so():
    folder = cell(grown=1)
    before = as_json(folder)["cells"][0]["slices"]
    shutil.rmtree(folder / "masks")
    done = errors(folder)
    assert done.exit_code == 0
    assert "cam seed 0: no ladder, the cell has no masks" in done.stderr
    assert "Slices" in done.stdout
    assert "repairing" not in done.stdout
    (found,) = as_json(folder)["cells"]
    assert found["ladder"] is None
    assert found["slices"] == before


def test_a_data_set_that_is_not_there_leaves_the_ladder_out_unless_its_options_are_given():
    folder = cell(split_fingerprint="ab" * 32, dataset="voc12")
    done = errors(folder)
    assert done.exit_code == 0
    assert "cam seed 0: no ladder, the data set cannot be opened" in done.stderr
    assert "Slices" in done.stdout
    done = errors(folder, "-o", "voc12.root=/nowhere")
    assert done.exit_code == 2
    assert "/nowhere" in done.output


def test_no_ladder_opens_neither_masks_nor_data_set():
    folder = cell(dataset="gone")
    done = errors(folder, "--no-ladder")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "repairing" not in done.stdout


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"threshold_policy": "oracle"}, "threshold_policy: fixed and oracle"),
        ({"stage_version": "2"}, "stage_version"),
        ({"limit": 4}, "limit"),
    ],
)
def test_cells_under_unlike_terms_are_refused_with_the_fields(terms: dict[str, Any], said: str):
    done = errors(cell("cam"), cell("rrm", **terms))
    assert done.exit_code == 3
    assert said in done.output
    assert "protocols" in done.output


def test_another_data_set_than_the_judged_one_is_refused_with_the_fields():
    done = errors(cell(), "-o", "shapes.contrast=0.5")
    assert done.exit_code == 3
    assert "dataset_options" in done.output


def test_masks_that_do_not_give_the_counts_are_refused():
    folder = cell()
    path = sorted((folder / "masks").iterdir())[0]
    write_labels(path, np.zeros_like(read_labels(path)))
    done = errors(folder)
    assert done.exit_code == 2
    assert "do not give the cell's counts" in done.output
    assert errors(folder, "--no-ladder").exit_code == 0


def test_what_is_no_finished_cell_is_refused():
    Path("empty").mkdir()
    failed = cell_folder("runs", "shapes", "cam", 0, "seg", "val", "0" * 8)
    write_record(failed, fake_record(reason="out of memory"))
    for place, said in (("empty", "no record here"), (failed, "out of memory"), ("nowhere", "nowhere")):
        done = errors(place)
        assert done.exit_code == 2
        assert said in done.output


def test_nothing_is_written_and_torch_is_not_imported():
    folder = cell(grown=1)
    files = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    code = (
        "import sys; from wsssbench.cli import main; main(['errors', sys.argv[1]], standalone_mode=False); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, folder], check=True, capture_output=True)
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == files


def test_numbers_have_intervals_and_a_second_method_a_paired_difference():
    folders = [cell(method, seed, grown) for method, grown in (("cam", 3), ("rrm", 1)) for seed in range(3)]
    done = errors(*folders, "--resamples", 200)
    assert done.exit_code == 0, done.output
    assert "| cam (3 seeds)" in done.stdout
    assert "| cam - rrm" in done.stdout
    assert "a bootstrap over seeds, each with images of its own" in done.stdout
    found = as_json(*folders, "--resamples", 200)
    assert [method["seeds"] for method in found["methods"]] == [[0, 1, 2]] * 2
    (difference,) = found["differences"]
    numbers = {tuple(line["name"]): line for line in difference["numbers"]}
    own = [{tuple(line["name"]): line for line in m["numbers"]} for m in found["methods"]]
    assert numbers["miou",]["high"] < 0  # the first has grown further
    assert numbers["miou",]["value"] == pytest.approx(own[0]["miou",]["value"] - own[1]["miou",]["value"])
    mean = np.mean([c["ladder"]["miou"] for c in found["cells"][:3]])
    assert own[0]["miou",]["value"] == pytest.approx(mean)


def test_a_ladder_that_was_counted_by_the_run_needs_neither_masks_nor_data_set():
    folder = cell(grown=2)
    data = Shapes(ShapesConfig(**PRESETS["tiny"]), 0)
    expected = as_json(folder)["cells"][0]["ladder"]
    score_folder(data, "val", folder / "masks", (Iou(), ErrorLadder()))[1].save(folder / COUNTS)
    shutil.rmtree(folder / "masks")
    done = errors(folder, "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["cells"][0]["ladder"] == expected
