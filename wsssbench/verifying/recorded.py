"""What a record says of the steps and the data that made it: cards, keys and folders. No plugin is loaded, no
data set opened, torch not imported."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from wsssbench.errors import BadData, NotComparable
from wsssbench.files.atomic import safe_name
from wsssbench.identity import CrfSet, Record, Stage, Terms
from wsssbench.machine.hardware import Hardware
from wsssbench.planning.cells import PlannedStep
from wsssbench.planning.plan import learned_content, step_key
from wsssbench.planning.stages import STAGES, VOC_PX, custom_stage
from wsssbench.records.store import StoredRecord
from wsssbench.types import Dataset, DatasetCard, StepCard


class RecordedData:
    """What is left of the data set in a record: its card and the fingerprint of what was learned from."""

    def __init__(self, record: Record) -> None:
        given: Mapping[str, Any] = record.provenance["dataset"]
        known = {f.name: given[f.name] for f in dataclasses.fields(DatasetCard) if f.name in given}
        lists = {name: tuple(known[name]) for name in ("class_names", "splits")}
        self.card = DatasetCard(**{**known, **lists})
        self._fingerprint = record.identity.fit_fingerprint

    def fingerprint(self, split: str) -> str:
        return self._fingerprint


def recorded_card(record: Record, name: str) -> StepCard | None:
    """The card that a step had in the run; None for labels that came as files."""
    given: dict[str, Any] | None = record.provenance.get("cards", {}).get(name)
    if given is None:
        return None
    known: dict[str, Any] = {f.name: given[f.name] for f in dataclasses.fields(StepCard) if f.name in given}
    lists = {key: tuple(value) for key, value in known.items() if isinstance(value, list)}
    return StepCard(**{**known, **lists})


def recorded_steps(stored: StoredRecord) -> tuple[PlannedStep, ...]:
    """The steps of the cell's recipe with their keys and folders; cards as recorded, no plugin behind them.

    BadData where the record has not kept the steps' cards or the data set's: its labels came as files, or it
    is incomplete.
    """
    try:
        return _recorded_steps(stored)
    except (TypeError, LookupError) as error:
        what = f"this record does not say enough of its steps and data ({error})"
        raise BadData(what, where=stored.path, hint="run the cell again") from error


def _recorded_steps(stored: StoredRecord) -> tuple[PlannedStep, ...]:
    record = stored.record
    cards = [recorded_card(record, known.name) for known in record.identity.recipe]
    if "dataset" not in record.provenance or None in cards:
        hint = "name a cell of `wsssbench run`"
        raise BadData("the labels of this row came as files: no step made them", where=stored.path, hint=hint)
    base = stored.path.resolve().parents[3] / "steps"
    return planned_as_recorded(record, base, [SimpleNamespace(card=card, config=None) for card in cards])


def planned_as_recorded(record: Record, base: Path, steps: Sequence[Any]) -> tuple[PlannedStep, ...]:
    """`steps`, one for each of the record's recipe, with the keys and the folders in `base` that they had."""
    identity, data = record.identity, RecordedData(record)
    hardware = Hardware("cpu", identity.precision, identity.filter_backend)  # the device is in no key
    learned = learned_content(data)  # type: ignore[arg-type]  # as much of a data set as is needed
    planned: list[PlannedStep] = []
    for known, step in zip(identity.recipe, steps, strict=True):
        before, supervision = planned[-1] if planned else None, step.card.supervision
        key = step_key(known, before, supervision, learned, identity.seed, hardware, identity.terms.limit)
        folder = base / f"{safe_name(known.name)}-{key[:8]}"
        planned.append(PlannedStep(known.name, step, key, known, folder, before))
    return tuple(planned)


def with_recorded_size(data: Dataset, record: Record) -> Dataset:
    """`data` with the long side of its images that the record was judged with, where it was not measured yet:
    the widths of the stage's CRF were scaled by it."""
    given = record.provenance.get("dataset", {})
    if given.get("image_px_from") or not data.card.image_px_from:
        return data
    crf = record.identity.terms.crf or {}
    px = given.get("image_px") or round(VOC_PX * crf.get("xy_scale", 1))
    before = copy.copy(data)
    before.card = dataclasses.replace(data.card, image_px=px, image_px_from="")
    return before


def recorded_crf(terms: Terms) -> CrfSet | None:
    """The parameters of the stage's CRF, without the scale that the data set gives their widths."""
    names = [f.name for f in dataclasses.fields(CrfSet)]
    return CrfSet(**{name: terms.crf[name] for name in names}) if terms.crf else None


def recorded_stage(terms: Terms, custom: Mapping[str, Mapping[str, Any]], judged: str = "") -> Stage:
    """The stage that a record was judged in; `custom` are the [stages.NAME] tables of today.

    A custom stage that nobody has defined is read off the terms. Those of before do not say what is judged:
    without tags it is the segmentation, and with tags it is `judged`; NotComparable is raised without it.
    """
    if not terms.custom and terms.stage in STAGES:
        return STAGES[terms.stage]
    if terms.stage in custom:
        return custom_stage(terms.stage, custom[terms.stage])
    if terms.earlier and terms.tags_at_evaluation and not judged:
        hint = f"give the settings file that defines it as [stages.{terms.stage}]: --config FILE"
        raise NotComparable("this custom stage is not defined here", where=terms.stage, hint=hint)
    kind: Any = terms.judged or (judged if terms.tags_at_evaluation else "seg")
    return Stage(
        name=terms.stage,
        version=terms.stage_version,
        judged=kind,
        split="eval" if kind == "seg" else "label",  # as of every registered stage, which it is based on
        tags_given=terms.tags_at_evaluation,
        crf=recorded_crf(terms),
        scales=terms.scales,
        flip=terms.flip,
        custom=terms.custom,
    )
