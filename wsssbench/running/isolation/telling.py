"""What a sandbox is told of a step, and which files it is shown for that: the step's class, its options, and
the files that the user has named in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wsssbench.identity import plain
from wsssbench.plugins.options import default_of
from wsssbench.running.isolation.sandbox import Mount
from wsssbench.running.isolation.sources import StepSource, source_of


def step_told(step: Any) -> dict[str, Any]:
    """Class, name and all options of a step, as JSON values."""
    source = source_of(step)
    told = {"source": {"value": source.value, "file": source.file}, "name": step.card.name}
    return {**told, "config": config_told(step.config)}


def config_told(config: Any) -> dict[str, Any]:
    """The options as JSON values; paths of files are absolute."""
    told = {}
    for f in dataclasses.fields(config):
        if f.init:
            value = plain(getattr(config, f.name))
            told[f.name] = str(Path(value).expanduser().absolute()) if _is_file(f) and value else value
    return told


def file_mounts(cls: type, config: Any) -> tuple[Mount, ...]:
    """The files and folders of the options, each where it is.

    A stranger's defaults and presets name none: what a plugin wants to be shown is not what its user chose.
    """
    given = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        path = Path(value).expanduser().absolute() if _is_file(f) and value else None
        if path and path.exists() and value not in set(_own_values(cls, f)):
            given[path] = Mount(path.resolve(), path)
    return tuple(given.values())


def plugin_mounts(source: StepSource) -> tuple[Mount, ...]:
    """The plugin file itself, where it is one."""
    return (Mount(Path(source.file).resolve(), Path(source.file)),) if source.file else ()


def _is_file(f: dataclasses.Field[Any]) -> bool:
    return bool(f.metadata.get("file") or f.metadata.get("folder"))


def _own_values(cls: type, f: dataclasses.Field[Any]) -> Iterator[Any]:
    """What the plugin itself says this option is, where it is a stranger's."""
    if getattr(cls, "source", None) is not None:
        yield default_of(f)
        for preset in getattr(cls, "presets", {}).values():
            yield preset.get(f.name)
