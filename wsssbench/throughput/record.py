"""What a measurement leaves: one JSON file, `runs/<dataset>/<method>/bench/<key8>/bench.json`, keyed by what
was measured, how, and on which hardware. The same command on the same hardware replaces its own record; other
hardware stands beside it. No torch here, and nothing is measured."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsssbench.errors import BadData
from wsssbench.files.atomic import atomic_write_text, read_json, safe_name
from wsssbench.files.typed import read_as
from wsssbench.identity import StepIdentity, content_key, plain
from wsssbench.records.store import check_key, searched

BENCH = "bench.json"
FOLDER = "bench"
SCHEMA = 1
REST = "rest"  # what of a step lies in no phase


@dataclass(frozen=True)
class BenchProtocol:
    """How it was measured."""

    warmup: int = 5  # training steps that are discarded; the first one compiles and allocates
    repeats: int = 20  # training steps, and calls of a predictor, that are measured
    warm_calls: int = 1  # calls of a predictor that are discarded
    predict_batch: int = 16  # images per call of a predictor, halved until they fit


@dataclass(frozen=True)
class Machine:
    """What computes. Numbers of different machines never stand in one table."""

    device: str  # "cpu" or "cuda"
    name: str  # of the GPU, or of the processor
    cpu: str
    threads: int  # of torch on the CPU

    def __str__(self) -> str:
        parts = [self.name] if self.name == self.cpu else [self.name, self.cpu]
        return ", ".join([*parts, f"{self.threads} thread{'s' * (self.threads != 1)}"])


@dataclass(frozen=True)
class Lap:
    """One step of a training, or one call of a predictor."""

    seconds: float
    images: int
    phases: Mapping[str, float]  # seconds, no more than the lap's together; empty where they are not known


@dataclass(frozen=True)
class BenchLine:
    """One thing that was timed: a training's steps, or the calls of a predictor."""

    step: str  # of the recipe
    what: str  # "train classifier", "train joint", "predict val", "end to end val" ...
    batch: int  # images per step or call
    images_per_s: float  # images of a step over its median time
    median_ms: float
    quartiles_ms: tuple[float, float]  # first and third
    times_ms: tuple[float, ...]  # all that were measured, in order
    peak_bytes: int | None  # on a GPU: allocated there by this process; else: its largest resident set
    phases_ms: Mapping[str, float] = field(default_factory=dict)  # mean per step, with "rest"; empty: unknown


@dataclass(frozen=True)
class BenchRecord:
    """One method on one data set, measured on one machine."""

    method: str
    dataset: str
    dataset_version: str
    dataset_options: Mapping[str, Any]
    seed: int
    steps: tuple[StepIdentity, ...]
    precision: str
    filter_backend: str
    machine: Machine
    protocol: BenchProtocol
    versions: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[BenchLine, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)  # commit, command, code, load, time
    schema: int = SCHEMA

    @property
    def key(self) -> str:
        """sha256 (hex) of what was measured, how, and on what: not of versions, code and numbers."""
        left_out = ("versions", "lines", "provenance", "schema", "method")
        return content_key({name: value for name, value in plain(self).items() if name not in left_out})


def bench_line(
    step: str, what: str, measured: Sequence[Lap], told: Sequence[Lap] = (), peak: int | None = None
) -> BenchLine:
    """The numbers of `measured` laps, at least one, and the phases of those that tell them."""
    seconds = [lap.seconds for lap in measured]
    median = statistics.median(seconds)
    several = len(seconds) > 1
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive") if several else [median] * 3
    return BenchLine(
        step=step,
        what=what,
        batch=round(statistics.median(lap.images for lap in measured)),
        images_per_s=round(statistics.fmean(lap.images for lap in measured) / median, 3) if median else 0.0,
        median_ms=_ms(median),
        quartiles_ms=(_ms(low), _ms(high)),
        times_ms=tuple(_ms(s) for s in seconds),
        peak_bytes=peak,
        phases_ms=_mean_phases(told),
    )


def _mean_phases(laps: Sequence[Lap]) -> dict[str, float]:
    """Means, not medians: they add up to the mean step."""
    if not laps:
        return {}
    names = dict.fromkeys(name for lap in laps for name in lap.phases)
    means = {name: statistics.fmean(lap.phases.get(name, 0.0) for lap in laps) for name in names}
    whole = statistics.fmean(lap.seconds for lap in laps)
    return {**{n: _ms(v) for n, v in means.items()}, REST: _ms(max(0.0, whole - sum(means.values())))}


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


# ------------------------------------------------------------------------------------------------- on disk


def bench_folder(runs: Path | str, record: BenchRecord) -> Path:
    """runs/<dataset>/<method>/bench/<key8>."""
    return Path(runs) / safe_name(record.dataset) / safe_name(record.method) / FOLDER / record.key[:8]


def write_bench(runs: Path | str, record: BenchRecord) -> Path:
    """Write `record` below `runs`, whole or not at all; its path. WsssError where another one lies there."""
    path = bench_folder(runs, record) / BENCH
    with suppress(BadData):  # none yet, or a damaged one: it is measured again
        check_key(path.parent, read_bench(path).key, record.key)
    text = json.dumps({"key": record.key, **plain(record)}, indent=1, sort_keys=True, allow_nan=False)
    atomic_write_text(path, text + "\n")
    return path


def read_bench(path: Path | str) -> BenchRecord:
    """The record in the file `path`; BadData where it is damaged, foreign or of another schema."""
    content = read_json(path, "bench record")
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise BadData("not a bench record that this version reads", where=path, hint="measure again")
    try:
        known = {f.name: content[f.name] for f in dataclasses.fields(BenchRecord) if f.name in content}
        return read_as(known, BenchRecord, "record")
    except ValueError as error:
        raise BadData(f"bench record is damaged ({error})", where=path, hint="measure again") from error


def find_benches(root: Path | str) -> list[BenchRecord]:
    """All bench records below the folder `root`, ordered by path; none where there is no such folder."""
    found = (folder / BENCH for folder, files in searched(root) if BENCH in files)
    return [read_bench(path) for path in sorted(found)]
