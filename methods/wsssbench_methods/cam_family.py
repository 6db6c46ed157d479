"""The CAM family: other maps of the very classifier that `cam` trains. A run that asks for several of them
trains it once. Every step here differs from `cam` only in how a class map comes about; scales, mirror images,
division by the maximum and the choice of classes are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import MapNet, multi_scale_cam, normalise_cam
from wsssbench.types import Artifacts, Context, Maps, Outputs, StepCard, View, option
from wsssbench_methods.localizer import Cam, CamConfig, CamPredictor
from wsssbench_methods.map_rules import (
    LAST,
    RULES,
    GradientMaps,
    MapRule,
    WeightedChannels,
    channel_weights,
    check_layers,
    tapped,
)
from wsssbench_methods.predictors import TagRows
from wsssbench_methods.presets import TUNED_ON

PARTS = 'the features that the head sees ("last") or of a part of the backbone by its module name'


@dataclass(frozen=True)
class GradCamConfig(CamConfig):
    """Options of `gradcam` and `gradcam++`: those of `cam`, and where the features are taken."""

    layer: str = option(LAST, f"where features and gradients are taken: {PARTS}", filled=True)

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.layer,)


@dataclass(frozen=True)
class LayerCamConfig(CamConfig):
    """Options of `layercam`: those of `cam`, and the layers that are fused."""

    layers: tuple[str, ...] = option(
        (LAST,), f"layers whose maps are fused by their maximum, each: {PARTS}", filled=True
    )


@dataclass(frozen=True)
class ScoreCamConfig(CamConfig):
    """Options of `scorecam`: those of `cam`, and how many channels are scored."""

    channels: int = option(
        64,
        "channels of largest variance that are scored, one forward pass each; the others have weight 0. "
        "0 scores all of them, as the paper does: 128 for small, 1280 for mobilenet_v2, 2048 for resnet50",
        low=0,
    )


class FamilyPredictor(CamPredictor):
    """A predictor whose maps are those of `_maps`, for the chosen classes of each image only."""

    def _look(self, stack: Tensor) -> tuple[list[Tensor], Tensor]:
        """What the maps of scale 1 are made of, and the tag logits (B, K), from one forward pass."""
        raise NotImplementedError

    def _maps(
        self, stack: Tensor, classes: Tensor, features: list[Tensor], logits: Tensor
    ) -> tuple[MapNet, Tensor]:
        """A network of the maps of `classes` (B, T), and its maps (B, T, h, w) of scale 1."""
        raise NotImplementedError

    def _looked_at(self, stack: Tensor, tags: TagRows) -> list[Outputs]:
        features, logits = self._look(stack)
        scores = logits.detach().float().sigmoid().cpu().numpy()
        alone = tags is None  # plain segmentation: one scale, its own tags
        chosen = scores > self.config.tag_threshold if tags is None else tags
        classes = first_classes(chosen)
        net, first = self._maps(stack, torch.from_numpy(classes).to(stack.device), features, logits)
        scales = (1.0,) if alone else self.config.scales
        maps = multi_scale_cam(net, stack, scales, flip=self.config.flip and not alone, first=first)
        planes = normalise_cam(maps).cpu().numpy()
        return [
            Outputs(maps=Maps(classes=own[:count], values=plane[:count]), tag_scores=score)
            for own, plane, count, score in zip(classes, planes, chosen.sum(1), scores, strict=True)
        ]


def first_classes(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(B, T) classes chosen in each row of (B, K), ascending, then others: as many as the longest row has.

    At least one, so that maps have a plane where nothing is chosen.
    """
    order = np.argsort(~chosen, axis=1, kind="stable")
    return order[:, : max(1, int(chosen.sum(1).max()))]


# ------------------------------------------------------------------------------------------ with gradients


