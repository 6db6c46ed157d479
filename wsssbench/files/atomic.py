"""Files that appear whole or not at all, and bounded reads of what a run has left; no record enters here."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from pathlib import Path
from typing import Any, NoReturn

from wsssbench.errors import BadData, WsssError

MOST_JSON_BYTES = 64 * 2**20  # of a record; large ones have one


STEPS = "steps"  # runs/<dataset>/steps belongs to the fitted steps: ten thousands of files, never a record


RESERVED = (STEPS, "masks.png")  # no data set, method or step may call a folder so


def atomic_write_bytes(path: Path | str, data: bytes, *, sync: bool = True) -> None:
    """Write `data` under a temporary name in the same folder, then rename; WsssError if it cannot.

    `sync` waits until the bytes and the name are on the disk, so that a power cut leaves the old file or the
    new one: for what cannot be made again cheaply.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(target)
        if sync:
            _sync_names(target.parent)
    except OSError as error:
        hint = "choose a folder you may write to, with space left"
        raise WsssError(f"cannot write: {error.strerror or error}", where=target, hint=hint) from error
    finally:
        with contextlib.suppress(OSError):  # gone after the rename, or never made
            temporary.unlink()


def _sync_names(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk, where the system can say so."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def atomic_write_text(path: Path | str, text: str) -> None:
    """`atomic_write_bytes` of `text` in UTF-8."""
    atomic_write_bytes(path, text.encode())


def read_bytes(path: Path, most: int | None = None, hint: str = "") -> bytes:
    """The content of a file; BadData where it cannot be read or has more than `most` bytes."""
    try:
        if most is not None and path.stat().st_size > most:
            raise BadData(f"a file of more than {most} bytes is not read", where=path, hint=hint)
        return path.read_bytes()
    except OSError as error:
        what = f"this file cannot be read ({error.strerror or error})"
        raise BadData(what, where=path, hint=hint) from error


def safe_name(name: str) -> str:
    """`name` as a folder name; one that has to be altered gets a short hash, so that no two fall together."""
    safe = re.sub(r"[^A-Za-z0-9._+=@-]+", "-", name).strip("-.")[:80]
    if safe == name and safe not in RESERVED:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:6]}".lstrip("-")


def read_json(path: Path | str, what: str) -> Any:
    """The content of a JSON file; BadData names it where it is missing, truncated or says NaN."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST_JSON_BYTES + 1)
        if len(data) > MOST_JSON_BYTES:
            raise ValueError(f"more than {MOST_JSON_BYTES // 2**20} MiB")
        return json.loads(data.decode(), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise BadData(f"no such {what}", where=path) from None
    except (ValueError, OSError, RecursionError) as error:
        raise BadData(
            f"{what} cannot be read ({error})", where=path, hint="restore or remove this file"
        ) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
