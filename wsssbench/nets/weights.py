"""Weight files: read without executing anything, matched to a network key by key, known by their sha256."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsssbench.errors import BadData


def read_tensors(path: Path) -> Any:
    """What torch.save wrote: tensors and plain values, on the CPU; no code in the file runs.

    Raises ValueError, in one line, where the file is damaged or needs code to be loaded.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # at a garbled file its readers raise nearly anything
        reason = str(error).partition("\n")[0][:120]
        raise ValueError(reason or type(error).__name__) from error


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a torch checkpoint, by name; no code in the file runs.

    Raises BadData where the file is missing, damaged or holds anything but a mapping of tensors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise BadData("there is no such weight file", where=path, hint="check --weights or the option")
    try:
        loaded = read_tensors(path)
    except ValueError as error:
        raise BadData(
            f"cannot read this weight file ({error})",
            where=path,
            hint="give a state dict saved by torch.save; a file that needs code to load is refused",
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BadData("this file holds no state dict of tensors", where=path, hint="save net.state_dict()")
    return state


def load_backbone_weights(net: nn.Module, path: str | Path, *, name: str, folded: bool) -> None:
    """Fill `net` (with its classifier) from the file, strictly; a folded file fits a folded backbone only."""
    state = read_state_dict(path)
    misfits = _misfits(net, state)
    if any(misfits.values()):
        counts = ", ".join(f"{len(keys)} {what} ({_few(keys)})" for what, keys in misfits.items() if keys)
        raise BadData(
            f"these weights do not fit {name}: {counts}",
            where=path,
            hint="name the backbone that the file was saved from",
        )
    if is_folded(state) != folded:
        other = "mobilenet_v2_folded" if not folded else "mobilenet_v2"
        raise BadData(
            f"BatchNorm is {'not ' if folded else ''}folded in this file, so its pixel range is another",
            where=path,
            hint=f"use backbone {other}",
        )
    net.load_state_dict(state, strict=False)


def weights_digest(path: str | Path) -> str:
    """sha256 (hex) of a weight file; empty for no file."""
    return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest() if str(path) else ""


def is_folded(state: dict[str, Tensor]) -> bool:
    """Whether every BatchNorm in `state` is the identity (running mean 0, variance 1)."""
    means = [v for k, v in state.items() if k.endswith("running_mean")]
    variances = [v for k, v in state.items() if k.endswith("running_var")]
    near_one = all(bool(((v - 1).abs() < 1e-3).all()) for v in variances)
    return bool(means) and near_one and all(not m.any() for m in means)


def _misfits(net: nn.Module, state: dict[str, Tensor]) -> dict[str, list[str]]:
    """Keys that are missing, unexpected, or of another shape. Old files lack the counters of batches."""
    own = net.state_dict()
    return {
        "keys missing": [k for k in own if k not in state and not k.endswith("num_batches_tracked")],
        "unexpected": [k for k in state if k not in own],
        "of another shape": [k for k in state if k in own and own[k].shape != state[k].shape],
    }


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
