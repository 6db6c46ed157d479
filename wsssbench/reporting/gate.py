"""The regression gate: rows of today against a committed baseline, under equal terms only.

A baseline is a small JSON file, {"schema": 1, "rows": [{method, dataset, stage, terms, metric, mean,
better, tolerance, n, seeds}]}, where `terms` is the hash that makes rows comparable and `seeds` holds the
value of each seed. A change is judged by the fixed tolerance, or by its interval over paired seeds; of a
metric where `better` is lower, a rise is the regression. Exit codes: 0 all well, 1 a regression or a failed
cell, 2 a bad file, 3 not comparable. Nothing here reads masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypeAlias, TypedDict

from msgspec import Meta, ValidationError, convert

from wsssbench.errors import BadData, NotComparable
from wsssbench.files.atomic import read_json
from wsssbench.files.typed import read_as
from wsssbench.identity import Record, Terms, plain
from wsssbench.records.finding import find_records
from wsssbench.reporting.conditions import row_conditions, shared_conditions, unlike_terms
from wsssbench.reporting.rows import Number, Row, rows_of
from wsssbench.reporting.table_parts import grid
from wsssbench.statistics.paired import student_interval

SCHEMA = 1
Better = Literal["higher", "lower"]
Text: TypeAlias = Annotated[str, Meta(min_length=1)]
Finite: TypeAlias = Annotated[float, Meta(ge=-1e300, le=1e300)]
SAY_BETTER = 'install the metric, or add "better": "lower" (or "higher") to the row of the baseline'
Verdict = Literal["ok", "better", "regression", "failed", "not comparable"]
CODES: Mapping[Verdict, int] = {"ok": 0, "better": 0, "regression": 1, "failed": 1, "not comparable": 3}


class BaselineRow(TypedDict):
    """What a row of a baseline must say; older ones have neither `better` nor `seeds`."""

    method: Text
    dataset: Text
    stage: Text
    terms: Text
    metric: Text
    mean: Finite
    tolerance: Annotated[float, Meta(ge=0, le=1e300)]
    better: NotRequired[Better | None]
    seeds: NotRequired[dict[Annotated[str, Meta(pattern="^[0-9]+$")], Finite]]


class Baseline(TypedDict):
    """The whole file."""

    schema: Literal[1]
    rows: Annotated[list[BaselineRow], Meta(min_length=1)]


@dataclass(frozen=True)
class GateLine:
    """One row of the baseline and what became of it; `mean` and `n` are today's."""

    expected: Mapping[str, Any]
    verdict: Verdict
    why: str = ""
    mean: float | None = None
    n: int = 0
    interval: tuple[float, float] | None = None  # of the change over paired seeds, where that decides
    row: Row | None = None  # today's, for what made it


@dataclass(frozen=True)
class GateResult:
    """The lines in the baseline's order; `str` gives a small table."""

    lines: tuple[GateLine, ...]

    @property
    def code(self) -> int:
        """0, or 1 for any regression or failure, or else 3 for any row that cannot be compared."""
        codes = {CODES[line.verdict] for line in self.lines}
        return 1 if 1 in codes else max(codes)

    def __str__(self) -> str:
        table = grid([_cells(line) for line in self.lines])
        return "\n\n".join([table, *self._conditions(), self._summary()]) + "\n"

    def _conditions(self) -> list[str]:
        """For each table of equal terms what its rows have in common, and what each has."""
        tables: dict[str, list[Row]] = {}
        for line in self.lines:
            if line.row is not None:
                tables.setdefault(line.row.terms_hash, []).append(line.row)
        return [f"{shared_conditions(rows[0].terms)} {row_conditions(rows)}" for rows in tables.values()]

    def _summary(self) -> str:
        count = sum(CODES[line.verdict] == 0 for line in self.lines)
        return f"gate: {count} of {len(self.lines)} rows hold their baseline (exit code {self.code})"


