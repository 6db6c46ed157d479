"""`wsssbench compare`, `errors`, `gate`, `merge`, `score` and `verify`: arguments and options alone, so that
--help imports nothing heavy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from wsssbench.cli.completion import (
    complete_datasets,
    complete_metrics,
    complete_rows,
    complete_stages,
    complete_supervision,
)
from wsssbench.cli.option_groups import (
    A_PATH,
    DATA_HELP,
    listed,
    options,
    runs_argument,
    runs_option,
    settings_file,
    together,
)

rows_to_judge = together(
    click.argument("rows", nargs=-1, required=True, shell_complete=complete_rows),
    runs_option,
    click.option("--stage", help="One stage only, as seg.", shell_complete=complete_stages),
)


@click.command()
@rows_to_judge
@click.option("--resamples", type=int, default=10_000, show_default=True, help="Draws of the bootstrap.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the bootstrap's draws."
)
@click.option("--json", "as_json", is_flag=True, help="Print every number as JSON.")
def compare(rows: tuple[str, ...], **flags: Any) -> None:
    """Say whether the first of ROWS is better than each other one: differences with intervals.

    A row is a method with results below --runs, or a folder with cells of one method. Cells are paired by
    seed and image; unlike protocols are refused, with the fields that differ.

    Examples:
      wsssbench compare rrm cam cam+crf --stage seg

    Next: `wsssbench errors rrm cam --stage seg` says where the difference comes from.
    """
    from wsssbench.commands.compare import compare_command

    compare_command(rows, **flags)


@click.command()
@rows_to_judge
@options(DATA_HELP)
@settings_file
@click.option("--no-ladder", is_flag=True, help="Slices alone: no masks and no data set are opened.")
@click.option(
    "--resamples",
    type=click.IntRange(100),
    default=2000,
    show_default=True,
    help="Draws of the bootstrap for the intervals.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every number as JSON.")
def errors(rows: tuple[str, ...], **flags: Any) -> None:
    """Say what each kind of error costs in finished cells, and where they err.

    A row is a method with results below --runs, or a folder with cells. All cells of one table need equal
    terms; --stage chooses among the stages of a method.

    Examples:
      wsssbench errors rrm cam --stage seg
      wsssbench errors runs/shapes/cam/seed0/seg-val-1a2b3c4d

    Next: `wsssbench report --html report.html` shows the images.
    """
    from wsssbench.commands.error_analysis import errors_command

    errors_command(rows, **flags)


@click.command()
@runs_argument
@click.option("--baseline", required=True, type=A_PATH, help="A file of expected rows.")
@click.option("--write", is_flag=True, help="Write the baseline from RUNS instead of judging them.")
@click.option(
    "--tolerance",
    type=float,
    default=1.0,
    show_default=True,
    help="With --write: allowed loss in points.",
)
@click.option(
    "--interval", is_flag=True, help="Judge by the interval over paired seeds, not by the tolerance."
)
def gate(**flags: Any) -> None:
    """Judge RUNS (default: `runs` of wsssbench.toml) against a baseline.

    Exit code 0: no regression, 1: a regression, 2: bad input, 3: not comparable or no baseline.

    Examples:
      wsssbench gate runs --baseline baselines/shapes.json --write
      wsssbench gate runs --baseline baselines/shapes.json

    Next: with exit code 1, `wsssbench compare` and `wsssbench errors` say what got worse.
    """
    from wsssbench.commands.report import gate_command

    sys.exit(gate_command(**flags))


@click.command()
@click.argument("folders", nargs=-1, required=True, type=A_PATH)
@click.option("--runs", type=A_PATH, help="Folder for records.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def merge(folders: tuple[Path, ...], runs: Path | None, as_json: bool) -> None:
    """Add up the shards of `wsssbench score --shard` below FOLDERS: the rows of a single pass.

    Every shard has to be there once. Neither the data set nor the files that were scored are needed.

    Examples:
      wsssbench score masks --dataset voc12 -o voc12.root=FOLDER --as irn --runs parts --shard 1/4
      wsssbench merge parts
      wsssbench merge from-node-1 from-node-2 --runs runs

    Next: `wsssbench report` has the row beside those of `run`; the shards may be removed.
    """
    from wsssbench.commands.shards import merge_command

    merge_command(folders, runs, as_json=as_json)


@click.command()
@runs_argument
@options(DATA_HELP)
@click.option("--weights", multiple=True, metavar="[STEP=]FILE", help="Also compare this file of weights.")
@click.option("--from-masks", is_flag=True, help="Score the kept masks; do not make them again from maps.")
@settings_file
@click.option("--json", "as_json", is_flag=True, help="Print every difference as JSON.")
def verify(**flags: Any) -> None:
    """Judge the records in RUNS again from the files on disk, and compare scores and hashes.

    RUNS are folders of runs or cells (default: `runs` of wsssbench.toml). Thresholds are chosen and labels
    made again from maps and probabilities as the stage says, and scored against the truth; nothing is
    predicted, nothing is written. Compared are scores, counts, labels, the sha256 of files as recorded, the
    fingerprints of the data set, the weights that are given, and the key.

    Exit code 0: all are ok, 1: a score or hash differs, 2: bad input, 3: nothing differs, but some record
    cannot be verified in full, as files or the data set are not there.

    Examples:
      wsssbench verify
      wsssbench verify runs -o voc12.root=FOLDER --json

    Next: what differs is judged again by `wsssbench run --rerun all`.
    """
    from wsssbench.commands.verifying import verify_command

    sys.exit(verify_command(**flags))


@click.command()
@click.argument("folder", type=A_PATH)
@click.option(
    "--dataset",
    required=True,
    help="The data set that the labels belong to.",
    shell_complete=complete_datasets,
)
@click.option(
    "--stage",
    default="seg",
    show_default=True,
    help="The protocol that they were made under.",
    shell_complete=complete_stages,
)
@click.option("--as", "name", required=True, help="Name of the row in the tables.")
@listed("--supervision", "What the method learned from, as tags.", complete_supervision)
@listed("--metrics", "Metrics beside iou, as compatible,boundary_iou.", complete_metrics)
@click.option("--format", default="auto", show_default=True, help="Their format; --format help lists all.")
@click.option(
    "--coding",
    type=click.Choice(["classes", "truth"]),
    help="How label pictures are coded: by class numbers (the default), or as the data set's masks.",
)
@click.option("--threshold", type=float, help="For class maps: the value above which a pixel is foreground.")
@click.option("--class-index", type=int, help="For files with one bare map: its class, from 0.")
@click.option("--rescale", is_flag=True, help="For maps beyond 0..1: divide each by its largest.")
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Training seed; draws a generated data set.",
)
@click.option("--runs", type=A_PATH, help="Folder for the records.")
@click.option("--limit", type=int, help="Only the first N images of the split.")
@click.option(
    "--shard", metavar="N/M", help="Only part N of M of the images; `wsssbench merge` adds them up."
)
@options()
@settings_file
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def score(folder: Path, **flags: Any) -> None:
    """Score a FOLDER with one file per image, named by its id, and record it as a row.

    Label PNGs, or what other repositories write: class maps, probabilities, logits (.npy, .npz, .pt).
    Pickles in them are read without executing anything.

    Examples:
      wsssbench score masks --dataset voc12 -o voc12.root=FOLDER --as irn --supervision tags
      wsssbench score out/cam --dataset voc12 --stage seed --as irn --threshold 0.15
      wsssbench score out --dataset voc12 --as irn --format help

    Next: `wsssbench report` has the row beside those of `run`.
    """
    if flags["format"] == "help":
        from wsssbench.dumps import list_formats

        click.echo("\n".join(map(str, list_formats())))
        return
    if flags["shard"]:
        from wsssbench.commands.shards import shard_command

        shard_command(folder, flags)
        return
    from wsssbench.commands.scoring import score_command

    score_command(folder, flags)
