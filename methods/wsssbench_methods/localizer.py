"""The localizer: a classifier trained on image tags, whose class activation maps say where.

CAM (Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016), in the field's usual
form: multi-label soft margin, scales and mirror images averaged, each map divided by its maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.nets.batching import by_size
from wsssbench.nets.heads import Classifier, grid_scale, multi_scale_cam, normalise_cam
from wsssbench.nets.weights import weights_digest
from wsssbench.train import Schedule, autocast, load_checkpoint, save_checkpoint
from wsssbench.training.crops import CropRule
from wsssbench.types import (
    Artifacts,
    Context,
    DatasetCard,
    Kind,
    Maps,
    Outputs,
    Predictor,
    Step,
    StepCard,
    View,
    option,
)
from wsssbench_methods.classifier import (
    ClassifierPlan,
    check_network,
    check_scales,
    check_trained,
    new_classifier,
    trained_classifier,
)
from wsssbench_methods.presets import CLASSIFIER_PRESETS, TUNED_ON


@dataclass(frozen=True)
class CamConfig:
    """Options of `cam`."""

    backbone: str = option(
        "resnet50",
        "network: compact, small, mobilenet_v2, mobilenet_v2_folded, resnet18/34/50/101, wrn38",
    )
    weights: str = option("", "file with ImageNet weights of the backbone", file=True)
    pretraining: str = option("imagenet", "what the weights in the file have seen; shown in the row")
    output_stride: int = option(
        16, "pixels of the image per cell of the map", origin="IRN: ResNet-50, 16", low=1
    )
    steps: int = option(
        3300,
        "optimisation steps; 0: the file of weights holds a trained classifier",
        origin="about 5 epochs of train_aug at batch 16 (IRN)",
        low=0,
    )
    batch: int = option(16, "images per step", origin="IRN, run_sample.py", low=1)
    crop: int = option(321, "side of a training crop in pixels", origin="RRM, section 4", low=1)
    scale_low: float = option(0.7, "smallest random scale", origin="RRM code: U(0.7, 1.3)", above=0)
    scale_high: float = option(1.3, "largest random scale", origin="RRM code: U(0.7, 1.3)", above=0)
    optimizer: Literal["adamw", "sgd"] = option("adamw", "the optimizer", origin="own choice; IRN: sgd")
    lr: float = option(
        3e-5,
        "learning rate of the backbone; the head learns head_factor times faster",
        origin="own, for AdamW",
        above=0,
    )
    head_factor: float = option(
        10.0, "learning rate of the head over that of the backbone", origin="PSA", above=0
    )
    weight_decay: float = option(1e-4, "weight decay", origin="IRN, run_sample.py", low=0)
    dropout: float = option(0.5, "dropout before pooling", origin="PSA, RRM", low=0, below=1)
    scales: tuple[float, ...] = option(
        (0.5, 1.0, 1.5, 2.0), "scales of the map", origin="PSA, IRN, SEAM", above=0, filled=True
    )
    flip: bool = option(True, "average with the mirror image", origin="PSA, IRN, SEAM")
    threshold: float = option(
        0.3,
        "map value above which a pixel is foreground",
        origin=f"chosen for cam on {TUNED_ON}",
        low=0,
        high=1,
    )
    tag_threshold: float = option(
        0.5,
        "tag score above which a class is predicted when no tags are given",
        origin="own choice",
        low=0,
        high=1,
    )

    def __post_init__(self) -> None:
        check_scales(self.scale_low, self.scale_high)


class CamPredictor(Predictor):
    """A fitted classifier as a predictor of maps and tag scores."""

    def __init__(self, net: Classifier, config: CamConfig, ctx: Context) -> None:
        self.net, self.config, self.ctx = net.to(ctx.device).eval(), config, ctx

    @torch.inference_mode()
    def __call__(
        self,
        images: Sequence[Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> Sequence[Outputs]:
        def run(stack: Tensor, members: list[int]) -> list[Outputs]:
            with self.ctx.phase("network"), autocast(self.ctx):
                return self._outputs(stack, None if tags is None else tags[members])

        return by_size(images, run)

    def _outputs(self, stack: Tensor, tags: NDArray[np.bool_] | None) -> list[Outputs]:
        logits, raw = self.net(stack)
        scores = logits.float().sigmoid().cpu().numpy()
        alone = tags is None  # plain segmentation: one scale, its own tags
        chosen = scores > self.config.tag_threshold if tags is None else tags
        maps = cam_maps(
            self.net, stack, raw, (1.0,) if alone else self.config.scales, flip=self.config.flip and not alone
        )
        return [
            Outputs(maps=select_maps(m, c), tag_scores=s)
            for m, c, s in zip(maps, chosen, scores, strict=True)
        ]


def cam_maps(
    net: Classifier, stack: Tensor, raw: Tensor, scales: Sequence[float], *, flip: bool
) -> NDArray[np.float32]:
    """(B, K, h, w) normalised maps in [0, 1]; `raw` are the maps of scale 1 that are at hand."""
    maps = normalise_cam(multi_scale_cam(net, stack, scales, flip=flip, first=raw))
    values: NDArray[np.float32] = maps.float().cpu().numpy()
    return values


def select_maps(maps: NDArray[np.float32], chosen: NDArray[np.bool_]) -> Maps:
    """The planes of the chosen classes out of (K, h, w)."""
    classes = np.flatnonzero(chosen)
    return Maps(classes=classes, values=maps[classes])


class Cam(Step):
    """Class activation maps of a classifier with a 1x1 head."""

    Config: ClassVar[type] = CamConfig
    presets: ClassVar = CLASSIFIER_PRESETS
    trains_together = True  # all processes that torchrun starts share its trainings
    card = StepCard(
        name="cam",
        version="1",
        role="localizer",
        supervision=("tags",),
        gives=("maps", "tag_scores"),
        needs_threshold=True,
        tuned_on=TUNED_ON,
        paper="Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016",
    )

    def __init__(self, config: CamConfig) -> None:
        self.config = config
        self.card = replace(self.card, pretraining=config.pretraining if config.weights else "none")

    def ready(self) -> None:
        c = self.config
        check_network(self.card.name, c.backbone, c.output_stride, c.weights, trained=not c.steps)

    def ready_on(self, card: DatasetCard, filter_backend: str) -> None:
        check_trained(self._plan(), self.config.weights, card)

    def stride_of(self, kind: Kind) -> float:
        return float(self.config.output_stride / grid_scale(self.config.scales))

    def fit(self, train: View, given: Artifacts, ctx: Context) -> CamPredictor:
        net = trained_classifier(self._plan(), self.config.weights, train, ctx)
        save_checkpoint(ctx.workdir / "ckpt" / "classifier.pt", net, None, self.config.steps)
        return CamPredictor(net, self.config, ctx)

    def restore(self, ctx: Context) -> CamPredictor:
        net = new_classifier(self._plan(), "", ctx)
        load_checkpoint(ctx.workdir / "ckpt" / "classifier.pt", net, None)
        return CamPredictor(net, self.config, ctx)

    def _plan(self) -> ClassifierPlan:
        c = self.config
        return ClassifierPlan(
            backbone=c.backbone,
            stride=c.output_stride,
            weights_sha256=weights_digest(c.weights),
            dropout=c.dropout,
            crop=CropRule(c.crop, (c.scale_low, c.scale_high)),
            batch=c.batch,
            schedule=Schedule(c.steps, c.lr, c.head_factor, c.weight_decay, c.optimizer),
        )
