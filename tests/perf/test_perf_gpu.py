"""Mining, dense energy, dense CRF and the training step of the paper on a GPU, each against its bar:

    pytest tests/perf -m gpu --benchmark-enable --benchmark-json=gpu.json
    python reports/performance.py gpu.json

Inputs lie on the GPU, every call ends with a wait for it. Where nothing is measured the same runs once and
small, on a GPU if there is one, else on the CPU.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import speed_peers
import torch
from speed_gpu import CLASSES, JpegShapes, Ticks, device_of, drawn_crops, steps_per_second, timed
from speed_peers import filtered_by_pydensecrf
from speed_training import filtered_by_workers, mined_by_workers, new_net
from torch.nn.functional import interpolate

from wsssbench.identity import CrfSet
from wsssbench.machine.hardware import compute_full_float32
from wsssbench.nets.heads import Classifier
from wsssbench.ops import energy as energy_module
from wsssbench.ops.energy import dense_energy
from wsssbench.ops.mean_field import mean_field
from wsssbench.planning.stages import sigma_scale
from wsssbench.plugins.options import build_config
from wsssbench.throughput.device import instruments_of
from wsssbench.types import View
from wsssbench_methods.localizer import Cam, CamPredictor
from wsssbench_methods.rrm import joint, reliable_rule
from wsssbench_methods.rrm.reliable_rule import ReliableRule, reliable_labels_batch
from wsssbench_methods.rrm.step import Rrm, RrmPredictor

pytestmark = [pytest.mark.gpu, pytest.mark.benchmark(group="gpu")]

INFERENCE = CrfSet(*speed_peers.INFERENCE)
RULE = ReliableRule(variant="faithful")
VOC, SMALL = (375, 500), 64  # (H, W) of its images; a side where nothing is measured
IMAGES, SHARE = 8, 0.999  # in a batch of the CRF; of mined pixels that are as on the CPU
STEPS, WORKER_STEPS, UNCOUNTED = 80, 20, 15
Crops = list[dict[str, Any]]


@pytest.fixture
def device(benchmark: Any, gpu_alone: bool) -> str:
    """Where to compute; on a GPU with float32 as runs have it."""
    found = device_of(benchmark, alone=gpu_alone)
    if found == "cuda":
        compute_full_float32()
    return found


@pytest.fixture
def four(request: pytest.FixtureRequest, benchmark: Any) -> tuple[Crops, str]:
    """The reference crops, or drawn ones where they are absent, and what they are called."""
    if not benchmark.enabled:
        return drawn_crops(SMALL), "drawn crops"
    try:
        return request.getfixturevalue("crops"), "crops"
    except pytest.skip.Exception:
        return drawn_crops(), "drawn crops"


def smooth_logits(batch: int, labels: int, size: tuple[int, int]) -> torch.Tensor:
    """(batch, labels, *size) as of a network's coarse grid."""
    coarse = 4 * torch.randn(batch, labels, 12, 12, generator=torch.Generator().manual_seed(0))
    return interpolate(coarse, size=size, mode="bilinear")


def test_mining_a_batch_of_four(benchmark: Any, device: str, four: tuple[Crops, str]) -> None:
    crops, name = four
    side = crops[0]["image"].shape[0]
    cams, tags = torch.zeros(4, CLASSES, side, side), torch.zeros(4, CLASSES, dtype=torch.bool)
    for n, crop in enumerate(crops):
        cams[n, crop["tags"]], tags[n, crop["tags"]] = torch.from_numpy(crop["cams"]), True
    images = torch.from_numpy(np.stack([crop["image"] for crop in crops]))
    on_cpu = reliable_labels_batch(images, cams, tags, RULE)
    there = (images.to(device), cams.to(device), tags)
    same = float((reliable_labels_batch(*there, RULE).cpu() == on_cpu).float().mean())
    assert same > SHARE
    timed(
        benchmark, device, lambda: reliable_labels_batch(*there, RULE), "mining",
        f"reliable labels of 4 {name} of {side}x{side}", note=f"{100 * same:.2f} % of labels as on the CPU",
    )  # fmt: skip


def test_energy_of_four_crops(benchmark: Any, device: str, four: tuple[Crops, str]) -> None:
    crops, name = four
    pixels = torch.from_numpy(np.stack([crop["image"] for crop in crops])).permute(0, 3, 1, 2).float()
    side = pixels.shape[-1]
    probs = smooth_logits(4, CLASSES + 1, (side, side)).softmax(1).to(device).requires_grad_()
    there = (
        pixels.to(device),
        torch.ones(4, side, side, device=device),
        torch.full((4, side, side), 255, dtype=torch.uint8, device=device),
    )

    def forward_and_backward() -> None:
        probs.grad = None
        dense_energy(probs, *there).backward()

    timed(
        benchmark, device, forward_and_backward, "energy",
        f"dense energy of 4 {name} of {side}x{side}, scaled by 0.5, {CLASSES + 1} classes, both ways",
    )  # fmt: skip
    assert probs.grad is not None
    assert torch.isfinite(probs.grad).all()


