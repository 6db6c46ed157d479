"""Faults from outside: a full disk, folders that vanish, files that are damaged. What was good stays, nothing
half-written is left, and the same command goes on afterwards."""

from __future__ import annotations

import errno
import json
import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wsssbench.artifacts import ArtifactFolder

FAULTY = runpy.run_path(str(Path(__file__).with_name("faulty_run.py")))
in_an_empty_folder = FAULTY["in_an_empty_folder"]
undisturbed = FAULTY["undisturbed"]
call = FAULTY["call"]
run = FAULTY["run"]
found = FAULTY["found"]
half_written = FAULTY["half_written"]
at_call = FAULTY["at_call"]
cut = FAULTY["cut"]
flip = FAULTY["flip"]
BRIGHT = FAULTY["BRIGHT"]
SMALL = FAULTY["SMALL"]


# ------------------------------------------------------------------------------------------------ full disk


class FullDisk:
    """Files below `root` can be made, but from a certain one on nothing can be written into them."""

    def __init__(self, root: Path, left: int) -> None:
        self.root, self.left, self.open = root.resolve(), left, Path.open

    def patched(self) -> Callable[..., Any]:
        def opening(path: Path, mode: str = "r", *args: Any, **more: Any) -> Any:
            file = self.open(path, mode, *args, **more)
            if set(mode) & set("wxa") and path.resolve().is_relative_to(self.root):
                self.left -= 1
                if self.left < 0:
                    file.close()
                    raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return file

        return opening


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """`fill(n)`: after n more files the disk is full; `fill(-1)` makes room."""

    def fill(files: int) -> None:
        monkeypatch.undo() if files < 0 else monkeypatch.setattr(Path, "open", disk(files).patched())
        monkeypatch.chdir(tmp_path)

    def disk(files: int) -> FullDisk:
        return FullDisk(tmp_path, files)

    return fill


@pytest.mark.parametrize("files", [0, 1, 2, 3, 5, 8, 13, 16, 18, 20, 22, 24])
def test_a_disk_that_is_full_ends_a_run_with_one_message_and_loses_nothing(
    files: int, undisturbed: dict[str, Any], fill: Callable[[int], None]
) -> None:
    fill(files)
    result = run()
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert not half_written()
    kept = found()
    assert kept.items() <= undisturbed.items()
    fill(-1)
    assert run().exit_code == 0
    assert found() == undisturbed


def test_results_are_shown_where_their_picture_cannot_be_written(fill: Callable[[int], None]) -> None:
    assert run("-q").exit_code == 0
    fill(0)
    result = run()
    assert result.exit_code == 0
    assert "| bright" in result.stdout
    assert "no picture of masks: cannot write" in result.stderr


@pytest.mark.parametrize(
    "words",
    ["report runs --out made", "report runs --html made", "export records runs made.zip",
     "gate runs --baseline made --write"],
)  # fmt: skip
def test_a_full_disk_leaves_the_file_that_was_there_and_no_other(
    words: str, fill: Callable[[int], None]
) -> None:
    assert run("-q").exit_code == 0
    for name in ("made", "made.zip"):
        Path(name).write_text("of yesterday")
    before = sorted(Path().rglob("*"))
    fill(0)
    result = call(*words.split())
    assert (result.exit_code, "No space left" in result.stderr) == (2, True)
    assert {Path(name).read_text() for name in ("made", "made.zip")} == {"of yesterday"}
    assert sorted(Path().rglob("*")) == before


# ------------------------------------------------------------------------- folders that cannot be used


def test_a_folder_of_runs_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **more: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("wsssbench.files.locks.FileLock.acquire", refuse)
    result = run("--runs", "elsewhere")
    assert result.exit_code == 2
    assert "cannot write to this folder (Read-only file system) [elsewhere" in result.stderr
    assert "--runs" in result.stderr


