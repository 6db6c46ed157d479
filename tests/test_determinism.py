"""The same bytes twice: seeds come from names, and batches and interruptions change no result."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from wsssbench.cli.main import main
from wsssbench.judging import in_order
from wsssbench.judging.judge import score_split
from wsssbench.machine.hardware import CUBLAS_WORKSPACE, compute_deterministically, is_deterministic
from wsssbench.masks import read_labels
from wsssbench.metrics import Iou
from wsssbench.plugins.table import Plugins
from wsssbench.records.finding import find_records
from wsssbench.running import engine, predicting
from wsssbench.running.context import RunContext
from wsssbench.scores.confusion import Accuracy
from wsssbench.testing.tiny import TinyDataset

METHOD, IMAGES = "cam > crf > segmenter", 11


@pytest.fixture(autouse=True)
def undo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch as it was: number of threads and determinism belong to the process."""
    monkeypatch.delenv(CUBLAS_WORKSPACE[0], raising=False)
    threads = torch.get_num_threads()
    yield
    os.environ.pop(CUBLAS_WORKSPACE[0], None)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


def run(runs: Path, *words: str) -> str:
    """A tiny run of three steps on the CPU; what it prints."""
    asked = ["--method", METHOD, "--dataset", "shapes", "--stages", "pseudo,seg+crf", "--limit", str(IMAGES)]
    presets = [f"{name}.preset=tiny" for name in ("shapes", "cam", "segmenter")]
    options = [word for preset in presets for word in ("-o", preset)]
    words = ("run", "--runs", str(runs), "--device", "cpu", "-q", *asked, *options, *words)
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return done.stdout


