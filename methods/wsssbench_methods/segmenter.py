"""The standard second step: a segmentation network trained on the labels of the step before, whosever.

DeepLab-v2 (Chen et al., PAMI 2018) by the preset `paper`. The presets `shapes`, `mobilenet` and `tiny` take
backbone, head and training of `full` instead, on the backbone of the first steps: a gain of the second step
is then not the gain of a bigger network, and what separates its row from the ceiling's is the labels alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.masks import argmax_labels
from wsssbench.nets.backbones import Backbone
from wsssbench.nets.batching import by_size
from wsssbench.nets.heads import Segmenter
from wsssbench.nets.segment_heads import logit_stride
from wsssbench.ops.gaussian import check_filters
from wsssbench.train import autocast, load_checkpoint
from wsssbench.training.crops import CropRule
from wsssbench.types import (
    Artifacts,
    Context,
    DatasetCard,
    Kind,
    Outputs,
    Predictor,
    Step,
    StepCard,
    View,
    option,
)
from wsssbench_methods.classifier import (
    ClassifierOptions,
    check_network,
    check_weights,
    plan_of,
    schedule_of,
    shared_batches,
    trained_classifier,
)
from wsssbench_methods.presets import SEGMENTER_PRESETS
from wsssbench_methods.rrm.losses import EnergyPlan, check_energy
from wsssbench_methods.segment import HeadOptions, head_plan
from wsssbench_methods.segment_training import SegmentPlan, train_segmenter

RRM_CODE = "RRM code, DenseEnergyLoss.py"


@dataclass(frozen=True)
class LabelledOptions(HeadOptions, ClassifierOptions):
    """Options of a segmentation network that learns from label maps."""

    steps: int = option(20000, "steps on masks", origin="DeepLab-v2: 20,000", low=1)
    batch: int = option(10, "images per step on masks", origin="DeepLab-v2: 10", low=1)
    lr: float = option(
        3e-5, "learning rate of the backbone on masks", origin="own choice, for AdamW", above=0
    )
    head_factor: float = option(
        10.0, "learning rate of the head over that of the backbone", origin="DeepLab-v2", above=0
    )


@dataclass(frozen=True)
class SegmenterConfig(LabelledOptions):
    """Options of `segmenter`."""

    classifier_steps: int = option(
        0, "steps on image tags before; 0: start from the file of weights alone", low=0
    )
    loss: Literal["ce", "joint"] = option(
        "ce", "cross-entropy, or RRM's balanced cross-entropy and gated dense energy", origin="DeepLab-v2: ce"
    )
    loss_scales: tuple[float, ...] = option(
        (1.0,),
        "scales of the image in the loss; of several, their maximum too",
        origin="DeepLab-v2",
        above=0,
        filled=True,
    )
    energy_weight: float = option(
        1e-7,
        "loss=joint: weight of the energy at 160x160 filtered pixels",
        origin=f"{RRM_CODE}; grows with (25600 / N)^2",
        low=0,
    )
    energy_scale: float = option(
        0.5, "loss=joint: images are scaled by this before it", origin=RRM_CODE, above=0
    )
    energy_sigma_xy: float = option(
        100.0, "loss=joint: spatial width in pixels of a VOC image", origin=RRM_CODE, above=0
    )
    energy_sigma_rgb: float = option(15.0, "loss=joint: colour width in 0..255", origin=RRM_CODE, above=0)
    gradient: Literal["published", "true"] = option(
        "published", "loss=joint: as published, or the true derivative", origin=RRM_CODE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss == "joint":
            check_energy(self.crop, self.energy_scale)
        if 1.0 not in self.loss_scales:
            raise ValueError("1.0 is not among loss_scales")


class SegmenterPredictor(Predictor):
    """A fitted segmentation network as a predictor of probabilities and labels."""

    def __init__(self, net: Segmenter, ctx: Context) -> None:
        self.net, self.ctx = net.to(ctx.device).eval(), ctx

    @torch.inference_mode()
    def __call__(
        self,
        images: Sequence[Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> Sequence[Outputs]:
        return by_size(images, lambda stack, m: self._outputs(stack, None if tags is None else tags[m]))

    def _outputs(self, stack: Tensor, tags: NDArray[np.bool_] | None) -> list[Outputs]:
        with self.ctx.phase("network"), autocast(self.ctx):
            logits = self.net(stack).float()
        probs, planes = logits.softmax(1).cpu().numpy(), logits.cpu().numpy()
        size = (stack.shape[-2], stack.shape[-1])
        return [
            Outputs(probs=p, labels=argmax_labels(q, size, None if tags is None else tags[i]))
            for i, (p, q) in enumerate(zip(probs, planes, strict=True))
        ]


class DeepLab(Step):
    """A segmentation network trained on the labels of the step before (DeepLab-v2 by the preset `paper`)."""

    Config = SegmenterConfig
    presets: ClassVar = SEGMENTER_PRESETS
    trains_together = True  # all processes that torchrun starts share its trainings
    card = StepCard(
        name="segmenter",
        version="1",
        role="segmenter",
        supervision=("tags",),  # without classifier_steps: none of its own
        gives=("probs", "labels"),
        learns_from=("labels",),
        paper="Chen et al., DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, PAMI 2018",
    )

    def __init__(self, config: SegmenterConfig) -> None:
        self.config = config
        self.card = replace(
            self.card,
            supervision=("tags",) if config.classifier_steps else (),
            pretraining=config.pretraining if config.weights else "none",
        )

    def ready(self) -> None:
        check_network(self.card.name, self.config.backbone, self.config.output_stride, self.config.weights)

    def ready_on(self, card: DatasetCard, filter_backend: str) -> None:
        if self.config.loss == "joint":
            check_filters(filter_backend, f"{self.card.name}.loss = joint")

    def batches(self) -> Mapping[str, int]:
        return shared_batches(self.config)

    def stride_of(self, kind: Kind) -> float:
        return logit_stride(self.config.head_kind, self.config.output_stride)

    def fit(self, train: View, given: Artifacts, ctx: Context) -> SegmenterPredictor:
        c = self.config
        backbone = classified_backbone(c, train, ctx) if c.classifier_steps else plain_backbone(c, ctx)
        net = new_segmenter(backbone, c, ctx)
        train_segmenter(net, train, self._plan(), ctx, lambda sample: given[sample.id].labels)
        return SegmenterPredictor(net, ctx)

    def restore(self, ctx: Context) -> SegmenterPredictor:
        return restored_segmenter(self.config, ctx)

    def _plan(self) -> SegmentPlan:
        c = self.config
        energy = EnergyPlan(
            c.energy_weight, c.energy_scale, c.energy_sigma_xy, c.energy_sigma_rgb, c.gradient
        )
        return replace(segment_plan(c), scales=c.loss_scales, energy=energy if c.loss == "joint" else None)


def segment_plan(c: LabelledOptions) -> SegmentPlan:
    """The training on labels that these options ask for, by cross-entropy at one scale."""
    schedule = schedule_of(c, c.steps, c.lr, c.head_factor)
    return SegmentPlan(schedule, CropRule(c.crop, (c.scale_low, c.scale_high)), c.batch)


def classified_backbone(c: LabelledOptions, view: View, ctx: Context) -> Backbone:
    """The backbone of the classifier that these options ask for, trained on tags, its BatchNorm frozen."""
    backbone = trained_classifier(plan_of(c), c.weights, view, ctx).backbone
    backbone.freeze_norm()
    return backbone


def plain_backbone(c: LabelledOptions, ctx: Context) -> Backbone:
    """The backbone with the weights of its file, or from scratch where it can learn so."""
    check_weights(c.backbone, c.weights, "segmenter")
    torch.manual_seed(ctx.seed("init"))
    return Backbone(c.backbone, c.output_stride, c.weights)


def new_segmenter(backbone: Backbone, c: LabelledOptions, ctx: Context) -> Segmenter:
    """The network with a fresh head on `backbone`."""
    torch.manual_seed(ctx.seed("init"))
    return Segmenter(backbone, len(ctx.card.class_names), head_plan(c))


def restored_segmenter(c: LabelledOptions, ctx: Context) -> SegmenterPredictor:
    """The fitted network from the step's folder."""
    net = new_segmenter(Backbone(c.backbone, c.output_stride), c, ctx)
    load_checkpoint(ctx.workdir / "ckpt" / "segmenter.pt", net, None)
    return SegmenterPredictor(net, ctx)
