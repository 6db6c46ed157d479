"""Whether the lists that charts are drawn from are what the metric of that name writes: they may come from
anybody. Lengths and types alone; a metric of another name may keep what it likes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

CURVE = ("curve", "thresholds")
BINS = ("accuracy", "confidence", "share")


def check_score_lists(scores: Mapping[str, Any], classes: int) -> None:
    """TypeError or ValueError, with the place, where a list is missing, of another type or length."""
    for metric, check in CHECKS.items():
        if numbers := scores.get(metric):
            check(numbers, f"scores.{metric}", classes)


def _threshold_curve(numbers: Mapping[str, Any], where: str, classes: int) -> None:
    _check_equal(numbers, CURVE, where)
    grid = numbers.get("thresholds", [])
    if None in grid or grid != sorted(grid):
        raise ValueError(f"{where}.thresholds do not rise")


def _calibration(numbers: Mapping[str, Any], where: str, classes: int) -> None:
    for suffix in ("", "_foreground"):
        names = [f"{name}{suffix}" for name in BINS]
        # records of the first versions have no shares
        _check_equal(numbers, names if names[-1] in numbers else names[:-1], where)


def _error_ladder(numbers: Mapping[str, Any], where: str, classes: int) -> None:
    alone, ladder = numbers.get("alone"), numbers.get("ladder")
    if not (isinstance(alone, dict) and isinstance(ladder, list)):
        raise TypeError(f"{where} lacks alone or ladder")
    if not all(isinstance(step, list) and len(step) == 2 and type(step[0]) is str for step in ladder):
        raise TypeError(f"{where}.ladder has no pairs of a kind and a number")
    _check_numbers([numbers.get("miou"), *alone.values(), *(number for _, number in ladder)], where)


def _confusion_pairs(numbers: Mapping[str, Any], where: str, classes: int) -> None:
    pairs = numbers.get("pairs", [])
    if not isinstance(pairs, list):
        raise TypeError(f"{where}.pairs is no list")
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 3 and _is_number(pair[2])):
            raise TypeError(f"{where}.pairs has no triples of two classes and a number")
        if not all(type(k) is int and 0 <= k <= classes for k in pair[:2]):
            raise ValueError(f"{where}.pairs names a class that there is not")


def _check_equal(numbers: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """The lists called `names` are all there, or none, and of one length."""
    lists = [numbers[name] for name in names if name in numbers]
    if not lists:
        return
    if len(lists) < len(names) or not all(isinstance(values, list) for values in lists):
        raise TypeError(f"{where} lacks one of the lists {', '.join(names)}")
    if len({len(values) for values in lists}) > 1:
        raise ValueError(f"{where}: the lists {', '.join(names)} differ in length")
    for values in lists:
        _check_numbers(values, where)


def _check_numbers(values: Sequence[Any], where: str) -> None:
    if not all(value is None or _is_number(value) for value in values):
        raise TypeError(f"{where} holds what is no number")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


CHECKS: Mapping[str, Callable[[Mapping[str, Any], str, int], None]] = {
    "threshold_curve": _threshold_curve,
    "calibration": _calibration,
    "error_ladder": _error_ladder,
    "confusion_pairs": _confusion_pairs,
}
