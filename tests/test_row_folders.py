"""Rows of scored files: kept, found under any name, and never mixed up with those of another key."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from wsssbench.cli.main import main
from wsssbench.errors import WsssError
from wsssbench.judging import judge
from wsssbench.machine.hardware import resolve_hardware
from wsssbench.masks import write_labels
from wsssbench.planning.plan import open_dataset
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins
from wsssbench.records import store
from wsssbench.records.finding import find_records
from wsssbench.records.store import read_record
from wsssbench.reporting import report
from wsssbench.running.context import RunContext
from wsssbench.scores.counts_table import COUNTS, CountsTable
from wsssbench.throughput.record import BenchProtocol, BenchRecord, Machine, find_benches, write_bench

HERE = Path(__file__).parent
_LOADER = Plugins()
_LOADER.add_file(HERE / "fake_run.py")
fake: Any = sys.modules[_LOADER.load("steps", "first").__module__]
fake_record: Any = runpy.run_path(str(HERE / "fake_records.py"))["fake_record"]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    fake.EVENTS.clear()
    fake.FAULTS.clear()
    yield
    fake.FAULTS.clear()


SCORE = ("--dataset", "shapes", "-o", "shapes.preset=tiny", "-o", "shapes.val=3", "--runs", "runs")


def score(folder: str, *more: object, name: str = "mine") -> Result:
    """`wsssbench score folder`."""
    return CliRunner().invoke(main, ["score", folder, *SCORE, "--as", name, *map(str, more)])


def labels(folder: str, low: int = 0) -> Path:
    """Labels of the three images, with `low` rows of class 1."""
    data = open_dataset(
        "shapes", Plugins(), Settings(dataset_options={"shapes": {"preset": "tiny", "val": 3}}), 0
    )
    for id in data.ids("val"):
        mask = np.where(data.mask(id) == 255, 0, data.mask(id)).astype(np.uint8)
        mask[:low] = 1
        write_labels(Path(folder) / f"{id}.png", mask)
    return Path(folder)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_scoring_again_keeps_the_scores_of_the_same_files_and_drops_those_of_others(here: Path) -> None:
    labels("masks")
    assert score("masks", "--metrics", "boundary_iou").exit_code == 0
    again = score("masks")
    assert again.exit_code == 0
    (stored,) = find_records("runs")
    assert set(stored.record.scores) == {"iou", "boundary_iou"}
    assert "boundary_iou" in CountsTable.load(stored.path.parent / COUNTS).more
    labels("masks", low=5)
    assert "boundary_iou are dropped" in score("masks").stderr
    assert set(find_records("runs")[0].record.scores) == {"iou"}


def test_a_merged_row_keeps_what_was_scored_before_of_the_same_labels(here: Path) -> None:
    assert score(str(labels("masks")), "--metrics", "boundary_iou").exit_code == 0
    for number in (1, 2):
        assert score("masks", "--shard", f"{number}/2").exit_code == 0
    assert CliRunner().invoke(main, ["merge", "runs", "--runs", "runs"]).exit_code == 0
    (stored,) = find_records("runs")
    assert set(stored.record.scores) == {"iou", "boundary_iou"}
    assert stored.record.provenance["labels"]["folder"] == "masks"


def test_scores_of_maps_stay_only_where_the_maps_are_the_same_files(here: Path) -> None:
    data = open_dataset(
        "shapes", Plugins(), Settings(dataset_options={"shapes": {"preset": "tiny", "val": 3}}), 0
    )
    Path("maps").mkdir()

    def write(high: float) -> None:
        for id in data.ids("val"):
            planes = {k: np.where(data.mask(id) == k + 1, high, 0.1).astype(np.float32) for k in range(3)}
            np.save(Path("maps") / f"{id}.npy", planes, allow_pickle=True)

    write(0.9)
    assert score("maps", "--threshold", 0.5, "--metrics", "pxap").exit_code == 0
    assert score("maps", "--threshold", 0.5).exit_code == 0
    assert "pxap" in find_records("runs")[0].record.scores
    write(0.8)  # the same labels
    assert score("maps", "--threshold", 0.5).exit_code == 0
    assert set(find_records("runs")[0].record.scores) == {"iou"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_scoring_again_that_fails_leaves_the_row_and_its_masks(
    error: BaseException, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert score(str(labels("masks"))).exit_code == 0
    (stored,) = find_records("runs")
    before = fake.content(stored.path.parent)

    def full(*_: Any) -> None:
        raise error

    labels("masks", low=5)
    monkeypatch.setattr(judge.CountsTable, "save", full)
    assert score("masks").exit_code != 0
    assert fake.content(stored.path.parent) == before


@pytest.mark.parametrize(
    "name",
    [
        "masks",
        "artifacts",
        "steps",
        "ckpt",
        "bench",
        ".hidden",
        "unfinished",
        ".unfinished",
        "masks.png",
        "..",
        "-",
    ],
)
def test_a_row_of_any_name_is_found(name: str, here: Path) -> None:
    assert score(str(labels("labels")), name=name).exit_code == 0
    assert [stored.record.method for stored in find_records("runs")] == [name]
    assert name in report(["runs"])
    for number in (1, 2):
        assert score("labels", "--shard", f"{number}/2", "--runs", "parts", name=name).exit_code == 0
    merged = CliRunner().invoke(main, ["merge", "parts", "--runs", "merged"])
    assert merged.exit_code == 0, merged.output
    assert [stored.record.method for stored in find_records("merged")] == [name]


def bench(method: str, dataset: str) -> BenchRecord:
    machine = Machine("cpu", "a processor", "a processor", 1)
    return BenchRecord(method, dataset, "1", {}, 0, (), "fp32", "lattice", machine, BenchProtocol())


@pytest.mark.parametrize("name", ["masks", "artifacts", "steps", ".hidden"])
def test_data_sets_and_measurements_of_any_name_are_found(name: str, tmp_path: Path) -> None:
    record = fake_record()
    store.write_record(store.cell_folder(tmp_path, name, name, 0, "seg", "val", record.key), record)
    assert [stored.record for stored in find_records(tmp_path)] == [record]
    write_bench(tmp_path, bench(name, name))
    assert [(found.method, found.dataset) for found in find_benches(tmp_path)] == [(name, name)]


def test_rows_that_were_written_below_a_folder_called_masks_are_found(tmp_path: Path) -> None:
    record = fake_record("masks")
    store.write_record(tmp_path / "shapes" / "masks" / "seed0" / f"seg-val-{record.key[:8]}", record)
    assert len(find_records(tmp_path)) == 1


# ------------------------------------------------------------------------------------------------ whole keys


def alike(key: str) -> str:
    """Another key with the same first eight digits."""
    return key[:8] + "0" * (len(key) - 8)


def test_the_record_of_another_key_is_neither_done_nor_overwritten(tmp_path: Path) -> None:
    _, (cell,) = fake.run(tmp_path)
    store.write_record(cell.folder, replace(read_record(cell.folder), key=alike(cell.key)))
    before = fake.content(cell.folder)
    for rerun in ("", "stale", "all"):
        with pytest.raises(WsssError, match=alike(cell.key)):
            fake.run(tmp_path, rerun=rerun)
    assert fake.content(cell.folder) == before


def test_a_step_that_was_fitted_for_another_key_is_neither_taken_nor_cleared(tmp_path: Path) -> None:
    _, (cell,) = fake.run(tmp_path)
    (step,) = cell.trial.steps
    (step.folder / store.KEY).unlink()
    fit = json.loads((step.folder / store.FITTED).read_text())
    (step.folder / store.FITTED).write_text(json.dumps({**fit, "key": alike(step.key)}))
    before = fake.content(step.folder)
    for changes in ({}, {"stages": ("pseudo",)}, {"rerun": "all"}):
        with pytest.raises(WsssError, match="is asked for"):
            fake.run(tmp_path, **changes)
    assert fake.content(step.folder) == before


def test_an_unfinished_training_of_another_key_is_not_gone_on_with(tmp_path: Path) -> None:
    fake.FAULTS["first.fit"] = lambda: 1 / 0
    _, (cell,) = fake.run(tmp_path)
    folder = cell.trial.steps[0].folder
    assert json.loads((folder / store.KEY).read_text()) == {"key": cell.trial.steps[0].key}
    (folder / store.KEY).write_text(json.dumps({"key": alike(cell.trial.steps[0].key)}))
    with pytest.raises(WsssError, match="is asked for"):
        fake.run(tmp_path)


def test_shared_work_of_another_key_is_refused(tmp_path: Path) -> None:
    _, (cell,) = fake.plan(tmp_path)
    hardware = resolve_hardware(fake.settings(tmp_path))
    ctx = RunContext.of(cell.trial, cell.trial.steps[0], hardware, None, print)
    ctx.workdir.mkdir(parents=True)
    with ctx.shared("classifier", {"steps": 3}) as own:
        (own.workdir / "weights").write_text("learned")
    with ctx.shared("classifier", {"steps": 3}) as own:
        assert (own.workdir / "weights").read_text() == "learned"
    (own.workdir / store.KEY).write_text(
        json.dumps({"key": alike(ctx.shared_key("classifier", {"steps": 3}))})
    )
    with pytest.raises(WsssError, match="is asked for"), ctx.shared("classifier", {"steps": 3}):
        pass


def test_scored_files_shards_and_measurements_of_another_key_are_not_overwritten(here: Path) -> None:
    assert score(str(labels("labels"))).exit_code == 0
    (stored,) = find_records("runs")
    store.write_record(stored.path.parent, replace(stored.record, key=alike(stored.record.key)))
    before = fake.content(stored.path.parent)
    again = score("labels")
    assert (again.exit_code, fake.content(stored.path.parent)) == (2, before)
    assert "is asked for" in again.stderr

    assert score("labels", "--shard", "1/2").exit_code == 0
    (shard,) = Path("runs").rglob("shard.json")
    said = json.loads(shard.read_text())
    shard.write_text(json.dumps({**said, "key": alike(said["key"])}))
    assert "is asked for" in score("labels", "--shard", "1/2").stderr

    path = write_bench(here, bench("cam", "shapes"))
    other = replace(bench("cam", "shapes"), seed=1)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(WsssError, match=other.key):
        write_bench(here, bench("cam", "shapes"))
