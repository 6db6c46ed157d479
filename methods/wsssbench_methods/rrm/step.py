"""One-step RRM as a step: the classifier first, then one joint loss of classification, balanced
cross-entropy on reliable pixels, and gated dense energy on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wsssbench.crops import Batch, CropBatches, CropRule
from wsssbench.masks import argmax_labels
from wsssbench.nets.batching import by_size
from wsssbench.nets.heads import Classifier, JointNet, multi_scale_cam, normalise_cam, resize
from wsssbench.ops.energy import dense_energy, energy_weight
from wsssbench.stages import sigma_scale
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
from wsssbench.types import Artifacts, Context, Kind, Outputs, StepCard, View
from wsssbench_methods.classifier import new_classifier, plan_of, trained_classifier
from wsssbench_methods.localizer import select_maps
from wsssbench_methods.presets import RRM_PRESETS
from wsssbench_methods.rrm.config import RrmConfig
from wsssbench_methods.rrm.losses import balanced_cross_entropy
from wsssbench_methods.rrm.reliable import ReliableRule, reliable_labels_batch


class Rrm:
    """End-to-end weakly supervised segmentation from image tags."""

    Config = RrmConfig
    presets: ClassVar = RRM_PRESETS
    card = StepCard(
        name="rrm",
        version="1",
        role="one-step",
        supervision=("tags",),
        gives=("maps", "probs", "labels", "mined", "tag_scores"),
        needs_threshold=True,
        paper="Zhang et al., Reliability Does Matter, AAAI 2020, arXiv 1911.08039",
        reported={"voc12 val mIoU": 62.6, "voc12 test mIoU": 62.9},
    )

    def __init__(self, config: RrmConfig) -> None:
        self.config = config
        self.card = replace(self.card, pretraining=config.pretraining if config.weights else "none")

    def fit(self, train: View, given: Artifacts, ctx: Context) -> RrmPredictor:
        classifier = trained_classifier(plan_of(self.config), self.config.weights, train, ctx)
        net = self._joint(classifier, ctx)
        train_jointly(net, train, self.config, ctx)
        return RrmPredictor(net, self.config, ctx)

    def restore(self, ctx: Context) -> RrmPredictor:
        net = self._joint(new_classifier(plan_of(self.config), "", ctx), ctx)
        load_checkpoint(ctx.workdir / "ckpt" / "joint.pt", net, None)
        return RrmPredictor(net, self.config, ctx)

    def _joint(self, classifier: Classifier, ctx: Context) -> JointNet:
        torch.manual_seed(ctx.seed("init"))
        return JointNet(classifier, width=self.config.head_width, dilation=self.config.head_dilation)


def train_jointly(net: JointNet, view: View, c: RrmConfig, ctx: Context) -> None:
    """The joint steps: loss = classification + balanced CE + energy, each with weight 1."""
    rule = CropRule(c.crop, (c.scale_low, c.scale_high))
    plan = Schedule(c.steps, c.lr, c.head_factor, c.weight_decay, c.optimizer, c.momentum)
    net.to(ctx.device)
    optimizer = make_optimizer(net.backbone, [net.head, net.segment], plan)
    crops = CropBatches(view, rule, c.batch, ctx.seed("joint/crops"))
    alive = AliveCheck(tag_frequencies(s.tags for s in view), patience=40)

    def losses(batch: Batch) -> Losses:
        return joint_losses(net, batch, c, ctx)

    train(ctx, "joint", net, optimizer, crops, losses, plan, alive)


def joint_losses(net: JointNet, batch: Batch, c: RrmConfig, ctx: Context) -> Losses:
    """The losses of one batch; the CAM's other scales run without gradient and with dropout, as the code."""
    with ctx.phase("network"), autocast(ctx):
        tag_logits, raw, logits = net.joint(batch.images)
        with torch.no_grad():
            cam = multi_scale_cam(net, batch.images, c.cam_scales, flip=False, first=raw.detach())
    with ctx.phase("mining"):
        labels = mine(cam, batch, c, ctx)
    up = resize(logits.float(), batch.images.shape[-2:])
    ce = balanced_cross_entropy(up, labels)
    with ctx.phase("energy"):
        energy = dense_energy(
            up.softmax(1),
            batch.images.float(),
            batch.valid,
            labels,
            sigma_rgb=c.energy_sigma_rgb,
            sigma_xy=c.energy_sigma_xy * sigma_scale(ctx.card),
            scale=c.energy_scale,
            weight=c.energy_weight / 1e-7 * energy_weight(int(c.crop * c.energy_scale) ** 2),
            backend=ctx.filter_backend,
            gradient=c.gradient,
        )
    cls = F.multilabel_soft_margin_loss(tag_logits.float(), batch.tags)
    share = (labels != 255).float().mean()
    return {"total": cls + ce + energy, "cls": cls, "ce": ce, "energy": energy, "mined": share}


