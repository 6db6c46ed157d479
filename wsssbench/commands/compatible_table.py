"""`wsssbench report --compatible`: the mIoU that the field's evaluators would print for the rows of finished
cells, from their counts alone, and how far each is from ours. Nothing is ranked here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from wsssbench.errors import BadData
from wsssbench.identity import Record
from wsssbench.records.finding import find_records
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.evaluators import METRIC, READING, as_markdown
from wsssbench.reporting.rows import rows_of
from wsssbench.scores.compatible import Compatible
from wsssbench.scores.counts_table import COUNTS, CountsTable


def compatible_command(runs: Sequence[Path], limited: bool) -> None:
    """Print a table for each data set and stage of the records below `runs`, with what the scripts do."""
    cells = [cell for root in runs for cell in find_records(root) if cell.record.status == "ok"]
    click.echo(as_text(cells, limited))


def as_text(cells: Sequence[StoredRecord], limited: bool) -> str:
    """Markdown; BadData where there is no finished cell, or one has no counts."""
    shown = [cell for cell in cells if limited or cell.record.identity.terms.limit is None]
    rows = rows_of(map(_counted, shown), limited=limited)
    if not rows:
        raise BadData("no finished cells", where="report", hint="rows of --limit need --limited")
    parts = []
    for hash in dict.fromkeys(row.terms_hash for row in rows):
        here = [row for row in rows if row.terms_hash == hash]
        terms = here[0].terms
        parts += [f"## {terms.dataset}: {terms.stage} on {terms.split}, as others count", as_markdown(here)]
    return "\n\n".join([*parts, READING])


def _counted(cell: StoredRecord) -> Record:
    """The record with the scores of the metric `compatible`."""
    table = CountsTable.load(cell.path.parent / COUNTS)
    scores = Compatible().score(table.total(), len(cell.record.identity.terms.classes))
    return replace(cell.record, scores={**cell.record.scores, METRIC: dict(scores)})
