"""Ctrl-C and SIGTERM at any moment: the run ends with 130, what is done is kept, nothing is half-written."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FAULTY = runpy.run_path(str(Path(__file__).with_name("faulty_run.py")))
in_an_empty_folder = FAULTY["in_an_empty_folder"]
undisturbed = FAULTY["undisturbed"]
run = FAULTY["run"]
found = FAULTY["found"]
half_written = FAULTY["half_written"]
at_call = FAULTY["at_call"]
find = FAULTY["find"]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PLACES = {
    "planning": ("wsssbench.running.plan_run.make_plan", 1),
    "prediction": ("wsssbench.artifacts.ArtifactFolder.write", 2),
    "labels": ("wsssbench.running.engine.write_labels", 2),
    "scores": ("wsssbench.judging.judge.confusion_counts", 2),
    "counts": ("wsssbench.scores.counts_table.CountsTable.save", 2),
    "record": ("wsssbench.running.engine.write_record", 1),
    "tables": ("wsssbench.commands.run.show", 1),
}


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
    from wsssbench.files.atomic import atomic_write_text

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
from wsssbench.cli.main import main
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
        "from wsssbench.machine.interrupts import ended_by_signals\n"
        "with ended_by_signals():\n    exec('import os; os.kill(os.getpid(), 2)')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (130, False)


def test_a_signal_that_was_ignored_from_the_start_stays_ignored() -> None:
    from wsssbench.machine.interrupts import ended_by_signals

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ended_by_signals() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
        assert not interrupts.asked
    finally:
        signal.signal(signal.SIGINT, before)
