"""What was made in a sandbox, as it lies on disk: a mark in the folder of each fit and each set of outputs.

A mark is set before the first file of a folder is made there, and goes before anything is added without a
sandbox: so it speaks for all that a folder holds. It is a note, not a seal: a plugin that once ran without
a sandbox may have written it. Whoever has to convince others starts with an empty folder of runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsssbench.artifacts import artifact_name
from wsssbench.files.atomic import atomic_write_text
from wsssbench.files.locks import HOLDER, LOCK, clear
from wsssbench.judging.cell_judging import is_tuned_elsewhere
from wsssbench.records.store import read_record

if TYPE_CHECKING:
    from wsssbench.identity import Record, Stage
    from wsssbench.planning.cells import Cell, PlannedStep

MARK = "isolated.json"
ARTIFACTS = "artifacts"


def begin(folder: Path, sandbox: str) -> None:
    """Make `folder`, which the caller holds, one of work in `sandbox` ("" for none) from now on.

    What was made there without one is removed where one is asked for.
    """
    mark = folder / MARK
    if not sandbox:
        mark.unlink(missing_ok=True)
    elif not mark.is_file():
        clear(folder)
        atomic_write_text(mark, json.dumps({"sandbox": sandbox}))


def is_marked(folder: Path) -> bool:
    """Whether all that lies there was made in a sandbox."""
    return (folder / MARK).is_file()


def is_foreign(folder: Path) -> bool:
    """Whether something lies there that was made without a sandbox."""
    kept = (LOCK, HOLDER)
    return folder.is_dir() and not is_marked(folder) and any(p.name not in kept for p in folder.iterdir())


def used_folders(cell: Cell, judged: PlannedStep) -> set[Path]:
    """The fits and the outputs that a cell's scores come from."""
    stage, card = cell.stage, cell.trial.dataset.card
    found = set(_outputs(judged, cell.split, stage.tags_given, stage, card.fit_split))
    if is_tuned_elsewhere(cell):
        tuned = (judged, card.label_split, stage.tags_given, None, card.fit_split, cell.tuned_on)
        found |= set(_outputs(*tuned))
    return found


def _outputs(
    planned: PlannedStep, split: str, tags_given: bool, stage: Stage | None, fit_split: str,
    part: Sequence[str] | None = None,
) -> Iterator[Path]:  # fmt: skip
    yield planned.folder / ARTIFACTS / artifact_name(split, tags_given, stage, part)
    yield planned.folder
    before = planned.before
    if before is not None and planned.learns_from:
        yield from _outputs(before, fit_split, True, None, fit_split)
    if before is not None and planned.takes:
        yield from _outputs(before, split, tags_given, None, fit_split, part)


def isolation_of(cell: Cell, judged: PlannedStep, sandbox: str) -> dict[str, Any]:
    """What the record says: `isolation` with the sandbox, where every part was made in one; else nothing."""
    if not sandbox or not all(map(is_marked, used_folders(cell, judged))):
        return {}
    return {"isolation": {"sandbox": sandbox}}


def was_isolated(record: Record) -> bool:
    """Whether every step of the record's row ran in a sandbox."""
    return bool(record.provenance.get("isolation"))


def lacks_isolation(folder: Path) -> bool:
    """Whether the cell in `folder` was judged, and not all of it was made in a sandbox."""
    return not was_isolated(read_record(folder))