def _cells(line: GateLine) -> dict[str, str]:
    row = line.expected
    change = "" if line.mean is None else f"{line.mean - row['mean']:+.2f}"
    sign = "+" if (row.get("better") or better_of(row["metric"])) == "lower" else "-"
    allowed = f"{sign}{row['tolerance']:g}"
    if line.interval is not None:
        low, high = line.interval
        change, allowed = f"{(low + high) / 2:+.2f} [{low:+.2f}, {high:+.2f}]", "interval"
    return {
        "verdict": line.verdict,
        "method": row["method"],
        "data set": row["dataset"],
        "stage": row["stage"],
        "metric": row["metric"],
        "baseline": f"{row['mean']:.2f} ({row.get('n', '?')})",
        "now": "" if line.mean is None else f"{line.mean:.2f} ({line.n})",
        "change": change,
        "allowed": allowed,
        "badges": "; ".join(line.row.badges) if line.row else "",
        "why": line.why,
    }


def gate(records: Iterable[Record], baseline: Mapping[str, Any], *, interval: bool = False) -> GateResult:
    """Each row of `baseline` against the mean over seeds of the same method under the same terms.

    A mean that is worse by more than the tolerance is a regression; with `interval`, a change whose interval
    of 95 % over paired seeds shows a loss. BadData where `baseline` is not a baseline.
    """
    expected = check_baseline(baseline, "baseline")
    rows = rows_of(records, limited=True)
    return GateResult(tuple(_judge(row, rows, interval) for row in expected))


def gate_runs(runs: Sequence[Path | str], baseline: Path | str, *, interval: bool = False) -> GateResult:
    """`gate` of all records below `runs` and a baseline file; raises as `read_baseline` does."""
    expected = read_baseline(baseline)
    return gate([s.record for root in runs for s in find_records(root)], expected, interval=interval)


def _judge(expected: Mapping[str, Any], rows: Sequence[Row], interval: bool) -> GateLine:
    same = [row for row in rows if row.method == expected["method"]]
    found = [row for row in same if row.terms_hash == expected["terms"]]
    if len(found) != 1:
        return GateLine(expected, "not comparable", _why_not(expected, same, found))
    row = found[0]
    line = GateLine(expected, "not comparable", row=row)
    if row.reasons:
        return replace(line, verdict="failed", why=row.reasons[0])
    number = row.numbers.get(expected["metric"])
    if number is None:
        return replace(line, why=f"the row has no number {expected['metric']!r}")
    line = replace(line, mean=number.mean, n=number.n)
    better = expected.get("better") or better_of(expected["metric"])
    if better is None:
        return replace(
            line, why=f"whether a higher {expected['metric']} is better is not known: {SAY_BETTER}"
        )
    sign = -1 if better == "lower" else 1
    if interval:
        return _by_interval(line, _by_seed(row, number), sign)
    gain = sign * (number.mean - expected["mean"])
    return replace(line, verdict=_verdict(gain, gain, expected["tolerance"]))


def _verdict(low: float, high: float, allowed: float = 0.0) -> Verdict:
    """What a gain that lies in `low`..`high` is worth; a loss has the sign -."""
    return "regression" if high < -allowed else "better" if low > allowed else "ok"


def better_of(number: str) -> Better | None:
    """Whether more or less of a number, as miou or calibration.ece, is better; None where that is not known.

    Numbers without a prefix are of IoU, or images a second.
    """
    from wsssbench.plugins.table import Plugins

    metric, dot, _ = number.partition(".")
    if not dot:
        return "higher"
    plugins = Plugins()
    if metric not in plugins.names("metrics"):
        return None
    found: Better = plugins.load("metrics", metric).better
    return found


def _by_interval(line: GateLine, now: Mapping[str, float], sign: int) -> GateLine:
    """The verdict by the change of the seeds that both have; one seed has no interval."""
    was = line.expected.get("seeds") or {}
    common = sorted(set(was) & set(now), key=int)
    if len(common) < 2:
        return replace(line, why=f"{len(common)} seeds in common with the baseline; an interval needs 2")
    low, high = student_interval([now[seed] - was[seed] for seed in common])
    verdict = _verdict(*sorted((sign * low, sign * high)))
    return replace(line, verdict=verdict, why=f"{len(common)} paired seeds", interval=(low, high))


