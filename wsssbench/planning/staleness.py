"""Which records were made or judged by code that has changed since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from wsssbench.errors import WsssError
from wsssbench.identity import Record
from wsssbench.planning.made_by import judge_code, reading_code
from wsssbench.plugins.code_hash import is_code
from wsssbench.plugins.sources import class_file
from wsssbench.plugins.table import Group, Plugins, dataset_plugin


def stale_keys(records: Iterable[Record], plugins: Plugins) -> set[str]:
    """Keys of the records that were made or judged by code known to differ from today's."""
    differs = cache(lambda group, name, then: _has_changed(plugins, group, name, then))
    return {
        record.key
        for record in records
        if any(differs(*used) for used in _code_used(record)) or _is_judged_otherwise(record)
    }


def _is_judged_otherwise(record: Record) -> bool:
    """Whether the harness's own code that judged a record is known to differ from today's."""
    terms, then = record.identity.terms, record.provenance.get("judged_by", {})
    several = terms.scales != (1.0,) or terms.flip  # as `Stage.multi_scale`
    if then.get("judge", "") not in ("", judge_code(crf=terms.crf is not None, several=several)):
        return True
    return then.get("files", "") not in ("", reading_code())


def _code_used(record: Record) -> Iterator[tuple[str, str, str]]:
    """Group, name and hash of the plugins that made and judged a record."""
    yield from (("steps", name, then) for name, then in record.provenance.get("code", {}).items())
    for name, then in record.provenance.get("judged_by", {}).items():
        if name == "data set":
            yield "datasets", dataset_plugin(record.identity.terms.dataset), then
        elif name.startswith("metric "):
            yield "metrics", name.removeprefix("metric "), then


def _has_changed(plugins: Plugins, group: Group, name: str, then: str) -> bool:
    """Whether a plugin's code differs from `then`; False where that is not known."""
    try:
        entry = plugins.find(group, name) or (plugins.find("methods", name) if group == "steps" else None)
    except WsssError:  # two plugins of that name: which one ran is not known
        return False
    path = class_file(entry) if entry else None
    return bool(then) and path is not None and not is_code(then, path)
