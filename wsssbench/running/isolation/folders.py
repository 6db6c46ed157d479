"""The folders that a step in a sandbox may write to, and what it may leave there: files and folders alone.

A link would be followed outside, by a process that may read the masks: so there must be none.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from wsssbench.errors import BadData
from wsssbench.files.locks import HOLDER, LOCK
from wsssbench.records.store import KEY
from wsssbench.running.isolation.marks import ARTIFACTS, MARK
from wsssbench.running.isolation.places import SHARED
from wsssbench.running.isolation.sandbox import Mount

OURS = (LOCK, HOLDER, KEY, MARK, "fitted.json", "cost.json")  # in a step's folder; a box may not write them


class Folders:
    """The writable folders of one step's box: its own, and what it shares with others of its supervision."""

    def __init__(self, work: Path, supervision: str) -> None:
        self.work, self.shared = work, work.parent / SHARED / supervision

    def mounts(self) -> Iterator[Mount]:
        """The shared folder lies where steps have their folders, the step's own in its place there."""
        self.shared.mkdir(parents=True, exist_ok=True)
        refuse_links(self.work)
        refuse_links(self.shared)
        (self.work / ARTIFACTS).mkdir(parents=True, exist_ok=True)
        yield Mount(self.shared, self.work.parent, writable=True)
        yield Mount(self.work, self.work, writable=True)
        for name in OURS:
            if (self.work / name).is_file():
                yield Mount(self.work / name, self.work / name)


def refuse_links(folder: Path) -> None:
    """BadData where anything but files and folders lies below `folder`: a link may lead to the masks.

    What is found is removed: nobody has followed it.
    """
    bad = [path for path in _entries(folder) if not _is_plain(path)]
    for path in bad:
        with suppress(OSError):
            path.unlink()
    if bad:
        what = f"a step left something that is no plain file in its folder: {bad[0].name}"
        hint = "it is removed; a step in a sandbox may write files and folders alone"
        raise BadData(what, where=bad[0].parent, hint=hint)


def _entries(folder: Path) -> Iterator[Path]:
    if folder.is_symlink():
        yield folder
        return
    for place, folders, files in os.walk(folder):  # does not follow links
        if Path(place) == folder and ARTIFACTS in folders and not (folder / ARTIFACTS).is_symlink():
            folders.remove(ARTIFACTS)  # the engine's own, and of no box
        yield from (Path(place) / name for name in (*folders, *files))


def _is_plain(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)
