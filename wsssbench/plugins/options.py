"""A plugin owns its options: its frozen `Config` dataclass is the only list of names, types and defaults.

Here raw values (TOML, command line, presets) become a checked instance of that class, a row's key and the
lines of `wsssbench show`. No option of any plugin is known here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from wsssbench.errors import UnknownName, WsssError, nearest
from wsssbench.files.typed import typed
from wsssbench.identity import plain
from wsssbench.option_fields import Range, range_of
from wsssbench.types import NoConfig

T = TypeVar("T")
PRESET = "preset"  # the key that chooses a preset; reserved in every plugin
NO_PRESET = "none"


class OptionRow(NamedTuple):
    """One option as `wsssbench show` prints it."""

    name: str
    type: str
    default: Any
    range: Range
    help: str
    origin: str  # paper, code, tuned on which ids; may be empty


def build_config(plugin: str, cls: type, *layers: Mapping[str, Any], dataset: str = "") -> Any:
    """An instance of `cls.Config`: defaults < preset < `layers`, the last layer first in rank.

    The preset is the one that the last `preset` key in the layers names ("none" for no preset), else the
    one called like `dataset` where the class has it. Raises UnknownName for an unknown option or preset, and
    WsssError for a value of the wrong type, out of the option's range or that `Config` itself refuses.
    """
    layers = (_preset(plugin, cls, layers, dataset), *layers)
    given = {key: value for layer in layers for key, value in layer.items() if key != PRESET}
    return build(plugin, _config_class(plugin, cls), given, missing="-o {}=VALUE")


def build(
    where: str, config_class: type[T], given: Mapping[str, Any], *, missing: str = "write {} = VALUE"
) -> T:
    """An instance of a dataclass from the table `given`, whose place is `where`.

    Raises UnknownName for an unknown key, and WsssError for a value of the wrong type, out of its range or
    lacking (`missing` says how it is given), and for what the class itself refuses.
    """
    own: type = config_class  # hashable, where a class of the type variable is not known to be
    kinds, fields = _kinds(where, own), {f.name: f for f in _fields(config_class)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in fields:
            hint = nearest(key, tuple(fields))
            raise UnknownName(f"{where} has no option {key!r}", where=f"{where}.{key}", hint=hint)
        values[key] = field_value(fields[key], kinds[key], value, f"{where}.{key}")
    for key, f in fields.items():
        if key not in values and default_of(f) is dataclasses.MISSING:
            place = f"{where}.{key}"
            raise WsssError("this option must be given", where=place, hint=missing.format(place))
    try:
        return config_class(**values)
    except ValueError as error:  # the class's own check in __post_init__
        hint = f"`wsssbench show {where}` lists the options"
        raise WsssError(str(error), where=where, hint=hint) from error


def field_value(f: dataclasses.Field[Any], kind: Any, value: Any, where: str) -> Any:
    """`value` as the field `f` of type `kind` takes it. WsssError for a wrong type, or out of its range."""
    found = coerce(value, kind, where, default_of(f))
    check_range(found, range_of(f.metadata), where, default_of(f))
    return found


def option_names(cls: type) -> tuple[str, ...]:
    """The names of the options of the plugin class `cls`, in the order of its Config."""
    return tuple(f.name for f in _fields(_config_class(cls.__name__, cls)))


def describe_options(cls: type) -> list[OptionRow]:
    """The options of the plugin class `cls` for `wsssbench show`, in the order of its Config."""
    config_class = _config_class(cls.__name__, cls)
    kinds = _kinds(cls.__name__, config_class)
    return [
        OptionRow(
            f.name,
            type_text(kinds[f.name]),
            default_of(f),
            range_of(f.metadata),
            f.metadata.get("help", ""),
            f.metadata.get("origin", ""),
        )
        for f in _fields(config_class)
    ]


def key_options(config: Any) -> dict[str, Any]:
    """The options that enter a row's key, as JSON values: all but those declared with `key=False`.

    A file enters as {"sha256": hex} of its bytes, so that moving it changes nothing, and a folder likewise;
    an empty path as "". Options that were `added` enter where they are not at their default. Raises BadData
    where a file is missing.
    """
    options = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        as_before = f.metadata.get("added", False) and value == default_of(f)
        if as_before or not f.metadata.get("key", True):
            continue
        if f.metadata.get("folder", False) or f.metadata.get("file", False):
            options[f.name] = _digest(value, folder=bool(f.metadata.get("folder")))
        else:
            options[f.name] = plain(value)
    return options


def _digest(value: Any, *, folder: bool) -> dict[str, str] | str:
    """The sha256 of what an option points to; "" where it points to nothing."""
    from wsssbench.files.digests import file_digest, folder_digest

    if not str(value) or (str(value) == "." and not folder):
        return ""
    return {"sha256": folder_digest(Path(value)) if folder else file_digest(Path(value))}


# ---------------------------------------------------------------------------------------------- the class


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a dataclass field; `dataclasses.MISSING` where it must be given."""
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def _fields(config_class: type) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(config_class) if f.init]


