"""The context that a step is handed: device, seeds, a private folder, a clock, where progress is shown."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from wsssbench.files.atomic import safe_name
from wsssbench.files.locks import clear, hold
from wsssbench.identity import content_key
from wsssbench.machine.hardware import Hardware
from wsssbench.machine.timing import Cost, PhaseTimer
from wsssbench.planning.cells import PlannedStep, Trial
from wsssbench.planning.plan import learned_content
from wsssbench.records.store import claim
from wsssbench.running.screen.tasks import Task
from wsssbench.types import DatasetCard

if TYPE_CHECKING:
    from wsssbench.running.screen.board import TrainingBoard


@dataclass
class RunContext:
    """Implements `wsssbench.types.Context`."""

    device: str
    precision: str
    filter_backend: str
    card: DatasetCard
    workdir: Path
    limit: int | None
    run_seed: int
    step: str
    timer: PhaseTimer = field(default_factory=PhaseTimer)
    task: Task | None = None
    images: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)  # names what is learned from, for shared work
    say: Callable[[str], None] = print
    renewed: set[Path] | None = (
        None  # folders made again by this run; shared ones join them at their first use
    )
    costs: dict[Path, Cost] = field(default_factory=dict)  # of shared work, whoever did it
    away: float = 0.0  # seconds of this session inside shared work
    step_limit: int | None = None  # set by a measurement alone, whose folders no run reads: part of no key
    board: TrainingBoard | None = None  # what --tensorboard asks for
    rate: float | None = None  # the learning rate of the step that is reported next

    @classmethod
    def of(
        cls, trial: Trial, planned: PlannedStep, hardware: Hardware, limit: int | None,
        say: Callable[[str], None], **more: Any,
    ) -> Self:  # fmt: skip
        """What a planned step of a trial may use; `more` are other fields."""
        return cls(
            device=hardware.device,
            precision=hardware.precision,
            filter_backend=hardware.filter_backend,
            card=trial.dataset.card,
            workdir=planned.folder,
            limit=limit,
            run_seed=trial.seed,
            step=planned.name,
            data=learned_content(trial.dataset),
            say=say,
            **more,
        )

    def seed(self, purpose: str) -> int:
        text = f"{self.run_seed}/{self.step}/{purpose}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    @contextmanager
    def shared(self, work: str, identity: Any) -> Iterator[RunContext]:
        folder = self.shared_folder(work, identity)
        with hold(folder, self.say):
            if self.renewed is not None and folder not in self.renewed:
                clear(folder)
                self.renewed.add(folder)
            claim(folder, self.shared_key(work, identity))
            inner = replace(
                self, workdir=folder, step=work, images=0, timer=PhaseTimer(), costs={}, rate=None
            )
            start = time.perf_counter()
            try:
                yield inner
            finally:
                seconds = time.perf_counter() - start
                self.away += seconds
                self.costs[folder] = inner.spent(seconds, done=bool(inner.images))

    def shared_folder(self, work: str, identity: Any) -> Path:
        """The folder of shared work."""
        return self.workdir.parent / f"{safe_name(work)}-{self.shared_key(work, identity)[:8]}"

    def shared_key(self, work: str, identity: Any) -> str:
        """sha256 (hex) of all that shared work may depend on."""
        return content_key([work, identity, self.data, self.run_seed, self.precision, self.limit])

    def spent(self, seconds: float, *, done: bool = True) -> Cost:
        """Cost of the work in `workdir` over all its sessions, with the present one of `seconds` if `done`.

        Shared work counts in full, also where another step has done it.
        """
        kept = self.workdir / "cost.json"
        own = Cost.read(kept)
        if done:
            own += Cost(seconds - self.away, self.images, self.timer.rounded())
            own.write(kept)
        return sum(self.costs.values(), own)

    def phase(self, name: str) -> AbstractContextManager[None]:
        return self.timer.phase(name)

    def progress(
        self, done: int, total: int, images: int = 0, losses: Mapping[str, float] | None = None
    ) -> None:
        numbers = dict(losses or {})
        self.images += images
        if self.task is not None:
            self.task.update(done, total, images, numbers)
        if self.board is not None:
            self.board.progress(self.workdir.name, done, images, numbers, self.rate)
        line: dict[str, Any] = {"done": done, "total": total, "time": round(time.time(), 2)}
        line |= {"losses": numbers, "images": images, **({} if self.rate is None else {"rate": self.rate})}
        with (self.workdir / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
