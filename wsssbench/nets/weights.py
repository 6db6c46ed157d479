"""Weight files: recognised by content, read without executing anything, known by their sha256. Which network
the tensors belong to is the business of `matching`."""

from __future__ import annotations

import re
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wsssbench.errors import BadData
from wsssbench.files.archives import check_stored
from wsssbench.files.digests import file_digest
from wsssbench.nets.mxnet_params import LIST_MAGIC, read_mxnet_params

Format = Literal["torch", "safetensors", "mxnet"]
REFUSED, FOREIGN = "Weights only load failed", re.compile(r"GLOBAL ([\w.]+)")  # in what torch says
MOST_HEADER_BYTES = 2**24  # of safetensors: some hundred thousand tensors, which take seconds to list
DEEPEST = 3  # dicts within dicts, as in {"model": {"state_dict": {...}}}
HINT = "give a state dict saved by torch.save, a safetensors file or MXNet's .params; \
a file that needs code to load is refused"


def read_tensors(path: Path) -> Any:
    """What torch.save wrote: tensors and plain values, on the CPU; no code in the file runs.

    Raises ValueError, in one line, where the file is damaged or needs code to be loaded.
    """
    _check_archive(path)
    try:
        with warnings.catch_warnings(), _arguments_allowed():
            warnings.simplefilter("ignore")  # of pickle's protocol: what matters is whether it can be read
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # at a garbled file its readers raise nearly anything
        raise ValueError(_reason(str(error)) or type(error).__name__) from error


def _arguments_allowed() -> AbstractContextManager[Any]:
    """Inside, a file may hold the parsed command line that many trainings save: a bag of plain values."""
    allow = getattr(torch.serialization, "safe_globals", None)  # new in torch 2.5
    return nullcontext() if allow is None else allow([Namespace])


def _check_archive(path: Path) -> None:
    """ValueError for a zip that torch.save does not write."""
    try:
        with path.open("rb") as stream:
            if stream.read(2) == b"PK":
                check_stored(zipfile.ZipFile(stream), path.stat().st_size)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(str(error).partition("\n")[0][:120]) from error


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

    Tensors in dicts within the file's dict have the keys of these before their names: "teacher.conv1.weight".
    Raises BadData where the file is missing, damaged or holds no tensor by a name.
    """
    path, kind = Path(path).expanduser(), weight_format(path)
    readers = {"mxnet": read_mxnet_params, "safetensors": read_safetensors, "torch": _read_torch}
    return readers[kind](path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name. Raises BadData where the file is damaged, cut off or holds numbers of another type."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
        if length > MOST_HEADER_BYTES:
            raise ValueError(f"its header claims {length} bytes")
        state = load_file(path)
        for name, tensor in state.items():
            if tensor.is_complex() or (tensor.is_floating_point() and tensor.itemsize < 2):
                raise ValueError(f"the tensor {name!r} has the type {tensor.dtype}, which is not read")
    except (SafetensorError, ValueError) as error:
        what = f"this safetensors file is damaged: {error}"
        raise BadData(what[:400], where=path, hint="fetch or save the file again") from error
    flags = {k: v.view(torch.uint8).bool() for k, v in state.items() if v.dtype == torch.bool}
    return state | flags  # a byte other than 0 and 1 must not stay a flag as it is


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        loaded = read_tensors(path)
    except ValueError as error:
        raise BadData(f"cannot read this weight file ({error})", where=path, hint=HINT) from error
    state: dict[str, Tensor] = {}
    for name, tensor in _named_tensors(loaded):
        if name in state:
            hint = "save net.state_dict() alone"
            raise BadData(f"two tensors in this file have the name {name!r}", where=path, hint=hint)
        state[name] = tensor
    if not state:
        raise BadData("this file holds no state dict of tensors", where=path, hint="save net.state_dict()")
    return state


def _named_tensors(loaded: Any) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a dict and of the dicts in it, each dict once, by their keys, as far as these are text."""
    open_dicts, seen = [("", loaded, DEEPEST)], set()
    while open_dicts:
        prefix, found, deeper = open_dicts.pop(0)
        if not isinstance(found, dict) or id(found) in seen:
            continue
        seen.add(id(found))
        for key, value in found.items():
            if isinstance(key, str) and isinstance(value, Tensor):
                if value.layout == torch.strided and not (value.is_meta or value.is_quantized):
                    yield prefix + key, value  # others are not weights of the networks here
            elif isinstance(key, str) and deeper:
                open_dicts.append((f"{prefix}{key}.", value, deeper - 1))


def weights_digest(path: str | Path) -> str:
    """sha256 (hex) of a weight file; empty for no file."""
    return file_digest(Path(path)) if str(path) else ""
