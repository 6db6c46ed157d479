"""The context that a step is measured in: it keeps to the step limit, and tells the clock what it hears."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from wsssbench.running.context import RunContext
from wsssbench.throughput.clock import Clock
from wsssbench.train import STEPS


@dataclass
class MeasuringContext(RunContext):
    """Implements `wsssbench.types.Context`. It shows no progress and writes no log: neither is in a lap.

    Contexts of shared work are copies of it with the same clock, so their trainings are measured too. A lap
    ends with a wait for its step: a training that is not measured reads its losses late, and does not wait.
    """

    clock: Clock = field(kw_only=True)
    owner: str = field(kw_only=True)  # the step of the recipe, in contexts of shared work too
    hears_at_once: bool = True  # so that each step is a lap of its own

    def seed(self, purpose: str) -> int:
        if purpose.endswith(STEPS):  # the shared loop asks for this one when it begins
            self.clock.begin(self.owner, self.step, purpose.removesuffix(STEPS))
        return super().seed(purpose)

    def phase(self, name: str) -> AbstractContextManager[None]:
        return self.clock.phase(name)

    def progress(
        self, done: int, total: int, images: int = 0, losses: Mapping[str, float] | None = None
    ) -> None:
        self.clock.tick(self.owner, self.step, images)
