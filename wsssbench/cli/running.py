"""The words of `wsssbench run` and `wsssbench bench`: arguments and options alone, so that --help imports
nothing heavy."""

from __future__ import annotations

import sys
from typing import Any

import click

from wsssbench.cli.completion import complete_metrics, complete_stages
from wsssbench.cli.option_groups import (
    A_PATH,
    comma_list,
    deterministic,
    executor,
    hardware,
    isolate,
    listed,
    options,
    plugin_files,
    quiet,
    settings_file,
    weights,
    what_to_run,
)


@click.command()
@what_to_run
@click.option("--seeds", callback=comma_list(int), help="Training seeds, as 0,1,2.")
@listed("--stages", "Stages to judge, as pseudo,seg,seg+crf.", complete_stages)
@listed("--metrics", "Metrics beside iou, as boundary_iou,activation.", complete_metrics)
@click.option(
    "--threshold-policy",
    type=click.Choice(["fixed", "held-out", "label-free", "oracle"]),
    help="How the threshold of maps is chosen; rows of each policy are ranked apart.",
)
@click.option("--runs", type=A_PATH, help="Folder for artifacts and records.")
@hardware
@click.option("--limit", type=int, help="Only the first N images of every split; kept out of tables.")
@executor
@plugin_files
@options()
@weights
@click.option("--rerun", type=click.Choice(["stale", "all"]), help="Also run cells that are done.")
@settings_file
@click.option("--dry-run", is_flag=True, help="Show what would run and stop.")
@isolate
@deterministic
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
@what_to_run
@click.option("--seed", type=int, help="Training seed; draws a generated data set.")
@click.option("--runs", type=A_PATH, help="Folder for records.")
@hardware
@click.option(
    "--warmup",
    type=click.IntRange(1, 10_000),
    default=5,
    show_default=True,
    help="Training steps to discard; the first one compiles.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Training steps, and batches of predictions, to measure.",
)
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
