"""Faults from outside: signals, a full disk, folders that vanish, files that are damaged, two processes at
once. What was good stays, nothing half-written is left, and the same command goes on afterwards."""

from __future__ import annotations

import errno
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from wsssbench.artifacts import ArtifactFolder
from wsssbench.cli import main
from wsssbench.errors import BadData
from wsssbench.store import read_record
from wsssbench.train import load_checkpoint, save_checkpoint

BRIGHT = Path(__file__).with_name("bright_step.py")
SMALL = ["-o", "shapes.preset=tiny", "-o", "shapes.train=3", "-o", "shapes.val=3", "--device", "cpu"]
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No wsssbench.toml is found by chance, and torch's threads stay as they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wsssbench.commands.run.use_machine", lambda: None)


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def run(*more: object, method: str = "bright", plugin: Path = BRIGHT) -> Result:
    """`wsssbench run` into ./runs: the maps of three drawn images, and the masks of three others."""
    plugins = ("--plugin", plugin) if method == "bright" else ()
    return call("run", *plugins, "--method", method, "--dataset", "shapes", *SMALL, "--stages", "pseudo,seg",
                *more)  # fmt: skip


def found(runs: Path = Path("runs")) -> dict[str, Any]:
    """The scores by cell; every cell must have a record of success."""
    records = {path.parent.name: read_record(path) for path in sorted(runs.rglob("record.json"))}
    assert {record.status for record in records.values()} <= {"ok"}
    return {name: record.scores for name, record in records.items()}


def half_written(root: Path = Path("runs")) -> list[Path]:
    return [path for path in root.rglob("*") if path.suffix in (".tmp", ".part")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The scores of a run that nothing happens to."""
    runs = tmp_path_factory.mktemp("undisturbed")
    assert run("--runs", runs).exit_code == 0
    return found(runs)


# ------------------------------------------------------------------------------------------------- signals


def at_call(number: int, original: Callable[..., Any], what: Callable[[], None]) -> Callable[..., Any]:
    """`original`, but that `what` happens before its call `number`, once."""
    calls: list[int] = []

    def wrapped(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            what()
        return original(*args, **more)

    return wrapped


PLACES = {
    "planning": ("wsssbench.commands.run.make_plan", 1),
    "prediction": ("wsssbench.artifacts.ArtifactFolder.write", 2),
    "labels": ("wsssbench.engine.write_labels", 2),
    "scores": ("wsssbench.judging.judge.confusion_counts", 2),
    "counts": ("wsssbench.judging.judge.CountsTable.save", 2),
    "record": ("wsssbench.engine.write_record", 1),
    "tables": ("wsssbench.commands.run.show", 1),
}


def find(name: str) -> Any:
    """The object that `monkeypatch.setattr(name, ...)` would replace."""
    parts = name.split(".")
    at = next(n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in sys.modules)
    return functools.reduce(getattr, parts[at:], sys.modules[".".join(parts[:at])])


@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_run_with_130_and_the_same_command_goes_on(
    number: int, place: str, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [signal.getsignal(one) for one in SIGNALS]
    name, at = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(name, at_call(at, find(name), lambda: os.kill(os.getpid(), number)))
        result = run()
    assert result.exit_code == 130
    assert "interrupted; what is done is kept" in result.stderr
    assert "Traceback" not in result.output
    assert not half_written()
    assert [signal.getsignal(one) for one in SIGNALS] == before
    assert run().exit_code == 0
    assert found() == undisturbed


def test_a_signal_in_the_middle_of_a_write_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsssbench.store import atomic_write_text

    atomic_write_text(tmp_path / "file", "old")
    monkeypatch.setattr(os, "fsync", lambda file: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        atomic_write_text(tmp_path / "file", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


@pytest.mark.parametrize("turned_into", ["KeyboardInterrupt", "ImportError"])
def test_a_signal_while_a_plugin_is_imported_is_no_fault_of_the_plugin(turned_into: str) -> None:
    Path("slow.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n"
        f"except KeyboardInterrupt:\n    raise {turned_into}('numpy could not be imported')\n"
    )
    result = run(plugin=Path("slow.py"))
    assert (result.exit_code, "interrupted" in result.stderr, "slow" in result.stderr) == (130, True, False)


INTERRUPTED_IMPORT = """
import os, sys
class Signal:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Signal)
sys.argv = ["wsssbench", "list"]
from wsssbench.cli import main
main()
"""


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("module", ["click", "wsssbench.commands.catalogue", "importlib.metadata"])
def test_a_signal_while_the_program_is_imported_ends_it_without_a_traceback(module: str, number: int) -> None:
    code = INTERRUPTED_IMPORT.format(module=module, number=int(number))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("interrupted")
    assert "Traceback" not in done.stderr


def test_the_exit_code_is_130_also_where_code_made_from_a_text_was_interrupted() -> None:
    code = (
        "from wsssbench.interrupts import ended_by_signals\n"
        "with ended_by_signals():\n    exec('import os; os.kill(os.getpid(), 2)')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (130, False)


def test_a_signal_that_was_ignored_from_the_start_stays_ignored() -> None:
    from wsssbench.interrupts import ended_by_signals

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ended_by_signals() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
        assert not interrupts.asked
    finally:
        signal.signal(signal.SIGINT, before)


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
    monkeypatch.setattr("wsssbench.engine.PREDICT_BATCH", 1)
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


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


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


# --------------------------------------------------------------------------------------------- checkpoints


def saved(path: Path, step: int, *, more_to_come: bool = True) -> nn.Linear:
    torch.manual_seed(step)
    net = nn.Linear(60, 60)
    save_checkpoint(path, net, None, step, more_to_come=more_to_come)
    return net


def test_no_flipped_bit_of_a_checkpoint_goes_unnoticed(tmp_path: Path) -> None:
    path, draw = tmp_path / "net.pt", random.Random(17)
    saved(path, 1)
    whole = path.read_bytes()
    for at in [draw.randrange(len(whole)) for _ in range(100)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :])
        try:
            load_checkpoint(path, net := nn.Linear(60, 60), None)
        except BadData:
            continue
        path.write_bytes(whole)
        load_checkpoint(path, other := nn.Linear(60, 60), None)
        same = all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
        assert same, f"seed 17, byte {at}"  # a bit of the zip's own padding may be anything


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before_it(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.pt"
    before, _ = saved(path, 5), saved(path, 6)
    damage(path)
    net = nn.Linear(60, 60)
    assert load_checkpoint(path, net, None) == 5
    assert torch.equal(net.weight, before.weight)
    aside = {} if damage is Path.unlink else {"net.pt.damaged"}
    assert {file.name for file in tmp_path.iterdir()} == {"net.pt", *aside}
    said = capsys.readouterr().err
    assert ("going on from the one before it, of step 5" in said) == bool(aside)


def test_where_both_checkpoints_are_damaged_the_last_is_named_and_both_stay(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    saved(path, 5), saved(path, 6)
    for file in list(tmp_path.iterdir()):
        cut(file)
    files = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(BadData, match="cannot read this checkpoint"):
        load_checkpoint(path, nn.Linear(60, 60), None)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == files


def test_a_finished_training_keeps_one_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    saved(path, 5), saved(path, 6)
    assert len(list(tmp_path.iterdir())) == 2
    saved(path, 7, more_to_come=False)
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]


def test_an_interruption_while_a_checkpoint_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.pt"
    saved(path, 5)
    whole = path.read_bytes()

    def stopped(state: Any, target: Path) -> None:
        target.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        saved(path, 6)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"net.pt": whole}


# ------------------------------------------------------------------------------------------- two processes

WAITING_FIT = """
import time
from pathlib import Path
import numpy
{bright}
fit = Bright.fit
def patient(self, train, given, ctx):
    with Path("fits").open("a") as fits:
        fits.write("fit\\n")
    while not Path("go").exists():
        time.sleep(0.02)
    return fit(self, train, given, ctx)
