"""What becomes of contracts: each holds or is broken with one sentence, and all are told together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from wsssbench.errors import WsssError


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
        """Note whether `contract` holds; `found` says what was there instead."""
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
        except Exception as error:  # whatever a stranger's code does
            first = next(iter(str(error).splitlines()), "")
            self.expect(False, contract, f"it raised {type(error).__name__}: {first}")
            raise BrokenContract(self.name, tuple(self.broken.values())) from error
        self.expect(True, contract, "")

    def settle(self) -> tuple[str, ...]:
        """The contracts that hold, or BrokenContract."""
        if self.broken:
            raise BrokenContract(self.name, tuple(self.broken.values()))
        return tuple(self.held)
