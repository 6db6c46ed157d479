"""Files that must appear whole or not at all, and the records of cells: where they lie, write, read, find.

A record is one JSON file, `runs/<dataset>/<method>/seed0/<stage>-<split>-<key8>/record.json`, beside the
cell's `counts.npz`, `masks/` and `sha256sums.txt` (of these and of the artifacts that were judged). It holds
the fields of `wsssbench.identity.Record` under their own names: schema, key, status, method, identity (terms,
recipe, ...), scores, timing, provenance, reason. A result is never replaced by a failure: a later attempt
that fails leaves `failure.json` beside it, until one succeeds. No tables and no statistics here
(`wsssbench.reporting`), no torch, no knowledge of plugins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from wsssbench.errors import BadData, WsssError
from wsssbench.files.atomic import STEPS, _sync_names, atomic_write_text, read_json, safe_name
from wsssbench.identity import Record, plain

RECORD, TRACE = "record.json", "traceback.txt"
FAILURE = "failure.json"  # beside a result: the record of a later attempt that failed
UNFINISHED = ".unfinished"  # in a folder: what is to take the place of its files, until all of it is there
KEY = ".key"  # in the folder of a step: the whole key of which the folder's name has eight digits
FITTED = "fitted.json"  # there as well, once the step is fitted
SCHEMA = 1
KNOWN_SCHEMAS = (1,)


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder whose content takes the place of what is called alike in `folder`, once all is there.

    The caller holds `folder`. After an error or an interruption everything there is as it was, and what was
    made so far lies in `folder`/.unfinished, until the next attempt. A record comes last.
    """
    new = folder / UNFINISHED
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
    except OSError as error:
        hint = "choose a folder you may write to, with space left"
        raise WsssError(f"cannot write: {error.strerror or error}", where=new, hint=hint) from error
    yield new
    for number, path in enumerate(sorted(new.iterdir(), key=lambda path: (path.name == RECORD, path.name))):
        target = folder / path.name
        if target.is_dir():  # only an empty one could be replaced
            target.rename(new / f".old-{number}")
        path.replace(target)
    _sync_names(folder)
    shutil.rmtree(new, ignore_errors=True)


def check_key(folder: Path, found: object, key: str) -> None:
    """Raise WsssError where `found`, the key of what lies in `folder`, is not the whole of `key`.

    The names of folders hold eight digits of a key, which two keys may have in common.
    """
    if found != key:
        what = f"this folder holds what was made for the key {found}, and {key} is asked for"
        hint = "give another folder with --runs: nothing here is overwritten"
        raise WsssError(what, where=folder, hint=hint)


def check_claim(folder: Path, key: str) -> None:
    """`check_key` of a step's folder: by its note of the key, or by its mark that the step is fitted."""
    for name in (KEY, FITTED):
        try:
            said = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none, or damaged: then it marks nothing
            continue
        if isinstance(said, dict) and "key" in said and (name == KEY or "step" in said):
            check_key(folder, said["key"], key)


def claim(folder: Path, key: str) -> None:
    """Note in a step's `folder`, which the caller holds, for which key it is; errors as of `check_claim`."""
    check_claim(folder, key)
    if not (folder / KEY).exists():
        atomic_write_text(folder / KEY, json.dumps({"key": key}))


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


def write_record(folder: Path | str, record: Record, name: str = RECORD) -> Path:
    """Write `record` to folder/record.json, whole or not at all; returns the path. NaN is refused."""
    path = Path(folder) / name
    try:
        text = json.dumps(plain(record), indent=1, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise WsssError(f"record of {record.method} cannot be written: {error}", where=path) from error
    atomic_write_text(path, text + "\n")
    return path


def forget_failure(folder: Path) -> None:
    """Remove what tells of an attempt that failed: the cell has been judged since."""
    for name in (TRACE, FAILURE):
        (folder / name).unlink(missing_ok=True)


def write_failure(folder: Path | str, record: Record, trace: str) -> Path:
    """Write the record of an attempt that failed, and its traceback; returns the record's path.

    A result stays: the failure then stands beside it. Where that cannot be written, the WsssError says why
    the cell failed, too.
    """
    try:
        atomic_write_text(Path(folder) / TRACE, trace)
        return write_record(folder, record, FAILURE if has_result(folder) else RECORD)
    except WsssError as error:
        what = f"{record.method}: {record.reason}; and this cannot be recorded ({error.what})"
        raise WsssError(what, where=folder, hint=error.hint) from error


def has_result(folder: Path | str) -> bool:
    """Whether a record lies there that is not known to be that of a failure."""
    path = Path(folder) / RECORD
    try:
        return path.exists() and read_record(path).status == "ok"
    except BadData:
        return True


def later_failure(folder: Path | str) -> str:
    """Why the last attempt at a cell that has a result failed; "" where it did not."""
    path = Path(folder) / FAILURE
    if not path.exists():
        return ""
    try:
        return _read_record(path).reason or "its reason is not recorded"
    except BadData as error:
        return f"{error.what} (see {path})"


def read_record(path: Path | str) -> Record:
    """The record in `path` (record.json or its folder); BadData for a truncated or foreign file.

    The `reason` of a result is that of a later attempt that failed, where such a failure stands beside it.
    """
    file = Path(path) / RECORD if Path(path).is_dir() else Path(path)
    record = _read_record(file)
    if record.status == "ok" and file.name == RECORD:
        return dataclasses.replace(record, reason=later_failure(file.parent))
    return record


def _read_record(file: Path) -> Record:
    from wsssbench.records.record_check import checked_record  # late: a first plan reads no record

    content = read_json(file, "record")
    if not isinstance(content, dict) or "identity" not in content:
        raise BadData("not a record of wsssbench", where=file, hint="remove or rename this file")
    if content.get("schema") not in KNOWN_SCHEMAS:
        hint = (
            f"this version reads {', '.join(map(str, KNOWN_SCHEMAS))}: update wsssbench or run the cell again"
        )
        raise BadData(f"record has schema {content.get('schema')!r}", where=file, hint=hint)
    try:
        return checked_record(content)
    except ValueError as error:
        raise BadData(f"record is damaged ({error})", where=file, hint="run the cell again") from error


def set_aside_damaged(folder: Path | str) -> str:
    """Rename a record that cannot be read, so that none is overwritten; what was found, "" if all is well."""
    path = Path(folder) / RECORD
    try:
        if path.exists():
            read_record(path)
    except BadData as error:
        names = (f"{RECORD}.damaged{number or ''}" for number in count())
        aside = next(aside for name in names if not (aside := path.with_name(name)).exists())
        path.replace(aside)
        return f"{error.what}; kept as {aside}"
    return ""


def searched(root: Path | str) -> Iterator[tuple[Path, list[str]]]:
    """Each folder at or below `root` where a run may have left something, and the names of its files.

    Left out are hidden folders, the fitted steps, and what lies below a cell: no name that `safe_name` gives.
    """
    for folder, below, files in os.walk(root):
        yield Path(folder), files
        hidden = (name for name in below if name.startswith(".") or name == STEPS)
        below[:] = [] if RECORD in files else sorted(set(below).difference(hidden))
