"""Backbones by name, each with its output stride, input normalisation and BatchNorm policy.

The description belongs to the network, not to the method: whoever asks for `mobilenet_v2_folded` gets the
pixel range and the frozen BatchNorm that its weights were made for. `timm:NAME` is any convolutional network
of the package timm, see `timm_nets`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from wsssbench.errors import UnknownName, WsssError, nearest
from wsssbench.nets.lean import drop_folded_norms, ease_depthwise
from wsssbench.nets.matching import load_backbone_weights
from wsssbench.nets.residual import SmallResNet
from wsssbench.nets.timm_nets import LITE, PREFIX, lite_network, timm_facts, timm_features, timm_network
from wsssbench.nets.wrn38 import WideResNet38

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # torchvision's training recipe, in 0..255
IMAGENET_STD = (58.395, 57.12, 57.375)
SYMMETRIC = (127.5, 127.5, 127.5)  # as mean and deviation: x / 127.5 - 1
HALF_STD = (64.0, 64.0, 64.0)


@dataclass(frozen=True)
class BackboneInfo:
    """What a backbone is. `strides` are the output strides it can be given; the first is the default."""

    build: Callable[[int], nn.Module]  # the whole network, its classifier included, at an output stride
    parts: Callable[[Any], nn.Module]  # of it what makes features of images
    channels: int
    strides: tuple[int, ...] = (16, 8, 32)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    frozen_norm: bool = True  # BatchNorm stays in eval mode with fixed affine parameters
    folded: bool = False  # its BatchNorm layers are the identity, folded into the convolutions
    classifier: str = ""  # what the keys of `build`'s network begin with that `parts` leaves out
    package: str = ""  # that it is built from, where that is an extra
    family: str = ""  # what the presets for it are called, at weights that are given by name


class Backbone(nn.Module):
    """Images to features: uint8-valued (B, 3, H, W) in 0..255 -> (B, channels, H / stride, W / stride)."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, stride: int = 0, weights: str = "") -> None:
        super().__init__()
        info = backbone_info(name)
        stride = stride or info.strides[0]
        check_stride(name, stride)
        net = info.build(stride)
        if weights:
            load_backbone_weights(net, weights, name=name, folded=info.folded, classifier=info.classifier)
        self.body = info.parts(net)
        if info.folded:
            drop_folded_norms(self.body)
        ease_depthwise(self.body)
        self.channels, self.stride, self.frozen_norm = info.channels, stride, info.frozen_norm
        self.register_buffer("mean", torch.tensor(info.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(info.std).view(1, 3, 1, 1), persistent=False)
        if info.frozen_norm:
            self.freeze_norm()

    def freeze_norm(self) -> None:
        """Fix the statistics and the affine parameters of every BatchNorm layer from now on."""
        self.frozen_norm = True
        for layer in self.body.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.body((pixels.float() - self.mean) / self.std)
        return out

    def train(self, mode: bool = True) -> Backbone:
        """As nn.Module.train, except that frozen BatchNorm layers stay in eval mode."""
        super().train(mode)
        if self.frozen_norm:
            self.freeze_norm()
        return self


def hold_stride(body: nn.Module, stride: int, native: int) -> None:
    """Trade strides for dilation so that the output stride of `body` is `stride` instead of `native`.

    The last stages that would exceed `stride` get stride 1, and every later 3x3 convolution of the same or a
    later stage is dilated by the strides that were dropped (Chen et al., DeepLab, 2016).
    """
    if stride == native:
        return
    reached, dilation, held = 1, 1, False
    for name, conv in body.named_modules():
        if isinstance(conv, nn.MaxPool2d):
            reached *= 2
        if not isinstance(conv, nn.Conv2d):
            continue
        first = conv.stride[0] == 2 and "downsample" not in name  # a shortcut follows its block's decision
        if first:
            held = reached * 2 > stride
            reached, dilation = (reached, dilation * 2) if held else (reached * 2, dilation)
        if conv.stride[0] == 2 and held:
            conv.stride = (1, 1)
        spread = dilation // 2 if first and held else dilation  # the layer that lost its stride comes before
        if conv.kernel_size[0] == 3 and spread > 1:
            conv.dilation, conv.padding = (spread, spread), (spread, spread)
    assert reached * dilation == native, (reached, dilation, native)


def _held(build: Callable[[], nn.Module], native: int, stride: int) -> nn.Module:
    net = build()
    hold_stride(net, stride, native)
    return net


def _torchvision(name: str) -> nn.Module:
    import torchvision.models

    net: nn.Module = torchvision.models.get_model(name, weights=None)
    return net


def _small(build: Callable[[], nn.Module]) -> BackboneInfo:
    """For generated images, trained from scratch."""
    return BackboneInfo(
        partial(_held, build, 8), nn.Sequential, 128, (8, 4), SYMMETRIC, HALF_STD, frozen_norm=False
    )


def _resnet(depth: int, channels: int) -> BackboneInfo:
    def parts(net: nn.Module) -> nn.Sequential:
        return nn.Sequential(*list(net.children())[:-2])  # without pooling and fc

    build = partial(_held, partial(_torchvision, f"resnet{depth}"), 32)
    return BackboneInfo(build, parts, channels, classifier="fc.")


def _of_timm(name: str) -> BackboneInfo:
    """A network of timm, in the pixel range of its own pretrained weights."""
    facts = timm_facts(name)
    return BackboneInfo(
        partial(timm_network, name), timm_features, facts.channels, facts.strides, facts.mean, facts.std,
        classifier=facts.classifier, package="timm",
    )  # fmt: skip


_MOBILENET = BackboneInfo(
    partial(_held, partial(_torchvision, "mobilenet_v2"), 32),
    lambda net: net.features,
    1280,
    classifier="classifier.",
)
_LITE = BackboneInfo(  # lite models of all sizes end in 1280 channels; normalisation: timm's configuration
    partial(lite_network, LITE[0]), timm_features, 1280, mean=SYMMETRIC, std=SYMMETRIC,
    classifier="classifier.", package="timm", family="lite",
)  # fmt: skip
BACKBONES: dict[str, BackboneInfo] = {
    "small": _small(SmallResNet),
    "compact": _small(partial(SmallResNet, compact=True)),
    "wrn38": BackboneInfo(lambda _: WideResNet38(), lambda net: net, 4096, (8,)),
    "mobilenet_v2": _MOBILENET,
    "mobilenet_v2_folded": replace(_MOBILENET, mean=SYMMETRIC, std=SYMMETRIC, folded=True),
    "resnet18": _resnet(18, 512),
    "resnet34": _resnet(34, 512),
    "resnet50": _resnet(50, 2048),
    "resnet101": _resnet(101, 2048),
    **{name: replace(_LITE, build=partial(lite_network, name)) for name in LITE},
}


def check_stride(name: str, stride: int, where: str = "") -> None:
    """Raise WsssError where the backbone called `name` cannot be given the output stride."""
    strides = backbone_info(name).strides
    if stride not in strides:
        raise WsssError(
            f"output stride {stride} is not offered by backbone {name}",
            where=where or f"backbone {name}",
            hint=f"choose one of {', '.join(map(str, strides))}",
        )


def backbone_info(name: str) -> BackboneInfo:
    """The description of the backbone called `name`. UnknownName where there is none; WsssError where the
    package that it is built from is not installed."""
    if name.startswith(PREFIX):
        return _of_timm(name.removeprefix(PREFIX))
    if name not in BACKBONES:
        hint = f"{nearest(name, list(BACKBONES))}; networks of timm are {PREFIX}NAME"
        raise UnknownName(f"there is no backbone {name!r}", where="backbone", hint=hint)
    return BACKBONES[name]


def is_installed(name: str) -> bool:
    """Whether the package that the backbone called `name` is built from is there."""
    package = backbone_info(name).package
    return not package or find_spec(package) is not None
