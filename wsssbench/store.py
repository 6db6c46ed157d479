"""Files that must appear whole or not at all, and the records of cells: where they lie, write, read, find.

A record is one JSON file, `runs/<dataset>/<method>/seed0/<stage>-<split>-<key8>/record.json`, beside the
cell's `counts.npz`, `masks/` and `sha256sums.txt` (of these and of the artifacts that were judged). It holds
the fields of `wsssbench.types.Record` under their own names: schema, key, status, method, identity (terms,
recipe, ...), scores, timing, provenance, reason. No tables and no statistics here (`wsssbench.report`), no
torch, no knowledge of plugins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from wsssbench.errors import BadData, WsssError
from wsssbench.records.record_check import check_record
from wsssbench.types import Record, RowIdentity, StepIdentity, Terms, plain

RECORD, TRACE = "record.json", "traceback.txt"
SCHEMA = 1
MOST_JSON_BYTES = 64 * 2**20  # of a record; large ones have one
KNOWN_SCHEMAS = (1,)
NOT_SEARCHED = ("steps", "masks", "artifacts")  # may hold ten thousands of files, never a record
RESERVED = ("steps",)  # runs/<dataset>/steps belongs to the fitted steps


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


def read_bytes(path: Path) -> bytes:
    """The content of a file that a run has left; BadData where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadData(f"this file cannot be read ({error.strerror or error})", where=path) from error


def safe_name(name: str) -> str:
    """`name` as a folder name; one that has to be altered gets a short hash, so that no two fall together."""
    safe = re.sub(r"[^A-Za-z0-9._+=@-]+", "-", name).strip("-.")[:80]
    if safe == name and safe not in RESERVED:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:6]}".lstrip("-")


def cell_folder(
    runs: Path | str, dataset: str, method: str, seed: int, stage: str, split: str, key: str
) -> Path:
    """Folder of one cell: runs/<dataset>/<method>/seed0/<stage>-<split>-<key8>."""
    cell = f"{safe_name(stage)}-{safe_name(split)}-{key[:8]}"
    return Path(runs) / safe_name(dataset) / safe_name(method) / f"seed{seed}" / cell


# -------------------------------------------------------------------------------------------------- records


@dataclass(frozen=True)
class StoredRecord:
    """A record and the file it came from."""

    record: Record
    path: Path


def write_record(folder: Path | str, record: Record) -> Path:
    """Write `record` to folder/record.json, whole or not at all; returns the path. NaN is refused."""
    path = Path(folder) / RECORD
    try:
        text = json.dumps(plain(record), indent=1, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise WsssError(f"record of {record.method} cannot be written: {error}", where=path) from error
    atomic_write_text(path, text + "\n")
    return path


def write_failure(folder: Path | str, record: Record, trace: str) -> None:
    """Write the record of a cell that failed, and its traceback beside it.

    Where that cannot be done, the WsssError says why the cell failed, too.
    """
    try:
        atomic_write_text(Path(folder) / TRACE, trace)
        write_record(folder, record)
    except WsssError as error:
        what = f"{record.method}: {record.reason}; and this cannot be recorded ({error.what})"
        raise WsssError(what, where=folder, hint=error.hint) from error


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
    raise ValueError(f"{name} is no number")


def read_record(path: Path | str) -> Record:
    """The record in `path` (record.json or its folder); BadData for a truncated or foreign file."""
    file = Path(path) / RECORD if Path(path).is_dir() else Path(path)
    content = read_json(file, "record")
    if not isinstance(content, dict) or "identity" not in content:
        raise BadData("not a record of wsssbench", where=file, hint="remove or rename this file")
    if content.get("schema") not in KNOWN_SCHEMAS:
        hint = (
            f"this version reads {', '.join(map(str, KNOWN_SCHEMAS))}: update wsssbench or run the cell again"
        )
        raise BadData(f"record has schema {content.get('schema')!r}", where=file, hint=hint)
    try:
        check_record(content)
        return record_from_plain(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadData(f"record is damaged ({error})", where=file, hint="run the cell again") from error


def set_aside_damaged(folder: Path | str) -> str:
    """Rename a record that cannot be read, so that none is overwritten; what was found, "" if all is well."""
    path = Path(folder) / RECORD
    try:
        if path.exists():
            read_record(path)
    except BadData as error:
        aside = path.with_name(f"{RECORD}.damaged")
        path.replace(aside)
        return f"{error.what}; kept as {aside}"
    return ""


def record_from_plain(content: Mapping[str, Any]) -> Record:
    """The Record that `types.plain` turned into `content`; keys it does not know are ignored."""
    known = {f.name: content[f.name] for f in dataclasses.fields(Record) if f.name in content}
    if known.get("status") not in ("ok", "failed"):
        raise ValueError(f"status {known.get('status')!r}")
    for name in ("scores", "timing", "provenance"):
        if not isinstance(known.get(name, {}), dict):
            raise TypeError(f"{name} is not a table")
    return Record(**{**known, "identity": identity_from_plain(content["identity"])})


def identity_from_plain(content: Mapping[str, Any]) -> RowIdentity:
    """The RowIdentity that `types.plain` turned into `content`: equal object, equal hash.

    A missing or unknown field raises: an identity is read whole or not at all.
    """
    steps = tuple(StepIdentity(**step) for step in content["recipe"])
    rest = {**content, "terms": terms_from_plain(content["terms"]), "recipe": steps}
    return RowIdentity(**{**rest, "supervision": tuple(content["supervision"])})


def terms_from_plain(content: Mapping[str, Any]) -> Terms:
    """The Terms that `types.plain` turned into `content`."""
    return Terms(**{**content, "classes": tuple(content["classes"]), "scales": tuple(content["scales"])})


def find_records(root: Path | str) -> list[StoredRecord]:
    """All records below `root` (or `root` itself), ordered by path; BadData where there is no such place.

    `root` may be an archive that `wsssbench export records` wrote.
    """
    from wsssbench.records.record_archive import is_archive, unpacked  # it writes by this module

    start = Path(root)
    if is_archive(start):
        start = unpacked(start)
    if start.is_file():
        return [StoredRecord(read_record(start), start)]
    if not start.is_dir():
        raise BadData("no such folder of runs", where=start, hint="`wsssbench run` makes one")
    found = []
    for folder, below, files in os.walk(start):
        below[:] = sorted(name for name in below if name not in NOT_SEARCHED and not name.startswith("."))
        if RECORD in files:
            found.append(Path(folder) / RECORD)
            below.clear()
    return [StoredRecord(read_record(path), path) for path in sorted(found)]
