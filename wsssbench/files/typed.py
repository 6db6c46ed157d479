"""Plain data (JSON, TOML) as the types that annotations say. `msgspec` reads the annotations, strictly: no
text becomes a number and no number a truth value; a list becomes a tuple, a table a dataclass, a whole number
a float and a text a Path.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from wsssbench.errors import printable

T = TypeVar("T")


def typed(value: Any, kind: Any) -> Any:
    """`value` as the annotation `kind`. ValueError with the place where it does not fit, as "Expected `int`,
    got `str` - at `$.seed`"; TypeError for an annotation that cannot be read."""
    import msgspec  # late: --help reads nothing

    try:
        return msgspec.convert(value, kind, dec_hook=_other)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def read_as(content: Any, kind: type[T], where: str) -> T:
    """`content`, from JSON, as the dataclass `kind` with all its tables; `where` names it in errors.

    ValueError, with the path of the field, for a value of another type, a missing field and an unknown one:
    a newer version may mean something by it.
    """
    try:
        found: T = typed(content, kind)
    except ValueError as error:
        what, _, place = str(error).partition(" - at `$")
        raise ValueError(printable(f"{where}{place.rstrip('`')}: {what}")) from None
    _refuse_unread(content, found, where)
    return found


def _refuse_unread(content: Any, found: Any, where: str) -> None:
    if isinstance(found, tuple):
        for number, (one, own) in enumerate(zip(content, found, strict=True)):
            _refuse_unread(one, own, f"{where}[{number}]")
    elif dataclasses.is_dataclass(found):
        fields = {f.name for f in dataclasses.fields(found)}
        for key, value in content.items():
            if key not in fields:
                raise ValueError(f"{where} has the unknown field {key!r}")
            _refuse_unread(value, getattr(found, key), f"{where}.{key}")


def _other(kind: Any, value: Any) -> Any:
    """A value of a type that JSON does not have."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, kind):
        return value
    raise ValueError(f"Expected `{getattr(kind, '__name__', kind)}`, got `{type(value).__name__}`")
