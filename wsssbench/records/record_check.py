"""The content of a record.json as a Record, checked field by field: it may come from anybody, and what reads
it later (tables, comparisons, charts, pages) trusts the types of its fields and prints its names.

Types, lengths and names alone: whether the numbers are right is `wsssbench verify`'s business. A metric that
is not among `SCORES` may keep what it likes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NotRequired, TypeAlias, TypedDict

from wsssbench.errors import is_name, printable
from wsssbench.files.typed import read_as
from wsssbench.identity import Record

NAMES = ("stage", "dataset", "dataset_version", "split", "threshold_policy", "resolution")  # of the terms
DEEPEST = 12  # levels of tables in a record; one that was written has 6
FREE = dict.fromkeys(map(ord, "\n\t"))  # free text (a reason, a command) may hold these
LISTS = {  # of one length in a metric's numbers: all of them or none
    "threshold_curve": (("curve", "thresholds"),),
    "calibration": (
        ("accuracy", "confidence", "share"),
        ("accuracy_foreground", "confidence_foreground", "share_foreground"),
    ),
}

Numbers: TypeAlias = list[float | None]


class _Scores(TypedDict, total=False):
    """The numbers of any metric."""

    left_out: list[int]
    n_images: int


class _Iou(_Scores, total=False):
    miou: float | None
    miou_foreground: float | None
    precision: float | None
    recall: float | None
    coverage: float | None
    pixel_accuracy: float | None
    per_class: Numbers


class _Curve(_Scores, total=False):
    curve: Numbers
    thresholds: list[float]


class _Bins(_Scores, total=False):
    accuracy: Numbers
    confidence: Numbers
    share: Numbers  # records of the first versions have none
    accuracy_foreground: Numbers
    confidence_foreground: Numbers
    share_foreground: Numbers


class _Ladder(_Scores):
    miou: NotRequired[float | None]
    alone: dict[str, float | None]
    ladder: list[tuple[str, float | None]]


class _Pairs(_Scores, total=False):
    pairs: list[tuple[int, int, float]]


SCORES: Mapping[str, type] = {
    "iou": _Iou,
    "threshold_curve": _Curve,
    "calibration": _Bins,
    "error_ladder": _Ladder,
    "confusion_pairs": _Pairs,
}


class _Card(TypedDict, total=False):
    pretraining: str


class _Provenance(TypedDict, total=False):
    command: list[str]
    cards: dict[str, _Card]
    dataset: dict[str, Any]
    code: dict[str, str]
    judged_by: dict[str, str]


class _Threshold(TypedDict, total=False):
    value: float | None


def checked_record(content: Mapping[str, Any]) -> Record:
    """The Record that `identity.plain` turned into `content`: equal object, equal hash of its identity.

    ValueError, with the field, for anything else. Fields of the record itself that it does not know are
    ignored; its identity is read whole or not at all.
    """
    known = {f.name: content[f.name] for f in dataclasses.fields(Record) if f.name in content}
    record = read_as(known, Record, "record")
    terms, threshold = record.identity.terms, record.identity.threshold
    _check_name(record.method, "method")
    for step in record.identity.recipe:
        _check_name(step.name, "recipe")
    for name in NAMES:
        _check_name(getattr(terms, name), f"terms.{name}")
    for name in terms.classes:
        _check_name(name, "terms.classes")
    for metric, numbers in record.scores.items():
        _check_name(metric, "scores")
        _check_scores(metric, numbers, len(terms.classes))
    read_as(record.provenance, _Provenance, "provenance")
    read_as(threshold or {}, _Threshold, "identity.threshold")
    if threshold is not None and terms.threshold_policy == "fixed" and "value" not in threshold:
        raise ValueError("identity.threshold has no value")
    read_as(terms.crf or {}, dict[str, float], "terms.crf")
    _check_values(content, "record", 0)
    return record


def _check_scores(metric: str, numbers: Any, classes: int) -> None:
    """The numbers that tables and charts calculate with."""
    where = f"scores.{metric}"
    read_as(numbers, SCORES.get(metric, _Scores) if numbers else _Scores, where)
    for name in numbers:
        _check_name(name, "scores")
    pairs = numbers.get("pairs", []) if metric == "confusion_pairs" else []
    used = [*numbers.get("left_out", []), *(k for pair in pairs for k in pair[:2])]
    if any(not 0 <= k <= classes for k in used):
        raise ValueError(f"{where} names a class that there is not")
    for names in LISTS.get(metric, ()):
        _check_lengths(numbers, names, where)
    grid = numbers.get("thresholds", []) if metric == "threshold_curve" else []
    if grid != sorted(grid):
        raise ValueError(f"{where}.thresholds do not rise")


def _check_lengths(numbers: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    there = [name for name in names if name in numbers]
    if there and not {name for name in names if not name.startswith("share")} <= set(there):
        raise ValueError(f"{where} lacks one of the lists {', '.join(names)}")
    if len({len(numbers[name]) for name in there}) > 1:
        raise ValueError(f"{where}: the lists {', '.join(there)} differ in length")


def _check_values(value: Any, where: str, depth: int) -> None:
    """No number beyond all bounds, no text that commands a terminal, no tables without end."""
    if depth > DEEPEST:
        raise ValueError(f"{where} is nested too deep")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} holds {value}")
    if isinstance(value, str) and not value.isprintable() and not value.translate(FREE).isprintable():
        raise ValueError(f"{where} holds characters that are not printable: {printable(value[:60])}")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_values(key, where, depth)
            _check_values(item, printable(key[:60]), depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_values(item, where, depth + 1)


def _check_name(name: str, where: str) -> None:
    if not is_name(name):
        raise ValueError(f"{where} has the name {printable(repr(name)[:60])}, which no table can show")
