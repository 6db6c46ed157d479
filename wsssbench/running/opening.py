"""From flags to settings and plugins: what every command that reads settings does first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wsssbench.errors import WsssError
from wsssbench.planning.recipe_loading import resolve_recipe
from wsssbench.planning.settings import (
    FIELDS,
    Settings,
    check_names,
    find_settings,
    load_settings,
    with_options,
    with_weights,
)
from wsssbench.plugins.options import option_names
from wsssbench.plugins.table import Plugins


def open_plugins(files: Iterable[Path], *, isolate: bool = False) -> Plugins:
    """Everything installed, and the local files; with `isolate` no third-party step is imported here."""
    plugins = Plugins()
    if isolate:
        from wsssbench.running.isolation.planning import isolated_plugins

        plugins = isolated_plugins()
    for path in files:
        plugins.add_file(path)
    return plugins


def open_settings(
    flags: Mapping[str, Any], config: Path | None, options: Sequence[str], weights: Sequence[str] = ()
) -> tuple[Settings, Plugins]:
    """Settings (defaults < file < flags < -o, --weights) with every name checked, and the plugins."""
    settings = load_settings(find_settings(config), flags)
    plugins = open_plugins(settings.plugins, isolate=settings.isolate)
    steps, datasets = plugins.names("steps"), plugins.names("datasets")
    check_names(settings, steps, datasets)
    settings = with_options(settings, options, steps, datasets)
    if weights:
        settings = with_weights(settings, weights, taking_weights(settings, plugins))
    return settings, plugins


def open_flags(flags: Mapping[str, Any]) -> tuple[Settings, Plugins]:
    """The same of the flags of a command that has settings, options, weights and --config by these names."""
    asked = {name: flags[name] for name in FIELDS if name in flags}
    return open_settings(asked, flags["config"], flags["options"], flags["weights"])


def default_runs() -> Path:
    """The folder of runs of ./wsssbench.toml, `runs` without one."""
    return load_settings(find_settings(None), {}).runs


def taking_weights(settings: Settings, plugins: Plugins) -> list[str]:
    """The steps of the settings' recipes that have an option `weights`."""
    found = {
        name
        for method in settings.methods
        for name, cls in resolve_recipe(method, plugins, settings).steps
        if "weights" in option_names(cls)
    }
    if not found:
        raise WsssError(
            "no step of these methods takes weights", where="--weights", hint="wsssbench show STEP"
        )
    return sorted(found)
