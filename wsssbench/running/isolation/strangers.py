"""Plugins of strangers in an isolated run: described by a sandbox, never imported in this process.

What is imported here could read the masks, or change the judge. So the steps of local files and of installed
packages beside this one are stand-ins: a class with the same options, and a card that the plugin tells in a
sandbox without any data. Data sets and metrics see masks by their nature, and are trusted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from wsssbench.errors import WsssError
from wsssbench.identity import plain
from wsssbench.plugins.table import Entry, Group, Plugins
from wsssbench.running.isolation.box import Box, as_error
from wsssbench.running.isolation.descriptions import config_class, step_card
from wsssbench.running.isolation.sandbox import Inside, Mount
from wsssbench.running.isolation.sources import StepSource
from wsssbench.running.isolation.telling import config_told, file_mounts, plugin_mounts, step_told
from wsssbench.types import Artifacts, Context, DatasetCard, Predictor, StepCard, View

OWN = "wsssbench"  # the distribution whose steps are part of the harness's own code


class IsolatedPlugins(Plugins):
    """The table of plugins; a step of a stranger is a stand-in for its class."""

    def load(self, group: Group, name: str) -> Any:
        """As in `Plugins`; of a stranger's step, what a sandbox tells of it."""
        entry = self.find(group, name)
        guarded = entry and not entry.file and group in ("steps", "methods") and entry.distribution != OWN
        if not (entry and guarded):
            return super().load(group, name)
        (told,) = told_by(StepSource(entry.value))
        if "recipe" in told:
            return tuple(told["recipe"])
        return stand_in(entry.name, StepSource(entry.value), told)

    def _defined_in(self, path: Path) -> list[Entry]:
        return [_entry(path, told) for told in told_by(StepSource("", str(path)))]


def _entry(path: Path, told: Mapping[str, Any]) -> Entry:
    group, name, attr = told["group"], str(told["name"]), str(told["attr"])
    if group == "methods":
        return Entry("methods", name, f"{path}:RECIPES", "", "", path, tuple(told["recipe"]))
    if group != "steps":
        hint = "put it into a package of its own and install that: it is trusted then, and the steps are not"
        what = f"with --isolate a plugin file holds steps alone, and this one has the {group[:-1]} {name!r}"
        raise WsssError(what, where=path, hint=hint)
    made = stand_in(name, StepSource(attr, str(path)), told)
    return Entry("steps", name, f"{path}:{attr}", "", "", path, made)


class StandIn:
    """A step whose code this process does not have; `boxed` runs it."""

    source: ClassVar[StepSource]
    source_file: ClassVar[Path | None]  # for the hash of its code
    plugin: ClassVar[str]
    asks_ready_on: ClassVar[bool]
    card: StepCard

    def __init__(self, config: Any) -> None:
        self.config = config
        options = json.dumps(config_told(config), sort_keys=True)
        said = instance_of(self.source, self.plugin, options, self._files())
        self.card = step_card(self.plugin, said["card"])
        self._not_ready = said["not_ready"]

    def _files(self) -> tuple[Mount, ...]:
        return file_mounts(type(self), self.config)

    def ready(self) -> None:
        """Raise what the step's own `ready` raised in a sandbox."""
        if self._not_ready:
            raise as_error(self._not_ready)

    def ready_on(self, card: DatasetCard, filter_backend: str) -> None:
        """Raise what the step's own `ready_on`, if it has one, raises in a sandbox."""
        if self.asks_ready_on:
            ask = {"do": "ready_on", "card": plain(card), "filter": filter_backend}
            said = _asked(self.source, {**ask, **step_told(self)}, self._files())
            if said["not_ready"]:
                raise as_error(said["not_ready"])

    def fit(self, train: View, given: Artifacts, ctx: Context) -> Predictor:
        """Refused: what fits is the step itself, in a sandbox."""
        raise _outside(self.plugin)

    def restore(self, ctx: Context) -> Predictor:
        """Refused, as `fit`."""
        raise _outside(self.plugin)


def _outside(plugin: str) -> WsssError:
    hint = "`wsssbench run` has one; for this command name a settings file without isolate = true (--config)"
    return WsssError("with isolate = true this step runs in a sandbox alone", where=plugin, hint=hint)


class SilentStandIn(StandIn):
    """One that says of which images it is silent."""

    def skip(self, split: str, ids: Sequence[str]) -> str:
        """What the step's own `skip` says."""
        ask = {"do": "skip", "split": split, "ids": list(ids)}
        said = _asked(self.source, {**ask, **step_told(self)}, self._files())
        return str(said["reason"])


def stand_in(name: str, source: StepSource, told: Mapping[str, Any]) -> type:
    """The class that stands for what `source` names."""
    if "card" not in told:
        raise WsssError(f"{name!r} is no step class", where=source.file or source.value)
    body: dict[str, Any] = {
        "Config": config_class(name, told["config"]), "presets": dict(told["presets"]), "plugin": name,
        "card": step_card(name, told["card"]), "source": source, "source_file": source.path,
        "asks_ready_on": bool(told["ready_on"]),
        "__doc__": str(told["doc"]),
    }  # fmt: skip
    if told["path_option"]:
        body["path_option"] = str(told["path_option"])
    return type(source.value.rpartition(":")[2], (SilentStandIn if told["skip"] else StandIn,), body)


@cache
def told_by(source: StepSource) -> tuple[Mapping[str, Any], ...]:
    """What a plugin file, or an installed plugin, defines; told in a sandbox without data."""
    return tuple(_asked(source, {"do": "describe", "file": source.file, "value": source.value}, ())["found"])


@cache
def instance_of(source: StepSource, name: str, config: str, files: tuple[Mount, ...]) -> Mapping[str, Any]:
    """Card and readiness of a step with the options `config`, as JSON."""
    told = {"source": {"value": source.value, "file": source.file}, "name": name}
    return _asked(source, {"do": "instance", **told, "config": json.loads(config)}, files)


def _asked(source: StepSource, request: Mapping[str, Any], files: Sequence[Mount]) -> dict[str, Any]:
    """The answer of a sandbox that has the plugin, the files that its options name, and no data."""
    with Box(Inside(mounts=(*plugin_mounts(source), *files), packages=source.packages())) as box:
        return box.ask(request)[0]
