"""What a weight file is and which backbones it fits, without anybody naming one. It changes nothing; networks
are built on the meta device, so that only their shapes exist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wsssbench.nets.backbones import BACKBONES, backbone_info, is_installed
from wsssbench.nets.matching import Fit, beneath, fit, is_folded, taken
from wsssbench.nets.weights import read_state_dict, weight_format, weights_digest
from wsssbench.nets.wrn38_names import MXNET_CLASSIFIER, SEGMENT

STATISTICS = ("running_mean", "running_var", "moving_mean", "moving_var", "num_batches_tracked")
CLASSIFIERS = ("fc8.weight", "fc.weight", "_fc.weight", "classifier.1.weight", MXNET_CLASSIFIER[0])
PURPOSES = {20: "VOC", 21: "VOC with background", 1000: "ImageNet"}  # by the number of classes


@dataclass(frozen=True)
class WeightReport:
    """Everything that `wsssbench weights inspect` says. Heads are (name of the weight, outputs)."""

    format: str
    bytes: int
    sha256: str
    tensors: int
    parameters: int  # without the statistics of BatchNorm
    dtypes: dict[str, int]  # how many tensors have each
    batchnorm: str  # "folded", "as trained" or "none"
    fits: tuple[str, ...]  # backbones, every tensor of theirs that is used
    fit: Fit | None  # of the first of these
    misfits: dict[str, Fit]  # of the others: keys lack, there are several, or BatchNorm is folded
    classifier: tuple[str, int] | None
    segmentation: tuple[str, int] | None

    @property
    def nearest(self) -> str:
        """Of the backbones that do not fit, the one that most tensors match; empty where none does."""
        like = {name: found for name, found in self.misfits.items() if found.matched}
        return max(like, key=lambda name: (like[name].matched, -like[name].misfits), default="")


def inspect_weights(path: str | Path) -> WeightReport:
    """Read the file and try every backbone. Raises BadData as `read_state_dict` does."""
    path = Path(path).expanduser()
    state = read_state_dict(path)
    found = _fits(state)
    usable = {n: one for n, one in found.items() if one.usable}
    folded = {n: is_folded(taken(one, state)) for n, one in usable.items()}
    matching = [n for n in usable if BACKBONES[n].folded == folded[n]]
    misfits = {n: one for n, one in found.items() if n not in matching}
    shown = usable[matching[0]] if matching else None
    best = shown or max(found.values(), key=lambda one: (one.matched, -one.misfits))
    under = beneath(state, best.prefix)
    return WeightReport(
        format=weight_format(path),
        bytes=path.stat().st_size,
        sha256=weights_digest(path),
        tensors=len(state),
        parameters=sum(v.numel() for k, v in state.items() if not k.endswith(STATISTICS)),
        dtypes=dict(Counter(str(v.dtype).removeprefix("torch.") for v in state.values())),
        batchnorm=_batchnorm(under, taken(best, state)),
        fits=tuple(matching),
        fit=shown,
        misfits=misfits,
        classifier=_head(under, CLASSIFIERS),
        segmentation=_head(under, (SEGMENT["segment.layers.2.weight"],)),
    )


def _fits(state: Mapping[str, Tensor]) -> dict[str, Fit]:
    return {name: fit_of(name, state) for name in BACKBONES if is_installed(name)}


def fit_of(name: str, state: Mapping[str, Tensor]) -> Fit:
    """How the tensors of a file match the backbone called `name`."""
    info = backbone_info(name)
    with torch.device("meta"):
        return fit(info.build(info.strides[0]), state, info.classifier)


def _batchnorm(names: Iterable[str], matched: Mapping[str, Tensor]) -> str:
    if not any(name.endswith(STATISTICS[:-1]) for name in names):
        return "none"
    return "folded" if is_folded(matched) else "as trained"


def _head(state: Mapping[str, Tensor], names: tuple[str, ...]) -> tuple[str, int] | None:
    return next(((n, len(state[n])) for n in names if n in state and state[n].ndim > 1), None)
