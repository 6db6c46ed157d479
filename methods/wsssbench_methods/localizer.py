"""The localizer: a classifier trained on image tags, whose class activation maps say where.

CAM (Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016), in the field's usual
form: multi-label soft margin, scales and mirror images averaged, each map divided by its maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.nets.heads import Classifier, grid_scale, multi_scale_cam, normalise_cam
from wsssbench.train import Schedule, autocast, load_checkpoint, save_checkpoint
from wsssbench.types import Artifacts, Context, Kind, Maps, Outputs, StepCard, View, option
from wsssbench_methods.classifier import ClassifierStep
from wsssbench_methods.network_options import ClassifierPlan, MapOptions, NetworkOptions
from wsssbench_methods.predictors import NetPredictor, TagRows
from wsssbench_methods.presets import CLASSIFIER_PRESETS, TUNED_ON


@dataclass(frozen=True)
class CamConfig(MapOptions, NetworkOptions):
    """Options of `cam`."""

    steps: int = option(
        3300,
        "optimisation steps; 0: the file of weights holds a trained classifier",
        origin="about 5 epochs of train_aug at batch 16 (IRN)",
        low=0,
    )
    batch: int = option(16, "images per step", origin="IRN, run_sample.py", low=1)
    scales: tuple[float, ...] = option(
        (0.5, 1.0, 1.5, 2.0), "scales of the map", origin="PSA, IRN, SEAM", above=0, filled=True
    )
    flip: bool = option(True, "average with the mirror image", origin="PSA, IRN, SEAM")


class CamPredictor(NetPredictor[Classifier, CamConfig]):
    """A fitted classifier as a predictor of maps and tag scores."""

    def _outputs(self, stack: Tensor, tags: TagRows, want: frozenset[Kind]) -> list[Outputs]:
        with self.ctx.phase("network"), autocast(self.ctx):
            return self._looked_at(stack, tags)

    def _looked_at(self, stack: Tensor, tags: TagRows) -> list[Outputs]:
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


class Cam(ClassifierStep):
    """Class activation maps of a classifier with a 1x1 head."""

    Config: ClassVar[type] = CamConfig
    presets: ClassVar = CLASSIFIER_PRESETS
    config: CamConfig
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

    @cached_property
    def _plan(self) -> ClassifierPlan:
        c = self.config
        schedule = Schedule(c.steps, c.lr, c.head_factor, c.weight_decay, c.optimizer)
        return ClassifierPlan.of(c, c.crop_rule(), c.batch, schedule)

    @property
    def _tag_steps(self) -> int:
        return self.config.steps

    def stride_of(self, kind: Kind) -> float:
        return self.config.output_stride / grid_scale(self.config.scales)

    def fit(self, train: View, given: Artifacts, ctx: Context) -> CamPredictor:
        net = self._classifier(train, ctx)
        save_checkpoint(ctx.workdir / "ckpt" / "classifier.pt", net, None, self.config.steps)
        return CamPredictor(net, self.config, ctx)

    def restore(self, ctx: Context) -> CamPredictor:
        net = self._empty_classifier(ctx)
        load_checkpoint(ctx.workdir / "ckpt" / "classifier.pt", net, None)
        return CamPredictor(net, self.config, ctx)
