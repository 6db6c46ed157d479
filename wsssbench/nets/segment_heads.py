"""Segmentation heads: backbone features (and, for some, the image beside them) to logits per class.

Every head is called as head(features, pixels) and answers on a grid of its own; resizing the logits to the
image, losses and backbones must not enter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HeadKind = Literal["dilated", "detail", "aspp"]
DETAIL_STRIDE = 4
DETAIL_CHANNELS = 32
DETAIL_FEATURES = 64
ASPP_RATES = (0.5, 1.0, 1.5, 2.0)  # times the plan's dilation: of 12 they are DeepLab-v2's 6, 12, 18, 24
ASPP_SPREAD = 0.01  # standard deviation of the first weights, as in DeepLab-v2


@dataclass(frozen=True)
class HeadPlan:
    """Which head, how many channels inside it (`aspp` has none), and the dilation of its 3x3 convolutions."""

    kind: HeadKind
    width: int
    dilation: int


def segment_head(plan: HeadPlan, inputs: int, outputs: int) -> nn.Module:
    """The head of `plan` from `inputs` feature channels to `outputs` logits."""
    kinds = {"dilated": DilatedHead, "detail": DetailHead, "aspp": AsppHead}
    return kinds[plan.kind](inputs, outputs, plan.width, plan.dilation)


def logit_stride(kind: HeadKind, stride: int) -> int:
    """Pixels of the image per cell of a head's logits on features of `stride`."""
    return DETAIL_STRIDE if kind == "detail" else stride


class DilatedHead(nn.Module):
    """Conv 3x3 - ReLU - conv 3x3, both dilated, Xavier weights, no normalisation (RRM code, network/RRM.py).

    (B, inputs, h, w) -> (B, outputs, h, w); the image is not looked at.
    """

    def __init__(self, inputs: int, outputs: int, width: int, dilation: int) -> None:
        super().__init__()
        first, last = _conv(inputs, width, dilation), _conv(width, outputs, dilation)
        for layer in (first, last):
            nn.init.xavier_uniform_(layer.weight)
            _zero_bias(layer)
        self.dilation = dilation
        self.layers = nn.Sequential(first, nn.ReLU(inplace=True), last)

    def forward(self, features: Tensor, pixels: Tensor) -> Tensor:
        out: Tensor = self.layers(features)
        return out


class DetailHead(nn.Module):
    """Features beside a shallow stack on the pixels, joined at stride 4, as DeepLab-v3+'s decoder joins an
    early layer (Chen et al., ECCV 2018); for images so small that the grid of the features hides outlines.

    (B, inputs, h, w) and pixels (B, 3, H, W) in 0..255 -> (B, outputs, H / 4, W / 4). An image of 96 pixels
    has 12 cells a side at stride 8, the paper's crops have 41. The stack sees each pixel's colour and its
    difference from the image's mean colour: a deep network has that from its wide view, this one has not.
    """

    def __init__(self, inputs: int, outputs: int, width: int, dilation: int) -> None:
        super().__init__()
        self.detail = nn.Sequential(
            *_normed(6, DETAIL_CHANNELS, stride=2), *_normed(DETAIL_CHANNELS, DETAIL_CHANNELS, stride=2)
        )
        self.reduce = nn.Conv2d(inputs, DETAIL_FEATURES, 1)
        self.join = nn.Sequential(
            *_normed(DETAIL_FEATURES + DETAIL_CHANNELS, width, dilation), *_normed(width, width, dilation)
        )
        self.last = _conv(width, outputs)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                _zero_bias(layer)
        nn.init.xavier_uniform_(self.last.weight)

    def forward(self, features: Tensor, pixels: Tensor) -> Tensor:
        colours = (pixels.float() - 127.5) / 64
        contrast = colours - colours.mean((-2, -1), keepdim=True)
        fine = self.detail(torch.cat([colours, contrast], 1))
        coarse = F.interpolate(
            self.reduce(features), size=fine.shape[-2:], mode="bilinear", align_corners=False
        )
        out: Tensor = self.last(self.join(torch.cat([coarse, fine], 1)))
        return out


class AsppHead(nn.Module):
    """Atrous spatial pyramid pooling of DeepLab-v2 (Chen et al., PAMI 2018): the sum of four 3x3 convolutions
    from features to logits, whose dilations are those of ASPP_RATES times `dilation`; nothing between.

    (B, inputs, h, w) -> (B, outputs, h, w); `width` does not matter and the image is not looked at.
    """

    def __init__(self, inputs: int, outputs: int, width: int, dilation: int) -> None:
        super().__init__()
        rates = [max(1, round(rate * dilation)) for rate in ASPP_RATES]
        self.branches = nn.ModuleList(_conv(inputs, outputs, rate) for rate in rates)
        for layer in self.branches:
            assert isinstance(layer, nn.Conv2d)
            nn.init.normal_(layer.weight, std=ASPP_SPREAD)
            _zero_bias(layer)

    def forward(self, features: Tensor, pixels: Tensor) -> Tensor:
        return torch.stack([branch(features) for branch in self.branches]).sum(0)


def _conv(inputs: int, outputs: int, dilation: int = 1, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation)


def _normed(inputs: int, outputs: int, dilation: int = 1, stride: int = 1) -> tuple[nn.Module, ...]:
    return _conv(inputs, outputs, dilation, stride), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def _zero_bias(layer: nn.Conv2d) -> None:
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
