"""Records found below a folder, or in an archive of them."""

from __future__ import annotations

from pathlib import Path

from wsssbench.errors import BadData
from wsssbench.records.store import RECORD, StoredRecord, read_record, searched


def find_records(root: Path | str) -> list[StoredRecord]:
    """All records below `root` (or `root` itself), ordered by path; BadData where there is no such place.

    `root` may be an archive that `wsssbench export records` wrote.
    """
    from wsssbench.records.record_archive import is_archive, unpacked  # late: few read archives

    start = Path(root)
    if is_archive(start):
        start = unpacked(start)
    if start.is_file():
        return [StoredRecord(read_record(start), start)]
    if not start.is_dir():
        raise BadData("no such folder of runs", where=start, hint="`wsssbench run` makes one")
    found = (folder / RECORD for folder, files in searched(start) if RECORD in files)
    return [StoredRecord(read_record(path), path) for path in sorted(found)]
