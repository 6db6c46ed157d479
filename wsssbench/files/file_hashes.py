"""The files that a record's scores came from, by their sha256: a list beside the record, which `sha256sum -c`
reads too, and in the record the hash of that list. What is in the files is for others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from wsssbench.errors import BadData
from wsssbench.files.atomic import atomic_write_bytes

if TYPE_CHECKING:
    from wsssbench.types import Mask

SUMS = "sha256sums.txt"
THREADS = 2  # hashing takes turns with reading; more would wait for the disk


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes; BadData where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadData(f"this file cannot be read ({error.strerror})", where=path) from error


def sha256_of(paths: Sequence[Path]) -> list[str]:
    """sha256 (hex) of each file, in order."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="hash") as pool:
        return list(pool.map(file_sha256, paths))


def write_sums(
    folder: Path, files: Iterable[Path], alone: Sequence[str] = (), *, home: Path | None = None
) -> dict[str, str]:
    """Write folder/sha256sums.txt over `files`; what a record keeps of it: name -> sha256.

    Paths in the list are relative to `folder`, or to `home`, where all that is in `folder` will lie. Those
    called `alone` are kept by the record as well, so that they can be checked where the list was not handed
    on.
    """
    paths = sorted(set(files))
    starts = (folder if path.is_relative_to(folder) else home or folder for path in paths)
    names = [os.path.relpath(*pair).replace(os.sep, "/") for pair in zip(paths, starts, strict=True)]
    sums = dict(zip(names, sha256_of(paths), strict=True))
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
    atomic_write_bytes(folder / SUMS, text)
    return {**{name: sums[name] for name in alone}, SUMS: hashlib.sha256(text).hexdigest()}


def read_sums(path: Path) -> dict[str, str]:
    """Relative path -> sha256 of a list; BadData where it is no such list."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        pairs = [line.split("  ", 1) for line in lines]
        return {name: digest for digest, name in pairs}
    except (OSError, ValueError) as error:
        raise BadData(f"the list of hashes cannot be read ({error})", where=path) from error


def compare_sums(folder: Path, sums: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Names of the files that are others than those of `sums`, and of those that are gone."""
    gone = [name for name in sums if not (folder / name).is_file()]
    left = [name for name in sums if name not in set(gone)]
    found = sha256_of([folder / name for name in left])
    return [name for name, digest in zip(left, found, strict=True) if digest != sums[name]], gone


def labels_sha256(ids: Sequence[str], read: Callable[[str], Mask]) -> str:
    """sha256 (hex) over ids and label bytes: the labels themselves, however their files are compressed."""
    whole = hashlib.sha256()
    for id in ids:
        labels = read(id)
        whole.update(f"{id} {labels.shape} ".encode() + labels.tobytes())
    return whole.hexdigest()
