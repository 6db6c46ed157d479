"""Records in one file: packed, read like a folder of runs, and nothing taken out of a hostile archive."""

from __future__ import annotations

import runpy
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from wsssbench.cli.main import main
from wsssbench.errors import BadData
from wsssbench.identity import Record
from wsssbench.records.finding import find_records
from wsssbench.records.record_archive import LARGEST, pack, without_paths
from wsssbench.records.store import cell_folder, write_record
from wsssbench.scores.counts_table import COUNTS, CountsTable

fake_record = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))["fake_record"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def stored(runs: Path, record: Record) -> Path:
    """`record` where a run would put it, with counts of three images."""
    terms, seed = record.identity.terms, record.identity.seed
    folder = cell_folder(runs, terms.dataset, record.method, seed, terms.stage, terms.split, record.key)
    write_record(folder, record)
    if record.status == "ok":
        draw = np.random.default_rng([seed, len(record.method)])
        one = {"gold": np.arange(3), "predicted": np.arange(3), "pixels": draw.integers(1, 90, 3)}
        CountsTable.of(("a", "b", "c"), [one] * 3).save(folder / COUNTS)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two methods of two seeds, and a cell that failed."""
    place = tmp_path / "runs"
    for seed in (0, 1):
        for method, miou in (("cam", 60.0), ("rrm", 70.0)):
            stored(place, fake_record(method, seed, miou + seed))
    stored(place, fake_record("full", 0, reason="no memory"))
    return place


def packed(runs: Path) -> Path:
    out = runs.parent / "handed" / "records.zip"
    result = call("export", "records", runs, out)
    assert result.exit_code == 0, result.output
    assert "5 records, 1 of them of failed cells" in result.output
    return out


def test_an_archive_has_the_same_records_and_counts(runs: Path) -> None:
    there, here = find_records(packed(runs)), find_records(runs)
    assert [cell.record for cell in there] == [cell.record for cell in here]
    for one, other in zip(there, here, strict=True):
        assert one.path.parent.parts[-4:] == other.path.parent.parts[-4:]
        counts = (one.path.parent / COUNTS, other.path.parent / COUNTS)
        assert counts[0].exists() == counts[1].exists()
        if counts[1].exists():
            assert counts[0].read_bytes() == counts[1].read_bytes()


@pytest.mark.parametrize("command", [["report"], ["compare", "rrm", "cam", "--runs"]])
def test_commands_say_of_an_archive_what_they_say_of_its_runs(runs: Path, command: list[str]) -> None:
    there, here = call(*command, packed(runs)), call(*command, runs)
    assert here.exit_code == there.exit_code
    assert "rrm" in here.stdout
    assert there.stdout == here.stdout


def test_packing_twice_gives_the_same_bytes(runs: Path) -> None:
    assert packed(runs).read_bytes() == packed(runs).read_bytes()


def test_the_command_that_made_a_record_loses_its_folders() -> None:
    record = fake_record()
    record.provenance["command"] = ["wsssbench", "run", "--runs", "/home/me/x", "-o", "voc12.root=/data/VOC"]
    command = without_paths(record).provenance["command"]
    assert command == ["wsssbench", "run", "--runs", "x", "-o", "voc12.root=VOC"]


def test_a_finished_record_without_counts_is_not_packed(runs: Path) -> None:
    next(runs.rglob(COUNTS)).unlink()
    out = runs.parent / "r.zip"
    result = call("export", "records", runs, out)
    assert result.exit_code == 2
    assert "no counts beside this record" in result.stderr
    assert not out.exists()


def test_two_different_records_of_one_name_are_not_mixed(runs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    stored(other, fake_record("cam", 0, 12.0))
    with pytest.raises(BadData, match="two different records"):
        pack([*find_records(runs), *find_records(other)], tmp_path / "r.zip")


@pytest.mark.parametrize("out", ["records", "records.tar"])
def test_an_archive_is_called_zip(runs: Path, out: str) -> None:
    result = call("export", "records", runs, runs.parent / out)
    assert result.exit_code == 2
    assert "ends in .zip" in result.stderr


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    result = call("export", "records", tmp_path, tmp_path / "r.zip")
    assert result.exit_code == 2
    assert "no record here" in result.stderr


def archive(path: Path, *names: str, content: bytes = b"{}") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../../evil/seed0/cell/record.json", "/etc/x/seed0/cell/record.json", "a/../b/c/record.json",
        "a/b/c/../record.json", "a/b/seed0/cell/run.py", "record.json", "a/b/c/d/e/record.json",
        "a/b\n/c/d/record.json", "a/b/c/d/record.json/", "a\\b/c/d/e/record.json",
    ],
)  # fmt: skip
def test_other_names_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.parent.rglob("*"))
    path = archive(tmp_path / "r.zip", name)
    with pytest.raises(BadData, match="not an archive of records"):
        find_records(path)
    assert sorted(tmp_path.parent.rglob("*")) == sorted([*before, path])


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsssbench.records.record_archive.LARGEST", 1000)
    path = archive(tmp_path / "r.zip", "a/b/seed0/c/record.json", content=b" " * 1001)
    with pytest.raises(BadData, match="is 0 MB"):
        find_records(path)
    assert LARGEST < 2**31


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        member = file.infolist()[0]
    data[member.header_offset + 30 + len(member.filename) + 9] ^= 0xFF  # within its content
    path.write_bytes(bytes(data))


def no_zip(path: Path) -> None:
    path.write_bytes(b"records")


@pytest.mark.parametrize("spoil", [truncated, flipped, no_zip])
def test_a_damaged_archive_is_named(runs: Path, spoil: Any) -> None:
    out = packed(runs)
    spoil(out)
    result = call("report", out)
    assert result.exit_code == 2
    assert out.name in result.stderr
    assert result.stderr.count("error: ") == 1
