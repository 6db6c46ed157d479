"""Training of a tag classifier, shared by every step that starts from one."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn import functional as F

from wsssbench import distributed
from wsssbench.errors import BadData, WsssError
from wsssbench.files.digests import file_digest
from wsssbench.nets.backbones import Backbone, backbone_info, check_stride
from wsssbench.nets.heads import Classifier
from wsssbench.nets.inspection import inspect_weights
from wsssbench.nets.official import load_official
from wsssbench.nets.weights import weights_digest
from wsssbench.train import (
    AliveCheck,
    Losses,
    Schedule,
    autocast,
    load_checkpoint,
    make_optimizer,
    patience_of,
    tag_frequencies,
    train,
)
from wsssbench.training.crops import Batch, CropBatches, CropRule
from wsssbench.types import Context, DatasetCard, View, option


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


def shared_batches(config: Any) -> dict[str, int]:
    """As `Step.batches`, of a step that trains a classifier (unless for 0 steps) and goes on from it."""
    first = {"classifier_batch": config.classifier_batch} if config.classifier_steps else {}
    return {"batch": config.batch, **first}


@dataclass(frozen=True)
class ClassifierOptions:
    """Options of a step that starts from a classifier; its own Config inherits them."""

    backbone: str = option(
        "resnet50",
        "network: compact, small, mobilenet_v2, mobilenet_v2_folded, resnet18/34/50/101, wrn38",
    )
    weights: str = option("", "file with ImageNet weights of the backbone", file=True)
    pretraining: str = option("imagenet", "what the weights in the file have seen; shown in the row")
    output_stride: int = option(
        16, "pixels of the image per cell of features", origin="IRN: ResNet-50, 16; RRM's WRN-38: 8", low=1
    )
    dropout: float = option(
        0.5, "dropout before the classifier's pooling", origin="RRM code, network/RRM.py", low=0, below=1
    )
    crop: int = option(
        321, "side of a training crop in pixels", origin="RRM code, train_from_cls_weight.py", low=1
    )
    scale_low: float = option(
        0.7, "smallest random scale", origin="RRM code, U(0.7, 1.3); here per image", above=0
    )
    scale_high: float = option(
        1.3, "largest random scale", origin="RRM code, U(0.7, 1.3); here per image", above=0
    )
    optimizer: Literal["adamw", "sgd"] = option(
        "adamw", "optimizer of the main training", origin="own choice; RRM code: sgd"
    )
    weight_decay: float = option(1e-4, "weight decay", origin="IRN, run_sample.py; RRM code: 1e-5", low=0)
    momentum: float = option(
        0.9, "momentum of sgd", origin="the usual; RRM code: 1e-5 by a slip (B1)", low=0, below=1
    )
    clip: float = option(
        1.0, "largest norm of the gradient; 0: no clipping", origin="own choice; RRM code: none", low=0
    )
    bias_factor: float = option(
        1.0,
        "rate of biases over that of weights; not 1: no decay either",
        origin="own choice; RRM code: 2",
        low=0,
    )

    classifier_optimizer: Literal["adamw", "sgd"] = option(
        "adamw", "optimizer of the classifier's training", origin="own choice; RRM code: sgd"
    )
    classifier_steps: int = option(
        3300,
        "steps with the classification loss alone, first; 0: the file of weights holds a trained classifier",
        origin="IRN: 5 epochs of train_aug at batch 16",
        low=0,
    )
    classifier_batch: int = option(
        16, "images per step of the classifier", origin="IRN, run_sample.py", low=1
    )
    classifier_lr: float = option(
        3e-5, "learning rate of the classifier's training", origin="own choice, for AdamW", above=0
    )
    classifier_head_factor: float = option(
        10.0, "the same for its head, over the backbone's", origin="PSA", above=0
    )

    def __post_init__(self) -> None:
        check_scales(self.scale_low, self.scale_high)


def check_scales(low: float, high: float) -> None:
    """ValueError where the smallest random scale of crops is above the largest."""
    if low > high:
        raise ValueError(f"scale_low = {low} is above scale_high = {high}")


def plan_of(c: ClassifierOptions, crop: CropRule | None = None) -> ClassifierPlan:
    """The classifier that these options ask for; `crop` where the step cuts its crops in a way of its own."""
    return ClassifierPlan(
        backbone=c.backbone,
        stride=c.output_stride,
        weights_sha256=weights_digest(c.weights),
        dropout=c.dropout,
        crop=crop or CropRule(c.crop, (c.scale_low, c.scale_high)),
        batch=c.classifier_batch,
        schedule=schedule_of(
            c, c.classifier_steps, c.classifier_lr, c.classifier_head_factor, c.classifier_optimizer
        ),
    )


def schedule_of(
    c: ClassifierOptions, steps: int, lr: float, head_factor: float, optimizer: str = ""
) -> Schedule:
    """A training of `steps` steps by `optimizer` (default: that of the main training)."""
    name = optimizer or c.optimizer
    momentum = c.momentum if name == "sgd" else Schedule.momentum  # AdamW has none: one key
    return Schedule(
        steps, lr, head_factor, c.weight_decay, name, momentum, clip=c.clip, bias_factor=c.bias_factor
    )


def new_classifier(plan: ClassifierPlan, weights: str, ctx: Context) -> Classifier:
    """An untrained classifier on a backbone with its weights."""
    torch.manual_seed(ctx.seed("init"))
    return Classifier(Backbone(plan.backbone, plan.stride, weights), len(ctx.card.class_names), plan.dropout)


def check_weights(backbone: str, weights: str, step: str = "") -> None:
    """Raise WsssError where `backbone` cannot learn without a file of weights and has none."""
    if backbone_info(backbone).frozen_norm and not weights:
        raise WsssError(
            f"backbone {backbone} keeps its BatchNorm frozen and cannot learn from scratch",
            where=f"option {step}.weights" if step else "option weights",
            hint=f"give its weights with --weights {step + '=' if step else ''}FILE, or use backbone=small",
        )


def check_network(step: str, backbone: str, stride: int, weights: str, *, trained: bool = False) -> None:
    """Raise WsssError where a step's options make no network that can learn: a backbone or a stride of it
    that does not exist, weights that are missing or do not fit. Of a `trained` classifier, whose head must
    fit the data set too, the weights are left to `check_trained`."""
    check_weights(backbone, weights, step)
    check_stride(backbone, stride, f"{step}.output_stride")
    if weights and not trained:
        _check_fit(backbone, weights, file_digest(Path(weights)))


@functools.cache
def _check_fit(backbone: str, weights: str, sha256: str) -> None:
    """The same for the content of a file of weights, read once."""
    found = inspect_weights(weights)
    if backbone not in found.fits:
        other = f"BatchNorm is {found.batchnorm} in this file, so its pixel range is another"
        near = found.misfits.get(backbone)
        why = near if near is not None and not near.usable else other
        hint = f"it fits backbone {' or '.join(found.fits)}" if found.fits else "it fits no backbone here"
        hint += "; `wsssbench weights inspect FILE` tells more"
        raise BadData(f"these weights do not fit {backbone}: {why}", where=weights, hint=hint)


def check_trained(plan: ClassifierPlan, weights: str, card: DatasetCard) -> None:
    """Raise WsssError where the classifier is not to be trained and the file holds none of these classes."""
    if not plan.schedule.steps:
        _check_trained(plan, weights, len(card.class_names), file_digest(Path(weights)) if weights else "")


@functools.cache
def _check_trained(plan: ClassifierPlan, weights: str, classes: int, sha256: str) -> None:
    with torch.device("meta"):  # shapes alone
        net = Classifier(Backbone(plan.backbone, plan.stride), classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch: what is copied to shapes alone goes nowhere
        fill_from_file(net, weights)


def trained_classifier(plan: ClassifierPlan, weights: str, view: View, ctx: Context) -> Classifier:
    """The classifier of `plan`: trained now, or read where another step of the run has trained it."""
    check_weights(plan.backbone, weights)
    if not plan.schedule.steps:
        return classifier_from_file(plan, weights, ctx)
    with ctx.shared("classifier", plan) as own:
        net = new_classifier(plan, weights, own)
        saved = own.workdir / "ckpt" / "classifier.pt"
        if not there(saved) or load_checkpoint(saved, net, None) < plan.schedule.steps:
            fit_tags(net, view, plan, own)
        return net


def there(path: Path) -> bool:
    """Whether there is a file; processes that share a training all go by what the first one sees."""
    group = distributed.group()
    return path.exists() if group is None else group.decided(path.exists)


def classifier_from_file(plan: ClassifierPlan, weights: str, ctx: Context) -> Classifier:
    """A classifier that was trained elsewhere (PSA's and RRM's `res38_cls.pth`), head included."""
    net = new_classifier(plan, "", ctx)
    fill_from_file(net, weights)
    return net


def fill_from_file(net: Classifier, weights: str) -> None:
    """Fill a classifier, head included; WsssError where there is no file that holds one."""
    if not weights or "classifier" not in load_official(net, weights):
        raise WsssError(
            "a classifier of 0 steps needs a file that holds a trained classifier",
            where="option weights",
            hint="give an official res38_cls.pth or RRM_final.pth with --weights, or train: raise its steps",
        )


def fit_tags(net: Classifier, view: View, plan: ClassifierPlan, ctx: Context) -> None:
    """Fit `net` to the image tags of `view` by the multi-label soft margin loss; resumable, checked."""
    net.to(ctx.device)
    optimizer = make_optimizer(net.backbone, [net.head], plan.schedule)
    crops = CropBatches(view, plan.crop, plan.batch, ctx.seed("crops"))
    frequencies = tag_frequencies(map(view.tags, view.ids))
    alive = AliveCheck(frequencies, patience=patience_of(len(view.ids), plan.batch, plan.schedule.steps))

    def losses(batch: Batch) -> Losses:
        with ctx.phase("network"), autocast(ctx):
            logits, _ = net(batch.images)
        loss = F.multilabel_soft_margin_loss(logits.float(), batch.tags)
        return {"total": loss, "cls": loss}

    train(ctx, "classifier", net, optimizer, crops, losses, plan.schedule, alive)
