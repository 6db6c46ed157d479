"""Which trial starts next, and what each place to work has: a GPU, or a share of the cores. Nothing is
started here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsssbench.running.executors.jobs import Job
from wsssbench.running.renewal import Renewed

GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Seat:
    """A place where one trial at a time runs."""

    name: str  # GPU 2; empty for a share of the processor
    threads: int
    environment: Mapping[str, str] = field(default_factory=dict)


def seats(jobs: int, device: str, cores: int, gpus: int) -> list[Seat]:
    """So many seats: round robin over the visible GPUs, or all on the one that `device` names.

    Each has its share of the `cores`, one at least.
    """
    threads = max(1, cores // jobs)
    if device != "cuda" or gpus == 0:
        return [Seat(device if device.startswith("cuda") else "", threads)] * jobs
    named = [name for name in os.environ.get(GPUS, "").split(",") if name] or [str(n) for n in range(gpus)]
    return [Seat(f"GPU {named[n % gpus]}", threads, {GPUS: named[n % gpus]}) for n in range(jobs)]


def seats_text(places: Sequence[Seat]) -> str:
    """What the seats are, in one line."""
    threads = f"{places[0].threads} thread{'s' if places[0].threads > 1 else ''} each"
    names = Counter(place.name for place in places if place.name)
    if not names:
        return f"{len(places)} trials at a time on the CPU, {threads}"
    shared = "; trials share a GPU, which slows them" if max(names.values()) > 1 else ""
    return f"{len(places)} trials at a time on {', '.join(names)}, {threads}{shared}"


def next_job(waiting: Sequence[Job], working: Sequence[Job], renewed: Renewed) -> Job | None:
    """The trial to start now, the first of the plan that would not stand idle; None to wait.

    A trial that needs a step which another one is about to fit waits for that. Of the others those go first
    whose data set and seed are least at work: they may share work that only the steps know of.
    """
    fitting: frozenset[Path] = frozenset().union(*(job.unfitted(renewed) for job in working))
    families = Counter(job.family for job in working)
    free = (job for job in waiting if not fitting & job.unfitted(renewed))
    return min(free, key=lambda job: families[job.family], default=None)


def owners(jobs: Sequence[Job], renewed: Renewed) -> dict[str, tuple[Job, ...]]:
    """By title, the earlier jobs that will fit a step which the job shares with them."""
    first: dict[Path, Job] = {}
    found: dict[str, tuple[Job, ...]] = {}
    for job in jobs:
        unfitted = job.unfitted(renewed)
        found[job.title] = tuple(
            {first[path].title: first[path] for path in unfitted & first.keys()}.values()
        )
        first |= {path: job for path in unfitted if path not in first}
    return found
