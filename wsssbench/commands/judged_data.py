"""The data set that a record was judged on, opened once more: by its name, or drawn again from the record's
options and seed. It is checked to be that one; what its masks say is for others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsssbench.errors import NotComparable
from wsssbench.identity import Record, Terms, content_key, plain
from wsssbench.planning.plan import open_dataset
from wsssbench.planning.settings import Settings, with_options
from wsssbench.planning.terms import named_data
from wsssbench.plugins.options import option_names
from wsssbench.plugins.table import dataset_plugin
from wsssbench.running.opening import open_settings
from wsssbench.types import Dataset


class JudgedData:
    """Opens the data sets of records, each once; what the command line says of one goes before the record."""

    def __init__(self, options: Sequence[str], config: Path | None = None) -> None:
        self.settings, self.plugins = open_settings({}, config, options)
        steps, datasets = self.plugins.names("steps"), self.plugins.names("datasets")
        self.own = with_options(Settings(), options, steps, datasets).dataset_options
        self.opened: dict[str, Dataset] = {}

    def __call__(self, record: Record) -> Dataset:
        """The data set; WsssError where it cannot be opened, NotComparable where it is another one."""
        terms, seed = record.identity.terms, record.identity.seed
        key = content_key([terms.dataset, _drawn_with(record), seed])
        if key not in self.opened:
            self.opened[key] = self._open(record)
        _check(self.opened[key], terms)
        return self.opened[key]

    def is_asked_for(self, record: Record) -> bool:
        """Whether the command line says something of the record's data set."""
        return bool(self.own.get(dataset_plugin(record.identity.terms.dataset)))

    def _open(self, record: Record) -> Dataset:
        terms, settings = record.identity.terms, self.settings
        plugin = dataset_plugin(terms.dataset)
        if not terms.split_fingerprint:  # generated: the record says how
            known = option_names(self.plugins.load("datasets", plugin))
            drawn = {name: value for name, value in _drawn_with(record).items() if name in known}
            options = {**drawn, **self.own.get(plugin, {})}
            settings = dataclasses.replace(settings, dataset_options={plugin: options})
        return open_dataset(plugin, self.plugins, settings, record.identity.seed)


def _drawn_with(record: Record) -> dict[str, Any]:
    """The options of all splits of a generated data set, as far as the record has them."""
    identity, card = record.identity, record.provenance.get("dataset", {})
    return {**card.get("options", {}), **identity.fit_options, **identity.terms.dataset_options}


def _check(dataset: Dataset, terms: Terms) -> None:
    mine = named_data(dataset.card, terms.split, earlier=terms.earlier)
    differing = differences(terms, {**mine, "classes": list(dataset.card.class_names)})
    if differing:
        hint = f"give the options that it was judged with: -o {dataset_plugin(terms.dataset)}.KEY=VALUE"
        raise NotComparable("this is not the data set of the cell", where=differing, hint=hint)


def differences(terms: Terms, other: Mapping[str, Any]) -> str:
    """The fields of `other` that `terms` have otherwise, with both values; empty where they agree."""
    own = plain(terms)
    return "; ".join(f"{n}: {own.get(n)} and {other[n]}" for n in sorted(other) if own.get(n) != other[n])
