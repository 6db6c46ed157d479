"""Training of a tag classifier, shared by every step that starts from one."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from wsssbench import distributed
from wsssbench.errors import BadData, WsssError
from wsssbench.files.digests import file_digest
from wsssbench.nets.backbones import Backbone, backbone_info, check_stride
from wsssbench.nets.heads import Classifier
from wsssbench.nets.inspection import fit_of, inspect_weights
from wsssbench.nets.matching import is_folded, taken
from wsssbench.nets.official import load_official
from wsssbench.nets.weights import read_state_dict
from wsssbench.train import (
    AliveCheck,
    Losses,
    autocast,
    load_checkpoint,
    make_optimizer,
    patience_of,
    tag_frequencies,
    train,
)
from wsssbench.training.crops import Batch, CropBatches, CropRule
from wsssbench.types import Context, DatasetCard, Step, StepCard, View
from wsssbench_methods.network_options import ClassifierOptions, ClassifierPlan, NetworkOptions


def plan_of(c: ClassifierOptions, crop: CropRule | None = None) -> ClassifierPlan:
    """The classifier that these options ask for; `crop` where the step cuts its crops in a way of its own."""
    schedule = c.schedule(
        c.classifier_steps, c.classifier_lr, c.classifier_head_factor, c.classifier_optimizer
    )
    return ClassifierPlan.of(c, crop or c.crop_rule(), c.classifier_batch, schedule)


class ClassifierStep(Step):
    """What the steps share that start from a tag classifier: whether it can be had, and what the row says."""

    trains_together = True  # all processes that torchrun starts share its trainings
    config: NetworkOptions
    card: StepCard

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.card = replace(self.card, pretraining=config.pretraining if config.weights else "none")

    @functools.cached_property
    def _plan(self) -> ClassifierPlan:
        """The classifier that the options ask for."""
        assert isinstance(self.config, ClassifierOptions)
        return plan_of(self.config)

    def _classifier(self, view: View, ctx: Context) -> Classifier:
        """The classifier of the options, trained on tags, at the output stride."""
        net = trained_classifier(self._plan, self.config.weights, view, ctx)
        return at_stride(net, self._plan, self.config.output_stride)

    def _empty_classifier(self, ctx: Context) -> Classifier:
        """The same without weights, for a checkpoint."""
        return new_classifier(replace(self._plan, stride=self.config.output_stride), "", ctx)

    @property
    def _tag_steps(self) -> int:
        """Steps of the classifier's training; 0: the file of weights holds a trained one."""
        assert isinstance(self.config, ClassifierOptions)
        return self.config.classifier_steps

    def ready(self) -> None:
        check_network(self.card.name, self.config, trained=not self._tag_steps)

    def ready_on(self, card: DatasetCard, filter_backend: str) -> None:
        check_trained(self._plan, self.config.weights, card)

    def batches(self) -> Mapping[str, int]:
        c, own = self.config, super().batches()
        if isinstance(c, ClassifierOptions) and c.classifier_steps:
            return {**own, "classifier_batch": c.classifier_batch}
        return own


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


def check_network(step: str, c: NetworkOptions, *, trained: bool = False) -> None:
    """Raise WsssError where a step's options make no network that can learn: a backbone or a stride of it
    that does not exist, weights that are missing or do not fit. Of a `trained` classifier, whose head must
    fit the data set too, the weights are left to `check_trained`."""
    check_weights(c.backbone, c.weights, step)
    check_stride(c.backbone, c.output_stride, f"{step}.output_stride")
    if c.classifier_stride:
        check_stride(c.backbone, c.classifier_stride, f"{step}.classifier_stride")
    if c.weights and not trained:
        _check_fit(c.backbone, c.weights, file_digest(Path(c.weights)))


@functools.cache
def _check_fit(backbone: str, weights: str, sha256: str) -> None:
    """The same for the content of a file of weights, read once."""
    state = read_state_dict(weights)
    own = fit_of(backbone, state)
    if own.usable and is_folded(taken(own, state)) == backbone_info(backbone).folded:
        return
    found = inspect_weights(weights)
    other = f"BatchNorm is {found.batchnorm} in this file, so its pixel range is another"
    hint = f"it fits backbone {' or '.join(found.fits)}" if found.fits else "it fits no backbone here"
    hint += "; `wsssbench weights inspect FILE` tells more"
    why = other if own.usable else own
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


def at_stride(net: Classifier, plan: ClassifierPlan, stride: int) -> Classifier:
    """`net` with the same weights at another output stride: dilation keeps what every layer sees."""
    if net.backbone.stride == stride:
        return net
    other = Classifier(Backbone(plan.backbone, stride), net.head.out_channels, plan.dropout)
    other.load_state_dict(net.state_dict())
    return other


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
