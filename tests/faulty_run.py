"""Runs of a made-up method on three drawn images, and what can be done to them: for the tests of faults."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from wsssbench.cli.main import main
from wsssbench.records.store import read_record

BRIGHT = Path(__file__).with_name("bright_step.py")
SMALL = ["-o", "shapes.preset=tiny", "-o", "shapes.train=3", "-o", "shapes.val=3", "--device", "cpu"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No wsssbench.toml is found by chance, and torch's threads stay as they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wsssbench.machine.process.use_machine", lambda: None)


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


def at_call(number: int, original: Callable[..., Any], what: Callable[[], None]) -> Callable[..., Any]:
    """`original`, but that `what` happens before its call `number`, once."""
    calls: list[int] = []

    def wrapped(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            what()
        return original(*args, **more)

    return wrapped


def find(name: str) -> Any:
    """The object that `monkeypatch.setattr(name, ...)` would replace."""
    parts = name.split(".")
    at = next(n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in sys.modules)
    return functools.reduce(getattr, parts[at:], sys.modules[".".join(parts[:at])])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