def test_dense_crf_of_a_batch(benchmark: Any, device: str, tmp_path: Path) -> None:
    size, count = (VOC, IMAGES) if benchmark.enabled else ((SMALL, SMALL + 8), 2)
    data = JpegShapes(tmp_path, count, size)
    image = torch.from_numpy(np.stack([data.image(id) for id in data.ids("train")])).to(device)
    unary = -smooth_logits(count, CLASSES + 1, size).log_softmax(1).to(device)
    timed(
        benchmark, device, lambda: mean_field(unary, image, INFERENCE), "crf",
        f"dense CRF of {count} images of {size[1]}x{size[0]}, {CLASSES + 1} labels, 10 iterations",
        images=count,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- the training step


class Here:
    """Does a pool's work in this process."""

    def starmap(self, work: Any, jobs: Any, chunksize: int = 1) -> list[Any]:
        return [work(*job) for job in jobs]


@contextmanager
def by_workers(measuring: bool, scale: float, batch: int) -> Iterator[str]:
    """Mining and the energy's filter by pydensecrf, in a worker process an image; what that is called."""
    count = min(batch, len(os.sched_getaffinity(0)))
    pool: Any = multiprocessing.get_context("spawn").Pool(count) if measuring else Here()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reliable_rule, "reliable_labels_batch", mined_by_workers(pool, scale))
        patch.setattr(energy_module, "gaussian_filter", filtered_by_workers(pool))
        yield f"mining and energy by pydensecrf in {count} worker processes"
    if measuring:
        pool.terminate()


def trained(ctx: Ticks, data: JpegShapes, config: Any) -> None:
    """The steps of the joint training that `ctx` allows, from random weights, as a run does them."""
    net = new_net(config, CLASSES, config.dropout)
    joint.train_jointly(net, View(data, "train", ("tags",)), config, ctx)


@pytest.mark.parametrize("peer", [False, True], ids=["ours", "workers"])
def test_a_training_step_of_the_paper(benchmark: Any, device: str, tmp_path: Path, peer: bool) -> None:
    if peer:
        pytest.importorskip("pydensecrf", reason="pydensecrf is not installed")
    measuring = benchmark.enabled
    config = build_config("rrm", Rrm, {"preset": "paper" if measuring else "tiny"})
    steps = (WORKER_STEPS if peer else STEPS) if measuring else 2
    (tmp_path / "images").mkdir()
    data = JpegShapes(tmp_path / "images", 64 if measuring else 4, VOC if measuring else (40, 48))
    precision = "bf16" if device == "cuda" else "fp32"
    limit = UNCOUNTED + steps if measuring else steps
    ctx = Ticks(device, precision, "lattice", data.card, tmp_path, None, 0, "rrm", step_limit=limit)
    tools, name = instruments_of(device), ""
    tools.reset_peak()
    if peer:
        with by_workers(measuring, sigma_scale(data.card), config.batch) as name:
            benchmark.pedantic(lambda: trained(ctx, data, config))
    else:
        benchmark.pedantic(lambda: trained(ctx, data, config))
    assert len(ctx.times) == min(limit, config.steps)
    if measuring:
        what = f"training step of rrm, preset `paper`, batch {config.batch} of {config.crop}x{config.crop}"
        rate = steps_per_second(ctx.times, UNCOUNTED)
        what += f", {name}" if name else ", JPEG files decoded beside it"
        found = {"row": "peer" if peer else "paper", "peak_bytes": tools.peak_bytes(), **rate}
        benchmark.extra_info.update(what=what, gpu=found)


@pytest.mark.parametrize("method", ["cam", "rrm"])
def test_inference_on_images_of_voc(benchmark: Any, device: str, tmp_path: Path, method: str) -> None:
    measuring = benchmark.enabled
    (tmp_path / "images").mkdir()
    size = VOC if measuring else (40, 48)
    data = JpegShapes(tmp_path / "images", IMAGES if measuring else 2, size)
    ids = data.ids("train")
    images = [torch.from_numpy(data.image(id)).permute(2, 0, 1).contiguous().to(device) for id in ids]
    tags = np.stack([data.tags(id) for id in ids])
    precision = "bf16" if device == "cuda" else "fp32"
    ctx = Ticks(device, precision, "lattice", data.card, tmp_path, None, 0, method)
    rrm = build_config("rrm", Rrm, {"preset": "paper" if measuring else "tiny"})
    net = new_net(rrm, CLASSES)
    if method == "cam":
        config = build_config("cam", Cam, {} if measuring else {"preset": "tiny"})
        own = Classifier(net.backbone, CLASSES)
        ask, want = CamPredictor(own, config, ctx), frozenset({"maps"})
        what = f"CAM of {rrm.backbone}, {len(config.scales)} scales and their mirror images"
        given: Any = tags
    else:
        ask, want, given = RrmPredictor(net, rrm, ctx), frozenset({"labels"}), None
        what = f"segmentation by rrm on {rrm.backbone}, 1 scale"
    timed(
        benchmark, device, lambda: ask(images, given, (), want), "inference",
        f"{what}, {len(ids)} images of {size[1]}x{size[0]}", images=len(ids),
    )  # fmt: skip


# -------------------------------------------------------------------------------------------- the peer itself


def test_the_filter_by_pydensecrf_is_the_lattice() -> None:
    pytest.importorskip("pydensecrf", reason="pydensecrf is not installed")
    from wsssbench.ops.gaussian import bilateral_features, gaussian_filter

    image = torch.from_numpy(drawn_crops(SMALL)[0]["image"])[None]
    features = bilateral_features(image, 20.0, 15.0)
    values = smooth_logits(1, 5, (image.shape[1], image.shape[2])).softmax(1).flatten(2).transpose(1, 2)
    ours = gaussian_filter(features)(values)[0].numpy()
    theirs = filtered_by_pydensecrf(features[0].numpy(), values[0].contiguous().numpy())
    assert np.mean(np.abs(theirs - ours) < 1e-3 * ours.max()) > 0.99
