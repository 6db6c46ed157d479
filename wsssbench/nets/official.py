"""Whole networks from the checkpoints of RRM and PSA: backbone, classifier and segmentation head at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from wsssbench.errors import BadData, WsssError
from wsssbench.nets.heads import Classifier, JointNet
from wsssbench.nets.matching import beneath, checked_fit, fill, tell
from wsssbench.nets.segment_heads import DilatedHead
from wsssbench.nets.weights import read_state_dict
from wsssbench.nets.wrn38 import WideResNet38
from wsssbench.nets.wrn38_names import CLASSIFIER, SEGMENT

Part = Literal["backbone", "classifier", "segment"]
SEGMENT_DILATION = 12  # RRM code, network/RRM.py; no shape in the file tells it
HEADS: dict[Part, Mapping[str, str]] = {"classifier": CLASSIFIER, "segment": SEGMENT}


def heads_held(names: Iterable[str]) -> frozenset[Part]:
    """Which heads an official file with these keys holds, whole or in part."""
    held = set(names)
    return frozenset(part for part, table in HEADS.items() if held & set(table.values()))


def load_official(net: Classifier, path: str | Path) -> frozenset[Part]:
    """Fill a classifier or joint network on WRN-38 from an official file; the parts that were filled.

    `res38_cls.pth` fills backbone and classifier, `RRM_final.pth` a JointNet's segmentation head too, the
    ImageNet file of MXNet the backbone alone; a part that the file lacks stays as it is. Raises BadData where
    a key of the backbone or of a head is missing or of another shape (other classes, another width),
    WsssError where `net` has another backbone or another dilation than the file's head.
    """
    body = wide_resnet(net)
    state = read_state_dict(path)
    found = checked_fit(body, state, path, "wrn38")
    beside = beneath(state, found.prefix)
    filled: set[Part] = {"backbone"}
    held = heads_held(beside)
    for part in (part for part in HEADS if part in held):
        if part == "classifier" or isinstance(net, JointNet):
            _check_head(net, beside, part, path)
            filled.add(part)
    fill(body, state, found.names)
    tell(found, path, "wrn38")
    for part in filled - {"backbone"}:
        fill(net, beside, HEADS[part])
    return frozenset(filled)


def wide_resnet(net: Classifier) -> WideResNet38:
    """The network's WRN-38; raises WsssError where it has another backbone."""
    body = net.backbone.body
    if not isinstance(body, WideResNet38):
        raise WsssError(
            "official checkpoints hold WRN-38, and this network has another backbone",
            where="backbone",
            hint="use backbone wrn38 with output stride 8",
        )
    return body


def _check_head(net: Classifier, state: Mapping[str, Tensor], part: Part, path: str | Path) -> None:
    own = net.state_dict()
    if part == "segment":
        _check_kind(net, path)
    for key, name in HEADS[part].items():
        found = tuple(state[name].shape) if name in state else None
        if found != own[key].shape:
            shapes = f"{name} has the shape {found}, the network's {tuple(own[key].shape)}"
            what = shapes if found is not None else f"the file lacks {name} of its {part} head"
            hint = "official files have whole heads for 20 classes, their segmentation head is 512 wide"
            raise BadData(what, where=path, hint=hint)


def _check_kind(net: nn.Module, path: str | Path) -> None:
    head = net.segment
    dilation = head.dilation if isinstance(head, DilatedHead) else None
    if dilation != SEGMENT_DILATION:
        own = "of another kind" if dilation is None else f"of dilation {dilation}"
        raise WsssError(
            f"the file's segmentation head has dilation {SEGMENT_DILATION}, the network's is {own}",
            where=path,
            hint=f"build the network with a dilated head of dilation {SEGMENT_DILATION}",
        )
