"""Which cell a path means, what a record says of its steps, and where the judged step's outputs lie.

Read from the record and the folders beside it: no plugin is loaded, no data set opened, torch stays out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wsssbench.artifacts import ArtifactFolder
from wsssbench.errors import BadData, first_names
from wsssbench.identity import Record
from wsssbench.planning.cells import PlannedStep, artifact_name
from wsssbench.planning.plan import judged_step
from wsssbench.records.finding import find_records
from wsssbench.records.store import StoredRecord
from wsssbench.scores.counts_table import COUNTS, CountsTable
from wsssbench.verifying.recorded import recorded_stage, recorded_steps


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
        what = f"{len(names)} cells are here, and {'each' if chosen else 'none'} of them could be meant"
        raise BadData(what, where=place, hint=f"name one: {first_names(names)}")
    (stored,) = chosen
    if stored.record.status == "failed":
        raise BadData(f"this cell failed ({stored.record.reason})", where=stored.path, hint="run it again")
    return stored


def cell_ids(stored: StoredRecord) -> tuple[str, ...]:
    """The images that the cell judges, in their order."""
    return CountsTable.load(stored.path.parent / COUNTS).ids


def title(record: Record) -> str:
    """`cam seed 0 seg`."""
    return f"{record.method} seed {record.identity.seed} {record.identity.terms.stage}"


# ------------------------------------------------------------------------------ steps, as the record has them


def judged_outputs(stored: StoredRecord) -> tuple[PlannedStep, ArtifactFolder]:
    """The step that the cell judges, and the folder of what it said of the judged images."""
    terms = stored.record.identity.terms
    judged = "maps" if stored.record.identity.threshold else "pseudo"  # older records do not say
    views: dict[str, Any] = {"version": terms.stage_version, "scales": terms.scales, "flip": terms.flip}
    stage = dataclasses.replace(recorded_stage(terms, {}, judged), **views)
    planned = judged_step(recorded_steps(stored), stage)
    name = artifact_name(terms.split, terms.tags_at_evaluation, stage)
    return planned, ArtifactFolder(planned.folder / "artifacts" / name, cell_ids(stored))
