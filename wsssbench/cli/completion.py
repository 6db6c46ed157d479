"""What a shell completes: names of methods, data sets, stages, metrics and rows, and keys of options.

Everything comes from entry points, sources, ./wsssbench.toml and folder names; no plugin is imported and no
record is read, so that an answer takes a fraction of a second. An error means no suggestion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from wsssbench.errors import WsssError

if TYPE_CHECKING:
    from click import Context, Parameter

    from wsssbench.planning.settings import Settings
    from wsssbench.plugins.table import Group

Completer: TypeAlias = "Callable[[Context, Parameter, str], list[str]]"


def completer(names: Callable[[], Iterable[str]]) -> Completer:
    """Completes one of `names()`; of a comma-separated list its last part."""

    def complete(ctx: Context, param: Parameter, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        fitting = (name for name in _quietly(names) if name.startswith(last) and name not in taken)
        return [before + comma + name for name in fitting]

    return complete


def _quietly(names: Callable[[], Iterable[str]]) -> list[str]:
    try:
        return list(names())
    except (WsssError, OSError):
        return []


def plugin_names(*groups: Group) -> list[str]:
    """The names of the installed plugins of these groups."""
    from wsssbench.plugins.table import Plugins

    plugins = Plugins()
    return list(dict.fromkeys(name for group in groups for name in plugins.names(group)))


def _settings() -> Settings:
    from wsssbench.planning.settings import find_settings, load_settings

    return load_settings(find_settings(None), {})


def _methods() -> list[str]:
    return [*plugin_names("methods"), *_settings().recipes]


def _stages() -> list[str]:
    from wsssbench.planning.stages import STAGES

    return [*STAGES, *_settings().custom_stages]


def _shown() -> list[str]:
    """What `wsssbench show` has a page for."""
    from wsssbench.planning.settings import WITH_OPTIONS

    return list(dict.fromkeys([*_methods(), *plugin_names("steps", "datasets"), *_stages(), *WITH_OPTIONS]))


def _checked() -> list[str]:
    """What has a contract."""
    return list(dict.fromkeys([*plugin_names("steps", "datasets", "metrics"), *_methods()]))


def _supervision() -> tuple[str, ...]:
    from wsssbench.types import SUPERVISION

    return SUPERVISION


def _rows() -> list[str]:
    """Methods with results in the default folder of runs, by their folders' names."""
    return sorted({place.parent.name for place in Path(_settings().runs).glob("*/*/seed*")})


def complete_option(ctx: Context, param: Parameter, incomplete: str) -> list[str]:
    """`NAME.`, then `NAME.KEY=`, then a value where it is one of a few; names that the command line has
    already come first."""
    return _quietly(lambda: _options(incomplete, ctx.params))


def _options(incomplete: str, given: dict[str, Any]) -> list[str]:
    from wsssbench.planning.settings import WITH_OPTIONS
    from wsssbench.plugins.options import option_names
    from wsssbench.plugins.sources import choices_of
    from wsssbench.plugins.table import Plugins

    plugins = Plugins()
    name, dot, rest = incomplete.partition(".")
    if not dot:
        asked = {*_words(given.get("datasets")), *_words(given.get("methods"))}
        known = [*plugins.names("datasets"), *plugins.names("steps"), *WITH_OPTIONS]
        return [f"{n}." for n in sorted(known, key=lambda n: n not in asked) if n.startswith(name)]
    entry = plugins.find("steps", name) or plugins.find("datasets", name)
    choices = choices_of(entry) if entry else {}
    if name in WITH_OPTIONS:
        from wsssbench.running.executors.slurm_options import Slurm

        choices = dict.fromkeys(option_names(Slurm), ())
    key, equals, value = rest.partition("=")
    if equals:
        return [f"{name}.{key}={choice}" for choice in choices.get(key, ()) if choice.startswith(value)]
    return [f"{name}.{option}=" for option in choices if option.startswith(key)]


def _words(values: Any) -> list[str]:
    """The names in `--method "cam > crf"`, and in repeated options."""
    texts = (values,) if isinstance(values, str) else values or ()
    return [word for text in texts for word in str(text).replace(">", " ").split()]


complete_methods, complete_stages, complete_rows = completer(_methods), completer(_stages), completer(_rows)
complete_datasets = completer(lambda: plugin_names("datasets"))
complete_metrics = completer(lambda: plugin_names("metrics"))
complete_shown, complete_checked = completer(_shown), completer(_checked)
complete_supervision = completer(_supervision)
complete_device = completer(lambda: ("auto", "cpu", "cuda", "cuda:0", "cuda:1"))
