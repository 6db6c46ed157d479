"""Classes of steps as plain data, and back: cards, options with their types, presets.

In a sandbox `described` says what a file or an installed plugin defines; outside `config_class` makes a
dataclass with the same options out of that, so that a plan can be made without importing the plugin. What is
read here was written by a stranger: it is data, and is checked as such.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from wsssbench.errors import WsssError
from wsssbench.identity import plain
from wsssbench.option_fields import range_of
from wsssbench.plugins.options import coerce, default_of
from wsssbench.types import NoConfig, StepCard

BARE = {"any": Any, "bool": bool, "int": int, "float": float, "str": str, "path": Path, "none": type(None)}
NAMES = {kind: name for name, kind in BARE.items()}
Told = Mapping[str, Any]


def described(file: str, value: str) -> list[dict[str, Any]]:
    """The steps and recipes of a plugin file, or the one object behind "module:attribute"."""
    from wsssbench.plugins.table import defined_in
    from wsssbench.running.isolation.sources import StepSource

    if file:
        return [
            {"group": e.group, "name": e.name, "attr": e.value.rpartition(":")[2], **_object(e.loaded)}
            for e in defined_in(Path(file))
        ]
    return [{"group": "steps", "name": "", "attr": value, **_object(StepSource(value).load())}]


def _object(found: Any) -> dict[str, Any]:
    """A step class, or a recipe; of anything else nothing is told."""
    if isinstance(found, (tuple, list)):
        return {"recipe": [str(step) for step in found]}
    card = getattr(found, "card", None)
    if not (isinstance(found, type) and isinstance(card, StepCard)):
        return {}
    told = {"card": plain(card), "presets": plain(getattr(found, "presets", {}))}
    told |= {"config": _options(getattr(found, "Config", NoConfig)), "skip": hasattr(found, "skip")}
    told["ready_on"] = hasattr(found, "ready_on")
    return {**told, "path_option": getattr(found, "path_option", None), "doc": found.__doc__ or ""}


def _options(config: type) -> list[dict[str, Any]]:
    kinds = get_type_hints(config)
    told = []
    for f in dataclasses.fields(config):
        if not f.init:
            continue
        default = default_of(f)
        one = {"name": f.name, "kind": kind_told(kinds[f.name]), "about": plain(dict(f.metadata))}
        told.append(one if default is dataclasses.MISSING else {**one, "default": plain(default)})
    return told


def kind_told(kind: Any) -> Any:
    """An annotation as plain data; a class that has no word here is `any`."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ["choice", *args]
    if origin in (Union, types.UnionType):
        return ["either", *map(kind_told, args)]
    if kind is tuple or origin is tuple:
        return ["tuple", *("..." if a is Ellipsis else kind_told(a) for a in args or (Any, ...))]
    return NAMES.get(kind, "any")


def kind_of(told: Any) -> Any:
    """The annotation that `kind_told` wrote down. Raises ValueError for what it cannot have written."""
    if isinstance(told, str) and told in BARE:
        return BARE[told]
    if not (isinstance(told, list) and len(told) > 1 and told[0] in ("choice", "either", "tuple")):
        raise ValueError(f"{told!r} is no type")
    if told[0] == "choice":
        return Literal[tuple(told[1:])]
    parts = tuple(... if part == "..." else kind_of(part) for part in told[1:])
    return Union[parts] if told[0] == "either" else tuple[parts]  # type: ignore[valid-type]  # noqa: UP007


def config_class(plugin: str, options: list[Told]) -> type:
    """A frozen dataclass with the options that `described` told. Raises WsssError for what makes none."""
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
    if isinstance(value, (list, dict)):
        return dataclasses.field(default_factory=lambda: value, metadata=about)
    return dataclasses.field(default=value, metadata=about)


def step_card(plugin: str, told: Told) -> StepCard:
    """A step's card that went through JSON. Raises WsssError where it is none."""
    try:
        lists = {name: tuple(value) for name, value in told.items() if isinstance(value, list)}
        return StepCard(**{**told, **lists})
    except (TypeError, AttributeError) as error:
        raise WsssError(f"cannot make out its card ({error})", where=plugin) from error
