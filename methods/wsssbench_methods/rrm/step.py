"""One-step RRM as a step: a classifier first, then the joint training; and what a fitted network predicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wsssbench.masks import argmax_labels
from wsssbench.nets.heads import (
    Classifier,
    JointNet,
    grid_scale,
    in_one_pass,
    normalise_cam,
    rescaled,
    resize,
)
from wsssbench.nets.segment_heads import logit_stride
from wsssbench.ops.gaussian import check_filters
from wsssbench.train import autocast, load_checkpoint
from wsssbench.training.crops import Batch
from wsssbench.types import Artifacts, Context, DatasetCard, Kind, Outputs, StepCard, View
from wsssbench_methods.classifier import ClassifierStep, plan_of
from wsssbench_methods.localizer import select_maps
from wsssbench_methods.network_options import ClassifierPlan
from wsssbench_methods.predictors import NetPredictor, TagRows
from wsssbench_methods.presets import RRM_PRESETS, TUNED_ON
from wsssbench_methods.rrm.joint import mine, train_jointly
from wsssbench_methods.rrm.rrm_options import RrmConfig


class Rrm(ClassifierStep):
    """End-to-end weakly supervised segmentation from image tags."""

    Config = RrmConfig
    presets: ClassVar = RRM_PRESETS
    config: RrmConfig
    card = StepCard(
        name="rrm",
        version="2",
        role="one-step",
        supervision=("tags",),
        gives=("maps", "probs", "labels", "mined", "tag_scores"),
        needs_threshold=True,
        tuned_on=TUNED_ON,
        paper="Zhang et al., Reliability Does Matter, AAAI 2020, arXiv 1911.08039",
        reported={"voc12 val mIoU": 62.6, "voc12 test mIoU": 62.9},
    )

    @cached_property
    def _plan(self) -> ClassifierPlan:
        return plan_of(self.config, replace(self.config.crop_rule(), one_scale=False))

    def ready_on(self, card: DatasetCard, filter_backend: str) -> None:
        super().ready_on(card, filter_backend)
        if self.config.energy_weight:
            check_filters(filter_backend, f"{self.card.name}: its loss has a dense energy (energy_weight)")

    def stride_of(self, kind: Kind) -> float:
        c = self.config
        stride = logit_stride(c.head_kind, c.output_stride) if kind == "probs" else c.output_stride
        return stride / grid_scale(c.test_scales)

    def fit(self, train: View, given: Artifacts, ctx: Context) -> RrmPredictor:
        net = self._joint(self._classifier(train, ctx), ctx)
        train_jointly(net, train, self.config, ctx)
        return RrmPredictor(net, self.config, ctx)

    def restore(self, ctx: Context) -> RrmPredictor:
        net = self._joint(self._empty_classifier(ctx), ctx)
        load_checkpoint(ctx.workdir / "ckpt" / "joint.pt", net, None)
        return RrmPredictor(net, self.config, ctx)

    def _joint(self, classifier: Classifier, ctx: Context) -> JointNet:
        torch.manual_seed(ctx.seed("init"))
        return JointNet(classifier, self.config.head_plan())


class RrmPredictor(NetPredictor[JointNet, RrmConfig]):
    """A fitted RRM network: maps of its classifier, probabilities and labels of its segmentation head.

    With tags (labelling training images) maps and probabilities are means over scales and mirror images, and
    labels are restricted to background and the tags; without, all comes from the image as it is.
    """

    def _outputs(self, stack: Tensor, tags: TagRows, want: frozenset[Kind]) -> list[Outputs]:
        scales = (1.0,) if tags is None else self.config.test_scales
        with self.ctx.phase("network"), autocast(self.ctx):
            views = several_views(self.net, stack, scales, flip=tags is not None)
        scores, maps, probs, deciding = views
        tag_scores = scores.cpu().numpy()
        chosen = tag_scores > self.config.tag_threshold if tags is None else tags
        mined = self._mined(stack, maps, tags) if "mined" in want and tags is not None else None
        planes, values = normalise_cam(maps).cpu().numpy(), probs.cpu().numpy()
        votes = deciding.cpu().numpy()
        size = (stack.shape[-2], stack.shape[-1])
        return [
            Outputs(
                maps=select_maps(planes[i], chosen[i]),
                probs=values[i],
                labels=argmax_labels(votes[i], size, None if tags is None else tags[i]),
                mined=None if mined is None else mined[i],
                tag_scores=tag_scores[i],
            )
            for i in range(len(stack))
        ]

    def _mined(self, stack: Tensor, maps: Tensor, tags: NDArray[np.bool_]) -> NDArray[np.uint8]:
        every = torch.ones_like(stack[:, 0], dtype=torch.bool)
        given = torch.from_numpy(tags).to(stack.device).float()
        batch = Batch(stack, every, given, None, (), most_tags=int(tags.sum(1).max()))
        labels = mine(maps, stack, batch, self.config, self.ctx)
        result: NDArray[np.uint8] = labels.cpu().numpy()
        return result


def several_views(
    net: JointNet, stack: Tensor, scales: Sequence[float], *, flip: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tag scores (B, K) of the first view; means over scales (and mirror images) of the rectified class maps
    (B, K, h, w) and of the probabilities (B, C, h', w'), on the grids of the first view; and the planes whose
    argmax are the labels: of one view its logits, as published, of several the mean probabilities. float32.
    """
    scores, sums, logits = torch.empty(0), [torch.empty(0)] * 2, torch.empty(0)
    number = 0
    for scale in sorted(scales, key=lambda s: s != 1.0):
        for turned, (tags, raw, logits) in enumerate(_looked_at(net, rescaled(stack, scale), flip)):
            planes = [F.relu(raw.float()), logits.float().softmax(1)]
            planes = [p.flip(-1) for p in planes] if turned else planes
            if number == 0:
                scores, sums = tags.float().sigmoid(), planes
            else:
                sums = [total + resize(p, total.shape[-2:]) for total, p in zip(sums, planes, strict=True)]
            number += 1
    maps, probs = (total / number for total in sums)
    return scores, maps, probs, logits.float() if number == 1 else probs


def _looked_at(net: JointNet, view: Tensor, flip: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What the network says of images (B, 3, H, W) and, with `flip`, of their mirror images after them."""
    if flip and in_one_pass(net, view):
        both = net.joint(torch.cat([view, view.flip(-1)]))
        yield from zip(*(planes.chunk(2) for planes in both), strict=True)
        return
    yield net.joint(view)
    if flip:
        yield net.joint(view.flip(-1))
