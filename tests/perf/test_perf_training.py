"""A joint training step of rrm on `shapes`, by phase, beside the same step with labels mined by pydensecrf.

The peer mines in worker processes, as the released code could have been spread; the energy is ours in both,
because pydensecrf has no filter that could be called alone. A batch is made before the clock runs: decoding
and drawing are not in it. Run as conftest.py says; `wsssbench bench` has the whole protocol. The main job as
a whole takes minutes and is measured apart, by `-m slow`.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from speed_peers import mined_by_pydensecrf
from speed_turns import CORES, Peer, beside, needs_pydensecrf, others_watched
from torch import Tensor

from wsssbench.context import RunContext
from wsssbench.crops import Batch, CropBatches
from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import Classifier, JointNet
from wsssbench.options import build_config
from wsssbench.stages import sigma_scale
from wsssbench.train import make_optimizer, one_step
from wsssbench.types import View
from wsssbench_datasets.shapes import Shapes, ShapesConfig
from wsssbench_methods.rrm import joint
from wsssbench_methods.rrm.config import RrmConfig, crop_rule, joint_schedule
from wsssbench_methods.rrm.step import Rrm
from wsssbench_methods.segment import head_plan

PHASES = ("network", "mining", "energy", "backward", "optimizer")
ROUNDS, MAIN_JOB_SECONDS = 9, 120


def new_step(data: Shapes, config: RrmConfig, ctx: RunContext) -> tuple[Callable[[], object], Batch]:
    """One joint step on a batch made now; untrained weights."""
    torch.manual_seed(0)
    classifier = Classifier(Backbone(config.backbone, config.output_stride), len(data.card.class_names), 0.0)
    net = JointNet(classifier, head_plan(config)).train()
    optimizer = make_optimizer(net.backbone, [net.head, net.segment], joint_schedule(config))
    batch = CropBatches(View(data, "train", ("tags",)), crop_rule(config), config.batch, 1)(0)

    def losses(given: Batch) -> Any:
        return joint.joint_losses(net, given, config, ctx)

    return lambda: one_step(ctx, net, optimizer, losses, batch, 1.0, config.clip), batch


def mined_by_workers(pool: Any, scale: float) -> Callable[..., Tensor]:
    """What stands for `reliable_labels_batch`: the published procedure, an image a job."""

    def mine(images: Tensor, cams: Tensor, tags: Tensor, rule: object, **options: object) -> Tensor:
        classes = [np.flatnonzero(own) for own in tags.numpy()]
        planes = [np.ascontiguousarray(own[c]) for own, c in zip(cams.numpy(), classes, strict=True)]
        jobs = [(image, own, scale) for image, own in zip(images.numpy(), planes, strict=True)]
        found = []
        for label, own in zip(pool.starmap(mined_by_pydensecrf, jobs, chunksize=1), classes, strict=True):
            names = np.full(256, 255, np.uint8)
            names[: len(own) + 1] = [0, *(own + 1)]
            found.append(names[label])
        return torch.from_numpy(np.stack(found))

    return mine


@pytest.mark.benchmark(group="training")
def test_a_training_step_on_shapes(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_pydensecrf(benchmark)
    data = Shapes(ShapesConfig(train=16), 1000)
    config = build_config("rrm", Rrm, {"preset": "shapes" if benchmark.enabled else "tiny"})
    ours, theirs = (
        RunContext("cpu", "fp32", "lattice", data.card, tmp_path, None, 0, "rrm") for _ in range(2)
    )
    step, _ = new_step(data, config, ours)
    other, _ = new_step(data, config, theirs)
    processes = multiprocessing.get_context("spawn")
    pool: Any
    with processes.Pool(CORES) if benchmark.enabled else nullcontext() as pool:
        mine = mined_by_workers(pool, sigma_scale(data.card))

        def step_by_workers() -> None:
            with monkeypatch.context() as patch:
                patch.setattr(joint, "reliable_labels_batch", mine)
                other()

        step()  # the first step compiles and allocates
        ours.timer.seconds.clear()
        beside(
            benchmark, f"joint step of rrm, batch {config.batch} of {config.crop}x{config.crop}", step,
            Peer(f"the same, labels mined by pydensecrf on {CORES} processes", step_by_workers),
            rounds=ROUNDS, threads=CORES, images=config.batch,
        )  # fmt: skip
    if benchmark.enabled:
        mean = {name: ours.timer.seconds[name] / (ROUNDS + 1) for name in PHASES}  # the warm-up is among them
        benchmark.extra_info["phases_ms"] = {name: round(1000 * value, 1) for name, value in mean.items()}


@pytest.mark.slow
@pytest.mark.benchmark(group="main job")
def test_the_main_job_on_shapes(benchmark: Any, tmp_path: Path) -> None:
    if not benchmark.enabled:
        pytest.skip("minutes: only with --benchmark-enable")
    run = ["run", "--method", "cam", "--method", "rrm", "--dataset", "shapes", "--quiet"]
    command = [sys.executable, "-m", "wsssbench", *run, "--runs", str(tmp_path / "runs")]
    with others_watched(benchmark):
        benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=1)
    what = f"`wsssbench {' '.join(run[:-1])}`, start to table"
    benchmark.extra_info.update(what=what, limit={"bar": MAIN_JOB_SECONDS}, threads=CORES)
