"""What was made in a sandbox, as it lies on disk: a mark in the folder of each fit and each set of outputs.

A mark is set before the first file of a folder is made there, and goes before anything is added without a
sandbox: so it speaks for all that a folder holds. It is a note, not a seal: a plugin that once ran without
a sandbox may have written it. Whoever has to convince others starts with an empty folder of runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsssbench.files.atomic import atomic_write_text
from wsssbench.files.locks import HOLDER, LOCK, clear
from wsssbench.records.store import read_record
from wsssbench.running.demands import judged_demands, learned_demands

if TYPE_CHECKING:
    from wsssbench.planning.cells import Cell

MARK = "isolated.json"
ARTIFACTS = "artifacts"
SHARED = ".isolated"  # in the folder of steps: what isolated steps share, by supervision
STAGED = ".staged-"  # begins the name of a folder there, of images written for the sandboxes of one run


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


def isolation_of(cell: Cell, sandbox: str) -> dict[str, Any]:
    """What the record says: `isolation` with the sandbox, where every fit and all outputs that the scores
    come from were made in one; else nothing."""
    demands = (*judged_demands(cell), *learned_demands(cell, fitted=True))
    fits = {demand.planned.folder for demand in demands}
    made = {demand.planned.folder / ARTIFACTS / demand.name for demand in demands}
    return {"isolation": {"sandbox": sandbox}} if sandbox and all(map(is_marked, fits | made)) else {}


def lacks_isolation(folder: Path) -> bool:
    """Whether the cell in `folder` was judged, and not all of it was made in a sandbox."""
    return not read_record(folder).provenance.get("isolation")
