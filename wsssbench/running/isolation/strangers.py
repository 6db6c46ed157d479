"""Plugins of strangers in an isolated run: described by a sandbox, never imported in this process.

What is imported here could read the masks, or change the judge. So the steps of local files and of installed
packages beside this one are stand-ins: a class with the same options, and a card that the plugin tells in a
sandbox without any data. Data sets and metrics see masks by their nature, and are trusted. What comes out of
a sandbox was written by a stranger: it is data, and is checked as such.
"""

from __future__ import annotations

import dataclasses
import json
import pkgutil
import types
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from wsssbench.errors import WsssError
from wsssbench.identity import plain
from wsssbench.option_fields import range_of
from wsssbench.plugins.code_hash import package_root
from wsssbench.plugins.contract import complete
from wsssbench.plugins.options import coerce, default_of
from wsssbench.plugins.sources import module_file
from wsssbench.plugins.table import Entry, Group, Plugins, defined_in
from wsssbench.running.isolation.box import ask
from wsssbench.running.isolation.sandbox import Inside, Mount
from wsssbench.types import Predictor, Step, StepCard

OWN = "wsssbench"  # the distribution whose steps are part of the harness's own code
# what a step may define beside `fit` and `restore`, and what it answers
HOOKS: dict[str, Callable[[Any], Any]] = {
    "ready": bool,
    "ready_on": bool,
    "skip": str,
    "stride_of": float,
    "default_threshold": lambda value: None if value is None else float(value),
}
Told = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class PluginSource:
    """Where a plugin is found: `value` is "module:attribute"; of a local file it is empty."""

    name: str
    value: str = ""
    file: str = ""

    def load(self) -> Any:
        """The class of the step, imported now."""
        if not self.file:
            found = pkgutil.resolve_name(self.value)
            return complete(found, Step) if isinstance(found, type) else found
        steps = {e.name: e.loaded for e in defined_in(Path(self.file)) if e.group == "steps"}
        return complete(steps[self.name], Step)

    @property
    def path(self) -> Path | None:
        """The file that defines it, found without importing it."""
        return Path(self.file) if self.file else module_file(self.value.partition(":")[0].strip())

    def inside(self, config: Any = None, cls: type[Step] | None = None) -> Inside:
        """What has to be seen to import it, its top-level package or its file alone, and the files that the
        user has named in its options."""
        mounts = (Mount(Path(self.file).resolve(), Path(self.file)),) if self.file else ()
        packages: tuple[Path, ...] = ()
        if not self.file and self.path is not None:
            root = package_root(self.path)
            packages = (root / self.path.resolve().relative_to(root).parts[0],)
        return Inside(mounts=(*mounts, *(_files(cls, config) if cls else ())), packages=packages)


def source_of(step: Step) -> PluginSource:
    """Where the class of `step`, or the one that it stands for, is loaded from."""
    cls = type(step)
    known: PluginSource | None = getattr(cls, "source", None)
    return known or PluginSource(step.card.name, f"{cls.__module__}:{cls.__qualname__}")


def step_told(step: Step) -> dict[str, Any]:
    """Source and all options of a step, as JSON values; paths of files are absolute."""
    config = step.config
    told = {f.name: plain(getattr(config, f.name)) for f in dataclasses.fields(config) if f.init}
    places = {name: str(path) for name, path in _places(config)}
    return {"source": plain(source_of(step)), "config": {**told, **places}}


def _places(config: Any) -> Iterator[tuple[str, Path]]:
    """The options that name a file or a folder, with its absolute path."""
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if value and (f.metadata.get("file") or f.metadata.get("folder")):
            yield f.name, Path(value).expanduser().absolute()


