"""One process at a time in one folder: the second waits, and says for whom."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from wsssbench.errors import WsssError

LOCK, HOLDER = ".lock", ".holder"
NOTE_TRIES, NOTE_SECONDS = 20, 0.05  # a second: a busy machine may stop the owner between lock and note


@contextmanager
def hold(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Own `folder` while inside. Raises WsssError where the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"waiting for {holder(folder)}, which works in {folder}")
            lock.acquire()
    except OSError as error:
        raise WsssError(
            f"cannot write to this folder ({error.strerror or error})",
            where=folder,
            hint="give another one with --runs",
        ) from error
    try:
        me = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv[1:])}
        with suppress(OSError):  # it holds without a name, too: what is to be written next says what is wrong
            (folder / HOLDER).write_text(json.dumps(me))
        yield
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process holds `folder` now."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # not to be written by us: whoever tries to change it hears why
        return False
    lock.release()
    return False


def holder(folder: Path) -> str:
    """Who owns the lock: process, host and command, as far as it is known.

    An owner notes itself a moment after it has the lock: for as long this waits.
    """
    for _ in range(NOTE_TRIES):
        try:
            who = json.loads((folder / HOLDER).read_text())
            return f"process {who['pid']} on {who['host']} (wsssbench {who['command']})"
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(NOTE_SECONDS)
    return "another process"


def clear(folder: Path) -> None:
    """Remove what lies in `folder`, which the caller holds: all but the lock itself."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in (LOCK, HOLDER):
            path.unlink()