def _config_class(plugin: str, cls: type) -> type:
    config_class = getattr(cls, "Config", NoConfig)
    if not (isinstance(config_class, type) and dataclasses.is_dataclass(config_class)):
        raise WsssError(
            "Config is not a dataclass", where=plugin, hint="@dataclass(frozen=True) class Config"
        )
    return config_class


@functools.cache
def _kinds(plugin: str, config_class: type) -> dict[str, Any]:
    try:
        return get_type_hints(config_class)
    except Exception as error:  # a plugin's annotation may name anything
        hint = "import the types of the options outside of `if TYPE_CHECKING`"
        raise WsssError(f"cannot read the types of Config: {error}", where=plugin, hint=hint) from error


def _preset(plugin: str, cls: type, layers: tuple[Mapping[str, Any], ...], dataset: str) -> Mapping[str, Any]:
    presets: Mapping[str, Mapping[str, Any]] = getattr(cls, "presets", {})
    chosen = [layer[PRESET] for layer in layers if PRESET in layer]
    name = chosen[-1] if chosen else (dataset if dataset in presets else NO_PRESET)
    if name == NO_PRESET:
        return {}
    if not isinstance(name, str) or name not in presets:
        known = (*presets, NO_PRESET)
        where = f"{plugin}.{PRESET}"
        raise UnknownName(f"{plugin} has no preset {name!r}", where=where, hint=nearest(str(name), known))
    return presets[name]


# ---------------------------------------------------------------------------------------------- the types


def parse_value(text: str) -> Any:
    """`text` as a TOML value (448, true, 1e-7, [1, 2], "a"), or else as the string that it is."""
    import tomllib

    try:
        value = tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except (ValueError, RecursionError):  # no TOML, or a number of thousands of digits
        return text
    return value if isinstance(value, (bool, int, float, str, list, dict)) else text  # no dates


def coerce(value: Any, kind: Any, where: str, default: Any = dataclasses.MISSING) -> Any:
    """`value` as the annotation `kind` says: int for float, list for tuple, "a,b" for tuple, "none" for None.

    Raises WsssError with the expected type and the default.
    """
    try:
        return _convert(value, kind)
    except ValueError:
        known = "" if default is dataclasses.MISSING else f", default {plain(default)!r}"
        quote = f'; quote a string: "{value}"' if kind is str and type(value) in (bool, int, float) else ""
        what = f"{plain(value)!r} is {'none of:' if get_origin(kind) is Literal else 'not'} {type_text(kind)}"
        raise WsssError(what, where=where, hint=f"expected {type_text(kind)}{known}{quote}") from None
    except TypeError as error:
        hint = "give the option a type such as int, float | None, Literal[...] or tuple[str, ...]"
        raise WsssError(f"its type cannot be read ({error})", where=where, hint=hint) from error


def check_range(value: Any, allowed: Range, where: str, default: Any = dataclasses.MISSING) -> None:
    """Raise WsssError, with what is allowed and the default, where `value` is out of its range."""
    if not allowed.holds(value):
        known = "" if default is dataclasses.MISSING else f", default {plain(default)!r}"
        what = f"{plain(value)!r} is out of range" if plain(value) not in ([], "") else "this is empty"
        raise WsssError(what, where=where, hint=f"allowed: {allowed}{known}")


def type_text(kind: Any) -> str:
    """An annotation in the words of a TOML file: "int", "list of float", "lattice | exact", "int | none"."""
    args = get_args(kind)
    if kind is Any:
        return "any value"
    if get_origin(kind) is Literal:
        return " | ".join(str(a) for a in args)
    if get_origin(kind) in (Union, types.UnionType):
        return " | ".join(type_text(a) for a in args)
    if get_origin(kind) is tuple and args:
        many = args[-1] is Ellipsis
        return f"list of {type_text(args[0])}" if many else f"[{', '.join(type_text(a) for a in args)}]"
    words = {types.NoneType: "none", bool: "true | false", Path: "path", tuple: "list", Mapping: "table"}
    return words.get(get_origin(kind) or kind) or str(getattr(kind, "__name__", kind))


def _convert(value: Any, kind: Any) -> Any:
    """`value` as `kind`, or as the first member of a union that it fits, its own type before the others: a
    list may be written short, and None as "none", which TOML lacks. ValueError where it fits none."""
    members = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    for member in sorted(members, key=lambda member: member is not type(value)):
        with contextlib.suppress(ValueError):
            found = typed(_written_out(value, member), member)
            if _is_finite(found):  # nan and inf have no place in a key
                return found
    raise ValueError


def _written_out(value: Any, kind: Any) -> Any:
    """The list that "a,b,c", or one value alone, stands for where `kind` is a tuple; "none" as None."""
    if kind is types.NoneType and value == "none":
        return None
    if (get_origin(kind) or kind) is not tuple or isinstance(value, (list, tuple)):
        return value
    if not isinstance(value, str):
        return [value]
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return parts if get_args(kind)[:1] in ((str,), (Path,)) else [parse_value(part) for part in parts]


def _is_finite(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
