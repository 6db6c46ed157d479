"""Training of a tag classifier, shared by every step that starts from one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from wsssbench.crops import Batch, CropBatches, CropRule
from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import Classifier
from wsssbench.train import (
    AliveCheck,
    Losses,
    Schedule,
    autocast,
    load_checkpoint,
    make_optimizer,
    tag_frequencies,
    train,
)
from wsssbench.types import Context, View


@dataclass(frozen=True)
class ClassifierPlan:
    """Everything that decides what the trained classifier is; steps with equal plans share one training."""

    backbone: str
    stride: int
    weights_sha256: str
    dropout: float
    crop: CropRule
    batch: int
    schedule: Schedule


def new_classifier(plan: ClassifierPlan, weights: str, ctx: Context) -> Classifier:
    """An untrained classifier on a backbone with its weights."""
    torch.manual_seed(ctx.seed("init"))
    return Classifier(Backbone(plan.backbone, plan.stride, weights), len(ctx.card.class_names), plan.dropout)


def trained_classifier(plan: ClassifierPlan, weights: str, view: View, ctx: Context) -> Classifier:
    """The classifier of `plan`: trained now, or read where another step of the run has trained it."""
    with ctx.shared("classifier", plan) as own:
        net = new_classifier(plan, weights, own)
        saved = own.workdir / "ckpt" / "classifier.pt"
        if load_checkpoint(saved, net, None) < plan.schedule.steps:
            fit_tags(net, view, plan, own)
        return net


def fit_tags(net: Classifier, view: View, plan: ClassifierPlan, ctx: Context) -> None:
    """Fit `net` to the image tags of `view` by the multi-label soft margin loss; resumable, checked."""
    net.to(ctx.device)
    optimizer = make_optimizer(net.backbone, [net.head], plan.schedule)
    crops = CropBatches(view, plan.crop, plan.batch, ctx.seed("crops"))
    frequencies = tag_frequencies(s.tags for s in view)
    alive = AliveCheck(frequencies, patience=plan.schedule.steps // 2)

    def losses(batch: Batch) -> Losses:
        with ctx.phase("network"), autocast(ctx):
            logits, _ = net(batch.images)
        loss = F.multilabel_soft_margin_loss(logits.float(), batch.tags)
        return {"total": loss, "cls": loss}

    train(ctx, "classifier", net, optimizer, crops, losses, plan.schedule, alive)
