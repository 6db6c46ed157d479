"""A method is a recipe: an ordered list of steps. Here its name becomes the classes of its steps.

Whether the steps fit together (what one gives and the next takes), their keys and their order of execution
are the plan's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsssbench.errors import UnknownName, WsssError, nearest
from wsssbench.identity import StepIdentity
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins
from wsssbench.types import Step

NamedStep = tuple[str, type]
LoadedStep = tuple[str, type[Step], str]  # with the path after its name, or ""
PATH = ":"  # between a step's name and the path that it reads: import:DIR


@dataclass(frozen=True)
class RecipeSpec:
    """A method with its steps loaded; `options[i]` are the raw settings of `steps[i]`."""

    name: str  # as asked for; an expression with single spaces around ">", of a path its last part alone
    steps: tuple[NamedStep, ...]
    options: tuple[Mapping[str, Any], ...]

    @property
    def folder(self) -> str:
        """The name as a folder: an expression `cam > crf` becomes `cam__crf`."""
        return self.name.replace(" > ", "__")


def parse_recipe(text: str) -> tuple[str, ...]:
    """The steps of "cam > crf > deeplab" or "import:DIR > deeplab". Raises WsssError where one is empty."""
    names = tuple(part.strip() for part in text.split(">"))
    if not all(names):
        hint = 'write steps between ">", as "cam > crf > deeplab"'
        raise WsssError("a step of the recipe has no name", where=f"method {text!r}", hint=hint)
    return names


def resolve_recipe(text: str, plugins: Plugins, settings: Settings) -> RecipeSpec:
    """The method `text`: a [methods.NAME] table, a registered method, a step, or an expression of steps.

    The first of these that has the name counts; a step may occur twice. Raises UnknownName with the nearest
    methods and steps, and WsssError for a plugin that cannot be loaded or is not a recipe.
    """
    names = parse_recipe(text)
    steps = _steps_of(names, plugins, settings)
    shown = " > ".join(_shown(name, plugins) for name in names)
    method = names[0] if len(names) == 1 else ""
    options = tuple(_options(step, method, settings) for step in steps)
    return RecipeSpec(shown, tuple((name, cls) for name, cls, _ in steps), options)


def _options(step: LoadedStep, method: str, settings: Settings) -> Mapping[str, Any]:
    """The raw settings of a step: those of all methods, its method's own, and the path of the recipe."""
    name, cls, path = step
    own = settings.recipe_options.get(method, {}).get(name, {})
    given: Mapping[str, Any] = {**settings.options.get(name, {}), **own}
    return {**given, cls.path_option: path} if path else given


def _shown(name: str, plugins: Plugins) -> str:
    """A step's name in tables: of a path its last part alone, wherever on this machine it lies."""
    step, path = _with_path(name, plugins)
    return f"{step}{PATH}{Path(path).expanduser().resolve().name}" if path else name


def _with_path(name: str, plugins: Plugins) -> tuple[str, str]:
    """ "import:DIR" as ("import", "DIR"); a name that is a step's or method's own in full has no path."""
    step, _, path = name.partition(PATH)
    if plugins.find("steps", name) or plugins.find("methods", name):
        return name, ""
    return step.strip(), path.strip()


def _steps_of(names: tuple[str, ...], plugins: Plugins, settings: Settings) -> tuple[LoadedStep, ...]:
    name = names[0]
    if len(names) > 1:
        return _load_all(names, " > ".join(names), plugins)
    _refuse_shadow(name, plugins, settings)
    if name in settings.recipes:
        return _load_all(settings.recipes[name], name, plugins)
    if plugins.find("methods", name):
        return _registered(name, plugins)
    if plugins.find("steps", _with_path(name, plugins)[0]):
        return _load_all(names, name, plugins)
    known = sorted({*settings.recipes, *plugins.names("methods"), *plugins.names("steps")})
    raise UnknownName(f"unknown method {name!r}", hint=nearest(name, known))


def _refuse_shadow(name: str, plugins: Plugins, settings: Settings) -> None:
    """WsssError where another package's method hides a step of the name: a row would not show which one ran.

    A method may be called like a step of its own distribution (or file), or be that very step. The user's own
    tables go before both.
    """
    method, step = plugins.find("methods", name), plugins.find("steps", name)
    own = name in settings.recipes or (step is not None and step.name != name)  # the stem of a file
    if not own and method and step and method.origin != step.origin and method.value != step.value:
        what = f"{name!r} is a method of {method.origin} and a step of {step.origin}"
        hint = "rename one of them, or uninstall the distribution that you do not need"
        raise WsssError(what, where=f"{method.value}, {step.value}", hint=hint)


def _registered(name: str, plugins: Plugins) -> tuple[LoadedStep, ...]:
    """The steps behind a name of the group wsssbench.methods: a tuple of step names, or one step class."""
    value = plugins.load("methods", name)
    if isinstance(value, type):
        return ((name, value, ""),)
    if isinstance(value, (tuple, list)) and value and all(isinstance(step, str) for step in value):
        return _load_all(tuple(value), name, plugins)
    entry = plugins.find("methods", name)
    where = f"{entry.value}, {entry.origin}" if entry else name
    hint = 'a method is a tuple of step names, as ("cam", "crf"), or one step class'
    raise WsssError(f"method {name!r} is not a recipe", where=where, hint=hint)


def _load_all(names: tuple[str, ...], recipe: str, plugins: Plugins) -> tuple[LoadedStep, ...]:
    return tuple(_load_step(name, recipe, plugins) for name in names)


def _load_step(text: str, recipe: str, plugins: Plugins) -> LoadedStep:
    """One step by its name; a step class that is registered as a method only is found as well."""
    name, path = _with_path(text, plugins)
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
        raise WsssError(f"{name!r} is not a step class", where=f"method {recipe!r}", hint=hint)
    loaded: type[Step] = cls
    if path and not loaded.path_option:
        raise WsssError(
            f"step {name!r} does not take a path", where=f"method {recipe!r}", hint=f"write {name}"
        )
    return found, loaded, path


def batches_of(recipe: Sequence[StepIdentity]) -> dict[str, int]:
    """ "step.option" -> images a step, of every training; a step that comes twice has its number."""
    names = [step.name for step in recipe]
    titles = [f"{n}#{k}" if names.count(n) > 1 else n for k, n in enumerate(names, 1)]
    return {
        f"{title}.{option}": value
        for title, step in zip(titles, recipe, strict=True)
        for option, value in step.config.items()
        if (option == "batch" or option.endswith("_batch")) and isinstance(value, int)
    }
