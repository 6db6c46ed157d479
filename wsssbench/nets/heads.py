"""A classifier whose last layer is a 1x1 convolution, so that its class maps cost nothing extra, the same
with a segmentation head beside it, and multi-scale class activation maps of either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsssbench.nets.backbones import Backbone
from wsssbench.nets.segment_heads import HeadPlan, segment_head

LAYOUT = torch.channels_last  # of the weights, and through them of all activations: faster on CPU and GPU
PAIRED_PIXELS = 2**20  # of a batch that leaves a GPU idle: 16 images of 256 x 256, 5 of VOC
CAM_EPS = 1e-5  # PSA and RRM divide a map by its maximum plus this (reference code, compute_cam_up)


class MapNet(Protocol):
    """Any network that gives raw class maps: (B, 3, H, W) in 0..255 -> (B, K, h, w)."""

    def class_maps(self, pixels: Tensor) -> Tensor: ...


class Classifier(nn.Module):
    """Backbone, dropout, global average pooling and a linear head without bias.

    Pooling and a linear layer commute, so the head runs as a 1x1 convolution on the features.
    """

    def __init__(self, backbone: Backbone, classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.backbone = backbone
        self.drop = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(backbone.channels, classes, 1, bias=False)
        nn.init.xavier_uniform_(self.head.weight)
        self.to(memory_format=LAYOUT)

    def class_maps(self, pixels: Tensor) -> Tensor:
        """(B, K, h, w) activations before any rectification."""
        out: Tensor = self.head(self.backbone(pixels))
        return out

    def tag_logits(self, features: Tensor) -> Tensor:
        """(B, K) logits from features (B, channels, h, w), dropout on them when training."""
        pooled = F.adaptive_avg_pool2d(self.drop(features), 1)
        out: Tensor = self.head(pooled).flatten(1)
        return out

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) tag logits and (B, K, h, w) raw class maps from one pass."""
        features = self.backbone(pixels)
        return self.tag_logits(features), self.head(features)


class JointNet(Classifier):
    """The one-step network of RRM: a classifier with a segmentation head beside it, on one backbone.

    The backbone's BatchNorm is frozen from here on, as in the official code.
    """

    def __init__(self, classifier: Classifier, head: HeadPlan) -> None:
        nn.Module.__init__(self)
        self.backbone, self.drop, self.head = classifier.backbone, classifier.drop, classifier.head
        self.backbone.freeze_norm()
        outputs = classifier.head.out_channels + 1
        self.segment = segment_head(head, self.backbone.channels, outputs)
        self.to(memory_format=LAYOUT)

    def joint(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tag logits (B, K), raw class maps (B, K, h, w) and segmentation logits (B, K + 1, h, w)."""
        features = self.backbone(pixels)
        return self.tag_logits(features), self.head(features), self.segment(features, pixels)


class Segmenter(nn.Module):
    """Backbone and segmentation head: (B, 3, H, W) in 0..255 -> logits (B, C, h, w)."""

    def __init__(self, backbone: Backbone, classes: int, head: HeadPlan) -> None:
        super().__init__()
        self.backbone = backbone
        self.segment = segment_head(head, backbone.channels, classes + 1)
        self.to(memory_format=LAYOUT)

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.segment(self.backbone(pixels), pixels)
        return out


def multi_scale_cam(
    net: MapNet, pixels: Tensor, scales: Sequence[float], *, flip: bool, first: Tensor | None = None
) -> Tensor:
    """(B, K, h, w) mean of the rectified class maps over `scales` (and mirror images), not normalised.

    `pixels` (B, 3, H, W) in 0..255. The grid is that of scale 1, or without it of the first scale; `first`
    are raw maps of scale 1 that are at hand already. Images are resized bilinearly with align_corners off,
    sizes truncated, as in the official code.
    """
    total, count, grid = None, 0, None
    for scale in sorted(scales, key=lambda s: s != 1.0):  # scale 1 first: it sets the grid
        for maps in _maps_of_views(net, rescaled(pixels, scale), flip, first if scale == 1.0 else None):
            grid = grid or maps.shape[-2:]
            same = maps if maps.shape[-2:] == grid else resize(maps, grid)
            total = same if total is None else total + same
            count += 1
    assert total is not None
    return total / count


def grid_scale(scales: Sequence[float]) -> float:
    """The scale whose grid the means over `scales` have: 1, or without it that of the first scale, at least 1
    since without tags there is one scale only."""
    return 1.0 if 1.0 in scales else max(1.0, scales[0])


def _maps_of_views(net: MapNet, pixels: Tensor, flip: bool, known: Tensor | None) -> list[Tensor]:
    """Rectified maps (B, K, h, w) float32 of the images, unless they are `known`, and with `flip` those of
    their mirror images, turned back."""
    if flip and known is None and in_one_pass(net, pixels):
        views = list(net.class_maps(torch.cat([pixels, pixels.flip(-1)])).chunk(2))
    else:
        views = [net.class_maps(pixels) if known is None else known]
        views += [net.class_maps(pixels.flip(-1))] if flip else []
    rectified = [F.relu(maps).float() for maps in views]
    return [*rectified[:1], *(maps.flip(-1) for maps in rectified[1:])]


def in_one_pass(net: object, pixels: Tensor) -> bool:
    """Whether images (B, 3, H, W) and their mirror images go through the network together.

    A small batch leaves a GPU waiting for launches, twice where there are two passes. On a CPU nothing is
    gained, and a network whose maps are bound to the images that it has seen cannot be asked for others.
    """
    few = pixels.shape[0] * pixels.shape[-2] * pixels.shape[-1] <= PAIRED_PIXELS
    return pixels.device.type == "cuda" and few and isinstance(net, Classifier)


def normalise_cam(maps: Tensor) -> Tensor:
    """Divide each map (..., h, w) by its maximum: values in [0, 1], no minimum subtracted."""
    return maps / (maps.amax(dim=(-2, -1), keepdim=True) + CAM_EPS)


def resize(planes: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear, align_corners off: (B, C, h, w) -> (B, C, *size)."""
    return F.interpolate(planes, size=tuple(size), mode="bilinear", align_corners=False)


def rescaled(pixels: Tensor, scale: float) -> Tensor:
    """Images (B, 3, H, W) times `scale`, bilinearly, sizes truncated; the same tensor at scale 1."""
    if scale == 1.0:
        return pixels
    height, width = (max(1, int(side * scale)) for side in pixels.shape[-2:])
    return resize(pixels.float(), (height, width))