def _by_seed(row: Row, number: Number) -> dict[str, float]:
    """The value of each seed, seeds as the text that JSON has for keys; {} where some lack it."""
    same = len(row.seeds) == number.n
    return {str(seed): value for seed, value in zip(row.seeds, number.values, strict=True)} if same else {}


def _why_not(expected: Mapping[str, Any], same: Sequence[Row], found: Sequence[Row]) -> str:
    """Why no single row stands against `expected`: the fields of the terms that differ, by name."""
    if found:
        return f"{len(found)} configurations: {'; '.join(row.variant for row in found)}"
    near = [
        row
        for row in same
        if (row.terms.dataset, row.terms.stage) == (expected["dataset"], expected["stage"])
    ]
    if not near:
        return "no record of this method, data set and stage"
    try:
        under = read_as(expected["under"], Terms, "under")
    except (KeyError, ValueError):  # a baseline that does not say in words what its terms are
        return "other terms"
    differing = unlike_terms(near[0].terms, under)
    if "protocol" in differing:
        now, was = differing["protocol"]
        again = (
            "write the baseline again with --write"
            if under.earlier
            else "`wsssbench run` judges the row again"
        )
        return f"the baseline was judged by the {was} protocol, the row by the {now} one: {again}"
    return f"other terms: {', '.join(sorted(differing))}" if differing else "other terms"


# ------------------------------------------------------------------------------------------------ baselines


def write_baseline(records: Iterable[Record], tolerance: float, metric: str = "miou") -> dict[str, Any]:
    """The baseline that `records` set, as JSON types: one row per method and terms.

    `tolerance` is in the metric's unit (percentage points). The terms stand in words under "under", so that a
    later mismatch can name its field. Rows of an earlier protocol are left out where there are others.
    NotComparable where a cell failed or a method has two configurations.
    """
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    rows = rows_of(records, limited=True)
    better = better_of(metric)
    for row in [row for row in rows if not row.terms.earlier] or rows:
        if row.reasons or metric not in row.numbers:
            why = row.reasons[0] if row.reasons else f"no {metric}"
            raise NotComparable(f"{row.title} cannot be a baseline: {why}", where=row.terms.stage)
        if (row.method, row.terms_hash) in lines:
            hint = "keep one configuration per method in the runs folder"
            raise NotComparable(f"{row.method} has two configurations", where=row.variant, hint=hint)
        number, terms = row.numbers[metric], row.terms
        line: dict[str, Any] = {
            "method": row.method,
            "dataset": terms.dataset,
            "stage": terms.stage,
            "metric": metric,
        }
        line |= {"terms": row.terms_hash, "mean": number.mean, "tolerance": tolerance, "n": number.n}
        line |= {"better": better} if better else {}
        line["seeds"] = _by_seed(row, number)
        lines[row.method, row.terms_hash] = {**line, "under": plain(terms)}
    return {"schema": SCHEMA, "rows": list(lines.values())}


def read_baseline(path: Path | str) -> dict[str, Any]:
    """A baseline file; NotComparable (3) where it is missing, BadData (2) where it says something else."""
    if not Path(path).is_file():
        raise NotComparable(
            "the baseline file does not exist",
            where=path,
            hint="write one from a run that you trust: wsssbench gate RUNS --baseline FILE --write",
        )
    content = read_json(path, "baseline")
    check_baseline(content, path)
    return dict(content)


def check_baseline(content: Any, where: object) -> list[dict[str, Any]]:
    """The rows of a baseline, or BadData that says which row and field is wrong."""
    try:
        convert(content, Baseline)
    except ValidationError as error:
        hint = f'a baseline is {{"schema": {SCHEMA}, "rows": [...]}}; `wsssbench gate --write` makes one'
        raise BadData(f"not a baseline of wsssbench: {error}", where=where, hint=hint) from None
    return list(content["rows"])