def files(runs: Path) -> dict[str, str]:
    """sha256 of weights, outputs, judged labels and counts."""
    wanted = [path for end in ("npz", "png", "pt") for path in runs.rglob(f"*.{end}")]
    return {str(p.relative_to(runs)): hashlib.sha256(p.read_bytes()).hexdigest() for p in wanted}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an ordinary run; nobody writes into it."""
    runs = tmp_path_factory.mktemp("fitted") / "runs"
    run(runs)
    return runs


def again(fitted: Path, runs: Path) -> Path:
    """A copy with the fits alone: what was predicted and judged is to be made again."""
    shutil.copytree(fitted, runs)
    for folder in (*runs.glob("*/steps/*/artifacts"), *runs.glob("*/*/seed0")):
        shutil.rmtree(folder)
    return runs


# ---------------------------------------------------------------------------------------------------- seeds


def context(**changes: object) -> RunContext:
    """A context of seed 0 and the step `cam`."""
    known = {"device": "cpu", "precision": "fp32", "filter_backend": "lattice", "card": TinyDataset.card}
    own = {"workdir": Path("nowhere"), "limit": None, "run_seed": 0, "step": "cam"}
    return RunContext(**{**known, **own, **changes})  # type: ignore[arg-type]


def test_a_seed_follows_from_the_names_of_run_step_and_purpose_alone() -> None:
    seed = context().seed("crops")
    assert seed == 3543056776687238586  # committed reports were made with it
    assert context(device="cuda", limit=3, workdir=Path("elsewhere")).seed("crops") == seed
    others = [context().seed("init"), context(step="crf").seed("crops"), context(run_seed=1).seed("crops")]
    assert len({seed, *others}) == 4


# ----------------------------------------------------------------------------------------------- same bytes


def test_a_deterministic_run_gives_the_bytes_of_another_one_and_has_its_key(
    fitted: Path, tmp_path: Path
) -> None:
    run(tmp_path, "--deterministic")
    assert is_deterministic()
    assert files(tmp_path) == files(fitted)
    (one, two), (three, _) = (find_records(runs) for runs in (tmp_path, fitted))
    assert one.record.provenance["deterministic"] is two.record.provenance["deterministic"] is True
    assert "deterministic" not in three.record.provenance
    assert one.record.key == three.record.key


def test_deterministic_computing_is_asked_of_torch_and_of_cublas() -> None:
    assert not is_deterministic()
    compute_deterministically()
    assert is_deterministic()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert os.environ[CUBLAS_WORKSPACE[0]] == CUBLAS_WORKSPACE[1]


def test_labels_made_together_change_no_byte(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "TOGETHER", 3)
    runs = again(fitted, tmp_path / "runs")
    run(runs)
    assert files(runs) == files(fitted)


@pytest.mark.parametrize("threads", [1, 2])
def test_another_number_of_threads_moves_outputs_by_rounding_alone(
    threads: int, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "wsssbench.machine.process.set_threads", lambda *given: torch.set_num_threads(threads)
    )
    runs = again(fitted, tmp_path / "runs")
    run(runs)
    assert files(runs).keys() == files(fitted).keys()
    for path in runs.rglob("maps/*.npz"):
        with np.load(path) as ours, np.load(fitted / path.relative_to(runs)) as theirs:
            assert all(np.abs(ours[name] - theirs[name]).max(initial=0) <= 1e-3 for name in theirs.files)
    masks = list(runs.rglob("masks/*.png"))
    same = [(read_labels(p) == read_labels(fitted / p.relative_to(runs))).mean() for p in masks]
    assert len(masks) == 2 * IMAGES
    assert np.mean(same) > 0.999


def test_after_an_interruption_the_same_images_are_predicted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "PREDICT_BATCH", 2)
    loader = Plugins()
    loader.add_file(Path(__file__).with_name("fake_run.py"))
    fake: Any = sys.modules[loader.load("steps", "first").__module__]
    fake.EVENTS.clear()
    fake.FAULTS.clear()
    fake.run(tmp_path, "first", stages=("seed",))
    assert [n for event, n in fake.EVENTS if event == "first.predict"] == [2, 2, 1]
    (folder,) = tmp_path.glob("toy/steps/first-*/artifacts/train-tags/maps")
    for id in ("train1", "train2"):
        (folder / f"{id}.npz").unlink()
    shutil.rmtree(tmp_path / "toy" / "first")
    fake.EVENTS.clear()
    fake.run(tmp_path, "first", stages=("seed",))
    # 0 and 1, 2 and 3 as before: not 1 and 2
    assert [n for event, n in fake.EVENTS if event == "first.predict"] == [2, 2]


@pytest.mark.parametrize("batch", [1, 5])
def test_the_batch_of_predictions_moves_at_most_the_last_bit_of_what_is_kept(
    batch: int, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "PREDICT_BATCH", batch)
    runs = again(fitted, tmp_path / "runs")
    run(runs)
    values = moved = pixels = changed = 0
    for path in sorted(fitted.rglob("*.npz")):
        if path.parent.name not in ("maps", "probs"):
            continue
        with np.load(path) as one, np.load(runs / path.relative_to(fitted)) as two:
            name = "values" if "values" in one else "probs"
            a, b = (file[name].astype(np.float32) for file in (one, two))
        values, moved = values + a.size, moved + int((a != b).sum())
        np.testing.assert_allclose(a, b, rtol=2**-10, atol=2**-14)
    for path in sorted(fitted.glob("*/*/seed0/*/masks/*.png")):
        ours, theirs = read_labels(path), read_labels(runs / path.relative_to(fitted))
        pixels, changed = pixels + ours.size, changed + int((ours != theirs).sum())
    print(f"batch {batch}: {moved} of {values} kept values and {changed} of {pixels} pixels differ")
    assert values > 5_000
    assert pixels > 10_000
    assert moved <= values / 500
    assert changed <= pixels / 10_000


def test_scores_do_not_depend_on_the_number_of_threads_that_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_order, "WORTH_SECONDS", -1)  # however little an image takes
    data = TinyDataset()
    ids = data.ids("train")

    def judged(threads: int) -> tuple[object, bytes]:
        metrics = (Iou(), Accuracy())
        scores, table = score_split(data, ids, data.mask, metrics, threads=threads)
        return scores, b"".join(c.tobytes() for c in (table.image, table.gold, table.predicted, table.pixels))

    assert judged(1) == judged(2) == judged(5)
