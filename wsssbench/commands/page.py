"""`wsssbench report --html`: records, and the data sets they were judged on, become one page. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from wsssbench.commands.judged_data import JudgedData
from wsssbench.errors import WsssError
from wsssbench.files.atomic import atomic_write_text
from wsssbench.identity import Record
from wsssbench.planning.staleness import stale_keys
from wsssbench.plugins.table import Plugins
from wsssbench.records.finding import find_records
from wsssbench.types import Dataset


def page_command(
    runs: Sequence[Path], html: Path, limited: bool, options: Sequence[str], published: bool = False
) -> None:
    """Write the page of all records below `runs` to `html`; `published`: what others report too."""
    atomic_write_text(html, page_text(runs, limited, options, published))
    click.echo(f"wrote {html} ({html.stat().st_size / 1e6:.1f} MB)", err=True)


def page_text(runs: Sequence[Path], limited: bool, options: Sequence[str], published: bool = False) -> str:
    """The page of all records below `runs` in one string."""
    from wsssbench.reporting.page import html_page
    from wsssbench.reporting.published import load_published
    from wsssbench.throughput.record import find_benches

    cells = [stored for root in runs for stored in find_records(root)]
    benches = [bench for root in runs for bench in find_benches(root)]
    stale = stale_keys([cell.record for cell in cells], Plugins())
    opener = RecordDataSets(options)
    reported = load_published() if published else ()
    return html_page(cells, benches, open_data=opener, limited=limited, stale=stale, published=reported)


class RecordDataSets:
    """Opens the data set of a record, and says once why one cannot be opened."""

    def __init__(self, options: Sequence[str]) -> None:
        self.judged = JudgedData(options)
        self.said: set[str] = set()

    def __call__(self, record: Record) -> Dataset:
        """The data set; WsssError where it is not there or is another one."""
        try:
            return self.judged(record)
        except WsssError as error:
            text = f"no pictures of {record.identity.terms.dataset}: {error}"
            if text not in self.said:
                click.echo(text, err=True)
            self.said.add(text)
            raise
