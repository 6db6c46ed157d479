"""What a run holds and shares: predictors in memory, outputs of parts of a split, the cache of digests."""

from __future__ import annotations

import gc
import hashlib
import json
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsssbench.errors import WsssError
from wsssbench.files.file_hashes import file_sha256
from wsssbench.machine.hardware import resolve_hardware
from wsssbench.plugins.table import Plugins
from wsssbench.running.engine import Engine
from wsssbench.running.screen.progress import Progress
from wsssbench.running.step_runner import StepRunner
from wsssbench.types import Outputs
from wsssbench_datasets import file_facts

HERE = Path(__file__).parent
_LOADER = Plugins()
_LOADER.add_file(HERE / "fake_run.py")
fake: Any = sys.modules[_LOADER.load("steps", "first").__module__]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    fake.EVENTS.clear()
    fake.FAULTS.clear()
    yield
    fake.FAULTS.clear()


class Predictor:
    """A predictor that can be watched."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, *given: Any) -> Any:
        return self.inner(*given)


def test_predictors_that_no_later_cell_needs_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Predictor]] = []
    counts: list[int] = []
    true = fake.Fake._predictor

    def watched(self: Any, ctx: Any) -> Predictor:
        gc.collect()
        counts.append(sum(ref() is not None for ref in alive))
        found = Predictor(true(self, ctx))
        alive.append(weakref.ref(found))
        return found

    monkeypatch.setattr(fake.Fake, "_predictor", watched)
    assert fake.run(tmp_path, "first", "other", "first > second", seeds=(0, 1))[0] == 0
    # of each seed: first, other; first stays for second
    assert counts == [0, 1, 1, 0, 1, 1]
    assert fake.count("first.fit") == 2


def test_a_failed_training_does_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nets: list[weakref.ref[Predictor]] = []

    def fit(self: Any, *_: Any) -> Any:
        def step() -> None:
            net = Predictor(None)
            nets.append(weakref.ref(net))
            raise MemoryError("no room")

        try:
            step()
        except MemoryError as error:
            raise WsssError("too large a batch") from error

    monkeypatch.setattr(fake.First, "fit", fit)
    settings, cells = fake.plan(tmp_path, stages=("pseudo", "seg"))
    engine = Engine(StepRunner(resolve_hardware(settings), None, Progress(quiet=True)))
    assert engine.run(cells) == 2
    gc.collect()
    assert [net() for net in nets] == [None]


def test_outputs_do_not_depend_on_which_part_of_a_split_was_asked_for_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = fake.Fake._predictor

    def with_company(self: Any, ctx: Any) -> Any:
        """As on a GPU: the last bits depend on the images that are predicted together."""
        inner = true(self, ctx)

        def predict(images: Any, *given: Any) -> list[Outputs]:
            shift = np.float32(sum(float(image.float().mean()) for image in images) / 2**12)
            found = inner(images, *given)
            return [replace(o, maps=replace(o.maps, values=o.maps.values + shift)) for o in found]

        return predict

    monkeypatch.setattr(fake.Fake, "_predictor", with_company)
    found = []
    for order in ("part first", "whole first"):
        settings, (cell,) = fake.plan(tmp_path / order)
        runner = StepRunner(resolve_hardware(settings), None, Progress(quiet=True))
        (step,) = cell.trial.steps
        parts = [("train1", "train3"), None]
        for part in parts if order == "part first" else parts[::-1]:
            runner.artifacts(cell.trial, step, "train", ["maps"], tags_given=False, part=part)
        found.append({k: v for k, v in fake.content(step.folder / "artifacts").items() if "maps" in k})
    assert found[0] == found[1]
    assert len(found[0]) == 7


def test_processes_that_write_the_cache_of_digests_keep_each_others_entries(tmp_path: Path) -> None:
    cache, files = tmp_path / "digests.json", [tmp_path / "mine", tmp_path / "theirs"]
    for path in files:
        path.write_text(path.name)

    def meanwhile(path: Path) -> str:
        """Another process begins and ends while this one reads a file."""
        file_facts.file_digests(files[1:], cache)
        return file_sha256(path)

    file_facts.remembered(files[:1], meanwhile, cache)
    assert set(json.loads(cache.read_text())) == set(map(str, files))


def test_a_cache_of_digests_that_cannot_be_locked_costs_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_facts, "LONGEST_WAIT", 0.01)
    cache, file = tmp_path / "digests.json", tmp_path / "file"
    file.write_text("content")
    with file_facts.FileLock(tmp_path / "digests.json.lock"):
        found = file_facts.file_digests([file], cache)
    assert found == [hashlib.sha256(b"content").hexdigest()]
    assert not cache.exists()
