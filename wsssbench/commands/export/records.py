"""`wsssbench export records`: the numbers of runs in one file, to compare with without masks. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from wsssbench.errors import BadData
from wsssbench.records.finding import find_records
from wsssbench.records.record_archive import SUFFIX, pack


def records_command(runs: Sequence[Path], out: Path) -> None:
    """Pack the records below `runs` into the archive `out`; BadData where there is none, or for no .zip."""
    if out.suffix != SUFFIX:
        hint = f"the last argument is the archive: give it a name such as {out.name or 'records'}{SUFFIX}"
        raise BadData("an archive of records ends in .zip", where=out, hint=hint)
    cells = {cell.path.resolve(): cell for place in runs for cell in find_records(place)}
    if not cells:
        raise BadData("there is no record here", where=runs[0], hint="`wsssbench run` makes them")
    size = pack(list(cells.values()), out)
    failed = sum(cell.record.status != "ok" for cell in cells.values())
    also = f", {failed} of them of failed cells" if failed else ""
    click.echo(f"{len(cells):,} records{also} in {out} ({size / 1e6:.1f} MB)")
