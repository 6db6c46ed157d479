"""A method is a recipe: an ordered list of steps. Here its name becomes the classes of its steps.

Whether the steps fit together (what one gives and the next takes), their keys and their order of execution
are the plan's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsssbench.errors import UnknownName, WsssError, nearest
from wsssbench.plugins import Plugins
from wsssbench.settings import Settings

NamedStep = tuple[str, type]


@dataclass(frozen=True)
class RecipeSpec:
    """A method with its steps loaded; `options[i]` are the raw settings of `steps[i]`."""

    name: str  # as asked for; an expression with single spaces around ">"
    steps: tuple[NamedStep, ...]
    options: tuple[Mapping[str, Any], ...]

    @property
    def folder(self) -> str:
        """The name as a folder: an expression `cam > crf` becomes `cam__crf`."""
        return self.name.replace(" > ", "__")


def parse_recipe(text: str) -> tuple[str, ...]:
    """The names of the steps in "cam > crf > deeplab". Raises WsssError where one is empty."""
    names = tuple(part.strip() for part in text.split(">"))
    if not all(names):
        hint = 'write steps between ">", as "cam > crf > deeplab"'
        raise WsssError("a step of the recipe has no name", where=f"method {text!r}", hint=hint)
    return names


def resolve_recipe(text: str, plugins: Plugins, settings: Settings) -> RecipeSpec:
    """The method `text`: a [methods.NAME] table, a registered method, a step, or an expression of steps.

    The first of these that has the name counts; a step may occur twice. Raises UnknownName with the nearest
    methods and steps, and WsssError for a plugin that cannot be loaded or is no recipe.
    """
    names = parse_recipe(text)
    name = " > ".join(names)
    steps = _steps_of(names, plugins, settings)
    return RecipeSpec(name, steps, tuple(settings.options.get(step, {}) for step, _ in steps))


def _steps_of(names: tuple[str, ...], plugins: Plugins, settings: Settings) -> tuple[NamedStep, ...]:
    name = names[0]
    if len(names) > 1:
        return _load_all(names, " > ".join(names), plugins)
    if name in settings.recipes:
        return _load_all(settings.recipes[name], name, plugins)
    if plugins.find("methods", name):
        return _registered(name, plugins)
    if plugins.find("steps", name):
        return _load_all(names, name, plugins)
    known = sorted({*settings.recipes, *plugins.names("methods"), *plugins.names("steps")})
    raise UnknownName(f"unknown method {name!r}", hint=nearest(name, known))


def _registered(name: str, plugins: Plugins) -> tuple[NamedStep, ...]:
    """The steps behind a name of the group wsssbench.methods: a tuple of step names, or one step class."""
    value = plugins.load("methods", name)
    if isinstance(value, type):
        return ((name, value),)
    if isinstance(value, (tuple, list)) and value and all(isinstance(step, str) for step in value):
        return _load_all(tuple(value), name, plugins)
    entry = plugins.find("methods", name)
    where = f"{entry.value}, {entry.origin}" if entry else name
    hint = 'a method is a tuple of step names, as ("cam", "crf"), or one step class'
    raise WsssError(f"method {name!r} is no recipe", where=where, hint=hint)


def _load_all(names: tuple[str, ...], recipe: str, plugins: Plugins) -> tuple[NamedStep, ...]:
    return tuple(_load_step(name, recipe, plugins) for name in names)


def _load_step(name: str, recipe: str, plugins: Plugins) -> NamedStep:
    """One step by its name; a step class that is registered as a method only is found as well."""
    entry = plugins.find("steps", name)
    if entry is None and plugins.find("methods", name):
        cls, found = plugins.load("methods", name), name
    elif entry is not None:
        cls, found = plugins.load("steps", name), entry.name
    else:
        hint = nearest(name, plugins.names("steps"))
        raise UnknownName(f"unknown step {name!r}", where=f"method {recipe!r}", hint=hint)
    if not isinstance(cls, type):
        hint = f"steps: {', '.join(plugins.names('steps'))}"
        raise WsssError(f"{name!r} is no step class", where=f"method {recipe!r}", hint=hint)
    return found, cls
