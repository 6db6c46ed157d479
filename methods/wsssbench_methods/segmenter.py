"""The standard second step: a segmentation network trained on the labels of the step before, whosever.

DeepLab-v2 (Chen et al., PAMI 2018) by the preset `paper`. The presets `shapes`, `mobilenet` and `tiny` take
backbone, head and training of `full` instead, on the backbone of the first steps: a gain of the second step
is then not the gain of a bigger network, and what separates its row from the ceiling's is the labels alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from wsssbench.masks import argmax_labels
from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import Segmenter
from wsssbench.nets.segment_heads import logit_stride
from wsssbench.ops.gaussian import check_filters
from wsssbench.train import autocast, load_checkpoint
from wsssbench.types import Artifacts, Context, DatasetCard, Kind, Outputs, StepCard, View, option
from wsssbench_methods.classifier import ClassifierStep, check_network, check_weights
from wsssbench_methods.network_options import ClassifierOptions, EnergyOptions, HeadOptions
from wsssbench_methods.predictors import NetPredictor, TagRows
from wsssbench_methods.presets import SEGMENTER_PRESETS
from wsssbench_methods.rrm.losses import check_energy, energy_plan
from wsssbench_methods.segment_training import SegmentPlan, train_segmenter


@dataclass(frozen=True)
class LabelledOptions(HeadOptions, ClassifierOptions):
    """Options of a segmentation network that learns from label maps."""

    steps: int = option(20000, "steps on masks", origin="DeepLab-v2: 20,000", low=1)
    batch: int = option(10, "images per step on masks", origin="DeepLab-v2: 10", low=1)


@dataclass(frozen=True)
class SegmenterConfig(EnergyOptions, LabelledOptions):
    """Options of `segmenter`."""

    classifier_steps: int = option(
        0, "steps on image tags before; 0: start from the file of weights alone", low=0
    )
    loss: Literal["ce", "joint"] = option(
        "ce",
        "ce: cross-entropy; joint: RRM's balanced cross-entropy and gated dense energy, whose options "
        "(energy_*, gradient) count with it alone",
        origin="DeepLab-v2: ce",
    )
    loss_scales: tuple[float, ...] = option(
        (1.0,),
        "scales of the image in the loss; of several, their maximum too",
        origin="DeepLab-v2",
        above=0,
        filled=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss == "joint":
            check_energy(self.crop, self.energy_scale)
        if 1.0 not in self.loss_scales:
            raise ValueError("1.0 is not among loss_scales")


class SegmenterPredictor(NetPredictor[Segmenter, None]):
    """A fitted segmentation network as a predictor of probabilities and labels."""

    def __init__(self, net: Segmenter, ctx: Context) -> None:
        super().__init__(net, None, ctx)

    def _outputs(self, stack: Tensor, tags: TagRows, want: frozenset[Kind]) -> list[Outputs]:
        with self.ctx.phase("network"), autocast(self.ctx):
            logits = self.net(stack).float()
        probs, planes = logits.softmax(1).cpu().numpy(), logits.cpu().numpy()
        size = (stack.shape[-2], stack.shape[-1])
        return [
            Outputs(probs=p, labels=argmax_labels(q, size, None if tags is None else tags[i]))
            for i, (p, q) in enumerate(zip(probs, planes, strict=True))
        ]


class LabelledStep(ClassifierStep):
    """A segmentation network that learns from label maps: what `full` and `segmenter` share."""

    config: LabelledOptions

    def stride_of(self, kind: Kind) -> float:
        return logit_stride(self.config.head_kind, self.config.output_stride)

    def restore(self, ctx: Context) -> SegmenterPredictor:
        c = self.config
        net = self._network(Backbone(c.backbone, c.output_stride), ctx)
        load_checkpoint(ctx.workdir / "ckpt" / "segmenter.pt", net, None)
        return SegmenterPredictor(net, ctx)

    def _network(self, backbone: Backbone, ctx: Context) -> Segmenter:
        """The network with a fresh head on `backbone`."""
        torch.manual_seed(ctx.seed("init"))
        return Segmenter(backbone, len(ctx.card.class_names), self.config.head_plan())

    def _classified_backbone(self, view: View, ctx: Context) -> Backbone:
        """The backbone of the classifier of the options, trained on tags, its BatchNorm frozen."""
        backbone = self._classifier(view, ctx).backbone
        backbone.freeze_norm()
        return backbone

    def _segment_plan(self) -> SegmentPlan:
        """The training on labels that the options ask for, by cross-entropy at one scale."""
        c = self.config
        return SegmentPlan(c.schedule(c.steps, c.lr, c.head_factor, c.optimizer), c.crop_rule(), c.batch)


class DeepLab(LabelledStep):
    """A segmentation network trained on the labels of the step before (DeepLab-v2 by the preset `paper`)."""

    Config = SegmenterConfig
    presets: ClassVar = SEGMENTER_PRESETS
    config: SegmenterConfig
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
        super().__init__(config)
        self.card = replace(self.card, supervision=("tags",) if config.classifier_steps else ())

    def ready(self) -> None:
        check_network(self.card.name, self.config)

    def ready_on(self, card: DatasetCard, filter_backend: str) -> None:
        if self.config.loss == "joint":
            check_filters(filter_backend, f"{self.card.name}.loss = joint")

    def fit(self, train: View, given: Artifacts, ctx: Context) -> SegmenterPredictor:
        classified = self.config.classifier_steps
        backbone = self._classified_backbone(train, ctx) if classified else self._plain_backbone(ctx)
        net = self._network(backbone, ctx)
        train_segmenter(net, train, self._segment_plan(), ctx, lambda sample: given[sample.id].labels)
        return SegmenterPredictor(net, ctx)

    def _segment_plan(self) -> SegmentPlan:
        c, plan = self.config, super()._segment_plan()
        return replace(plan, scales=c.loss_scales, energy=energy_plan(c) if c.loss == "joint" else None)

    def _plain_backbone(self, ctx: Context) -> Backbone:
        """The backbone with the weights of its file, or from scratch where it can learn so."""
        c = self.config
        check_weights(c.backbone, c.weights, "segmenter")
        torch.manual_seed(ctx.seed("init"))
        return Backbone(c.backbone, c.output_stride, c.weights)
