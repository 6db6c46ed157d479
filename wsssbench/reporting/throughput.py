"""Bench records -> tables of throughput: one per data set and machine, with a table of phases below it.

Numbers of different hardware never stand in one table. Nothing here measures, and nothing reads files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsssbench.identity import content_key, plain
from wsssbench.reporting.rows import difference, step_options
from wsssbench.reporting.table_parts import TextTable
from wsssbench.throughput.record import REST, BenchLine, BenchRecord, Machine

STAGE = "bench"
PHASES = ("wait for data", "read", "transfer", "network", "mining", "energy", "crf", "backward", "optimizer")
MB = 1e6


@dataclass(frozen=True)
class ThroughputTable:
    """Records of one data set and machine."""

    records: tuple[BenchRecord, ...]
    apart: str = ""  # what distinguishes it from a data set of the same name with other options

    @property
    def machine(self) -> Machine:
        return self.records[0].machine

    def texts(self) -> list[TextTable]:
        """The table of throughput, and where known that of the phases."""
        heading = f"throughput: {self.records[0].dataset}{self.apart} on {self.machine}"
        pairs = [(record, line) for record in self.records for line in record.lines]
        if not pairs:
            return [TextTable(heading, (), "Nothing was measured.")]
        parts = [TextTable(heading, [self._cells(*pair) for pair in pairs], self.definition())]
        timed = [(record, line) for record, line in pairs if line.phases_ms]
        if timed:
            names = phase_names(line.phases_ms for _, line in timed)
            lines = [self._titles(*pair) | phase_cells(pair[1].phases_ms, names, "ms") for pair in timed]
            title = f"Where a step's time goes on {self.machine} (ms per step or call, share)"
            parts.append(TextTable(title, lines, level=3))
        return parts

    def data(self) -> dict[str, Any]:
        """JSON types: the machine, and a row for each line of each record."""
        first = self.records[0]
        head = {"dataset": first.dataset, "dataset_version": first.dataset_version}
        head |= {"dataset_options": plain(first.dataset_options), "stage": STAGE}
        rows = [
            {**self._names(record, line), **plain(line), "steps": plain(record.steps), "key": record.key}
            | {"protocol": plain(record.protocol), "versions": dict(record.versions)}
            | {"provenance": dict(record.provenance)}
            for record in self.records
            for line in record.lines
        ]
        return {**head, "machine": plain(self.machine), "rows": rows, "definition": self.definition()}

    def lines(self) -> list[dict[str, Any]]:
        """Flat csv lines."""
        machine = {f"machine_{name}": value for name, value in plain(self.machine).items()}
        return [
            {"dataset": record.dataset, "stage": STAGE, **machine, **self._names(record, line), **_flat(line)}
            for record in self.records
            for line in record.lines
        ]

    def _names(self, record: BenchRecord, line: BenchLine) -> dict[str, Any]:
        """What a line is of."""
        names = {"method": record.method, "variant": self._variant(record), "seed": record.seed}
        names |= {"step": line.step, "what": line.what}
        return {**names, "precision": record.precision, "backend": record.filter_backend}

    def _cells(self, record: BenchRecord, line: BenchLine) -> dict[str, str]:
        """One line of the main table."""
        low, high = line.quartiles_ms
        several = len({_torch(r) for r in self.records}) > 1
        return {
            **self._titles(record, line),
            "images/s": f"{line.images_per_s:.1f}",
            "median ms [quartiles]": f"{line.median_ms:.1f} [{low:.1f}, {high:.1f}]",
            "peak MB": "" if line.peak_bytes is None else f"{line.peak_bytes / MB:.0f}",
            "batch": str(line.batch),
            "measured": str(len(line.times_ms)),
            "arithmetic": record.precision,
            "backend": record.filter_backend,
            "torch": _torch(record) if several else "",
        }

    def _titles(self, record: BenchRecord, line: BenchLine) -> dict[str, str]:
        variant = self._variant(record)
        method = f"{record.method} ({variant})" if variant else record.method
        return {"method": method, "step": line.step, "what": line.what}

    def _variant(self, record: BenchRecord) -> str:
        """What differs between this method's records, as this one has it."""
        same = (_choices(other) for other in self.records if other.method == record.method)
        return difference(_choices(record), same)

    def definition(self) -> str:
        """The sentence that says what the numbers are."""
        kinds = {(r.protocol.warmup, r.protocol.repeats) for r in self.records}
        counts = "; ".join(f"{w} discarded, up to {n} measured" for w, n in sorted(kinds))
        calls = self.records[0].protocol
        gpu = self.machine.device != "cpu"
        peak = (
            "what is allocated on the GPU, for everything that is loaded"
            if gpu
            else "the largest resident set of the process since its start"
        )
        apart = " They were measured in separate steps, with a wait for the GPU around each phase." * gpu
        return (
            f"Training: steps from one end to the next, images read and the losses checked ({counts}). "
            f"Prediction: calls of {calls.predict_batch} images or of as many as fit the memory "
            f"({calls.warm_calls} discarded), by networks that were trained for these few steps only: times "
            "that depend on their outputs, such as that of a CRF over the classes found without tags, are "
            "not those of a fully trained network. `end to end` includes reading (for a generated data set: "
            "drawing what was not drawn before), transfer and the steps before. images/s are the "
            "images of a step or call over its median time; the quartiles are the first and the "
            f"third. Peak memory: {peak}. Phases are means.{apart} "
            f"Measured with torch {', '.join(sorted({_torch(r) for r in self.records}))}."
        )


