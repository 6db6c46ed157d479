"""How a command ends when it is asked to: Ctrl-C and SIGTERM both raise KeyboardInterrupt where it is, so
that locks are freed and temporary files removed on the way out; one line is said, and the exit code is 130.
A training holds them back for a step (`wsssbench.train`). Nothing heavy is imported here: it comes first."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager, nullcontext

TYPE_CHECKING = False
if TYPE_CHECKING:  # what is imported here is not yet safe from Ctrl-C
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any, NoReturn

INTERRUPTED = 130
SAID = "interrupted; what is done is kept, the same command goes on from there"


class Interrupted(KeyboardInterrupt):
    """Raised by the signals. Not KeyboardInterrupt itself: where that passes through `exec` of a text, as
    dataclasses use it, Python ends with SIGINT's status whatever exit code is asked for."""


class Interrupts:
    """While inside, SIGTERM acts as Ctrl-C does, and `asked` says that one of them came.

    A signal that the process was started with ignored (Ctrl-C of a shell's background job), or for which
    somebody else has a handler, is left alone; so are all signals outside the main thread.
    """

    def __init__(self) -> None:
        self.asked = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        _inside.append(self)
        if threading.current_thread() is threading.main_thread():
            usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
            ours = [number for number, handler in usual.items() if signal.getsignal(number) is handler]
            self._old = {number: signal.signal(number, self._raise) for number in ours}
        return self

    def _raise(self, number: int, frame: FrameType | None) -> NoReturn:
        self.asked = True
        raise Interrupted

    def __exit__(self, *error: object) -> None:
        _inside.remove(self)
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def end(self) -> NoReturn:
        """Say that the command was interrupted and exit with 130; more signals change nothing."""
        for number in self._old:
            signal.signal(number, signal.SIG_IGN)
        print(SAID, file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED)


_inside: list[Interrupts] = []  # the one at work, if any


@contextmanager
def ended_by_signals() -> Iterator[Interrupts]:
    """Inside, Ctrl-C and SIGTERM end the process with one line and exit code 130.

    An import that is interrupted may turn KeyboardInterrupt into an error of its own: that counts as well.
    Within another one this leaves the handlers as they are.
    """
    with nullcontext(_inside[-1]) if _inside else Interrupts() as interrupts:
        try:
            yield interrupts
        except KeyboardInterrupt:
            interrupts.end()
        except Exception:
            if interrupts.asked:
                interrupts.end()
            raise
