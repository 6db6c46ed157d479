"""Which finished cells the arguments of `compare` and `errors` name: a method by its name, as `rrm`, with its
results below the folders of runs; or a path: a cell, a record, an archive, any folder above cells."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from wsssbench.errors import BadData, UnknownName, nearest
from wsssbench.records.finding import find_records
from wsssbench.records.store import StoredRecord

RUN_FIRST = "`wsssbench run` makes them"


def records_below(places: Sequence[Path]) -> list[StoredRecord]:
    """The records at or below `places`, each once; BadData where there is none."""
    found = {cell.path.resolve(): cell for place in places for cell in find_records(place)}
    if not found:
        where = ", ".join(map(str, places))
        raise BadData("no record here", where=where, hint=f"{RUN_FIRST}; name a folder of runs, or a cell")
    return list(found.values())


def named_rows(
    words: Sequence[str], runs: Sequence[Path], stage: str | None, command: str
) -> dict[str, list[StoredRecord]]:
    """The finished cells that each word names, of one `stage` or of all.

    A name goes before a path. A method has no cells of --limit here, a path may. UnknownName for a word that
    is neither, BadData for a path without records and for a cell that failed.
    """
    names = [word for word in words if os.sep not in word or not Path(word).exists()]
    needed = not all(Path(word).exists() for word in names)
    below = [cell for root in runs if names and (needed or root.exists()) for cell in find_records(root)]
    good = [c for c in below if c.record.status == "ok" and c.record.identity.terms.limit is None]
    known = {cell.record.method for cell in good}
    found = {}
    for word in words:
        if word in known:
            cells = [cell for cell in good if cell.record.method == word]
        elif Path(word).exists():
            cells = records_below([Path(word)])
        else:
            hint = nearest(word, sorted(known)) if known else RUN_FIRST
            raise UnknownName(f"no results of {word!r}", where=command, hint=hint)
        found[word] = [c for c in cells if stage in (None, c.record.identity.terms.stage)]
        for cell in found[word]:
            if cell.record.status != "ok":
                raise BadData(f"this cell failed: {cell.record.reason}", where=cell.path, hint="run it again")
    return found