def throughput_tables(records: Iterable[BenchRecord]) -> list[ThroughputTable]:
    """A table per data set and machine; of equal keys (a copied folder) the record finished last counts."""
    latest: dict[str, BenchRecord] = {}
    for record in sorted(records, key=lambda r: str(r.provenance.get("finished", ""))):
        latest[f"{record.method} {record.key}"] = record
    groups: dict[tuple[str, str], list[BenchRecord]] = {}
    for record in sorted(latest.values(), key=lambda r: (r.dataset, str(r.machine), r.method, r.key)):
        groups.setdefault((content_key(_dataset(record)), content_key(record.machine)), []).append(record)
    firsts = [group[0] for group in groups.values()]
    return [ThroughputTable(tuple(group), _apart(group[0], firsts)) for group in groups.values()]


def _torch(record: BenchRecord) -> str:
    """Its version; that of CUDA is part of it."""
    return record.versions.get("torch", "unknown")


def _dataset(record: BenchRecord) -> dict[str, Any]:
    return {"name": record.dataset, "version": record.dataset_version, **plain(record.dataset_options)}


def _apart(record: BenchRecord, others: Iterable[BenchRecord]) -> str:
    """The options in which data sets of this name differ, as this record has them."""
    same = (_dataset(other) for other in others if other.dataset == record.dataset)
    shown = difference(_dataset(record), same)
    return f" ({shown})" if shown else ""


def _choices(record: BenchRecord) -> dict[str, Any]:
    """All that was chosen for a record, by name."""
    flat: dict[str, Any] = {"seed": record.seed, **plain(record.protocol)}
    flat |= {"precision": record.precision, "filters": record.filter_backend}
    return flat | step_options(record.steps)


def _flat(line: BenchLine) -> dict[str, Any]:
    low, high = line.quartiles_ms
    numbers: dict[str, Any] = {
        "batch": line.batch,
        "images_per_s": line.images_per_s,
        "median_ms": line.median_ms,
    }
    numbers |= {"quartile1_ms": low, "quartile3_ms": high, "measured": len(line.times_ms)}
    numbers |= {"peak_bytes": "" if line.peak_bytes is None else line.peak_bytes}
    return {**numbers, **{f"phase_ms[{name}]": value for name, value in line.phases_ms.items()}}


def phase_names(phases: Iterable[Mapping[str, float]]) -> list[str]:
    """The phases that occur, in the order of a step; the rest last."""
    found = {name for own in phases for name in own}
    known = [name for name in PHASES if name in found]
    return [*known, *sorted(found - {*PHASES, REST}), *([REST] if REST in found else [])]


def phase_cells(phases: Mapping[str, float], names: Sequence[str], unit: str) -> dict[str, str]:
    """The sum under `unit`, and of each name its part: "1500.0 (75 %)"; empty for what is not among them."""
    whole = sum(phases.values())
    parts = {n: f"{phases[n]:.1f} ({100 * phases[n] / whole:.0f} %)" for n in names if whole and n in phases}
    return {unit: f"{whole:.1f}", **{name: parts.get(name, "") for name in names}}
