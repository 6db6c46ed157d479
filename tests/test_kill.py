"""Nothing is lost: a benchmark killed at any moment goes on and finds what an undisturbed one finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TRIALS = Path(__file__).with_name("kill_trials.py")


def result(folder: Path, trials: int, seed: int) -> dict[str, Any]:
    found = subprocess.run(
        [sys.executable, str(TRIALS), str(folder), str(trials), str(seed)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    answer: dict[str, Any] = json.loads(found.stdout)
    return answer


def check(found: dict[str, Any], trials: int, seed: int) -> None:
    assert found["files"] > 50, "records, counts and masks of two methods"
    assert len(found["moments"]) == trials
    assert found["phases"].get("over already", 0) < trials, "no benchmark was killed"
    assert not found["differences"], f"seed {seed}: {found}"


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the trials fork")


@needs_fork
def test_two_killed_benchmarks_end_as_an_undisturbed_one(tmp_path: Path) -> None:
    check(result(tmp_path, 2, seed=7), 2, seed=7)


@needs_fork
@pytest.mark.slow
def test_fifty_killed_benchmarks_end_as_an_undisturbed_one(tmp_path: Path) -> None:
    check(result(tmp_path, 50, seed=0), 50, seed=0)
