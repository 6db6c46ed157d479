"""Collects which contracts hold and which are broken, one sentence each, and reports all together."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from wsssbench.errors import WsssError

HARNESS = Path(__file__).parents[1]


class BrokenContract(WsssError, AssertionError):
    """A plugin that does not keep its contract; `failures` has one sentence for each."""

    code = 1

    def __init__(self, name: str, failures: Sequence[str]) -> None:
        self.failures = tuple(failures)
        lines = "".join(f"\n- {failure}" for failure in failures)
        super().__init__(f"{name}: {len(failures)} broken contracts{lines}")


class Contracts:
    """Collects which contracts hold and which do not; each counts once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.held: dict[str, None] = {}
        self.broken: dict[str, str] = {}

    def expect(self, ok: bool, contract: str, found: object) -> bool:
        """Record whether `contract` holds; `found` says what was found instead."""
        if ok:
            self.held[contract] = None
        else:
            self.broken.setdefault(contract, f"{contract}, but {found}")
        return ok

    @contextmanager
    def attempt(self, contract: str) -> Iterator[None]:
        """What happens inside must not raise; where it does, the rest cannot be tested."""
        try:
            yield
        except Exception as error:  # whatever the code of a plugin author does
            first = next(iter(str(error).splitlines()), "")
            self.expect(False, contract, f"it raised {type(error).__name__}: {first}{_place(error)}")
            raise BrokenContract(self.name, tuple(self.broken.values())) from error
        self.expect(True, contract, "")

    def settle(self) -> tuple[str, ...]:
        """The contracts that hold, or BrokenContract."""
        if self.broken:
            raise BrokenContract(self.name, tuple(self.broken.values()))
        return tuple(self.held)


def _place(error: BaseException) -> str:
    """ " (my.py, line 12)": the last line of the plugin's own folder that was being run, "" without one."""
    frames = [(Path(f.filename), f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    strange = [frame for frame in frames if HARNESS not in frame[0].parents]
    own = [frame for frame in strange if frame[0].parent == strange[0][0].parent]
    return f" ({own[-1][0].name}, line {own[-1][1]})" if own else ""
