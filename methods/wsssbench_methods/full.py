"""The ceiling: the segmentation network of `rrm` from the same classifier, trained on true masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wsssbench.crops import Batch, CropBatches, CropRule
from wsssbench.masks import argmax_labels
from wsssbench.nets.batching import by_size
from wsssbench.nets.heads import Classifier, Segmenter, resize
from wsssbench.train import Losses, Schedule, autocast, load_checkpoint, make_optimizer, train
from wsssbench.types import IGNORE, Artifacts, Context, Kind, Outputs, StepCard, View, option
from wsssbench_methods.classifier import ClassifierOptions, new_classifier, plan_of, trained_classifier
from wsssbench_methods.presets import FULL_PRESETS
from wsssbench_methods.segment import HeadOptions, head_plan


@dataclass(frozen=True)
class FullConfig(HeadOptions, ClassifierOptions):
    """Options of `full`."""

    steps: int = option(20000, "steps on masks", origin="DeepLab-v2: 20,000")
    batch: int = option(10, "images per step on masks", origin="DeepLab-v2: 10")
    lr: float = option(3e-5, "learning rate of the backbone on masks")
    head_factor: float = option(10.0, "learning rate of the head over that of the backbone")


class SegmenterPredictor:
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


class Full:
    """A segmenter trained on true masks: what full supervision reaches with the same network and terms."""

    Config = FullConfig
    presets: ClassVar = FULL_PRESETS
    card = StepCard("full", "1", "control", supervision=("tags", "masks"), gives=("probs", "labels"))

    def __init__(self, config: FullConfig) -> None:
        self.config = config
        self.card = replace(self.card, pretraining=config.pretraining if config.weights else "none")

    def fit(self, train: View, given: Artifacts, ctx: Context) -> SegmenterPredictor:
        classifier = trained_classifier(plan_of(self.config), self.config.weights, train, ctx)
        net = self._segmenter(classifier, ctx)
        train_on_masks(net, train, self.config, ctx)
        return SegmenterPredictor(net, ctx)

    def restore(self, ctx: Context) -> SegmenterPredictor:
        net = self._segmenter(new_classifier(plan_of(self.config), "", ctx), ctx)
        load_checkpoint(ctx.workdir / "ckpt" / "segmenter.pt", net, None)
        return SegmenterPredictor(net, ctx)

    def _segmenter(self, classifier: Classifier, ctx: Context) -> Segmenter:
        torch.manual_seed(ctx.seed("init"))
        backbone, classes = classifier.backbone, classifier.head.out_channels
        backbone.freeze_norm()
        return Segmenter(backbone, classes, head_plan(self.config))


def train_on_masks(net: Segmenter, view: View, c: FullConfig, ctx: Context) -> None:
    """Cross-entropy over the labelled pixels of `view`'s masks."""
    plan = Schedule(c.steps, c.lr, c.head_factor, c.weight_decay, c.optimizer)
    net.to(ctx.device)
    optimizer = make_optimizer(net.backbone, [net.segment], plan)
    crops = CropBatches(view, CropRule(c.crop, (c.scale_low, c.scale_high)), c.batch, ctx.seed("crops"))

    def losses(batch: Batch) -> Losses:
        assert batch.labels is not None
        with ctx.phase("network"), autocast(ctx):
            logits = net(batch.images)
        up = resize(logits.float(), batch.images.shape[-2:])
        loss = F.cross_entropy(up, batch.labels.long(), ignore_index=IGNORE)
        return {"total": loss}

    train(ctx, "segmenter", net, optimizer, crops, losses, plan)
