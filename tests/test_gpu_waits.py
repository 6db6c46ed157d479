"""No step of a training waits for a GPU: whole steps on CUDA tensors that torch fakes, which raise where a
number of the device is asked for (fake_gpu.py); and beside it real steps where there is a GPU.

All that is around Triton's kernels runs; these alone are left out. A kernel that waits inside itself cannot
be seen by fakes; the tests with the marker `gpu` see it.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import Classifier, JointNet, Segmenter
from wsssbench.nets.segment_heads import HeadPlan
from wsssbench.plugins.options import build_config
from wsssbench.running.context import RunContext
from wsssbench.testing.tiny import TinyDataset, made_up_outputs
from wsssbench.train import Losses, Schedule, one_step
from wsssbench.training.crops import Batch, CropBatches, CropRule
from wsssbench.training.late_losses import LATE_STEPS, sent
from wsssbench.types import KINDS, View
from wsssbench_methods import classifier, segment_training
from wsssbench_methods.cam_family import GradientPredictor, ScorePredictor
from wsssbench_methods.localizer import Cam, CamPredictor
from wsssbench_methods.map_rules import RULES
from wsssbench_methods.reliable import ReliablePredictor
from wsssbench_methods.rrm import joint
from wsssbench_methods.rrm.losses import EnergyPlan
from wsssbench_methods.rrm.reliable_rule import RuleOptions
from wsssbench_methods.rrm.step import Rrm, RrmPredictor
from wsssbench_methods.segment_training import SegmentPlan
from wsssbench_methods.segmenter import SegmenterPredictor

gpu: Any = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("fake_gpu.py"))))
WAITS = (gpu.Waited, DataDependentOutputException, DynamicOutputShapeException)

RULE = CropRule(32, (0.7, 1.3))
HEAD = HeadPlan("detail", 8, 1)
ENERGY = EnergyPlan(1e-7, 0.5, 100, 15, "true")


def context(folder: Path, precision: str = "bf16") -> RunContext:
    return RunContext("cuda", precision, "lattice", TinyDataset.card, folder, None, 3, "toy")


# --------------------------------------------------------------------------------------------- the trainings

# Each ends up in the loop that stands in the place of `train`, with what a method hands to that.
Training = Callable[[RunContext], None]


def tags_learned(ctx: RunContext) -> None:
    plan = classifier.ClassifierPlan("small", 8, "", 0.5, RULE, 4, Schedule(10, 0.01))
    net = Classifier(Backbone("small", 8), 2)
    classifier.fit_tags(net, View(TinyDataset(), "train", ("tags",)), plan, ctx)


def jointly(**options: Any) -> Training:
    def run(ctx: RunContext) -> None:
        config: Any = build_config("rrm", Rrm, {"preset": "tiny", "batch": 4, **options})
        net = JointNet(Classifier(Backbone("small", 8), 2), HEAD)
        joint.train_jointly(net, View(TinyDataset(), "train", ("tags",)), config, ctx)

    return run


def masks_learned(head: HeadPlan = HEAD, optimizer: str = "adamw", **plan: Any) -> Training:
    def run(ctx: RunContext) -> None:
        net = Segmenter(Backbone("small", 8), 2, head)
        view = View(TinyDataset(), "train", ("tags", "masks"))
        schedule = Schedule(10, 0.01, optimizer=optimizer)
        segment_training.train_segmenter(net, view, SegmentPlan(schedule, RULE, 4, **plan), ctx)

    return run


TRAININGS: dict[str, Training] = {
    "classifier": tags_learned,
    "joint, several scales, black padding": jointly(cam_scales=(1.0, 0.5, 1.5), padding="black"),
    "joint, all traps": jointly(variant="faithful", optimizer="sgd"),
    "joint, true gradient of an energy at another scale": jointly(energy_scale=0.4, gradient="true"),
    "segmenter, joint loss": masks_learned(energy=ENERGY, scales=(1.0, 0.5)),
    "segmenter, aspp, sgd": masks_learned(HeadPlan("aspp", 8, 2), "sgd"),
}


def on_a_fake_gpu(training: Training, loop: FakeLoop, ctx: RunContext) -> None:
    """Run `training` with its network put on a GPU in name alone, until the loop moves it."""
    with gpu.networks_stay():
        in_place_of_train(training, loop, ctx)


def in_place_of_train(training: Training, loop: Callable[..., None], ctx: RunContext) -> None:
    """Run `training` with `loop` for the loop that methods share."""
    with ExitStack() as stack:
        for module in (classifier, joint, segment_training):
            stack.enter_context(mock.patch.object(module, "train", loop))
        training(ctx)


def odd_batch(crops: CropBatches, step: int) -> Batch:
    """A batch with padding, an image of every class, and one without any."""
    batch = crops(step)
    assert not batch.valid.all()
    tags = batch.tags.clone()
    tags[0], tags[1] = 1, 0
    return replace(batch, tags=tags, most_tags=tags.shape[1])


def faked(batch: Batch) -> Batch:
    """The same on the host, without numbers."""
    return batch._each(lambda tensor: gpu.fake(tensor, "cpu"))


@dataclass
class FakeLoop:
    """Steps on a fake GPU, and the way of their losses to the host. `spoil` sees the losses before a backward
    pass; the first step may wait, for what is made once and kept."""

    spoil: Callable[[Losses], object] = len
    precisions: set[torch.dtype] = field(default_factory=set)  # in which the network ran

    def __call__(
        self, ctx: Any, name: str, net: nn.Module, optimizer: Any, crops: CropBatches, losses: Any,
        plan: Schedule, check: Any,
    ) -> None:  # fmt: skip
        batches = [odd_batch(crops, step) for step in range(2)]
        net.train()

        def spoiled(batch: Batch) -> Losses:
            values: Losses = losses(batch)
            self.spoil(values)
            return values

        with gpu.fake_gpu() as watch, gpu.launches_left_out():
            gpu.move(net, optimizer)
            before = gpu.Event.waits
            for step, batch in enumerate(batches):
                watch.strict = step > 0
                values = one_step(ctx, net, optimizer, spoiled, faked(batch), 0.5, plan.clip)
                assert {value.device.type for value in values.values()} == {"cuda"}
                sent(values)
            learned = [p for group in optimizer.param_groups for p in group["params"]]
            assert all(p.grad is not None and p.grad.is_cuda for p in learned)
            assert gpu.Event.waits == before
            self.precisions |= watch.precisions


@pytest.mark.parametrize("name", TRAININGS)
def test_no_step_of_a_training_waits_for_the_device(name: str, tmp_path: Path) -> None:
    loop = FakeLoop()
    on_a_fake_gpu(TRAININGS[name], loop, context(tmp_path))
    assert loop.precisions == {torch.bfloat16}


@pytest.mark.parametrize("backend", ["lattice", "exact"])
def test_nor_does_one_in_float32(backend: str, tmp_path: Path) -> None:
    loop = FakeLoop()
    ctx = replace(context(tmp_path, "fp32"), filter_backend=backend)
    on_a_fake_gpu(TRAININGS["joint, all traps"], loop, ctx)
    assert loop.precisions == {torch.float32}


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.item(),
        lambda x: x > 0 or None,
        lambda x: x.cpu(),
        lambda x: x.expand(2)[x.expand(2) > 0],
        lambda x: x.repeat(2)[[1]],
        lambda x: torch.tensor([1.0, 2.0], device=x.device),
        lambda x: torch.zeros(2, device=x.device).copy_(torch.full((2,), 1.0)),
        lambda x: torch.unique(x),
    ],
)
def test_a_wait_is_noticed(wait: Callable[[Tensor], object]) -> None:
    with gpu.fake_gpu(), pytest.raises(WAITS):
        wait(gpu.fake(torch.ones(())))


def test_a_step_with_a_wait_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WAITS):
        on_a_fake_gpu(tags_learned, FakeLoop(spoil=lambda values: values["cls"].item()), context(tmp_path))


def test_a_step_with_a_tensor_that_was_left_on_the_host_is_refused(tmp_path: Path) -> None:
    loop = FakeLoop(spoil=lambda values: values["total"].view(1) + torch.full((1,), 1.0))
    with pytest.raises(RuntimeError, match="same device"):
        on_a_fake_gpu(tags_learned, loop, context(tmp_path))


# -------------------------------------------------------------------------------------------- predictions


def cam_predictor(ctx: RunContext) -> CamPredictor:
    options = {"preset": "tiny", "scales": (1.0, 0.5)}
    return CamPredictor(Classifier(Backbone("small", 8), 2), build_config("cam", Cam, options), ctx)


def rrm_predictor(**options: Any) -> Callable[[RunContext], Any]:
    config: Any = build_config("rrm", Rrm, {"preset": "tiny", "test_scales": (1.0, 0.5), **options})
    return lambda ctx: RrmPredictor(JointNet(Classifier(Backbone("small", 8), 2), HEAD), config, ctx)


PREDICTORS: dict[str, Callable[[RunContext], Any]] = {
    "rrm": rrm_predictor(),
    "rrm, all traps": rrm_predictor(variant="faithful"),
    "cam": cam_predictor,
    "layercam": lambda ctx: GradientPredictor(cam_predictor(ctx), RULES["layercam"], ("0.blocks.0", "last")),
    "scorecam": lambda ctx: ScorePredictor(cam_predictor(ctx), 8),
    "segmenter": lambda ctx: SegmenterPredictor(Segmenter(Backbone("small", 8), 2, HEAD), ctx),
    "reliable": lambda ctx: ReliablePredictor(RuleOptions(), ctx),
}


@pytest.mark.parametrize(
    ("name", "tagged"), [*((name, True) for name in PREDICTORS), ("rrm", False), ("scorecam", False)]
)
def test_what_predicts_keeps_to_its_device_and_gives_arrays(name: str, tagged: bool, tmp_path: Path) -> None:
    """Shapes and devices, not numbers: `numpy()` gives zeros here."""
    data = TinyDataset()
    ids = [id for n, id in enumerate(data.ids("train")) if n % 3 < 2][:4]  # of one size
    with gpu.networks_stay():
        predict = PREDICTORS[name](context(tmp_path))
    images = [torch.from_numpy(data.image(id).transpose(2, 0, 1).copy()) for id in ids]
    given = [made_up_outputs(data, id, ("maps",)) for id in ids]
    tags = np.stack([data.tags(id) for id in ids]) if tagged else None
    with gpu.fake_gpu() as watch, gpu.launches_left_out(), gpu.made_up_numbers():
        watch.strict = False
        if hasattr(predict, "net"):
            gpu.move(predict.net)
        found = predict([gpu.fake(image) for image in images], tags, given, frozenset(KINDS))
    assert len(found) == len(ids)
    for outputs, id in zip(found, ids, strict=True):
        for labels in (outputs.labels, outputs.mined):
            assert labels is None or labels.shape == data.scene(id)[1].shape
        maps = outputs.maps
        assert maps is None or not tagged or maps.classes.tolist() == np.flatnonzero(data.tags(id)).tolist()


# ----------------------------------------------------------------------------------------------------- GPU


class RealLoop:
    """Steps on a GPU; once everything is there that is made once, a wait is an error."""

    steps = 0

    def __call__(
        self, ctx: Any, name: str, net: nn.Module, optimizer: Any, crops: CropBatches, losses: Any,
        plan: Schedule, check: Any,
    ) -> None:  # fmt: skip
        net.train()
        reads: list[Callable[[], Losses]] = []
        for step in range(6):
            batch = odd_batch(crops, step).pinned()
            torch.cuda.set_sync_debug_mode("error" if step > 1 else "default")
            try:
                reads.append(sent(one_step(ctx, net, optimizer, losses, batch, 0.5, plan.clip)))
            finally:
                torch.cuda.set_sync_debug_mode("default")
            if step >= LATE_STEPS:
                assert reads[step - LATE_STEPS]()["total"].isfinite()
        self.steps += 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", TRAININGS)
def test_steps_on_a_gpu_wait_for_nothing(name: str, tmp_path: Path) -> None:
    loop = RealLoop()
    in_place_of_train(TRAININGS[name], loop, context(tmp_path))
    assert loop.steps == 1
