"""Options and arguments that several commands have: one word for one thing everywhere, and what a shell
completes of their values. Those of `wsssbench run` are made from the fields of its settings. Nothing heavy is
imported, and no command's body lives here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_origin

import click

from wsssbench.cli.completion import (
    Completer,
    complete_datasets,
    complete_device,
    complete_methods,
    complete_metrics,
    complete_option,
    complete_stages,
)
from wsssbench.planning.settings import FIELDS, KINDS, flag_of

A_PATH = click.Path(path_type=Path)
OPTION_HELP = "An option of a step or data set, as rrm.crop=448; `wsssbench show rrm` lists them. Repeatable."
DATA_HELP = "An option of the data set, as voc12.root=FOLDER. Repeatable."
Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
COMPLETERS: dict[str, Completer] = {
    "methods": complete_methods,
    "datasets": complete_datasets,
    "stages": complete_stages,
    "metrics": complete_metrics,
    "device": complete_device,
}


def setting(name: str) -> Decorator:
    """The option for the field `name` of `Settings`, which reads its value: a list is one text, a,b,c."""
    f, kind = FIELDS[name], KINDS[name]
    members = get_args(kind) or (kind,)
    flag, more = flag_of(f), dict[str, Any]()
    if kind is bool:
        flag, more = f"{flag}/--no-{flag[2:]}", {"default": None}
    elif get_origin(kind) is Literal:
        more = {"type": click.Choice([choice for choice in members if choice])}
    elif Path in members or (int in members and get_origin(kind) is not tuple):
        more = {"type": A_PATH if Path in members else int}
    if f.metadata["repeat"]:
        more["multiple"] = True
    return click.option(
        flag, name, help=f.metadata["help"], metavar=f.metadata["metavar"],
        shell_complete=COMPLETERS.get(name), **more,
    )  # fmt: skip


def together(*parts: Decorator) -> Decorator:
    """Several options as one decorator, in the order in which --help shows them."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for part in reversed(parts):
            command = part(command)
        return command

    return add


def settings(*names: str) -> Decorator:
    """The options for these fields of `Settings`."""
    return together(*map(setting, names))


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """`a,b,c` as names; none is a usage error."""
    if value is None:
        return None
    found = tuple(part.strip() for part in value.split(",") if part.strip())
    if not found:
        raise click.BadParameter("nothing is named; leave the option out, or write a,b,c")
    return found


def listed(name: str, help: str, complete: Completer | None = None) -> Decorator:
    """An option whose value is a comma-separated list of names."""
    return click.option(name, callback=_names, help=help, shell_complete=complete)


def options(help: str = OPTION_HELP) -> Decorator:
    """The repeatable `-o NAME.KEY=VALUE`."""
    return click.option(
        "-o", "options", multiple=True, metavar="NAME.KEY=VALUE", help=help, shell_complete=complete_option
    )


def _or_default(ctx: click.Context, param: click.Parameter, value: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders that were given, or `runs` of ./wsssbench.toml."""
    if value or ctx.resilient_parsing:
        return value
    from wsssbench.running.opening import default_runs

    return (default_runs(),)


runs_argument = click.argument("runs", nargs=-1, type=A_PATH, callback=_or_default)
runs_option = click.option(
    "--runs", multiple=True, type=A_PATH, callback=_or_default, help="A folder of records. Repeatable."
)
device, plugin_files = setting("device"), setting("plugins")
weights = click.option(
    "--weights",
    multiple=True,
    metavar="[STEP=]FILE|NAME",
    help="Weights of backbones: a file, a package's, or timm:NAME and torchvision:TAG, fetched once.",
)
settings_file = click.option("--config", type=A_PATH, help="Settings file (default: ./wsssbench.toml).")
quiet = click.option("-q", "--quiet", is_flag=True, help="No progress.")