Bright.fit = patient
"""


def start(plugin: Path, log: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "wsssbench", "run", "--plugin", str(plugin), "--method", "bright",
               "--dataset", "shapes", *SMALL, "--stages", "pseudo"]  # fmt: skip
    with log.open("w") as talk:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=talk, text=True)


def wait_for(holds: Callable[[], bool]) -> None:
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("a minute was not enough")


def test_of_two_processes_on_one_folder_the_second_waits_and_the_work_is_done_once(tmp_path: Path) -> None:
    plugin = tmp_path / "patient.py"
    plugin.write_text(WAITING_FIT.format(bright=BRIGHT.read_text()))
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    with start(plugin, one) as first:
        wait_for(Path("fits").exists)
        with start(plugin, two) as second:
            wait_for(lambda: f"waiting for process {first.pid}" in two.read_text())
            Path("go").touch()
            assert (first.wait(60), second.wait(60)) == (0, 0), one.read_text() + two.read_text()
    assert Path("fits").read_text() == "fit\n"
    assert "done by another process meanwhile" in two.read_text()
    assert len(found()) == 1


def test_a_lock_whose_holder_cannot_be_noted_holds_all_the_same(
    tmp_path: Path, fill: Callable[[int], None]
) -> None:
    from wsssbench.files.locks import hold

    fill(0)
    with hold(tmp_path / "cell", print):
        assert (tmp_path / "cell" / ".lock").exists()


# ---------------------------------------------------------------------------------------- nothing to judge


def test_a_run_of_which_every_cell_is_skipped_says_that_nothing_was_judged() -> None:
    words = ("run", "--method", "constant", "--dataset", "shapes", *SMALL, "--stages", "seed")
    result = call(*words)
    assert result.exit_code == 0
    assert "skipped constant seed 0 seed on train: constant gives no maps" in result.stderr
    assert "nothing was judged: every cell was skipped" in result.stderr
    assert json.loads(call(*words, "--json").stdout) is not None
