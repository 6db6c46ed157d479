"""`wsssbench predict`: a fitted run on a user's own pictures, without tags: a mask and an overlay each."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from PIL import Image as PilImage

from wsssbench.commands.export.recorded_cells import find_cell
from wsssbench.commands.fitted import FittedRun, open_fitted
from wsssbench.errors import BadData
from wsssbench.files.atomic import atomic_write_bytes
from wsssbench.files.image_files import read_rgb
from wsssbench.masks import overlay, write_labels
from wsssbench.running.opening import open_plugins

if TYPE_CHECKING:
    from wsssbench.types import Image, Mask

SUFFIX = "_overlay"


def predict_command(
    images: Sequence[Path], cell: Path, out: Path, device: str | None, plugins: Sequence[Path] = ()
) -> None:
    """Write out/<stem>.png (class indices, VOC palette) and out/<stem>_overlay.png for each image."""
    targets = output_paths(images, out)
    for path in images:  # a bad picture is found before the network is loaded
        read_picture(path)
    fitted = fitted_run(cell, device, plugins)
    found: set[int] = set()
    ones, others = itertools.tee(map(read_picture, images))
    for path, image, labels in zip(images, ones, fitted.labels(others), strict=True):
        _write(targets[path], image, labels)
        found |= set(np.unique(labels).tolist())
    names = {k + 1: name for k, name in enumerate(fitted.card.class_names)}
    legend = ", ".join(f"{k} {names[k]}" for k in sorted(found) if k in names)
    click.echo(f"{len(images)} masks in {out}; labels: 0 background{', ' + legend if legend else ''}")


def fitted_run(cell: Path, device: str | None, files: Sequence[Path] = ()) -> FittedRun:
    """The fitted steps of a cell; a folder above it will do where only one there was judged without tags."""
    found = find_cell(cell, lambda record: not record.identity.terms.tags_at_evaluation)
    return open_fitted(found.path, device, open_plugins(files))


def output_paths(images: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Where each image's mask goes; BadData where two would meet or an input would be overwritten."""
    inputs = {path.resolve() for path in images}
    targets: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for path in dict.fromkeys(images):
        target = out / f"{path.stem}.png"
        for file in (target, _overlay_path(target)):
            if file.resolve() in inputs:
                hint = "give another folder with --out"
                raise BadData("the output would overwrite an image", where=file, hint=hint)
            if taken.setdefault(file, path) != path:
                hint = "rename one, or predict them into two folders"
                raise BadData(f"two images would both become {file.name}", where=path, hint=hint)
        targets[path] = target
    return targets


def _overlay_path(target: Path) -> Path:
    return target.with_name(f"{target.stem}{SUFFIX}.png")


def read_picture(path: Path) -> Image:
    """(H, W, 3) uint8 RGB, turned upright as its EXIF data says; BadData for a file that is not a picture."""
    return read_rgb(path, upright=True, hint="check the path, or save it again as PNG")


def _write(target: Path, image: Image, labels: Mask) -> None:
    write_labels(target, labels)
    buffer = io.BytesIO()
    PilImage.fromarray(overlay(image, labels)).save(buffer, format="PNG")
    atomic_write_bytes(_overlay_path(target), buffer.getvalue(), sync=False)
