"""Where the time of a run goes: seconds by named phase, and images by unit of work."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class PhaseTimer:
    """Adds up wall-clock seconds under names; phases may nest and then count in both."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def rounded(self) -> dict[str, float]:
        """Seconds by phase, to a hundredth."""
        return {name: round(value, 2) for name, value in sorted(self.seconds.items())}
