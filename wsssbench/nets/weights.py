"""Weight files: told apart by content, read without executing anything, matched to a network key by key,
known by their sha256. What a format looks like inside is its own reader's business."""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wsssbench.errors import BadData
from wsssbench.nets.mxnet_params import LIST_MAGIC, read_mxnet_params
from wsssbench.nets.safetensors_file import read_safetensors

Format = Literal["torch", "safetensors", "mxnet"]
REFUSED, FOREIGN = "Weights only load failed", re.compile(r"GLOBAL ([\w.]+)")  # in what torch says
PARALLEL = "module."  # what DataParallel puts before every key
HINT = "give a state dict saved by torch.save, a safetensors file or MXNet's .params; \
a file that needs code to load is refused"


def read_tensors(path: Path) -> Any:
    """What torch.save wrote: tensors and plain values, on the CPU; no code in the file runs.

    Raises ValueError, in one line, where the file is damaged or needs code to be loaded.
    """
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle's protocol: what matters is whether it can be read
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # at a garbled file its readers raise nearly anything
        raise ValueError(_reason(str(error)) or type(error).__name__) from error


def _check_archive(path: Path) -> None:
    """ValueError for a zip that torch.save does not write: its members lie in it as they are, once each, so
    that none can unpack to more than the file has."""
    try:
        with path.open("rb") as stream:
            if stream.read(2) != b"PK":
                return
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(str(error).partition("\n")[0][:120]) from error
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("compressed members, which torch.save does not write")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("its members claim more bytes than it has")


def _reason(said: str) -> str:
    """One line of what torch says of a file that it cannot load, without its advice to load it anyway."""
    asked = FOREIGN.search(said)
    if asked:
        return f"refused: it asks for {asked[1]}, which has no place in weights"
    if said.startswith(REFUSED):
        return "refused: it holds more than tensors and plain values, or is damaged"
    return said.partition("\n")[0][:120]


def weight_format(path: str | Path) -> Format:
    """What kind of weight file this is, by its first bytes.

    Raises BadData where there is no such file, it cannot be opened or is of no known kind.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise BadData("there is no such weight file", where=path, hint="check --weights or the option")
    try:
        with path.open("rb") as stream:
            begin = stream.read(9)
    except OSError as error:
        raise BadData(f"cannot open this weight file ({error.strerror})", where=path) from error
    if begin[:8] == LIST_MAGIC.to_bytes(8, "little"):
        return "mxnet"
    if begin[8:] == b"{" and not any(begin[5:8]):  # a length below 2**40, then JSON: before the others,
        return "safetensors"  # as a length of 640 begins like a pickle
    if begin[:2] == b"PK" or begin[:1] == b"\x80":  # a zip archive, or a pickle as before torch 1.6
        return "torch"
    raise BadData("cannot read this weight file (it begins like none)", where=path, hint=HINT)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weight file of any format, by the names in it; no code in the file runs.

    A state dict under the key "state_dict" is taken out, DataParallel's "module." is dropped. Raises BadData
    where the file is missing, damaged or holds anything but a mapping of tensors.
    """
    path, kind = Path(path).expanduser(), weight_format(path)
    readers = {"mxnet": read_mxnet_params, "safetensors": read_safetensors, "torch": _read_torch}
    state = readers[kind](path)
    cut = len(PARALLEL) if all(name.startswith(PARALLEL) for name in state) else 0
    return {name[cut:]: tensor for name, tensor in state.items()}


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        loaded = read_tensors(path)
    except ValueError as error:
        raise BadData(f"cannot read this weight file ({error})", where=path, hint=HINT) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BadData("this file holds no state dict of tensors", where=path, hint="save net.state_dict()")
    return {str(name): tensor for name, tensor in state.items()}


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file match a network. `names`: the network's key -> the file's; the lists are
    the file's names of what is missing, unexpected or of another shape."""

    names: dict[str, str]
    matched: int  # tensors of the right name and shape
    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]

    @property
    def misfits(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)

    def __str__(self) -> str:
        """ "2 keys missing (a, b), 1 unexpected (c)"."""
        found = {
            "keys missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self.reshaped,
        }
        return ", ".join(f"{len(keys)} {what} ({_few(keys)})" for what, keys in found.items() if keys)


def fit(net: nn.Module, state: Mapping[str, Tensor]) -> Fit:
    """Match `state` to `net`, under the names of the layout that fits best.

    A network may know files with other names by `file_layouts` (functions from its own keys to the file's),
    and what such files hold beside it by `besides`. Old files lack BatchNorm's counters of batches.
    """
    own = net.state_dict()
    layouts = (str, *getattr(net, "file_layouts", ()))
    tables = [{key: layout(key) for key in own} for layout in layouts]
    names = max(tables, key=lambda table: sum(name in state for name in table.values()))
    known = {*names.values(), *getattr(net, "besides", ())}
    return Fit(
        names,
        sum(n in state and own[k].shape == state[n].shape for k, n in names.items()),
        [n for k, n in names.items() if n not in state and not k.endswith("num_batches_tracked")],
        [name for name in state if name not in known],
        [n for k, n in names.items() if n in state and own[k].shape != state[n].shape],
    )


def checked_fit(net: nn.Module, state: Mapping[str, Tensor], path: str | Path, name: str) -> Fit:
    """The fit of `state` to `net`; raises BadData with what is missing, unexpected or misshapen."""
    found = fit(net, state)
    if found.misfits:
        raise BadData(
            f"these weights do not fit {name}: {found}",
            where=path,
            hint="name the backbone that the file was saved from; `wsssbench weights inspect FILE` tells",
        )
    return found


def fill(net: nn.Module, state: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    """Copy into `net` what `state` holds; `names`: the network's key -> the file's."""
    net.load_state_dict({k: state[n] for k, n in names.items() if n in state}, strict=False)


def load_backbone_weights(net: nn.Module, path: str | Path, *, name: str, folded: bool) -> None:
    """Fill `net` (with its classifier) from the file, strictly; a folded file fits a folded backbone only."""
    state = read_state_dict(path)
    found = checked_fit(net, state, path, name)
    if is_folded(state) != folded:
        other = name.removesuffix("_folded") if folded else f"{name}_folded"
        known = name.startswith("mobilenet_v2")
        raise BadData(
            f"BatchNorm is {'not ' if folded else ''}folded in this file, so its pixel range is another",
            where=path,
            hint=f"use backbone {other}" if known else "give the weights of a network that has been trained",
        )
    fill(net, state, found.names)


def weights_digest(path: str | Path) -> str:
    """sha256 (hex) of a weight file; empty for no file."""
    if not str(path):
        return ""
    with Path(path).expanduser().open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_folded(state: Mapping[str, Tensor]) -> bool:
    """Whether every BatchNorm in `state` is the identity (running mean 0, variance 1)."""
    means = [v for k, v in state.items() if k.endswith(("running_mean", "moving_mean"))]
    variances = [v for k, v in state.items() if k.endswith(("running_var", "moving_var"))]
    near_one = all(bool(((v - 1).abs() < 1e-3).all()) for v in variances)
    return bool(means) and near_one and all(not m.any() for m in means)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
