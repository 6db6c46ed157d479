"""How a trial's process ended, and what is said of it: the note that a worker leaves, the last lines of its
log, and one message that tells what happened, where the log is and what to do."""

from __future__ import annotations

import json
import signal
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from wsssbench.errors import printable
from wsssbench.files.atomic import atomic_write_text

ENDED, LOG = "ended.json", "log.txt"
TAIL = 12  # lines of a log in a message
LONGEST = 200  # characters of such a line


@dataclass(frozen=True)
class Ended:
    """A trial that runs no more. `code` is its exit code, None where it ended without saying why."""

    code: int | None
    how: str  # what is known of its end: killed by SIGKILL, CANCELLED
    log: Path

    @property
    def well(self) -> bool:
        return self.code == 0


def write_end(folder: Path, code: int) -> None:
    """Note in the job's folder that its worker has come to an end of its own."""
    atomic_write_text(folder / ENDED, json.dumps({"code": code}))


def read_end(folder: Path) -> int | None:
    """The exit code that `write_end` noted; None where there is none."""
    try:
        return int(json.loads((folder / ENDED).read_text())["code"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def end_text(title: str, ended: Ended) -> str:
    """What is said of a trial that did not end well: what, the end of its log, and where that is."""
    what = "some of its cells failed" if ended.code == 1 else "it could not be run"
    if ended.code is None:
        what = f"its process ended without saying why ({ended.how})"
    lines = [f"FAILED {title}: {what}"]
    lines += [f"  | {line}" for line in tail(ended.log)]
    return "\n".join([*lines, f"  log: {ended.log}", "  next: the same command runs it again"])


def tail(log: Path, lines: int = TAIL) -> list[str]:
    """The last lines of a log that are not empty, cut to a printable length; [] where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - lines * 1000))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    kept = deque((line.rstrip() for line in text.splitlines() if line.strip()), lines)
    return [printable(line)[:LONGEST] for line in kept]


def status_text(status: int) -> str:
    """A process's exit status in words: `exit status 2`, `killed by SIGKILL`."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