def _files(cls: type[Step], config: Any) -> Iterator[Mount]:
    """The files and folders of the options, each where it is.

    A stranger's defaults and presets name none: what a plugin wants to be shown is not what its user chose.
    """
    fields = {f.name: f for f in dataclasses.fields(config)}
    presets = cls.presets.values() if hasattr(cls, "source") else ()
    for name, path in _places(config):
        own = [default_of(fields[name]), *(p.get(name) for p in presets)] if hasattr(cls, "source") else []
        if path.exists() and getattr(config, name) not in own:
            yield Mount(path.resolve(), path)


# --------------------------------------------------------------------------------------------- in a sandbox


def described(source: PluginSource) -> list[dict[str, Any]]:
    """The steps and recipes of a plugin file, or the one object of an installed plugin, as plain data."""
    if not source.file:
        return [{"group": "steps", "name": source.name, **_object(source.load())}]
    found = defined_in(Path(source.file))
    return [{"group": e.group, "name": e.name, **_object(e.loaded)} for e in found]


def _object(found: Any) -> dict[str, Any]:
    """A step class, or a recipe; of anything else nothing is said."""
    if isinstance(found, (tuple, list)):
        return {"recipe": [str(step) for step in found]}
    card = getattr(found, "card", None)
    if not (isinstance(found, type) and isinstance(card, StepCard)):
        return {}
    step: Any = complete(found, Step)
    hooks = [name for name in HOOKS if getattr(step, name) is not getattr(Step, name)]
    told = {"card": card, "config": options_told(step.Config), "hooks": hooks, "presets": step.presets}
    shown = {"path_option": step.path_option, "doc": step.__doc__ or ""}
    return {**plain(told), **shown, "title": found.__name__}


def options_told(config: type) -> list[dict[str, Any]]:
    """The options of a Config as plain data."""
    kinds, told = get_type_hints(config), []
    for f in dataclasses.fields(config):
        default = default_of(f)
        one = {"name": f.name, "kind": kind_told(kinds[f.name]), "about": plain(dict(f.metadata))}
        if f.init:
            told.append(one if default is dataclasses.MISSING else {**one, "default": plain(default)})
    return told


WORDS: dict[str, Any] = {
    "any": Any, "bool": bool, "int": int, "float": float, "str": str, "path": Path, "none": types.NoneType,
    "...": ...,
}  # fmt: skip
NAMES = {kind: word for word, kind in WORDS.items()}


def kind_told(kind: Any) -> Any:
    """An annotation as plain data; a class that has no word here is `any`."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ["choice", *args]
    if origin in (Union, types.UnionType):
        return ["either", *map(kind_told, args)]
    if kind is tuple or origin is tuple:
        return ["tuple", *map(kind_told, args or (Any, ...))]
    return NAMES.get(kind, "any")


# --------------------------------------------------------------------------------------------- outside of it


def kind_of(told: Any) -> Any:
    """The annotation that `kind_told` wrote down. Raises ValueError for what it cannot have written."""
    match told:
        case str() if told in WORDS:
            return WORDS[told]
        case ["choice", _, *_]:
            return Literal[tuple(told[1:])]
        case ["either", _, *_]:
            return Union[tuple(map(kind_of, told[1:]))]  # noqa: UP007
        case ["tuple", _, *_]:
            return tuple[tuple(map(kind_of, told[1:]))]  # type: ignore[misc]
    raise ValueError(f"{told!r} is not a type")


def config_class(plugin: str, options: list[Told]) -> type:
    """A frozen dataclass with the options that were described. Raises WsssError for what makes none."""
    try:
        return dataclasses.make_dataclass(
            "Config", [(o["name"], kind_of(o["kind"]), _field(plugin, o)) for o in options], frozen=True
        )
    except (ValueError, TypeError, KeyError) as error:
        raise WsssError(f"cannot make out its options ({error})", where=plugin) from error


def _field(plugin: str, told: Told) -> Any:
    about = dict(told["about"])
    range_of(about)  # its bounds are a stranger's too
    if "default" not in told:
        return dataclasses.field(metadata=about)
    value = coerce(told["default"], kind_of(told["kind"]), f"{plugin}.{told['name']}")
    return dataclasses.field(default_factory=lambda: value, metadata=about)


def step_card(plugin: str, told: Any) -> StepCard:
    """A step's card that went through JSON. Raises WsssError where it is none."""
    try:
        return msgspec.convert(told, StepCard)
    except msgspec.ValidationError as error:
        raise WsssError(f"cannot make out its card ({error})", where=plugin) from error


