"""Checkpoints of a training on disk: written whole or not at all, with the one before it kept while there is
more to come, and read with their checksums. Of several processes only the first writes and mends."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch
from torch import nn

from wsssbench import distributed
from wsssbench.errors import BadData, WsssError
from wsssbench.nets.weights import read_tensors


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, step: int, check: object = None,
    *, more_to_come: bool = False,
) -> None:  # fmt: skip
    """Write weights, optimizer state, step number and the memory of `check` under a temporary name, then move
    them in place. While there is `more_to_come` the checkpoint before it is kept as well.

    Raises WsssError where that cannot be written; an older checkpoint stays as it was. Of the processes that
    share a training only the first writes.
    """
    if not distributed.leads():
        return
    part = path.with_name(f".{path.name}.part")
    state = {"model": model.state_dict(), "step": step}
    if optimizer is not None:
        state["optimizer"] = optimizer.state_dict()
    if hasattr(check, "memory"):
        state["check"] = check.memory
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, part)
        with part.open("rb") as file:  # on the disk before anything says that it is there
            os.fsync(file.fileno())
        if more_to_come and path.exists():
            path.replace(_previous(path))
        part.replace(path)
        if not more_to_come:
            _previous(path).unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError on a full disk
        reason = str(error).partition("\n")[0]
        what = f"cannot write this checkpoint ({reason})"
        raise WsssError(what, where=path, hint=f"make room{_free(path.parent)}") from error
    finally:  # after an interruption, too
        with suppress(OSError):
            part.unlink(missing_ok=True)


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, check: object = None
) -> int:
    """Fill `model`, `optimizer` and the memory of `check` from `path`; the step to go on with, 0 if none.

    A damaged file is set aside, with a word on stderr, where the checkpoint before it can take its place.
    Raises BadData where it cannot, where the file belongs to another network, or where it is missing and
    there is no `optimizer`: then a fitted model was asked for. Processes that share a training go on from the
    same step: the first one reads, and mends what there is to mend, before the others.
    """
    group = distributed.group()
    if group is None:
        return _mended(path, model, optimizer, check)
    step = group.decided(lambda: _mended(path, model, optimizer, check))
    if not group.leads and _load(path, model, optimizer, check) != step:
        hint = "give all processes the same folder of runs"
        raise WsssError("this process sees another checkpoint than the first one", where=path, hint=hint)
    return step


def _mended(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, check: object) -> int:
    """As `_load`, from the checkpoint before where `path` is damaged, which is then set aside."""
    previous = _previous(path)
    if not previous.exists():
        return _load(path, model, optimizer, check)
    try:
        if path.exists():
            return _load(path, model, optimizer, check)
    except BadData as error:
        step = _load(previous, model, optimizer, check)
        path.replace(path.with_name(f"{path.name}.damaged"))
        print(f"{error.what} [{path}]: going on from the one before it, of step {step}", file=sys.stderr)
    previous.replace(path)
    return _load(path, model, optimizer, check)


def _free(folder: Path) -> str:
    """What torch does not say of a full disk: how much of it is free."""
    try:
        return f": {shutil.disk_usage(folder).free / 2**20:,.0f} MiB are free on this disk"
    except OSError:
        return ""


def _previous(path: Path) -> Path:
    """Where the checkpoint before that of `path` lies while a training goes on."""
    return path.with_name(f".{path.name}.previous")


def _load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, check: object) -> int:
    again = "remove the folder of this step: the next run fits it again"
    if not path.exists():
        if optimizer is None:
            raise BadData("the weights of a fitted step are gone", where=path, hint=again)
        return 0
    try:
        _check_bytes(path)
        state = read_tensors(path)
        model.load_state_dict(state["model"])
        if optimizer is not None and "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
        if hasattr(check, "memory") and "check" in state:
            check.memory = state["check"]
        return int(state["step"])
    except (ValueError, RuntimeError, LookupError, TypeError, OSError, BadZipFile) as error:
        reason = str(error).partition("\n")[0][:120]
        raise BadData(f"cannot read this checkpoint ({reason})", where=path, hint=again) from error


def _check_bytes(path: Path) -> None:
    """ValueError or BadZipFile where the file is not as it was written: torch.load ignores its checksums."""
    with ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"its part {damaged} is damaged")