@torch.no_grad()
def mine(cam: Tensor, batch: Batch, c: RrmConfig, ctx: Context) -> Tensor:
    """Sparse labels (B, S, S) uint8 in {0..K, 255} from CAMs (B, K, h, w), tags and two CRFs."""
    full = resize(cam, batch.images.shape[-2:]) * batch.tags[:, :, None, None]
    full = normalise_cam(full * batch.valid[:, None])
    images = batch.images.permute(0, 2, 3, 1).contiguous()
    return reliable_labels_batch(
        images,
        full,
        batch.tags > 0,
        reliable_rule(c),
        valid=batch.valid,
        backend=ctx.filter_backend,
        scale=sigma_scale(ctx.card),
    )


def reliable_rule(c: RrmConfig) -> ReliableRule:
    """The rule's constants out of the options."""
    return ReliableRule(
        alpha_low=c.alpha_low,
        alpha_high=c.alpha_high,
        fraction=c.fraction,
        background_confidence=c.background_confidence,
        crf_confidence=c.crf_confidence,
    )


class RrmPredictor:
    """A fitted RRM network: maps of its classifier, probabilities and labels of its segmentation head."""

    def __init__(self, net: JointNet, config: RrmConfig, ctx: Context) -> None:
        self.net, self.config, self.ctx = net.to(ctx.device).eval(), config, ctx

    @torch.inference_mode()
    def __call__(
        self,
        images: Sequence[Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> Sequence[Outputs]:
        return by_size(images, lambda stack, m: self._outputs(stack, None if tags is None else tags[m], want))

    def _outputs(self, stack: Tensor, tags: NDArray[np.bool_] | None, want: frozenset[Kind]) -> list[Outputs]:
        with self.ctx.phase("network"), autocast(self.ctx):
            tag_logits, raw, logits = self.net.joint(stack)
            scores = tag_logits.float().sigmoid().cpu().numpy()
            probs = logits.float().softmax(1).cpu().numpy()
            cam = self._cam(stack, raw, tags is not None) if want & {"maps", "mined"} else None
        chosen = scores > self.config.tag_threshold if tags is None else tags
        size = (stack.shape[-2], stack.shape[-1])
        mined = self._mined(stack, cam, tags) if "mined" in want and tags is not None else None
        return [
            Outputs(
                maps=None if cam is None else select_maps(normalise_cam(cam[i]).cpu().numpy(), chosen[i]),
                probs=probs[i],
                labels=argmax_logits(logits[i], size, None if tags is None else tags[i]),
                mined=None if mined is None else mined[i],
                tag_scores=scores[i],
            )
            for i in range(len(stack))
        ]

    def _cam(self, stack: Tensor, raw: Tensor, several: bool) -> Tensor:
        scales = self.config.test_scales if several else (1.0,)
        return multi_scale_cam(self.net, stack, scales, flip=several, first=raw)

    def _mined(self, stack: Tensor, cam: Tensor | None, tags: NDArray[np.bool_]) -> NDArray[np.uint8]:
        assert cam is not None
        every = torch.ones_like(stack[:, 0], dtype=torch.bool)
        given = torch.from_numpy(tags).to(stack.device).float()
        labels = mine(cam, Batch(stack, every, given, None, ()), self.config, self.ctx)
        result: NDArray[np.uint8] = labels.cpu().numpy()
        return result


def argmax_logits(logits: Tensor, size: tuple[int, int], tags: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """(H, W) labels from logits (C, h, w), bilinear; restricted to background and the given tags."""
    return argmax_labels(logits.float().cpu().numpy(), size, tags)
