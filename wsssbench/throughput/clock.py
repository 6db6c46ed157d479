"""The clock of a measurement: laps of trainings from the calls of `progress`, and where each lap's time went.

Throughput comes from laps in which nothing waits for the device but the end of the step. Where a device
works asynchronously, phases cannot be measured so: they come from laps of their own, after the measured
ones, in which every phase begins and ends with a wait. Nothing here knows what is trained.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from wsssbench.throughput.device import Instruments
from wsssbench.throughput.record import BenchLine, BenchProtocol, Lap, bench_line


@dataclass
class Training:
    """The laps of one training: `name`, for `step` of the recipe, in its folder or that of shared `work`."""

    step: str
    work: str
    name: str
    start: float  # of the lap that is under way
    laps: list[Lap] = field(default_factory=list)
    peak: int | None = None

    @property
    def what(self) -> str:
        """ "train", and what if not the step itself: "train joint", "train classifier"."""
        return " ".join(["train", *(n for n in dict.fromkeys((self.work, self.name)) if n != self.step)])


class Clock:
    """Takes the time of one method's trainings and predictions."""

    def __init__(self, protocol: BenchProtocol, tools: Instruments) -> None:
        self.protocol, self.tools = protocol, tools
        self.trainings: list[Training] = []
        self.phases_told = not tools.asynchronous
        self._running: dict[str, Training] = {}  # by work: a step's own waits for shared ones inside it
        self._stack: list[str] = []
        self._taken: dict[str, float] = defaultdict(float)
        self._mark, self._thread = 0.0, threading.get_ident()

    @property
    def laps(self) -> int:
        """Steps that a training has to take for all that is measured of it."""
        return self.protocol.warmup + self.protocol.repeats * (2 if self.tools.asynchronous else 1)

    # ------------------------------------------------------------------------------------------- trainings

    def begin(self, step: str, work: str, name: str) -> Training:
        """A training starts; its names as in `Training`."""
        self.tools.synchronise()
        self.tools.reset_peak()
        self.phases_told = not self.tools.asynchronous
        self.take()
        training = self._running[work] = Training(step, work, name, self.tools.now())
        self.trainings.append(training)
        return training

    def tick(self, step: str, work: str, images: int) -> None:
        """A training step of `work` has ended; a call without images is none."""
        if not images:
            return
        self.tools.synchronise()
        now = self.tools.now()
        # a loop of the step's own has not said that it begins: its first lap is none, and warm-up anyway
        training = self._running.get(work) or self.begin(step, work, work)
        training.laps.append(Lap(now - training.start, images, self.take()))
        training.peak = self.tools.peak_bytes()
        if len(training.laps) == self.protocol.warmup:  # in which convolutions are tried, in much memory
            self.tools.reset_peak()
        done = len(training.laps) >= self.protocol.warmup + self.protocol.repeats
        self.phases_told = done or not self.tools.asynchronous
        training.start = self._mark = self.tools.now()  # what was done here is in no lap

    def line(self, training: Training) -> BenchLine | None:
        """Its numbers; None where all its steps are warm-up."""
        first, count = self.protocol.warmup, self.protocol.repeats
        measured = training.laps[first : first + count]
        told = training.laps[first + count :][:count] if self.tools.asynchronous else measured
        if not measured:
            return None
        return bench_line(training.step, training.what, measured, told, training.peak)

    # ---------------------------------------------------------------------------------------------- phases

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside under `name`, and not under the phase around it.

        Other threads work beside the lap: what they do shows where it is waited for.
        """
        if threading.get_ident() != self._thread:
            yield
            return
        self._settle()
        self._stack.append(name)
        try:
            yield
        finally:
            self._settle()
            self._stack.pop()

    def take(self) -> dict[str, float]:
        """Seconds by phase since the last call; nothing where phases cannot be measured."""
        self._settle()
        taken = dict(self._taken) if self.phases_told else {}
        self._taken.clear()
        return taken

    def _settle(self) -> None:
        """Credit the time since the last call to the phase that was under way."""
        if self.phases_told:
            self.tools.synchronise()
        now = self.tools.now()
        if self._stack:
            self._taken[self._stack[-1]] += now - self._mark
        self._mark = now
