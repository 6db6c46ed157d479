"""The sha256 of files and of folders of dumps, remembered while size and time of change stay."""

from __future__ import annotations

import functools
from pathlib import Path

from wsssbench.errors import BadData

SUFFIXES = (".npy", ".npz", ".png", ".pt", ".pth")
HINT = "check the path; relative paths start at the working folder"


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes, remembered while its size and time of change stay. Raises BadData."""
    path = path.expanduser()
    if not path.is_file():
        problem = "is a folder, not a file" if path.is_dir() else "no such file"
        raise BadData(problem, where=path, hint=HINT)
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


def folder_digest(path: Path) -> str:
    """sha256 (hex) over the names and contents of the PNG and array files in a folder, not below it.

    Array files are those that `wsssbench.dumps` reads. Raises BadData. Remembered while names, sizes and
    times of change stay.
    """
    path = path.expanduser()
    if not path.is_dir():
        problem = "is a file, not a folder" if path.is_file() else "no such folder"
        raise BadData(problem, where=path, hint=HINT)
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    stats = ((file.name, file.stat()) for file in files)
    return _folder_digest(path.resolve(), tuple((name, s.st_size, s.st_mtime_ns) for name, s in stats))


@functools.lru_cache
def _folder_digest(path: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    import hashlib

    whole = hashlib.sha256()
    for name, size, mtime_ns in files:
        whole.update(f"{name}\0{_digest(path / name, size, mtime_ns)}\n".encode())
    return whole.hexdigest()


@functools.lru_cache
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    from wsssbench.files.file_hashes import file_sha256  # late: options are read where nothing is hashed

    return file_sha256(path)