def test_data_that_vanish_while_predicting_fail_the_cells_by_name_and_can_come_back(
    voc_tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("run", "--plugin", BRIGHT, "--method", "bright", "--dataset", "voc12", "--device", "cpu", "-o",
             f"voc12.root={voc_tree.root}", "--stages", "pseudo,seg")  # fmt: skip
    gone = voc_tree.root.with_name("unplugged")
    monkeypatch.setattr("wsssbench.running.predicting.PREDICT_BATCH", 1)
    with monkeypatch.context() as patch:
        write = at_call(2, ArtifactFolder.write, lambda: shutil.move(voc_tree.root, gone))
        patch.setattr(ArtifactFolder, "write", write)
        result = call(*words)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert f"[{voc_tree.root}" in result.stderr
    done = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("maps/*.npz")}
    assert len(done) == 2
    assert call(*words).exit_code == 2  # found while planning
    shutil.move(gone, voc_tree.root)
    assert call(*words).exit_code == 0
    assert len(found()) == 2
    assert {path: path.stat().st_mtime_ns for path in done} == done  # what was done was not done again


# ------------------------------------------------------------------------------------------ damaged files


def seg_cell() -> Path:
    return next(Path("runs").rglob("seg-val-*"))


def test_a_record_that_is_cut_off_is_kept_aside_and_judged_again(undisturbed: dict[str, Any]) -> None:
    assert run().exit_code == 0
    record = seg_cell() / "record.json"
    cut(record)
    rest = record.read_bytes()
    result = run()
    assert result.exit_code == 0
    assert "record cannot be read" in result.stderr
    assert f"kept as {record}.damaged" in " ".join(result.stderr.split())
    assert record.with_name("record.json.damaged").read_bytes() == rest
    assert found() == undisturbed


def test_counts_that_are_cut_off_are_named_with_the_way_out(undisturbed: dict[str, Any]) -> None:
    assert run().exit_code == 0
    cut(seg_cell() / "counts.npz")
    result = call("errors", seg_cell())
    assert result.exit_code == 2
    assert "counts.npz]" in result.stderr
    assert "remove the record.json beside it" in result.stderr
    (seg_cell() / "record.json").unlink()
    assert run().exit_code == 0
    assert call("errors", seg_cell()).exit_code == 0
    assert found() == undisturbed


@pytest.mark.parametrize("method", ["bright", "constant"])
@pytest.mark.parametrize("damage", [cut, flip])
def test_an_artifact_that_is_damaged_is_named_and_made_again_when_it_is_removed(
    damage: Callable[[Path], None], method: str
) -> None:
    assert run(method=method).exit_code == 0
    before, kind = found(), "maps" if method == "bright" else "labels"
    artifact = next(Path("runs").rglob(f"artifacts/val/{kind}/*"))
    damage(artifact)
    damaged = artifact.read_bytes()
    (seg_cell() / "record.json").unlink()
    result = run(method=method)
    assert result.exit_code == 1
    assert f"[{artifact}]\n  next: remove it" in result.stderr
    assert artifact.read_bytes() == damaged
    artifact.unlink()
    assert run(method=method).exit_code == 0
    assert found() == before


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"key": "x"}'])
def test_a_step_whose_mark_says_nothing_is_fitted_again(text: str, undisturbed: dict[str, Any]) -> None:
    assert run().exit_code == 0
    next(Path("runs").rglob("fitted.json")).write_text(text)
    (seg_cell() / "record.json").unlink()
    shutil.rmtree(next(Path("runs").rglob("artifacts/val")))
    assert run().exit_code == 0
    assert found() == undisturbed


# ---------------------------------------------------------------------------------------- nothing to judge


def test_a_run_of_which_every_cell_is_skipped_says_that_nothing_was_judged() -> None:
    words = ("run", "--method", "constant", "--dataset", "shapes", *SMALL, "--stages", "seed")
    result = call(*words)
    assert result.exit_code == 0
    assert "skipped constant seed 0 seed on train: constant gives no maps" in result.stderr
    assert "nothing was judged: every cell was skipped" in result.stderr
    assert json.loads(call(*words, "--json").stdout) is not None
