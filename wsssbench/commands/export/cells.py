"""Which cell a path means, what a record says of its steps, and where the judged step's outputs lie.

Read from the record and the folders beside it: no plugin is loaded, no data set opened, torch stays out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from wsssbench.artifacts import ArtifactFolder
from wsssbench.commands.fitted import RecordedData
from wsssbench.errors import BadData
from wsssbench.hardware import Hardware
from wsssbench.judge import COUNTS, CountsTable
from wsssbench.plan import PlannedStep, judged_step, learned_content, step_key
from wsssbench.predicting import artifact_name
from wsssbench.stages import STAGES
from wsssbench.store import StoredRecord, find_records, safe_name
from wsssbench.types import Record, Stage, StepCard

SHOWN = 5  # names in an error


def find_cell(place: Path, suits: Callable[[Record], bool] = lambda record: True) -> StoredRecord:
    """The cell at `place`: its folder or record.json, or a folder above it with one finished cell that suits.

    BadData where there is none, where several would do, and for a cell that failed.
    """
    found = find_records(place)
    fit = [stored for stored in found if stored.record.status == "ok" and suits(stored.record)]
    chosen = found if len(found) == 1 else fit
    if not found:
        raise BadData("there is no cell of a run here", where=place, hint="`wsssbench run` makes them")
    if len(chosen) != 1:
        names = [str(stored.path.parent.relative_to(place)) for stored in chosen or found]
        what = f"{len(names)} cells are here, and {'each' if chosen else 'none'} of them could be exported"
        raise BadData(what, where=place, hint=f"name one: {some(names)}")
    (stored,) = chosen
    if stored.record.status == "failed":
        raise BadData(f"this cell failed ({stored.record.reason})", where=stored.path, hint="run it again")
    return stored


def some(names: list[str]) -> str:
    """The first of `names`, for an error."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def cell_ids(stored: StoredRecord) -> tuple[str, ...]:
    """The images that the cell judges, in their order."""
    return CountsTable.load(stored.path.parent / COUNTS).ids


def title(record: Record) -> str:
    """`cam seed 0 seg`."""
    return f"{record.method} seed {record.identity.seed} {record.identity.terms.stage}"


# ------------------------------------------------------------------------------ steps, as the record has them


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

    BadData where the record has not kept the steps' cards or the data set's: its labels came as files.
    """
    record, identity = stored.record, stored.record.identity
    cards = [recorded_card(record, known.name) for known in identity.recipe]
    if "dataset" not in record.provenance or None in cards:
        hint = "name a cell of `wsssbench run`"
        raise BadData("the labels of this row came as files: no step made them", where=stored.path, hint=hint)
    learned = learned_content(RecordedData(record))  # type: ignore[arg-type]  # as much of one as is needed
    hardware = Hardware("cpu", identity.precision, identity.filter_backend)
    base = stored.path.resolve().parents[3] / "steps"
    planned: list[PlannedStep] = []
    for known, card in zip(identity.recipe, cards, strict=True):
        assert card is not None
        before, step = planned[-1] if planned else None, SimpleNamespace(card=card, config=None)
        key = step_key(
            known, before, card.supervision, learned, identity.seed, hardware, identity.terms.limit
        )
        folder = base / f"{safe_name(known.name)}-{key[:8]}"
        planned.append(PlannedStep(known.name, step, key, known, folder, before))
    return tuple(planned)


def recorded_stage(record: Record) -> Stage:
    """The cell's stage, with what of it tells which step is judged and where its outputs are."""
    terms = record.identity.terms
    if terms.stage in STAGES:
        return dataclasses.replace(STAGES[terms.stage], scales=terms.scales, flip=terms.flip)
    base = "seg"  # of a custom stage it is not recorded
    if terms.tags_at_evaluation:
        base = "seed" if record.identity.threshold else "pseudo"
    return dataclasses.replace(STAGES[base], name=terms.stage, scales=terms.scales, flip=terms.flip)


def judged_outputs(stored: StoredRecord) -> tuple[PlannedStep, ArtifactFolder]:
    """The step that the cell judges, and the folder of what it said of the judged images."""
    stage, terms = recorded_stage(stored.record), stored.record.identity.terms
    planned = judged_step(recorded_steps(stored), stage)
    name = artifact_name(terms.split, terms.tags_at_evaluation, stage)
    return planned, ArtifactFolder(planned.folder / "artifacts" / name, cell_ids(stored))
