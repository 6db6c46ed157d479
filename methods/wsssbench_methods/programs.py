"""A foreign program: its command line with names of places in it, and one run of it by the clock and a log.

No shell stands between. What the program is given and what becomes of its files is not known here.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from wsssbench.errors import UnknownName, WsssError, nearest
from wsssbench.machine.interrupts import Interrupts

PLACE = re.compile(r"\{([a-z_]+)\}")
OURS = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")  # of this process's Python, not of the program's
TAIL_LINES, TAIL_BYTES, LONGEST = 6, 4000, 200  # of a log, in messages


def split_command(command: str | Sequence[str], where: str) -> tuple[str, ...]:
    """The program and its arguments: a list as it is, a string split as a shell would do it."""
    if not isinstance(command, str):
        return tuple(command)
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        hint = "write it as a list of strings"
        raise WsssError(f"this command cannot be split ({error})", where=where, hint=hint) from None


def check_command(words: Sequence[str], places: Collection[str], where: str) -> None:
    """Raise UnknownName for a {place} that there is none of, WsssError for a program that is not there."""
    for name in (name for word in words for name in PLACE.findall(word)):
        if name not in places:
            raise UnknownName(f"there is no place {{{name}}}", where=where, hint=nearest(name, [*places]))
    if not PLACE.search(words[0]) and shutil.which(words[0]) is None:
        hint = "give the path of the program; relative paths start at the working folder"
        raise WsssError(f"no such program: {words[0]}", where=where, hint=hint)


def fill_places(words: Sequence[str], places: Mapping[str, object]) -> list[str]:
    """`words` with {name} as `places` has it."""
    return [PLACE.sub(lambda match: str(places[match[1]]), word) for word in words]


def run_program(words: Sequence[str], log: Path, time_limit: float = 0.0) -> None:
    """Run the program until it ends; what it prints goes to `log`, after a line with the command.

    It runs in the working folder, with the environment of this process but for what belongs to its Python.
    After `time_limit` seconds (0: never), at Ctrl-C and at SIGTERM it is killed with all its children.
    WsssError where it cannot be started, was killed or ended with a status other than 0.
    """
    with log.open("wb") as stream:
        stream.write(f"$ {shlex.join(words)}\n".encode())
        stream.flush()
        process = _started(words, stream)
        try:
            with Interrupts():  # SIGTERM too, so that no program is left behind
                status = process.wait(time_limit or None)
        except subprocess.TimeoutExpired:
            raise _failure(f"the program was killed after {time_limit:g} s", log) from None
        finally:
            if process.poll() is None:
                _kill(process)
    if status:
        by = (
            f"by signal {-status}, {signal.strsignal(-status)}"
            if status < 0
            else f"with exit status {status}"
        )
        raise _failure(f"the program ended {by}", log)


def _started(words: Sequence[str], stream: IO[bytes]) -> subprocess.Popen[bytes]:
    env = {"PYTHONUNBUFFERED": "1"}  # what a Python program has printed is in the log when it is killed
    env |= {name: value for name, value in os.environ.items() if name not in OURS}
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,  # a group of its own: its children are killed with it
        )
    except OSError as error:
        what = f"the program cannot be started ({error.strerror or error})"
        raise WsssError(what, where=words[0], hint="check its path and permissions") from error


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _failure(what: str, log: Path) -> WsssError:
    """The error with the last line that the program printed, and the ones before as a hint."""
    lines = _last_lines(log)
    said = f": {lines[-1]}" if lines else ", and printed nothing"
    more = "".join(f"\n    {line}" for line in lines)
    return WsssError(
        what + said, where=log, hint=f"look at its log{', which ends with' + more if more else ''}"
    )


def _last_lines(log: Path) -> list[str]:
    """The last lines that are not empty, of what stands after the command."""
    with log.open("rb") as stream:
        begin = len(stream.readline())
        stream.seek(max(begin, log.stat().st_size - TAIL_BYTES))
        text = stream.read().decode(errors="replace")
    return [line.strip()[:LONGEST] for line in text.splitlines() if line.strip()][-TAIL_LINES:]
