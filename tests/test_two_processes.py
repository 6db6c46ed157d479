"""One process at a time in one folder: the second waits, knows for whom, and finds the work done."""

from __future__ import annotations

import errno
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from wsssbench.files.locks import HOLDER, hold, holder

FAULTY = runpy.run_path(str(Path(__file__).with_name("faulty_run.py")))
in_an_empty_folder = FAULTY["in_an_empty_folder"]
found = FAULTY["found"]
BRIGHT = FAULTY["BRIGHT"]
SMALL = FAULTY["SMALL"]

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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with hold(tmp_path / "cell", print):
        assert (tmp_path / "cell" / ".lock").exists()
        with pytest.raises(Timeout):
            FileLock(tmp_path / "cell" / ".lock").acquire(timeout=0)


@pytest.mark.parametrize("unfinished", [None, "", '{"pid": 1'])
def test_a_holder_that_is_noted_a_moment_late_is_named(tmp_path: Path, unfinished: str | None) -> None:
    note = tmp_path / HOLDER
    if unfinished is not None:
        note.write_text(unfinished)
    late = threading.Timer(0.1, note.write_text, ['{"pid": 7, "host": "here", "command": "run"}'])
    late.start()
    assert holder(tmp_path) == "process 7 on here (wsssbench run)"
    late.join()


def test_a_holder_that_is_never_noted_is_another_process(tmp_path: Path) -> None:
    assert holder(tmp_path) == "another process"
