"""`wsssbench export records`: the numbers of runs in one file, to compare with without masks. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from wsssbench.commands.named_rows import records_below
from wsssbench.errors import BadData
from wsssbench.records.record_archive import SUFFIX, pack


def records_command(runs: Sequence[Path], out: Path) -> None:
    """Pack the records below `runs` into the archive `out`; BadData where there is none, or for no .zip."""
    if out.suffix != SUFFIX:
        hint = f"the last argument is the archive: give it a name such as {out.name or 'records'}{SUFFIX}"
        raise BadData("an archive of records ends in .zip", where=out, hint=hint)
    cells = records_below(runs)
    size = pack(cells, out)
    failed = sum(cell.record.status != "ok" for cell in cells)
    also = f", {failed} of them of failed cells" if failed else ""
    click.echo(f"{len(cells):,} records{also} in {out} ({size / 1e6:.1f} MB)")
