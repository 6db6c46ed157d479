"""Options and arguments that several commands have: one word for one thing everywhere, and what a shell
completes of their values. Nothing heavy is imported, and no command's body lives here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click

from wsssbench.cli.completion import (
    Completer,
    complete_datasets,
    complete_device,
    complete_executor,
    complete_filter,
    complete_methods,
    complete_option,
    complete_precision,
)

A_PATH = click.Path(path_type=Path)
OPTION_HELP = "An option of a step or data set, as rrm.crop=448; `wsssbench show rrm` lists them. Repeatable."
DATA_HELP = "An option of the data set, as voc12.root=FOLDER. Repeatable."
Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def comma_list(kind: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A callback that splits `a,b,c`; a value that `kind` refuses is a usage error."""

    def split(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        if value is None:
            return None
        try:
            found = tuple(kind(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            raise click.BadParameter(f"{value!r} is no comma-separated list of {kind.__name__}s") from None
        if not found:
            raise click.BadParameter("nothing is named; leave the option out, or write a,b,c")
        return found

    return split


def listed(name: str, help: str, complete: Completer | None = None) -> Decorator:
    """An option whose value is a comma-separated list of names."""
    return click.option(name, callback=comma_list(str), help=help, shell_complete=complete)


def options(help: str = OPTION_HELP) -> Decorator:
    """The repeatable `-o NAME.KEY=VALUE`."""
    return click.option(
        "-o", "options", multiple=True, metavar="NAME.KEY=VALUE", help=help, shell_complete=complete_option
    )


def together(*parts: Decorator) -> Decorator:
    """Several options as one decorator, in the order in which --help shows them."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for part in reversed(parts):
            command = part(command)
        return command

    return add


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
what_to_run = together(
    click.option(
        "--method", "methods", multiple=True, help='A method, or steps as "cam > crf". Repeatable.',
        shell_complete=complete_methods,
    ),
    click.option(
        "--dataset", "datasets", multiple=True, help="A data set. Repeatable.",
        shell_complete=complete_datasets,
    ),
)  # fmt: skip
device = click.option("--device", help="auto, cpu, cuda or cuda:N.", shell_complete=complete_device)
hardware = together(
    device,
    click.option("--precision", help="auto, fp32 or bf16.", shell_complete=complete_precision),
    click.option(
        "--filter", "filter_backend", shell_complete=complete_filter,
        help="Gaussian filter: lattice, exact (other labels at 1 to 6 % of the pixels) or pydensecrf.",
    ),
)  # fmt: skip
executor = together(
    click.option(
        "--jobs", type=int, metavar="N",
        help="Trials at a time, each in a process of its own, one a GPU or a share of the cores.",
    ),
    click.option(
        "--executor", metavar="NAME", shell_complete=complete_executor,
        help="Where trials run: here (the default), local (processes) or slurm (jobs; -o slurm.KEY=VALUE).",
    ),
    click.option(
        "--detach", is_flag=True,
        help="With --executor slurm: submit and leave. The same command without it waits and collects.",
    ),
)  # fmt: skip
plugin_files = click.option(
    "--plugin", "plugins", multiple=True, type=A_PATH, help="A Python file with steps, data sets or metrics."
)
weights = click.option(
    "--weights", multiple=True, metavar="[STEP=]FILE", help="Weights of a step's backbone."
)
settings_file = click.option("--config", type=A_PATH, help="Settings file (default: ./wsssbench.toml).")
isolate = click.option(
    "--isolate/--no-isolate", default=None,
    help="Run every step in a sandbox (bubblewrap) without masks and network. What was made without is made "
    "anew. A generated data set (shapes) can be drawn again from its seed even there.",
)  # fmt: skip
deterministic = click.option(
    "--deterministic", is_flag=True,
    help="Use operations that repeat bit for bit; on a GPU up to those that docs/isolation.md lists.",
)  # fmt: skip
quiet = click.option("-q", "--quiet", is_flag=True, help="No progress.")
