"""The lines in which the members of the CAM family differ: how features become class maps, by gradients of
class scores at them or by scores of masked images. Everything runs in the precision and the gradient mode
that the caller has set; scales, mirror images and the choice of classes are the caller's too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wsssbench.errors import UnknownName, nearest
from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import Classifier, normalise_cam, resize

LAST = "last"  # the features that the head sees
SHALLOW_GAIN = 2.0  # LayerCAM: tanh(gamma M / max M) for maps of shallow layers, gamma = 2

MASKED_BATCH = 16  # masked images that Score-CAM sends through the network together
MASK_EPS = 1e-8  # a channel without any contrast gives an empty mask

# (features, gradients of one class's logit) of one part, both (B, c, h, w) -> maps (B, h, w). Gradients of a
# pooled score shrink with the number of cells; maps must not, or larger scales would count less in a mean.
MapRule = Callable[[Tensor, Tensor], Tensor]


def gradcam(features: Tensor, gradients: Tensor) -> Tensor:
    """Selvaraju et al., Grad-CAM, ICCV 2017, eq. 1 and 2, before the ReLU.

    The weights are sums of gradients, the paper's means times the number of cells: a factor that disappears
    when a map is divided by its maximum. At the last features of global average pooling with a linear head
    they are the head's weights, so that the maps are those of CAM.
    """
    return (gradients.sum((-2, -1), keepdim=True) * features).sum(-3)


def gradcam_plus_plus(features: Tensor, gradients: Tensor) -> Tensor:
    """Chattopadhay et al., Grad-CAM++, WACV 2018, eq. 10 and 19, before the ReLU.

    With Y = exp(S), the derivatives are exp(S) times g, g^2 and g^3 of the logit's gradient g, so that
    alpha = g^2 / (2 g^2 + sum(A) g^3) = 1 / (2 + sum(A) g), and the weights are sum(alpha relu(g)); the
    common factor exp(S) disappears when a map is divided by its maximum. The paper's features come from a
    ReLU; at other parts only their positive share enters sum(A), which keeps the denominator above 2.
    """
    rising = gradients.relu()
    mass = features.relu().sum((-2, -1), keepdim=True)
    weights = (rising / (2 + mass * rising)).sum((-2, -1), keepdim=True)
    return (weights * features).sum(-3)


def layercam(features: Tensor, gradients: Tensor) -> Tensor:
    """Jiang et al., LayerCAM, TIP 2021: every cell is weighted by its own positive gradient, before the ReLU.

    Times the number of cells, a factor that disappears when a map is divided by its maximum.
    """
    cells = features.shape[-2] * features.shape[-1]
    return (gradients.relu() * features).sum(-3) * cells


RULES: dict[str, MapRule] = {"gradcam": gradcam, "gradcam++": gradcam_plus_plus, "layercam": layercam}


# ------------------------------------------------------------------------------------------ with gradients


@dataclass(frozen=True)
class GradientMaps:
    """A classifier in evaluation mode as a network of class maps (a `MapNet`).

    `classes` (B, T) int64 are the classes of each image's T planes. Costs one backward pass per plane, from
    the logits to the shallowest of `layers`, for all images of a batch together.
    """

    net: Classifier
    rule: MapRule
    layers: tuple[str, ...]
    classes: Tensor

    def class_maps(self, pixels: Tensor) -> Tensor:
        """(B, T, h, w) before any rectification; the fusion of several layers is in [0, 1]."""
        return self.of(*tapped(self.net, self.layers, pixels))

    def of(self, features: Sequence[Tensor], logits: Tensor) -> Tensor:
        """The same from what `tapped` has given."""
        planes: list[list[Tensor]] = [[] for _ in features]
        for own in self.classes.T:  # (B,): one class of each image
            score = logits.gather(1, own[:, None]).sum()
            found = torch.autograd.grad(score, list(features), retain_graph=True)
            for layer, part, gradients in zip(planes, features, found, strict=True):
                layer.append(self.rule(part.detach(), gradients))
        return fused([torch.stack(layer, 1) for layer in planes], self.layers)


def tapped(net: Classifier, layers: Sequence[str], pixels: Tensor) -> tuple[list[Tensor], Tensor]:
    """The features (B, c, h, w) of each of `layers` and the tag logits (B, K), with a graph between them.

    The graph begins at the shallowest layer where the parameters ask for no gradient.
    """
    found: dict[str, Tensor] = {}

    def tap(name: str) -> Callable[[Any, Any, Tensor], Tensor]:
        def keep(module: Any, inputs: Any, output: Tensor) -> Tensor:
            found[name] = output if output.requires_grad else output.detach().requires_grad_()
            return found[name].clone()  # a layer behind may work in place

        return keep

    with ExitStack() as taps:
        for name in layers:
            part = net.backbone.body.get_submodule("" if name == LAST else name)
            taps.enter_context(part.register_forward_hook(tap(name)))
        logits = net.tag_logits(net.backbone(pixels))
    return [found[name] for name in layers], logits


def check_layers(layers: Sequence[str], backbone: Backbone, step: str = "") -> None:
    """Raises UnknownName where one of `layers` is neither "last" nor a part of the backbone."""
    parts = dict(backbone.body.named_modules())
    for name in layers:
        if name != LAST and (name == "" or name not in parts):
            known = [LAST, *(part for part, module in parts.items() if part and any(module.children()))]
            hint = f"{nearest(name, known)}, and what these are made of"
            raise UnknownName(
                f"the backbone has no part {name!r}",
                where=f"option {step}.layer" if step else "option layer",
                hint=hint,
            )


def fused(maps: Sequence[Tensor], layers: Sequence[str]) -> Tensor:
    """One map out of those of several layers, as in LayerCAM: the cellwise maximum on the finest grid.

    Each (B, T, h, w) is divided by its maximum first; those of layers other than "last" go through
    tanh(2 x), which lifts their middle values (the paper does so for the shallow stages of VGG-16). A single
    layer stays as it is.
    """
    if len(maps) == 1:
        return maps[0]
    finest = max((m.shape[-2:] for m in maps), key=lambda size: (size[0] * size[1], size[0]))
    unit = [normalise_cam(m.relu()) for m in maps]
    lifted = [
        m if name == LAST else torch.tanh(SHALLOW_GAIN * m) for m, name in zip(unit, layers, strict=True)
    ]
    return torch.stack([resize(m, finest) for m in lifted]).amax(0)


# --------------------------------------------------------------------------------------- without gradients


@dataclass(frozen=True)
class WeightedChannels:
    """A network of class maps: sums of the last features by `weights` (B, T, c)."""

    backbone: Backbone
    weights: Tensor

    def class_maps(self, pixels: Tensor) -> Tensor:
        return self.of(self.backbone(pixels))

    def of(self, features: Tensor) -> Tensor:
        return torch.einsum("btc,bchw->bthw", self.weights, features.float())


def channel_weights(net: Classifier, image: Tensor, features: Tensor, channels: int) -> Tensor:
    """(K, c) Score-CAM's weights of the channels of `features` (c, h, w) of one image (3, H, W).

    Wang et al., Score-CAM, CVPRW 2020, algorithm 1: the image is masked by each channel, enlarged and scaled
    to 0..1, and the softmax over channels of a class's logits are its weights (the logit of the baseline
    image, which the paper subtracts, is the same for all channels and drops out of the softmax). One pass
    per channel serves all classes. Of `channels` > 0 only those of largest variance are scored.
    """
    order = features.float().var((-2, -1), correction=0).sort(descending=True, stable=True).indices
    kept = order[: channels or None]
    logits = torch.cat(
        [masked_logits(net, image, features[part]) for part in torch.split(kept, MASKED_BATCH)]
    )
    weights = logits.new_zeros(logits.shape[1], len(features))
    weights[:, kept] = logits.softmax(0).T
    return weights


def masked_logits(net: Classifier, image: Tensor, features: Tensor) -> Tensor:
    """(n, K) float32 tag logits of `image` (3, H, W) under the masks of `features` (n, h, w).

    The normalised image is multiplied, so that what a mask hides gets the network's mean colour.
    """
    masks = channel_masks(features.float(), (image.shape[-2], image.shape[-1]))
    mean = net.backbone.mean
    logits = net.tag_logits(net.backbone(mean + (image.float() - mean) * masks[:, None]))
    return logits.float()


def channel_masks(features: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, *size) in [0, 1] out of (n, h, w): enlarged, then from each channel's minimum to its maximum."""
    large = resize(features[None], size)[0]
    low, high = large.amin((-2, -1), keepdim=True), large.amax((-2, -1), keepdim=True)
    return (large - low) / (high - low + MASK_EPS)
