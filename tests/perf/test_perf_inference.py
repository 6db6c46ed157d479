"""Images per second of inference, by stage: a batch through the same functions beside image after image.

Networks are untrained (their time is that of trained ones); images are drawn, or real ones of voc6 in the
sizes that they have. Run as conftest.py says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from speed_turns import CORES, Peer, beside
from torch import Tensor

from wsssbench.judging.labels import CrfCase, DenseCrf
from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import Classifier, JointNet
from wsssbench.planning.stages import STAGES, sigma_scale
from wsssbench.plugins.options import build_config
from wsssbench.running.context import RunContext
from wsssbench.types import Dataset, DatasetCard
from wsssbench_datasets.shapes.dataset import Shapes, ShapesConfig
from wsssbench_datasets.voc12.dataset import Voc12
from wsssbench_methods.localizer import Cam, CamPredictor
from wsssbench_methods.rrm.step import Rrm, RrmPredictor

CLASSES = 5  # of the probabilities that the CRF is given, besides background
PRESETS = {"shapes": "shapes", "voc6": "mobilenet"}
BATCH = {"shapes": 16, "voc12": 8}  # images


@pytest.fixture(params=PRESETS)
def source(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> tuple[Dataset, str]:
    """A data set and the preset whose networks fit it."""
    name = request.param
    drawn = Shapes(ShapesConfig(train=32), 1000) if name == "shapes" else None
    return drawn or Voc12(build_config("voc12", Voc12, {"root": str(shared("data/voc6"))}), 0), PRESETS[name]


def pictures(data: Dataset, measuring: bool) -> tuple[list[Tensor], np.ndarray]:
    """A batch, uint8 (3, H, W) each, with tags (B, K); where nothing is measured, corners of two images."""
    ids = data.ids("train")[: BATCH[data.card.name] if measuring else 2]
    images = [torch.from_numpy(np.ascontiguousarray(data.image(id).transpose(2, 0, 1))) for id in ids]
    images = images if measuring else [image[:, :64, :64].contiguous() for image in images]
    return images, np.stack([data.tags(id) for id in ids])


def context(card: DatasetCard, folder: Path) -> RunContext:
    return RunContext("cpu", "fp32", "lattice", card, folder, None, 0, "speed")


def measure(
    benchmark: Any, stage: str, data: Dataset, images: Sequence[Tensor], batched: Any, one_by_one: Any
) -> None:
    sizes = len({image.shape for image in images})
    sides = "96x96" if data.card.name == "shapes" else f"of voc6, at most 375 px, {sizes} sizes"
    beside(
        benchmark, f"{stage}, {len(images)} images {sides}", batched,
        Peer("the same, image after image", one_by_one),
        rounds=3, threads=CORES, images=len(images), stage=stage,
    )  # fmt: skip


@pytest.mark.benchmark(group="inference")
def test_cam_of_several_scales_and_mirror_images(
    benchmark: Any, source: tuple[Dataset, str], tmp_path: Path
) -> None:
    data, preset = source
    images, tags = pictures(data, benchmark.enabled)
    config = build_config("cam", Cam, {"preset": preset})
    net = Classifier(Backbone(config.backbone, config.output_stride), tags.shape[1], config.dropout)
    predict = CamPredictor(net, config, context(data.card, tmp_path))
    want = frozenset({"maps"})
    stage = f"CAM, {len(config.scales)} scales and their mirror images"
    measure(
        benchmark, stage, data, images,
        lambda: predict(images, tags, (), want),
        lambda: [predict([image], tags[n : n + 1], (), want) for n, image in enumerate(images)],
    )  # fmt: skip


@pytest.mark.benchmark(group="inference")
def test_segmentation_batched_by_size(benchmark: Any, source: tuple[Dataset, str], tmp_path: Path) -> None:
    data, preset = source
    images, tags = pictures(data, benchmark.enabled)
    config = build_config("rrm", Rrm, {"preset": preset})
    classifier = Classifier(Backbone(config.backbone, config.output_stride), tags.shape[1], config.dropout)
    predict = RrmPredictor(JointNet(classifier, config.head_plan()), config, context(data.card, tmp_path))
    want = frozenset({"labels"})
    measure(
        benchmark, "segmentation by rrm, 1 scale", data, images,
        lambda: predict(images, None, (), want),
        lambda: [predict([image], None, (), want) for image in images],
    )  # fmt: skip


@pytest.mark.benchmark(group="inference")
def test_crf_of_a_batch(benchmark: Any, source: tuple[Dataset, str]) -> None:
    data, _ = source
    images, _ = pictures(data, benchmark.enabled)
    params = STAGES["seg+crf"].crf
    assert params is not None
    crf = DenseCrf(replace(params, iterations=10), sigma_scale(data.card), "lattice")
    cases = [crf_case(image.permute(1, 2, 0).numpy()) for image in images]
    measure(
        benchmark, f"dense CRF, {CLASSES + 1} labels", data, images,
        lambda: crf.labels(cases),
        lambda: [crf.labels([case]) for case in cases],
    )  # fmt: skip


def crf_case(image: np.ndarray) -> CrfCase:
    """The CRF's question about an image: probabilities on a grid of a cell for 8 pixels."""
    height, width = image.shape[:2]
    draw = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(CLASSES + 1, -(-height // 8), -(-width // 8), generator=draw)
    return CrfCase(image, logits.softmax(0).numpy(), np.arange(CLASSES + 1))
