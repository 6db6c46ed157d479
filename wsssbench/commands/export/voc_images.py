"""The images of VOC's test split: which there are, where they lie, their sizes and pixels.

From the data set `voc12`, or from a list and a folder that the user names: VOC gives them as an archive of
their own, which need not lie in the tree of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsssbench.errors import BadData, first_names
from wsssbench.planning.plan import open_dataset
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins

if TYPE_CHECKING:
    from wsssbench.types import Dataset

VOC = "voc12"
TEST_IMAGES = 1456  # of VOC 2012
JPEGS = "JPEGImages"


def test_images(
    listed: Path | None, folder: Path | None, settings: Settings, plugins: Plugins
) -> dict[str, Path]:
    """id -> image file of VOC's test split: of the data set, or of a list and a folder named instead.

    BadData where there is no list, where it has not VOC's 1,456 images and nobody named it, and where images
    are missing.
    """
    data: Any = None if listed and folder else open_dataset(VOC, plugins, settings, 0)  # has `image_path`
    ids = read_ids(listed) if listed else _test_ids(data)
    if listed and len(ids) != TEST_IMAGES:
        short = f"{listed} names {len(ids):,} images; the server wants VOC's {TEST_IMAGES:,}"
        click.echo(short, err=True)
    if folder:
        place = folder / JPEGS if (folder / JPEGS).is_dir() else folder
        paths = {id: place / f"{id}.jpg" for id in ids}
    else:
        paths = {id: data.image_path(id) for id in ids}
    _check_there(paths)
    return paths


def _test_ids(data: Dataset) -> tuple[str, ...]:
    hint = "unpack VOC's test archive into the tree, or give --list FILE and --images FOLDER"
    if "test" not in data.card.splits:
        raise BadData("the VOC tree has no list test.txt", where="voc12.root", hint=hint)
    ids = data.ids("test")
    if len(ids) != TEST_IMAGES:
        what = f"the test list has {len(ids):,} images, VOC's has {TEST_IMAGES:,}"
        raise BadData(
            what, where="voc12.root", hint="to export these all the same, name the list: --list FILE"
        )
    return ids


def read_ids(path: Path) -> tuple[str, ...]:
    """The ids of a list: of each line the first word, without folder and suffix; BadData where it is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"this list cannot be read ({error})", where=path) from error
    words = [line.split()[0] for line in lines if line.strip()]
    ids = [word.rsplit("/", 1)[-1].removesuffix(".jpg").removesuffix(".png") for word in words]
    twice = sorted({id for id in ids if ids.count(id) > 1}) if len(set(ids)) < len(ids) else []
    if twice or not ids:
        what = f"ids that stand twice: {first_names(twice)}" if twice else "this list is empty"
        raise BadData(what, where=path, hint="put one image id on each line")
    return tuple(ids)


def _check_there(paths: Mapping[str, Path]) -> None:
    missing = [id for id, path in paths.items() if not path.is_file()]
    if missing:
        what = f"{len(missing):,} of {len(paths):,} test images are missing: {first_names(missing)}"
        hint = "VOC's test images are an archive of their own: unpack it there, or give --images FOLDER"
        raise BadData(what, where=paths[missing[0]].parent, hint=hint)
