"""`wsssbench export`: arguments and options alone, so that --help imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wsssbench.cli.option_groups import A_PATH, DATA_HELP, device, options, plugin_files, quiet, settings_file


@click.group()
def export() -> None:
    """Write a run's labels, maps or records for others: the VOC server, readers of PSA's maps, any viewer.

    Examples:
      wsssbench export records runs records.zip
      wsssbench export png CELL masks

    Next: others read the archive with `wsssbench report records.zip`.
    """


@export.command()
@click.argument("cell", type=A_PATH)
@click.option("--out", type=A_PATH, help="The archive (default: named by the cell, here).")
@click.option(
    "--competition",
    type=click.Choice(["comp5", "comp6"]),
    help="Default: by what the row has seen.",
)
@click.option("--list", "listed", type=A_PATH, help="Ids to predict (default: the tree's test.txt).")
@click.option("--images", type=A_PATH, help="Folder of <id>.jpg (default: the tree's JPEGImages).")
@device
@plugin_files
@options(DATA_HELP)
@settings_file
@quiet
def voc12_test(cell: Path, **flags: Any) -> None:
    """Predict VOC's test images as CELL predicts, and pack them as the VOC server takes them.

    CELL is the folder of a cell of a stage without tags, as seg+crf, or a folder above it.

    Examples:
      wsssbench export voc12-test runs/voc12/cam-2step/seed0 -o voc12.root=FOLDER

    Next: send the archive to the VOC evaluation server.
    """
    from wsssbench.commands.export.voc_test import voc12_test_command

    voc12_test_command(cell, flags)


@export.command()
@click.argument("runs", nargs=-1, required=True, type=A_PATH)
@click.argument("out", type=A_PATH)
def records(runs: tuple[Path, ...], out: Path) -> None:
    """Pack the records below RUNS, with the confusion of every image, into OUT (a .zip of a few MB).

    Others compare with it without masks: `compare`, `report` and `gate` read it like a folder of runs.

    Examples:
      wsssbench export records runs records.zip

    Next: `wsssbench compare rrm cam --runs records.zip` on any machine, without masks.
    """
    from wsssbench.commands.export.files import records_command

    records_command(runs, out)


@export.command()
@click.argument("cell", type=A_PATH)
@click.argument("out", type=A_PATH)
def psa(cell: Path, out: Path) -> None:
    """Write the maps behind CELL to the new folder OUT, as PSA's dicts: OUT/<id>.npy.

    Examples:
      wsssbench export psa runs/voc12/cam/seed0/seed-train-1a2b3c4d cam_npy

    Next: give the folder to a program that reads PSA's dicts.
    """
    from wsssbench.commands.export.files import psa_command

    psa_command(cell, out)


@export.command()
@click.argument("cell", type=A_PATH)
@click.argument("out", type=A_PATH)
def png(cell: Path, out: Path) -> None:
    """Write the labels of CELL to the new folder OUT, as palette PNGs: OUT/<id>.png.

    Examples:
      wsssbench export png runs/shapes/cam/seed0/seg-val-1a2b3c4d masks

    Next: `wsssbench score masks --dataset shapes --as copy` reads them again.
    """
    from wsssbench.commands.export.files import png_command

    png_command(cell, out)
