"""Records in one file: what a run gives to others, who read it as they read a folder of runs.

A zip of `<dataset>/<method>/seed0/<cell>/record.json`, and `counts.npz` beside it: scores, terms and the
confusion of every image, no masks and no paths of the machine that made them. An archive may come from
anybody: nothing is taken out of it but files of these names and of a size that a record can have.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import io
import json
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from wsssbench.errors import BadData
from wsssbench.files.atomic import atomic_write_bytes
from wsssbench.identity import Record, plain
from wsssbench.records.store import RECORD, StoredRecord

COUNTS = "counts.npz"
SUFFIX = ".zip"
DEPTH = 4  # <dataset>/<method>/seed0/<cell>
MEMBER = re.compile(r"[\w.+=@-]+(/[\w.+=@-]+){3}/(record\.json|counts\.npz)", re.ASCII)
LARGEST, MOST = 256 * 2**20, 4 * 2**30  # bytes of one file and of all, unpacked
WHEN = (1980, 1, 1, 0, 0, 0)  # an archive of the same records has the same bytes


def pack(cells: Sequence[StoredRecord], out: Path) -> int:
    """Write `cells` and their counts to the zip `out`, whole or not at all; its size in bytes.

    BadData where two of them have one place in the archive, or a finished one has no counts.
    """
    files: dict[str, bytes] = {}
    for cell in cells:
        folder, place = cell.path.parent, PurePosixPath(*cell.path.parent.parts[-DEPTH:])
        content = json.dumps(plain(without_paths(cell.record)), indent=1, sort_keys=True, allow_nan=False)
        if files.setdefault(f"{place}/{RECORD}", content.encode()) != content.encode():
            hint = "pack them into two archives"
            raise BadData(f"two different records are called {place}", where=cell.path, hint=hint)
        if cell.record.status == "ok":
            files[f"{place}/{COUNTS}"] = _bytes_of(folder / COUNTS)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            kind = zipfile.ZIP_STORED if name.endswith(COUNTS) else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, WHEN), files[name], kind, 9)
    atomic_write_bytes(out, buffer.getvalue())
    return len(buffer.getvalue())


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        hint = "score the cell again: `wsssbench run` with the same options"
        raise BadData(f"no counts beside this record ({error.strerror})", where=path, hint=hint) from error


def without_paths(record: Record) -> Record:
    """`record` with the folders of this machine taken out of the command that made it, and a result without
    the failure of a later attempt, which is not packed."""
    record = dataclasses.replace(record, reason="" if record.status == "ok" else record.reason)
    if "command" not in record.provenance:
        return record
    command = [_without_folder(word) for word in record.provenance["command"]]
    return dataclasses.replace(record, provenance={**record.provenance, "command": command})


def _without_folder(word: Any) -> Any:
    """`--runs /a/b` and `voc12.root=/a/b` end in `b`; other words stay."""
    name, equals, value = str(word).rpartition("=")
    return f"{name}{equals}{Path(value).name}" if Path(value).is_absolute() else word


def is_archive(path: Path) -> bool:
    """Whether `path` is a file that ought to be such an archive."""
    return path.suffix == SUFFIX and path.is_file()


def unpacked(path: Path) -> Path:
    """A folder of runs with the content of the archive, until this process ends.

    BadData for a file that is not a zip, is damaged, or holds anything but records and counts.
    """
    status = path.stat()
    return _unpacked(path.resolve(), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _unpacked(path: Path, changed: int, size: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="wsssbench-records-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check(members)
            for member in members:
                target = folder / path.stem / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as file:
                    target.write_bytes(file.read(LARGEST))
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        ValueError,
        EOFError,
        LookupError,
        RuntimeError,
    ) as error:
        hint = "`wsssbench export records RUNS FILE.zip` writes such files"
        raise BadData(f"not an archive of records ({error})", where=path, hint=hint) from error
    return folder / path.stem


def _check(members: Sequence[zipfile.ZipInfo]) -> None:
    """ValueError for a name or a size that no record has."""
    for member in members:
        if not MEMBER.fullmatch(member.filename) or ".." in member.filename.split("/"):
            raise ValueError(f"it holds {member.filename[:80]!r}")
        if member.file_size > LARGEST:
            raise ValueError(f"{member.filename} is {member.file_size / 2**20:.0f} MB")
    if sum(member.file_size for member in members) > MOST:
        raise ValueError("it is larger than 4 GB")
