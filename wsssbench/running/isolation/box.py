"""One sandbox with a worker in it: started, asked, interrupted, closed. What is asked is not known here."""

from __future__ import annotations

import queue
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
from typing import IO, TYPE_CHECKING, Any

from wsssbench import _version
from wsssbench.errors import WsssError
from wsssbench.machine.interrupts import Interrupts
from wsssbench.running.isolation.frames import receive, send
from wsssbench.running.isolation.sandbox import Inside, Mount, command_line

if TYPE_CHECKING:
    from wsssbench.running.isolation.frames import Arrays

PACKAGE = Path(_version.__file__).absolute().parent
WORDS = ("-P", "-B", "-m", "wsssbench.running.isolation.worker")
TAIL = 12  # lines of what a worker said last, for a message
Answer = tuple[dict[str, Any], dict[str, Any]]


class Box:
    """A worker in a sandbox. What it prints goes to `say`, line by line."""

    def __init__(self, inside: Inside, say: Callable[[str], None] | None = None) -> None:
        self.say = say or (lambda line: None)
        self.tail: list[str] = []
        # compiled loops are kept beside their source, where numba wants to write: each box gets a copy
        self._cache = tempfile.TemporaryDirectory(prefix="wsssbench-")
        caches = tuple(
            Mount(Path(shutil.copytree(folder, Path(self._cache.name) / str(n))), folder, writable=True)
            for n, folder in enumerate(compiled_folders())
        )
        inside = replace(inside, packages=(PACKAGE, *inside.packages), mounts=(*caches, *inside.mounts))
        self._process = subprocess.Popen(
            command_line(inside, WORDS),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._to = _there(self._process.stdin)
        self._heard: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        # read by a thread of its own: Ctrl-C must not cut a message in two
        self._ears = [
            threading.Thread(target=self._receive, args=(_there(self._process.stdout),), daemon=True),
            threading.Thread(target=self._listen, args=(_there(self._process.stderr),), daemon=True),
        ]
        for ear in self._ears:
            ear.start()

    def __enter__(self) -> Box:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def ask(
        self,
        request: Mapping[str, Any],
        arrays: Arrays | None = None,
        heard: Callable[[dict[str, Any]], None] | None = None,
    ) -> Answer:
        """The answer to a request; what is reported meanwhile goes to `heard`.

        Raises what the step raised there, KeyboardInterrupt at Ctrl-C or SIGTERM (after the step has saved
        what it saves then), and WsssError where the worker is gone.
        """
        try:
            with Interrupts():  # SIGTERM too, so that the step in the sandbox can save what it has
                send(self._to, request, arrays)
                return self._answer(heard)
        except OSError as error:
            raise self._gone() from error

    def _answer(self, heard: Callable[[dict[str, Any]], None] | None) -> Answer:
        while True:
            header, arrays = self._next()
            kind = header.get("kind")
            if kind == "done":
                return header, arrays
            if kind == "interrupted":
                raise KeyboardInterrupt
            if kind == "error":
                raise as_error(header)
            if kind == "say":
                self.say(str(header.get("text", "")))
            elif heard is not None:
                heard(header)

    def _next(self) -> Answer:
        """The next message; at Ctrl-C the worker is told, and its next message awaited: the last one."""
        try:
            message = self._heard.get()
        except KeyboardInterrupt:
            send(self._to, {"do": "interrupt"})
            message = self._heard.get()
            while message and message[0].get("kind") not in ("done", "error", "interrupted"):
                message = self._heard.get()
            raise
        if message is None:
            raise self._gone()
        return message

    def close(self) -> None:
        """End the worker and all that it has started; wait until they are gone."""
        with suppress(OSError):
            self._to.close()
        with suppress(ProcessLookupError):
            self._process.kill()  # bwrap's death is that of every process in the sandbox
        self._process.wait()
        for ear in self._ears:
            ear.join(5)
        self._cache.cleanup()

    def _receive(self, stdout: IO[bytes]) -> None:
        with stdout:
            try:
                while True:
                    self._heard.put(receive(stdout))
            except (EOFError, OSError, ValueError, KeyError):  # gone, or what it sends is no message
                self._heard.put(None)

    def _listen(self, stderr: IO[bytes]) -> None:
        with stderr:
            for raw in stderr:
                line = "".join(c for c in raw.decode(errors="replace").rstrip() if c.isprintable())
                self.tail = [*self.tail[-TAIL + 1 :], line]
                if line:
                    self.say(line)

    def _gone(self) -> WsssError:
        self.close()
        status = self._process.returncode
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        said = f"; it said last: {' | '.join(self.tail[-3:])}" if self.tail else ""
        hint = "run without --isolate to see whether it is the step or the sandbox"
        return WsssError(f"the process in the sandbox ended {how}{said}", where="--isolate", hint=hint)


def as_error(told: Mapping[str, Any]) -> BaseException:
    """The error that a worker told of, with its own class's name and traceback in words."""
    known = told.get("wsss")
    error: Exception
    if known:
        error = WsssError(known["what"], where=known["where"], hint=known["hint"])
        error.code = known["code"]
    else:
        error = type(str(told["type"]), (Exception,), {})(told["text"])
    error.add_note(f"in the sandbox:\n{told.get('trace', '')}")
    return error


def _there(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # all three were asked for
    return pipe


@cache
def compiled_folders() -> tuple[Path, ...]:
    """Folders with compiled loops of this package."""
    found = {path.parent for path in PACKAGE.rglob("*.nbi")}
    return tuple(sorted(found))