@cache
def _answer(request: str, inside: Inside) -> Any:
    return ask(inside, json.loads(request), {})


def _described(source: PluginSource) -> list[Told]:
    found: list[Told] = _answer(json.dumps({"do": "describe", "source": plain(source)}), source.inside())
    return found


class IsolatedPlugins(Plugins):
    """The table of plugins; a step of a stranger is a stand-in for its class."""

    def load(self, group: Group, name: str) -> Any:
        """As in `Plugins`; of a stranger's step, what a sandbox tells of it."""
        entry = self.find(group, name)
        if not entry or entry.file or group not in ("steps", "methods") or entry.distribution == OWN:
            return super().load(group, name)
        source = PluginSource(entry.name, entry.value)
        (told,) = _described(source)
        return tuple(told["recipe"]) if "recipe" in told else stand_in(source, told)

    def _defined_in(self, path: Path) -> list[Entry]:
        found = []
        for told in _described(PluginSource("", file=str(path))):
            group, name = told["group"], str(told["name"])
            if group not in ("steps", "methods"):
                raise _not_a_step(path, f"{group[:-1]} {name!r}")
            source = PluginSource(name, file=str(path))
            loaded = tuple(told["recipe"]) if group == "methods" else stand_in(source, told)
            value = f"{path}:{told.get('title', 'RECIPES')}"
            found.append(Entry(group, name, value, "", "", path, loaded))
        return found


def _not_a_step(file: Path, other: str) -> WsssError:
    hint = "put it into a package of its own and install that: it is trusted then, and the steps are not"
    what = f"with --isolate a plugin file holds steps alone, and this one has the {other}"
    return WsssError(what, where=file, hint=hint)


class StandIn(Step):
    """A step whose code this process does not have; `boxed` runs it."""

    source: ClassVar[PluginSource]
    source_file: ClassVar[Path | None]  # for the hash of its code

    def __init__(self, config: Any) -> None:
        self.config = config
        self.card = step_card(self.source.name, self.asked("card"))

    def asked(self, name: str, *given: Any) -> Any:
        """An attribute of the step itself, called with `given` where it is a method; asked in a sandbox that
        has the plugin, the files that its options name, and no data."""
        request = {"do": "attribute", "name": name, "given": plain(given), **step_told(self)}
        return _answer(json.dumps(request), self.source.inside(self.config, type(self)))

    def fit(self, *given: Any) -> Predictor:
        """Refused: what fits is the step itself, in a sandbox."""
        what = "with isolate = true this step runs in a sandbox alone"
        hint = "`wsssbench run` has one; for this command name a settings file without isolate = true"
        raise WsssError(what, where=self.source.name, hint=f"{hint} (--config)")

    def restore(self, ctx: Any) -> Predictor:
        """Refused, as `fit`."""
        return self.fit(ctx)


def stand_in(source: PluginSource, told: Told) -> type:
    """The class that stands for the step that `source` names."""
    if "card" not in told:
        raise WsssError(f"{source.name!r} is not a step class", where=source.file or source.value)
    body: dict[str, Any] = {
        "Config": config_class(source.name, told["config"]), "presets": dict(told["presets"]),
        "card": step_card(source.name, told["card"]), "source": source, "source_file": source.path,
        "__doc__": str(told["doc"]), "path_option": str(told["path_option"]),
        **{name: _hook(name) for name in told["hooks"]},
    }  # fmt: skip
    return type(str(told["title"]), (StandIn,), body)


def _hook(name: str) -> Callable[..., Any]:
    return lambda self, *given: HOOKS[name](self.asked(name, *given))
