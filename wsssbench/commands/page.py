"""`wsssbench report --html`: records, and the data sets they were judged on, become one page. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import click

from wsssbench.commands.errors import differences
from wsssbench.commands.setup import open_settings
from wsssbench.commands.sources import stale_keys
from wsssbench.errors import NotComparable, WsssError
from wsssbench.options import option_names
from wsssbench.plan import open_dataset
from wsssbench.plugins import Plugins
from wsssbench.settings import Settings, with_options
from wsssbench.store import atomic_write_text, find_records
from wsssbench.types import Dataset, Record, Terms, content_key, plain


def page_command(runs: Sequence[Path], html: Path, limited: bool, options: Sequence[str]) -> None:
    """Write the page of all records below `runs` to `html`."""
    from wsssbench.bench.record import find_benches
    from wsssbench.report.page import html_page

    cells = [stored for root in runs for stored in find_records(root)]
    benches = [bench for root in runs for bench in find_benches(root)]
    stale = stale_keys([cell.record for cell in cells], Plugins())
    opener = JudgedData(options)
    atomic_write_text(html, html_page(cells, benches, open_data=opener, limited=limited, stale=stale))
    click.echo(f"wrote {html} ({html.stat().st_size / 1e6:.1f} MB)", err=True)


class JudgedData:
    """Opens the data set that a record was judged on, each once.

    A generated one is drawn again from the options and the seed of the record; what the command line says of
    a data set is laid over them. Why one cannot be opened is said once.
    """

    def __init__(self, options: Sequence[str]) -> None:
        self.settings, self.plugins = open_settings({}, None, options)
        steps, datasets = self.plugins.names("steps"), self.plugins.names("datasets")
        self.own = with_options(Settings(), options, steps, datasets).dataset_options
        self.opened: dict[str, Dataset] = {}
        self.said: set[str] = set()

    def __call__(self, record: Record) -> Dataset:
        """The data set; WsssError where it is not there or is another one."""
        terms, seed = record.identity.terms, record.identity.seed
        key = content_key([terms.dataset, terms.dataset_options, seed])
        try:
            if key not in self.opened:
                self.opened[key] = self._open(terms, seed)
            _check(self.opened[key], terms)
        except WsssError as error:
            self._say(f"no pictures of {terms.dataset}: {error}")
            raise
        return self.opened[key]

    def _say(self, text: str) -> None:
        if text not in self.said:
            click.echo(text, err=True)
        self.said.add(text)

    def _open(self, terms: Terms, seed: int) -> Dataset:
        settings = self.settings
        if not terms.split_fingerprint:  # generated: the record says how
            known = option_names(self.plugins.load("datasets", terms.dataset))
            drawn = {name: value for name, value in terms.dataset_options.items() if name in known}
            options = {**drawn, **self.own.get(terms.dataset, {})}
            settings = dataclasses.replace(settings, dataset_options={terms.dataset: options})
        return open_dataset(terms.dataset, self.plugins, settings, seed)


def _check(dataset: Dataset, terms: Terms) -> None:
    card = dataset.card
    mine = {"dataset_version": card.version, "dataset_options": plain(card.options)}
    differing = differences(terms, mine | {"classes": list(card.class_names)})
    if differing:
        hint = f"give the options that it was judged with: -o {terms.dataset}.KEY=VALUE"
        raise NotComparable(f"it is not the one of the record: {differing}", where=terms.dataset, hint=hint)
