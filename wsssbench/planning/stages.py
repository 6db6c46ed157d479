"""The registered stages: named protocols, so that a row cannot be misread. Each has a version; rows are
ranked within one stage only, and a stage that a user defines is marked custom."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from wsssbench.errors import UnknownName, WsssError, nearest
from wsssbench.identity import CrfSet, Stage
from wsssbench.option_fields import Range
from wsssbench.plugins.options import check_range, coerce
from wsssbench.types import DatasetCard

# RRM's inference set (code, tool/imutils.py, crf_inference_inf), the same for every method.
STAGE_CRF = CrfSet(3, 3, 83, 5, 4, 10)
CRF_RANGES = {  # of its compatibilities and iterations; widths are above 0
    "gauss_compat": Range(low=0),
    "bilateral_compat": Range(low=0),
    "iterations": Range(low=1),
}
VOC_PX = 500  # long side of a VOC image: the CRF widths of the field are pixels of such an image
TEST_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)  # DeepLab-v2's test scales
SEVERAL_VIEWS = "2"  # version of testing at scales and mirrored; 1 gave refiners maps that were not mirrored

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("seed", "1", "maps", "label", True, question="how good are the maps"),
        Stage("pseudo", "1", "pseudo", "label", True, question="what would a second step learn from"),
        Stage("seg", "1", "seg", "eval", False, question="what can be deployed"),
        Stage("seg+crf", "1", "seg", "eval", False, crf=STAGE_CRF, question="the same after one dense CRF"),
        Stage(
            "seg+ms",
            SEVERAL_VIEWS,
            "seg",
            "eval",
            False,
            scales=TEST_SCALES,
            flip=True,
            question="multi-scale test",
        ),
        Stage(
            "seg+ms+crf",
            SEVERAL_VIEWS,
            "seg",
            "eval",
            False,
            crf=STAGE_CRF,
            scales=TEST_SCALES,
            flip=True,
            question="multi-scale test and dense CRF",
        ),
    )
}


def sigma_scale(card: DatasetCard) -> float:
    """What spatial widths are multiplied by, so that they cover the same share of a smaller image."""
    return card.image_px / VOC_PX


def resolve_stages(
    names: tuple[str, ...], custom: Mapping[str, Mapping[str, Any]], where: str = "--stages"
) -> tuple[Stage, ...]:
    """The stages called `names`; `custom` are the [stages.NAME] tables of wsssbench.toml. UnknownName, for
    the option `where`, for another name."""
    known = {**STAGES, **{name: custom_stage(name, table) for name, table in custom.items()}}
    for name in names:
        if name not in known:
            raise UnknownName(f"unknown stage {name!r}", where=where, hint=nearest(name, list(known)))
    return tuple(known[name] for name in names)


def custom_stage(name: str, table: Mapping[str, Any]) -> Stage:
    """A stage from TOML: `base` names a registered one, `crf` (a table), `scales` and `flip` change it."""
    where = f"[stages.{name}]"
    if name in STAGES:
        raise WsssError(
            "this stage is registered and cannot be redefined", where=where, hint="choose another name"
        )
    given = dict(table)
    base = coerce(given.pop("base", "seg"), str, f"{where} base")
    if base not in STAGES:
        raise UnknownName(f"unknown stage {base!r}", where=f"{where} base", hint=nearest(base, list(STAGES)))
    unknown = set(given) - {"crf", "scales", "flip"}
    if unknown:
        key = min(unknown)
        raise UnknownName(
            f"unknown key {key!r} of a stage",
            where=where,
            hint=nearest(key, ["base", "crf", "scales", "flip"]),
        )
    crf = _crf_set(given["crf"], f"{where} crf") if "crf" in given else STAGES[base].crf
    scales = coerce(given.get("scales", STAGES[base].scales), tuple[float, ...], f"{where} scales")
    if not scales or min(scales) <= 0:
        raise WsssError(
            "scales must be positive numbers", where=f"{where} scales", hint="scales = [0.5, 1.0]"
        )
    flip = coerce(given.get("flip", STAGES[base].flip), bool, f"{where} flip")
    stage = dataclasses.replace(STAGES[base], name=name, crf=crf, scales=scales, flip=flip, custom=True)
    if stage.multi_scale and stage.judged == "maps":
        hint = 'use base = "pseudo" or "seg", or leave scales and flip out'
        raise WsssError("maps are judged at one scale, and are not mirrored", where=where, hint=hint)
    return dataclasses.replace(stage, version=SEVERAL_VIEWS) if stage.multi_scale else stage


def _crf_set(table: Any, where: str) -> CrfSet:
    """A dense CRF's parameters from TOML: all of them but `iterations`, which has a default."""
    fields = {
        field.name: int if field.name == "iterations" else float for field in dataclasses.fields(CrfSet)
    }
    if not isinstance(table, Mapping):
        raise WsssError("the value must be a table", where=where, hint=f"its keys are {', '.join(fields)}")
    for key in table:
        if key not in fields:
            raise UnknownName(f"unknown key {key!r} of a CRF", where=where, hint=nearest(key, list(fields)))
    lacking = [key for key in fields if key not in table and key != "iterations"]
    if lacking:
        raise WsssError(f"{lacking[0]} is missing", where=where, hint=f"its keys are {', '.join(fields)}")
    values = {key: coerce(value, fields[key], f"{where}.{key}") for key, value in table.items()}
    for key, value in values.items():
        check_range(value, CRF_RANGES.get(key, Range(above=0)), f"{where}.{key}")
    return CrfSet(**values)
