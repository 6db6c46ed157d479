"""The words of `wsssbench run`, `mined` and `bench`: arguments and options alone, so that --help imports
nothing heavy."""

from __future__ import annotations

import sys
from typing import Any

import click

from wsssbench.cli.completion import complete_methods
from wsssbench.cli.option_groups import options, plugin_files, quiet, settings, settings_file, weights
from wsssbench.planning.settings import FIELDS

FIXED = ("methods", "stages", "metrics", "threshold_policy", "jobs", "executor", "rerun")  # of `mined`
MEASURED = click.IntRange(1, 10_000)


@click.command()
@settings(*FIELDS)
@options()
@weights
@settings_file
@click.option("--dry-run", is_flag=True, help="Show what would run and stop.")
@click.option(
    "--detach",
    is_flag=True,
    help="With --executor slurm: submit and leave. The same command without it waits and collects.",
)
@click.option(
    "--deterministic",
    is_flag=True,
    help="Use operations that repeat bit for bit; on a GPU up to those that docs/isolation.md lists.",
)
@click.option("--tensorboard", is_flag=True, help="Also write curves and masks below RUNS/tensorboard.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON instead of tables.")
@quiet
def run(**flags: Any) -> None:
    """Train and judge methods; what is done already is not done again.

    Examples:
      wsssbench run --method cam --method rrm --dataset shapes --seeds 0,1,2
      wsssbench run --method "cam > crf" --dataset voc12 -o voc12.root=FOLDER --stages pseudo
      wsssbench run --plugin my.py --method my --dataset shapes --dry-run
      wsssbench run --method cam --dataset shapes --seeds 0,1,2,3 --jobs 4
      wsssbench run --method cam --dataset shapes --executor slurm -o slurm.partition=gpu

    Next: `wsssbench report` for the tables, `wsssbench compare rrm cam` for differences with intervals.
    """
    from wsssbench.commands.run import run_command

    sys.exit(run_command(flags))


@click.command()
@click.argument("methods", nargs=-1, shell_complete=complete_methods)
@settings(*(name for name in FIELDS if name not in FIXED))
@options()
@weights
@settings_file
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
@quiet
def mined(**flags: Any) -> None:
    """Say what the mined labels of METHODS teach: how much background and objects, and how often rightly.

    For a method that trains on labels it mines (rrm), and for any localizer (cam), whose maps the rule of RRM
    then mines. Training images are judged, with their tags; their masks are needed. What is fitted already is
    not fitted again.

    Examples:
      wsssbench mined rrm cam --dataset shapes
      wsssbench mined rrm --dataset voc12 -o voc12.root=FOLDER --weights efficientnet_lite0

    Next: more background by one scale alone (-o rrm.cam_scales=1), more objects by -o rrm.fraction=0.6.
    """
    from wsssbench.commands.mined import mined_command

    sys.exit(mined_command(flags))


@click.command()
@settings("methods", "datasets")
@click.option("--seed", type=int, help="Training seed; draws a generated data set.")
@settings("runs", "device", "precision", "filter", "offline")
@click.option(
    "--warmup", type=MEASURED, default=5, show_default=True,
    help="Training steps to discard; the first one compiles.",
)  # fmt: skip
@click.option(
    "--repeats", type=MEASURED, default=20, show_default=True,
    help="Training steps, and batches of predictions, to measure.",
)  # fmt: skip
@plugin_files
@options()
@weights
@settings_file
@click.option("--json", "as_json", is_flag=True, help="Print the tables as JSON.")
@quiet
def bench(**flags: Any) -> None:
    """Measure how fast methods train and predict, and where the time goes.

    The first steps of each training are measured; what is fitted is thrown away. Nothing else should run on
    the machine meanwhile. The records have tables of their own in `report`.

    Examples:
      wsssbench bench --method cam --method rrm --dataset shapes

    Next: `wsssbench report` has the tables.
    """
    from wsssbench.commands.bench import bench_command

    sys.exit(bench_command(flags))