class GradientPredictor(FamilyPredictor):
    """Maps by a rule of features and gradients, in float32 whatever the precision of the run."""

    def __init__(self, plain: CamPredictor, rule: MapRule, layers: tuple[str, ...]) -> None:
        super().__init__(plain.net, plain.config, plain.ctx)
        self.net.requires_grad_(False)  # gradients at features only: no graph in front of them
        self.rule, self.layers = rule, layers

    def _looked_at(self, stack: Tensor, tags: TagRows) -> list[Outputs]:
        with gradients_in_float32(stack.device):
            return super()._looked_at(stack, tags)

    def _look(self, stack: Tensor) -> tuple[list[Tensor], Tensor]:
        return tapped(self.net, self.layers, stack)

    def _maps(
        self, stack: Tensor, classes: Tensor, features: list[Tensor], logits: Tensor
    ) -> tuple[MapNet, Tensor]:
        net = GradientMaps(self.net, self.rule, self.layers, classes)
        return net, net.of(features, logits)


@contextmanager
def gradients_in_float32(device: torch.device) -> Iterator[None]:
    """Gradients inside, even where the caller runs without them, and no autocast."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        yield


class GradCam(Cam):
    """Grad-CAM: channels weighted by their mean gradient.

    With global average pooling and a linear head, as all networks here have, its maps at the last layer are
    those of `cam` (and of XGrad-CAM) up to rounding: a step to check that by, not a method of its own.
    """

    Config: ClassVar[type] = GradCamConfig
    config: GradCamConfig | LayerCamConfig
    card = StepCard(
        name="gradcam",
        version="1",
        role="localizer",
        supervision=("tags",),
        gives=("maps", "tag_scores"),
        needs_threshold=True,
        tuned_on=TUNED_ON,
        paper="Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based "
        "Localization, ICCV 2017",
    )

    def ready(self) -> None:
        super().ready()
        if self.config.layers != (LAST,):
            with torch.device("meta"):  # its parts have names without memory too
                net = Backbone(self.config.backbone, self.config.output_stride)
            check_layers(self.config.layers, net, self.card.name)

    def fit(self, train: View, given: Artifacts, ctx: Context) -> GradientPredictor:
        return GradientPredictor(super().fit(train, given, ctx), RULES[self.card.name], self.config.layers)

    def restore(self, ctx: Context) -> GradientPredictor:
        return GradientPredictor(super().restore(ctx), RULES[self.card.name], self.config.layers)


class GradCamPlusPlus(GradCam):
    """Grad-CAM++: channels weighted by their positive gradients, less where a channel is active all over."""

    card = replace(
        GradCam.card,
        name="gradcam++",
        paper="Chattopadhay et al., Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep "
        "Convolutional Networks, WACV 2018",
    )


class LayerCam(GradCam):
    """LayerCAM: every cell weighted by its own positive gradient, which makes shallow layers usable too."""

    Config = LayerCamConfig
    card = replace(
        GradCam.card,
        name="layercam",
        paper="Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, "
        "TIP 2021",
    )


# --------------------------------------------------------------------------------------- without gradients


class ScorePredictor(FamilyPredictor):
    """Score-CAM's weights of the image at scale 1; other scales and the mirror images share them."""

    def __init__(self, plain: CamPredictor, channels: int) -> None:
        super().__init__(plain.net, plain.config, plain.ctx)
        self.channels = channels

    def _look(self, stack: Tensor) -> tuple[list[Tensor], Tensor]:
        features = self.net.backbone(stack)
        return [features], self.net.tag_logits(features)

    def _maps(
        self, stack: Tensor, classes: Tensor, features: list[Tensor], logits: Tensor
    ) -> tuple[MapNet, Tensor]:
        (last,) = features
        every = [
            channel_weights(self.net, image, f, self.channels) for image, f in zip(stack, last, strict=True)
        ]
        own = [weights[ranks] for weights, ranks in zip(every, classes, strict=True)]
        net = WeightedChannels(self.net.backbone, torch.stack(own))
        return net, net.of(last)


class ScoreCam(Cam):
    """Score-CAM: channels weighted by what the classifier sees through them; one forward pass per channel."""

    Config = ScoreCamConfig
    config: ScoreCamConfig
    card = replace(
        GradCam.card,
        name="scorecam",
        paper="Wang et al., Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks, "
        "CVPRW 2020",
    )

    def fit(self, train: View, given: Artifacts, ctx: Context) -> ScorePredictor:
        return ScorePredictor(super().fit(train, given, ctx), self.config.channels)

    def restore(self, ctx: Context) -> ScorePredictor:
        return ScorePredictor(super().restore(ctx), self.config.channels)
