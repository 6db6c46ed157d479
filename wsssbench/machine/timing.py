"""Where the time of a run goes: seconds by named phase, images by unit of work, and what both add up to when
the work took several sessions."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from wsssbench.files.atomic import atomic_write_text


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


@dataclass(frozen=True)
class Cost:
    """What a piece of work has taken so far: wall-clock seconds, images, seconds by phase."""

    seconds: float = 0.0
    images: int = 0
    phases: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: Cost) -> Cost:
        names = sorted({*self.phases, *other.phases})
        phases = {n: round(self.phases.get(n, 0.0) + other.phases.get(n, 0.0), 2) for n in names}
        return Cost(round(self.seconds + other.seconds, 3), self.images + other.images, phases)

    @classmethod
    def read(cls, path: Path) -> Cost:
        """What `write` left in `path`; nothing where there is no such file."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return cls()

    def write(self, path: Path) -> None:
        """Keep the cost for the next session."""
        atomic_write_text(path, json.dumps(asdict(self)))
