"""Whether the content of a record.json is what a record holds, field by field: it may come from anybody, and
what reads it later (tables, comparisons, pages) trusts the types of its fields and prints its names.

Types and names alone: whether the numbers are right is `wsssbench verify`'s business.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from wsssbench.errors import is_name, printable
from wsssbench.identity import Record, RowIdentity, StepIdentity, Terms
from wsssbench.records.score_lists import check_score_lists

NAMES = ("stage", "dataset", "dataset_version", "split", "threshold_policy", "resolution")  # of the terms
PERCENTAGES = ("miou", "miou_foreground", "precision", "recall", "coverage", "pixel_accuracy")
DEEPEST = 12  # levels of tables in a record; one that was written has 6
FREE = "\n\t"  # what free text (a reason, a command) may hold beside what is printable


def check_record(content: Any) -> None:
    """TypeError or ValueError, with the field, unless `content` has a record's fields in their types."""
    _check_fields(content, Record, "record", ("identity",))
    identity = content["identity"]
    _check_fields(identity, RowIdentity, "identity", ("terms", "recipe"))
    _check_fields(identity["terms"], Terms, "terms")
    for step in _listed(identity.get("recipe"), "recipe"):
        _check_fields(step, StepIdentity, "recipe")
        _check_name(step["name"], "recipe")
    _check_name(content.get("method"), "method")
    for name in NAMES:
        _check_name(identity["terms"][name], f"terms.{name}")
    for name in identity["terms"]["classes"]:
        _check_name(name, "terms.classes")
    _check_scores(content.get("scores", {}), len(identity["terms"]["classes"]))
    _check_provenance(content.get("provenance", {}))
    _check_parameters(identity)
    _check_values(content, "record", 0)


def _check_fields(value: Any, kind: type, where: str, apart: tuple[str, ...] = ()) -> None:
    """The fields of the dataclass `kind` that are there have its types; missing ones are told elsewhere."""
    if not isinstance(value, dict):
        raise TypeError(f"{where} is not a table")
    for name, wanted in _hints(kind).items():
        if name in value and name not in apart and not _fits(value[name], wanted):
            raise TypeError(f"{where}.{name} is {printable(repr(value[name])[:60])}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a JSON value can be what an annotation of `wsssbench.types` says."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return True
    if origin is Literal:
        return value in inner
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if origin is not None:  # Mapping[str, Any]
        return isinstance(value, dict)
    if wanted is float:
        return type(value) in (int, float)
    return type(value) is wanted if wanted is not type(None) else value is None


def _check_scores(scores: Mapping[str, Any], classes: int) -> None:
    """The numbers that tables and charts calculate with."""
    for metric, numbers in scores.items():
        _check_name(metric, "scores")
        for name in _table(numbers, f"scores.{printable(metric)}"):
            _check_name(name, "scores")
        left_out = _listed(numbers.get("left_out", []), "left_out")
        if not all(type(k) is int and 0 <= k <= classes for k in left_out):
            raise TypeError("left_out is not a list of classes")
        if type(numbers.get("n_images", 0)) is not int:
            raise TypeError("n_images is no number of images")
    check_score_lists(scores, classes)
    main = scores.get("iou", {})
    for name in PERCENTAGES:
        _check_all([main.get(name)], float | None, f"scores.iou.{name}")
    _check_all(_listed(main.get("per_class", []), "per_class"), float | None, "per_class")


def _check_provenance(provenance: Mapping[str, Any]) -> None:
    _check_all(_listed(provenance.get("command", []), "command"), str, "command")
    for card in _table(provenance.get("cards", {}), "cards").values():
        _check_all([_table(card, "cards").get("pretraining", "")], str, "pretraining")
    _table(provenance.get("dataset", {}), "dataset")
    for name in ("code", "judged_by"):
        _check_all(_table(provenance.get(name, {}), name).values(), str, name)


def _check_parameters(identity: Mapping[str, Any]) -> None:
    threshold, terms = identity.get("threshold"), identity["terms"]
    missing = "" if terms.get("threshold_policy") == "fixed" else None  # a fixed one has a value
    if threshold is not None:
        _check_all([threshold.get("value", missing)], float | None, "threshold")
    _check_all((terms.get("crf") or {}).values(), float, "crf")


def _check_all(values: Iterable[Any], wanted: Any, where: str) -> None:
    for value in values:
        if not _fits(value, wanted):
            raise TypeError(f"{where} is {printable(repr(value)[:60])}")


def _check_values(value: Any, where: str, depth: int) -> None:
    """No number beyond all bounds, no text that commands a terminal, no tables without end."""
    if depth > DEEPEST:
        raise ValueError(f"{where} is nested too deep")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} holds {value}")
    if isinstance(value, str) and not value.isprintable() and not _without_free(value).isprintable():
        raise ValueError(f"{where} holds characters that are not printable: {printable(value[:60])}")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_values(key, where, depth)
            _check_values(item, printable(key[:60]), depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_values(item, where, depth + 1)


def _without_free(text: str) -> str:
    return text.translate(dict.fromkeys(map(ord, FREE)))


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{where} is not a table")
    return value


def _listed(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{where} is not a list")
    return value


def _check_name(name: Any, where: str) -> None:
    if not is_name(name):
        raise ValueError(f"{where} has the name {printable(repr(name)[:60])}, which no table can show")
