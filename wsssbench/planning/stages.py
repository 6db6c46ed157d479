"""The registered stages: named protocols, so that a row cannot be misread. Each has a version; rows are
ranked within one stage only, and a stage that a user defines is marked custom."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsssbench.errors import UnknownName, WsssError, nearest
from wsssbench.identity import CrfSet, Stage
from wsssbench.option_fields import option
from wsssbench.plugins.options import build
from wsssbench.types import DatasetCard

# RRM's inference set (code, tool/imutils.py, crf_inference_inf), the same for every method.
STAGE_CRF = CrfSet(3, 3, 83, 5, 4, 10)
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
            "seg+ms", SEVERAL_VIEWS, "seg", "eval", False,
            scales=TEST_SCALES, flip=True, question="multi-scale test",
        ),
        Stage(
            "seg+ms+crf", SEVERAL_VIEWS, "seg", "eval", False,
            crf=STAGE_CRF, scales=TEST_SCALES, flip=True, question="multi-scale test and dense CRF",
        ),
    )
}  # fmt: skip


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


@dataclass(frozen=True)
class StageTable:
    """What a [stages.NAME] table may hold."""

    base: str = option("seg", "the registered stage that it changes")
    crf: Mapping[str, Any] | None = option(None, "a dense CRF in place of the base's")
    scales: tuple[float, ...] | None = option(None, "of the images", above=0, filled=True)
    flip: bool | None = option(None, "whether images are mirrored as well")


def custom_stage(name: str, table: Mapping[str, Any]) -> Stage:
    """A stage from TOML: `base` names a registered one, `crf` (a table), `scales` and `flip` change it."""
    where = f"stages.{name}"
    if name in STAGES:
        raise WsssError(
            "this stage is registered and cannot be redefined", where=where, hint="choose another name"
        )
    given = build(where, StageTable, table)
    if given.base not in STAGES:
        hint = nearest(given.base, list(STAGES))
        raise UnknownName(f"unknown stage {given.base!r}", where=f"{where}.base", hint=hint)
    base = STAGES[given.base]
    crf = base.crf if given.crf is None else build(f"{where}.crf", CrfSet, given.crf)
    scales = base.scales if given.scales is None else given.scales
    flip = base.flip if given.flip is None else given.flip
    stage = dataclasses.replace(base, name=name, crf=crf, scales=scales, flip=flip, custom=True)
    if stage.multi_scale and stage.judged == "maps":
        hint = 'use base = "pseudo" or "seg", or leave scales and flip out'
        raise WsssError("maps are judged at one scale, and are not mirrored", where=where, hint=hint)
    return dataclasses.replace(stage, version=SEVERAL_VIEWS) if stage.multi_scale else stage
