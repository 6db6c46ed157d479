"""Smoke tests of what a GPU runs, beside the same on the CPU; without CUDA the GPU's half is skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsssbench.masks import read_labels
from wsssbench.ops.gaussian import bilateral_features, gaussian_filter
from wsssbench.ops.lattice_torch import TorchLatticeFilter

CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_the_lattice_in_torch_agrees_with_the_compiled_one(device: str) -> None:
    draw = torch.Generator().manual_seed(9)
    image = torch.randint(0, 256, (2, 24, 32, 3), generator=draw, dtype=torch.uint8)
    features = bilateral_features(image, 20.0, 25.0)
    values = torch.rand(2, 24 * 32, 5, generator=draw)
    compiled = gaussian_filter(features, "lattice")(values)
    out = TorchLatticeFilter(features.to(device))(values.to(device))
    assert out.device.type == device
    assert (out.cpu() - compiled).abs().max() < 1e-4 * compiled.abs().max()


def tiny_run(runs: Path, device: str) -> tuple[int, list[Any]]:
    """`rrm` and `cam > crf` for a few steps on a small drawing of `shapes`."""
    from wsssbench.machine.hardware import resolve_hardware
    from wsssbench.planning.plan import make_plan
    from wsssbench.planning.settings import Settings
    from wsssbench.plugins.table import Plugins
    from wsssbench.running.engine import Engine
    from wsssbench.running.screen.progress import Progress
    from wsssbench.running.step_runner import StepRunner

    settings = Settings(
        methods=("rrm", "cam > crf"),
        datasets=("shapes",),
        stages=("pseudo", "seg", "seg+crf"),
        runs=runs,
        device=device,
        options={name: {"preset": "tiny"} for name in ("cam", "rrm")},
        dataset_options={"shapes": {"preset": "tiny"}},
        limit=6,
    )
    cells = make_plan(settings, Plugins())
    return Engine(StepRunner(resolve_hardware(settings), 6, Progress(quiet=True))).run(cells), cells


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_a_tiny_run_ends_well_and_records_where_it_ran(device: str, tmp_path: Path) -> None:
    from wsssbench.records.store import read_record

    failed, cells = tiny_run(tmp_path, device)
    ran = [cell for cell in cells if cell.state != "skip"]
    records = [read_record(cell.folder) for cell in ran]
    assert (failed, [record.reason for record in records]) == (0, [""] * 5)
    precision = "bf16" if device == "cuda" else "fp32"
    assert {record.identity.precision for record in records} == {precision}
    assert {record.provenance["hardware"]["device"] for record in records} == {device}
    assert all(("gpu" in record.provenance["hardware"]) == (device == "cuda") for record in records)
    for cell in ran:
        data = cell.trial.dataset
        for id in data.ids(cell.split)[:6]:
            labels = read_labels(cell.folder / "masks" / f"{id}.png")
            assert labels.shape == data.image(id).shape[:2]
            assert set(np.unique(labels)) <= {*range(len(data.card.class_names) + 1), 255}


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_what_a_fitted_rrm_says_are_arrays_of_the_contract(device: str, tmp_path: Path) -> None:
    from wsssbench.machine.hardware import resolve_hardware
    from wsssbench.planning.settings import Settings
    from wsssbench.running.screen.progress import Progress
    from wsssbench.running.step_runner import StepRunner
    from wsssbench.types import KINDS, Outputs

    _, cells = tiny_run(tmp_path, device)
    trial = cells[0].trial
    runner = StepRunner(resolve_hardware(Settings(device=device)), 6, Progress(quiet=True))
    predictor = runner.fitted(trial, trial.steps[0])
    image = torch.from_numpy(trial.dataset.image(trial.dataset.ids("train")[0])).permute(2, 0, 1)
    tags = trial.dataset.tags(trial.dataset.ids("train")[0])
    (found,) = predictor([image.to(device)], tags[None], [Outputs()], frozenset(KINDS))
    classes, size = len(tags), tuple(image.shape[1:])
    assert found.maps is not None
    assert found.maps.classes.tolist() == np.flatnonzero(tags).tolist()
    assert found.maps.values.shape == (tags.sum(), size[0] // 8, size[1] // 8)
    assert found.probs is not None
    assert found.probs.shape == (classes + 1, size[0] // 4, size[1] // 4)
    assert np.allclose(found.probs.sum(0), 1, atol=1e-3)
    assert {found.maps.values.dtype, found.probs.dtype} == {np.dtype(np.float32)}
    for labels in (found.labels, found.mined):
        assert labels is not None
        assert (labels.shape, labels.dtype) == (size, np.uint8)
    assert found.tag_scores is not None
    assert found.tag_scores.shape == (classes,)
