"""One process in a sandbox that does what it is asked, once: started, listened to, interrupted, ended.

The request goes in as one line of JSON; what comes out are lines of JSON, each the name of an event and what
belongs to it, and on stderr whatever the step prints. Neither side can make the other execute anything. What
is asked is not known here.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

from wsssbench import _version
from wsssbench.errors import WsssError, printable
from wsssbench.machine.interrupts import Interrupts
from wsssbench.running.isolation.sandbox import Inside, Mount, command_line

PACKAGE = Path(_version.__file__).absolute().parent
WORDS = ("-P", "-B", "-m", "wsssbench.running.isolation.sandbox_worker")
TICK = 0.1  # seconds between two looks at whether the process still runs
TAIL = 3  # lines of what a process printed last, for a message
Events = Mapping[str, Callable[..., object]]


def ask(inside: Inside, request: Mapping[str, Any], events: Events) -> Any:
    """What a process in the sandbox answers to a request; `events` are called as it reports them.

    What it prints is the event `say`. Raises what was raised there, KeyboardInterrupt at Ctrl-C or SIGTERM
    (after the step has saved what it saves then; a second one ends it at once), and WsssError where the
    process ended without an answer.
    """
    # compiled loops are kept beside their source, where numba wants to write: each box gets a copy
    with tempfile.TemporaryDirectory(prefix="wsssbench-") as copies:
        caches = tuple(
            Mount(Path(shutil.copytree(folder, Path(copies) / str(n))), folder, writable=True)
            for n, folder in enumerate(compiled_folders())
        )
        inside = replace(inside, packages=(PACKAGE, *inside.packages), mounts=(*caches, *inside.mounts))
        box = _Box(command_line(inside, WORDS), events)
        try:
            with Interrupts():  # SIGTERM too
                return box.answer(request)
        finally:
            box.end()


class _Box:
    def __init__(self, words: list[str], events: Events) -> None:
        self.events = events
        self.ends: list[tuple[str, Any]] = []  # how it ended, as far as it has said so
        self.tail: list[str] = []
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._heard: SimpleQueue[tuple[bool, bytes]] = SimpleQueue()
        # read by threads of their own: Ctrl-C must not cut a line in two
        streams = ((True, _there(self.process.stdout)), (False, _there(self.process.stderr)))
        self._readers = [threading.Thread(target=self._read, args=each, daemon=True) for each in streams]
        for reader in self._readers:
            reader.start()

    def _read(self, is_event: bool, stream: IO[bytes]) -> None:
        with stream, suppress(OSError):
            for line in stream:
                self._heard.put((is_event, line))

    def answer(self, request: Mapping[str, Any]) -> Any:
        """Send the request, and listen until the process is gone."""
        pipe, interrupted = _there(self.process.stdin), False
        with suppress(OSError):  # gone already
            pipe.write(json.dumps(request).encode() + b"\n")
            pipe.flush()
        while any(reader.is_alive() for reader in self._readers) or not self._heard.empty():
            try:
                self._hear()
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                pipe.close()  # its end interrupts the process
        if interrupted:
            raise KeyboardInterrupt
        return self._ended()

    def _hear(self) -> None:
        try:
            is_event, line = self._heard.get(timeout=TICK)
        except Empty:
            return
        if not is_event:
            self._say(line.decode(errors="replace").rstrip())
            return
        name, *said = json.loads(line)
        if name in ("done", "error"):
            self.ends.append((name, said))
            self.process.kill()  # and with it every process in the sandbox
        elif name in self.events:
            self.events[name](*said)

    def _say(self, text: str) -> None:
        if text:
            self.tail = [*self.tail[1 - TAIL :], printable(text)]
            self.events.get("say", str)(self.tail[-1])

    def _ended(self) -> Any:
        for name, said in self.ends[:1]:
            if name == "done":
                return said[0]
            raise as_error(*said)
        status = self.process.wait()
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        printed = f"; it said last: {' | '.join(self.tail)}" if self.tail else ""
        hint = "run without --isolate to see whether it is the step or the sandbox"
        raise WsssError(f"the process in the sandbox ended {how}{printed}", where="--isolate", hint=hint)

    def end(self) -> None:
        """End the process and all that it has started; wait until they are gone."""
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(5)
        with suppress(OSError):
            _there(self.process.stdin).close()


def as_error(kind: str, text: str, known: Mapping[str, Any] | None, trace: str) -> Exception:
    """The error that was raised in a sandbox, with its own class's name and its traceback in words."""
    error: Exception = type(kind, (Exception,), {})(text)
    if known:
        error = WsssError(known["what"], where=known["where"], hint=known["hint"])
        error.code = known["code"]
    error.add_note(f"in the sandbox:\n{trace}")
    return error


def _there(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # all three were asked for
    return pipe


@cache
def compiled_folders() -> tuple[Path, ...]:
    """Folders with compiled loops of this package."""
    return tuple(sorted({path.parent for path in PACKAGE.rglob("*.nbi")}))
