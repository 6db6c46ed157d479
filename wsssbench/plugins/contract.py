"""The contract of `wsssbench.types` held against a plugin: classes that do not inherit get its defaults, and
names that it does not know are listed, since nothing ever asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, TypeVar, cast

from wsssbench.types import Dataset, Metric, Predictor, Step

BASES: dict[str, type] = {"steps": Step, "datasets": Dataset, "metrics": Metric}
Class = TypeVar("Class", bound=type)


def complete(cls: Class, base: type) -> Class:
    """`cls`, which need not inherit from `base`, with the defaults of `base` for what it lacks.

    TypeError where the class cannot be changed (it is built in, a function's type for example).
    """
    for name, default in vars(base).items():
        abstract = getattr(default, "__isabstractmethod__", False)
        if not (name.startswith("_") or abstract or hasattr(cls, name)):
            setattr(cls, name, default)
    return cls


def as_predictor(found: Any) -> Predictor:
    """What `fit` or `restore` returned, with all that a Predictor has; a function is wrapped."""
    if isinstance(found, Predictor):
        return found
    try:
        complete(type(found), Predictor)
    except TypeError:
        return _FunctionPredictor(found)
    return cast(Predictor, found)


class _FunctionPredictor(Predictor):
    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *asked: Any) -> Any:
        return self.function(*asked)


def unknown_names(cls: type, base: type) -> list[str]:
    """Public names of a plugin's class that its contract `base` lacks, each with what it may have meant.

    Names of classes that lie in other modules (a framework's) are not listed.
    """
    known = {name for name in (*dir(base), *_annotated(base), "config") if not name.startswith("_")}
    own = {name for c in cls.__mro__ if c.__module__ == cls.__module__ for name in vars(c)}
    return [
        f"{name} (did you mean {close[0]}?)" if (close := get_close_matches(name, known, 1, 0.75)) else name
        for name in sorted(own - known)
        if not name.startswith("_")
    ]


def _annotated(base: type) -> Iterator[str]:
    for c in base.__mro__:
        yield from getattr(c, "__annotations__", {})
