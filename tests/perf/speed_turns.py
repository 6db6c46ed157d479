"""Measures works in turns, A B A B, so that a drift of the machine falls on all of them, and writes what was
found into `extra_info` of pytest-benchmark. What is measured must not enter.

`extra_info` holds `what` (a phrase), `threads`, `others_busy` (the share of the cores' time that other
processes took meanwhile) and one of `beside`, `growth` or `memory`; reports/performance.py renders it.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

Work = Callable[[], object]
CORES = 2  # what the bars are about


@dataclass(frozen=True)
class Peer:
    """What ours is compared with; a bar of 0 is none."""

    name: str
    work: Work
    bar: float = 0.0  # the ratio that is asked for
    aim: float = 0.0  # the ratio that is hoped for
    factor: float = 1.0  # its time counts so often
    at_most: bool = False  # the ratio is ours / peer and has to stay below the bar, not peer / ours above it

    def ratio(self, ours: float, peer: float) -> float:
        return ours / (self.factor * peer) if self.at_most else self.factor * peer / ours

    def met(self, ratio: float) -> bool | None:
        """Whether the bar is met; None where there is none."""
        return None if not self.bar else bool(ratio <= self.bar if self.at_most else ratio >= self.bar)


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


def needs_pydensecrf(benchmark: Any) -> None:
    """Skip a measurement that would have no peer; a run that measures nothing has no need of one."""
    if benchmark.enabled and importlib.util.find_spec("pydensecrf") is None:
        pytest.skip("pydensecrf is not installed: pip install 'wsssbench[pydensecrf]'")


def in_turns(benchmark: Any, works: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds of each of `works`, called one after the other in every round; the first is benchmarked.

    Where nothing is measured the first is called once, and there are no seconds.
    """
    (first, ours), *others = works.items()
    taken: dict[str, list[float]] = {name: [] for name in works}
    if not benchmark.enabled:
        benchmark.pedantic(ours)
        return taken

    def turn() -> None:
        for name, work in others:
            start = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - start)

    with others_watched(benchmark):
        benchmark.pedantic(ours, setup=turn, rounds=rounds, warmup_rounds=1)
    taken[first] = list(benchmark.stats.stats.data)
    return {name: times[-rounds:] for name, times in taken.items()}


def beside(benchmark: Any, what: str, ours: Work, *peers: Peer, rounds: int = 7, **more: Any) -> None:
    """Time `ours` beside its peers; ratios are of the two times of one round."""
    works = {"": ours, **{peer.name: peer.work for peer in peers}}
    taken = in_turns(benchmark, works, rounds)
    if not benchmark.enabled:
        return
    found = []
    for peer in peers:
        pairs = [peer.ratio(*both) for both in zip(taken[""], taken[peer.name], strict=True)]
        ratio = Spread.of(pairs)
        found.append(
            {
                "peer": peer.name,
                "peer_seconds": _digits(peer.factor * statistics.median(taken[peer.name])),
                "ratio": _digits(ratio.median),
                "ratio_quartiles": [_digits(ratio.low), _digits(ratio.high)],
                "at_most": peer.at_most,
                "bar": peer.bar,
                "aim": peer.aim,
                "met": peer.met(ratio.median),
            }
        )
    benchmark.extra_info.update(what=what, beside=found, **more)


def growth(
    benchmark: Any, what: str, axis: str, works: Mapping[int, Work], per: str, rounds: int = 5, **more: Any
) -> dict[int, float]:
    """Time `works`, one for each size along `axis`; seconds by size, none where nothing is measured.

    `per` names what a size is a number of ("pixel": its square); the page divides by it, unless it is empty.
    """
    order = sorted(works, reverse=bool(benchmark.enabled))  # the smallest alone where nothing is measured
    taken = in_turns(benchmark, {str(size): works[size] for size in order}, rounds)
    if not benchmark.enabled:
        return {}
    lines = []
    for size in sorted(works):
        seconds = Spread.of(taken[str(size)])
        lines.append(
            {"size": size, "seconds": _digits(seconds.median), "quartiles": list(map(_digits, seconds[1:]))}
        )
    benchmark.extra_info.update(what=what, growth={"axis": axis, "per": per, "lines": lines}, **more)
    return {line["size"]: line["seconds"] for line in lines}


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


# -------------------------------------------------------------------------------------------- the machine


@contextmanager
def others_watched(benchmark: Any) -> Iterator[None]:
    """Note which share of this process's cores others use meanwhile, where the system says it."""
    before = _used_seconds()
    yield
    after = _used_seconds()
    if before and after:
        whole, busy, own = (b - a for a, b in zip(before, after, strict=True))
        benchmark.extra_info["others_busy"] = round(max(0.0, busy - own) / whole, 3) if whole else 0.0


def _used_seconds() -> tuple[float, float, float] | None:
    """Of the cores that this process may use: seconds in all, seconds of work, and those of its own."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    names = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    ticks = [list(map(int, line.split()[1:9])) for line in lines if line.split()[0] in names]
    unit = os.sysconf("SC_CLK_TCK")
    whole, idle = (sum(map(sum, ticks)) / unit, sum(t[3] + t[4] for t in ticks) / unit)
    own = sum(os.times()[:4]) + sum(_seconds_of(child.pid) for child in multiprocessing.active_children())
    return whole, whole - idle, own


def _seconds_of(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
