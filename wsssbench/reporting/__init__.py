"""What a reader gets to see: tables and pictures made from records alone.

Records are found, become rows, and rows become text. Importing this module is cheap, so that `--help` stays
fast; nothing here reads masks or runs a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsssbench.records.finding import find_records

NO_RECORDS = "No records yet.\n"


def report(
    runs: Sequence[Path | str],
    format: str = "md",
    limited: bool = False,
    published: bool = False,
) -> str:
    """The tables of all records below the folders `runs`, as "md", "csv", "json" or "tex"; throughput last.

    A table of throughput is another kind of table: in json its `stage` is "bench" and it has a `machine` in
    the place of terms; in csv its lines have the same `stage`, and columns of their own. `limited` also shows
    runs made with --limit; rows whose code has changed since are marked stale. With `published`, what others
    report stands below each table of the same terms. BadData where a folder does not exist or a record is
    damaged, UnknownName for another format.
    """
    from wsssbench.planning.staleness import stale_keys
    from wsssbench.plugins.table import Plugins
    from wsssbench.reporting.published import load_published
    from wsssbench.reporting.rows import rows_of
    from wsssbench.reporting.tables import render
    from wsssbench.reporting.throughput import throughput_tables
    from wsssbench.throughput.record import find_benches

    records = [stored.record for root in runs for stored in find_records(root)]
    rows = rows_of(records, limited=limited, stale=stale_keys(records, Plugins()))
    benches = throughput_tables(bench for root in runs for bench in find_benches(root))
    if rows or benches or format != "md":
        return render(rows, format, benches, load_published() if published else ())
    hidden = len({record.key for record in records})
    return (
        f"No rows to show: all {hidden} records are of runs with --limit; --limited shows them.\n"
        if hidden
        else NO_RECORDS
    )
