"""Runs of the patient step, for tests of processes and of a cluster (read by `runpy`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from wsssbench.cli.main import main

PATIENT = Path(__file__).with_name("patient_step.py")
SMALL = ["-o", "shapes.preset=tiny", "-o", "shapes.train=3", "-o", "shapes.val=3", "--device", "cpu"]
SOME_TIME = 120.0  # seconds that a busy machine may take


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No wsssbench.toml is found by chance, and torch's threads stay as they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wsssbench.machine.process.use_machine", lambda *threads: None)


def words(*more: object, method: str = "patient") -> list[str]:
    """`run` of the patient step on three drawn images, its maps judged on three others."""
    given = ["run", "--plugin", PATIENT, "--method", method, "--dataset", "shapes", *SMALL, "--stages", "seg"]
    return [str(word) for word in (*given, *more)]


def run(*more: object, method: str = "patient") -> Result:
    return CliRunner().invoke(main, words(*more, method=method))


def records(runs: Path | str) -> dict[str, Any]:
    """What the records of a run say, but for times and places."""
    folder = Path(runs)
    found = {
        str(path.relative_to(folder)): json.loads(path.read_text()) for path in folder.rglob("record.json")
    }
    return {
        name: {key: value for key, value in record.items() if key not in ("timing", "provenance")}
        for name, record in found.items()
    }
