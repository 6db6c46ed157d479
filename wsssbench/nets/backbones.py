"""Backbones by name, each with its output stride, input normalisation and BatchNorm policy.

The description belongs to the network, not to the method: whoever asks for `mobilenet_v2_folded` gets the
pixel range and the frozen BatchNorm that its weights were made for. Weights come from files that the user
names; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsssbench.errors import UnknownName, WsssError, nearest
from wsssbench.nets.lean import drop_folded_norms, ease_depthwise
from wsssbench.nets.matching import load_backbone_weights
from wsssbench.nets.residual import SmallResNet
from wsssbench.nets.wrn38 import WideResNet38

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # torchvision's training recipe, in 0..255
IMAGENET_STD = (58.395, 57.12, 57.375)
SYMMETRIC_MEAN = SYMMETRIC_STD = (127.5, 127.5, 127.5)  # x / 127.5 - 1
HALF_STD = (64.0, 64.0, 64.0)


@dataclass(frozen=True)
class BackboneInfo:
    """What a backbone is. `strides` are the output strides it can be given; the first is the default."""

    build: Callable[[], nn.Module]
    parts: Callable[[nn.Module], nn.Sequential]
    channels: int
    strides: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    frozen_norm: bool  # BatchNorm stays in eval mode with fixed affine parameters
    folded: bool = False  # its BatchNorm layers are the identity, folded into the convolutions
    native_stride: int = 32
    classifier: str = ""  # what the keys of `build`'s network begin with that `parts` leaves out


class Backbone(nn.Module):
    """Images to features: uint8-valued (B, 3, H, W) in 0..255 -> (B, channels, H / stride, W / stride)."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, stride: int = 0, weights: str = "") -> None:
        super().__init__()
        info = backbone_info(name)
        stride = stride or info.strides[0]
        check_stride(name, stride)
        net = info.build()
        if weights:
            load_backbone_weights(net, weights, name=name, folded=info.folded, classifier=info.classifier)
        self.body = info.parts(net)
        hold_stride(self.body, stride, info.native_stride)
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
            for module in self.body.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


def hold_stride(body: nn.Sequential, stride: int, native: int) -> None:
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


def _resnet(depth: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision.models

        net: nn.Module = getattr(torchvision.models, f"resnet{depth}")(weights=None)
        return net

    return build


def _mobilenet() -> nn.Module:
    import torchvision.models

    net: nn.Module = torchvision.models.mobilenet_v2(weights=None)
    return net


def _resnet_parts(net: nn.Module) -> nn.Sequential:
    return nn.Sequential(*list(net.children())[:-2])  # without pooling and fc


def _mobilenet_parts(net: nn.Module) -> nn.Sequential:
    features: nn.Sequential = net.features  # type: ignore[assignment]
    return features


def _compact() -> nn.Module:
    return SmallResNet(compact=True)


def _itself(net: nn.Module) -> nn.Sequential:
    return nn.Sequential(net)


def _sequence(net: nn.Module) -> nn.Sequential:
    assert isinstance(net, nn.Sequential)
    return net


BACKBONES: dict[str, BackboneInfo] = {
    "small": BackboneInfo(
        SmallResNet, _itself, 128, (8, 4), SYMMETRIC_MEAN, HALF_STD, frozen_norm=False, native_stride=8
    ),
    "compact": BackboneInfo(
        _compact, _itself, 128, (8, 4), SYMMETRIC_MEAN, HALF_STD, frozen_norm=False, native_stride=8
    ),
    "wrn38": BackboneInfo(
        WideResNet38, _sequence, 4096, (8,), IMAGENET_MEAN, IMAGENET_STD, True, native_stride=8
    ),
    "mobilenet_v2": BackboneInfo(
        _mobilenet,
        _mobilenet_parts,
        1280,
        (16, 8, 32),
        IMAGENET_MEAN,
        IMAGENET_STD,
        True,
        classifier="classifier.",
    ),
    "mobilenet_v2_folded": BackboneInfo(
        _mobilenet,
        _mobilenet_parts,
        1280,
        (16, 8, 32),
        SYMMETRIC_MEAN,
        SYMMETRIC_STD,
        True,
        folded=True,
        classifier="classifier.",
    ),
} | {
    f"resnet{depth}": BackboneInfo(
        _resnet(depth),
        _resnet_parts,
        channels,
        (16, 8, 32),
        IMAGENET_MEAN,
        IMAGENET_STD,
        True,
        classifier="fc.",
    )
    for depth, channels in ((18, 512), (34, 512), (50, 2048), (101, 2048))
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
    """The description of the backbone called `name`."""
    if name not in BACKBONES:
        raise UnknownName(
            f"there is no backbone {name!r}", where="backbone", hint=nearest(name, list(BACKBONES))
        )
    return BACKBONES[name]
