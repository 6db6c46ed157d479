"""The words of `wsssbench verify`: arguments and options alone, so that --help imports nothing heavy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

A_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("runs", nargs=-1, type=A_PATH)
@click.option(
    "-o", "options", multiple=True, metavar="NAME.KEY=VALUE", help="Of a data set, as voc12.root=FOLDER."
)
@click.option("--weights", multiple=True, metavar="[STEP=]FILE", help="Also compare this file of weights.")
@click.option("--from-masks", is_flag=True, help="Score the kept masks; do not make them again from maps.")
@click.option("--config", type=A_PATH, help="Settings file (default: ./wsssbench.toml).")
@click.option("--json", "as_json", is_flag=True, help="Print every difference as JSON.")
def verify(runs: tuple[Path, ...], **flags: Any) -> None:
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
    from wsssbench.running.opening import default_runs

    sys.exit(verify_command(runs or (default_runs(),), **flags))
