"""`wsssbench plot` and `paper`: arguments and options alone, so that --help imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from wsssbench.cli.completion import complete_rows, complete_stages
from wsssbench.cli.option_groups import A_PATH, DATA_HELP, options, runs_argument, settings_file


def _names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """`a,b` as names, each once."""
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def _rows_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which rows: the same for both commands."""
    for option in (
        click.option("--limited", is_flag=True, help="Also include runs made with --limit."),
        click.option(
            "--stage", "stages", multiple=True, help="One stage only, as seg. Repeatable.",
            shell_complete=complete_stages,
        ),
        click.option(
            "--method", "methods", multiple=True, help="These methods only, in this order. Repeatable.",
            shell_complete=complete_rows,
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@runs_argument
@click.option("--out", required=True, type=A_PATH, help="Folder for the pictures.")
@click.option(
    "--format",
    "formats",
    default="png,svg",
    show_default=True,
    callback=_names,
    help="Of png, svg, pdf.",
)
@_rows_options
def plot(runs: tuple[Path, ...], out: Path, **flags: Any) -> None:
    """Draw what the records in RUNS allow (default: `runs` of wsssbench.toml).

    mIoU by method with seeds and intervals, IoU by class, training curves, and where the run has their
    metrics threshold curves, precision against coverage, error ladders and reliability diagrams.

    Examples:
      wsssbench plot runs --out figures --format pdf --method rrm --method cam

    Next: `wsssbench paper` has tables and a figure of masks.
    """
    from wsssbench.commands.plot import plot_command

    plot_command(runs, out, **flags)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=A_PATH)
@click.option("--out", required=True, type=A_PATH, help="Folder for the bundle.")
@_rows_options
@click.option(
    "--count", type=click.IntRange(1, 20), default=4, show_default=True, help="Images in the figure."
)
@click.option(
    "--images",
    "rule",
    type=click.Choice(["median", "random"]),
    default="median",
    show_default=True,
    help="Which images: those nearest the median per-image mIoU of the first method, or drawn with --seed.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of --images random.")
@options(DATA_HELP)
@settings_file
def paper(runs: tuple[Path, ...], out: Path, **flags: Any) -> None:
    """Write what a paper needs of RUNS: LaTeX tables, the protocol in words, a figure of masks, hashes.

    The figure shows the same images for all methods, chosen by a rule that its caption states. It needs the
    data set and the masks of the cells; without them the rest is written.

    Examples:
      wsssbench paper runs --out bundle --method rrm --method cam --stage seg

    Next: compile bundle/*.tex; `wsssbench export records runs records.zip` for the reviewers.
    """
    from wsssbench.commands.paper import paper_command

    paper_command(runs, out, **flags)
