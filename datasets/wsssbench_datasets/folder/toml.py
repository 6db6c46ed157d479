"""`dataset.toml`, the description of a user's data set, read and checked key by key.

Only what the file says: which folders, lists, classes and codes. No list and no picture is opened here. Every
error names the file, the key and the next step; a path that leaves the root is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from wsssbench.errors import BadData, UnknownName, nearest
from wsssbench.files.toml_file import MOST_BYTES, parse_toml
from wsssbench.identity import content_key
from wsssbench.plugins.options import coerce
from wsssbench.types import IGNORE
from wsssbench_datasets.folder.code import BACKGROUND, IGNORED, VOC, read_code
from wsssbench_datasets.folder.label_code import LabelCode
from wsssbench_datasets.image_names import ID, PICTURES, inside, not_linked_out, read_text

FILE = "dataset.toml"
FROM_MASKS = "masks"  # the value of `tags` for tags that are the classes of the mask
LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
LONGEST = 80  # of a name
KEYS: Mapping[str, Any] = {
    "name": str,
    "version": str,
    "classes": tuple[str, ...],
    "images": str,
    "masks": str,
    "image_suffix": str,
    "mask_suffix": str,
    "image_px": int,
    "tags": str,
    "ignore": Any,
    "palette": Any,
    "labels": Any,
    "splits": Any,
    "fit_split": str,
    "label_split": str,
    "eval_split": str,
    "licence": str,
    "source": str,
}
REQUIRED = {
    "name": 'name = "pets"',
    "classes": 'classes = ["cat", "dog"], without the background',
    "splits": '[splits], then train = "train.txt" and val = "val.txt"',
    "tags": 'where image tags come from: tags = "tags.csv", or tags = "masks"',
}
SPLIT_KEYS: Mapping[str, Any] = {"list": str, "images": str, "masks": Any}


@dataclass(frozen=True)
class SplitPlace:
    """Where the images of one split are: those of `list`, else all of the folder `images`."""

    name: str
    list: Path | None
    images: Path
    masks: Path | None  # None: the split has no masks
    written: str  # `images` as it stands in the file, as a prefix of names in lists


@dataclass(frozen=True)
class Description:
    """What dataset.toml says."""

    path: Path
    name: str
    version: str
    classes: tuple[str, ...]
    splits: tuple[SplitPlace, ...]
    image_suffixes: tuple[str, ...]
    mask_suffixes: tuple[str, ...]
    tags: Path | None  # None: from the masks
    code: LabelCode
    coding: str  # what says that masks hold other values than class numbers: "", "labels", "palette", "voc"
    image_px: int | None  # None: measured
    fit_split: str
    label_split: str
    eval_split: str
    licence: str
    source: str

    def digest(self, *sizes: int) -> str:
        """sha256 (hex) of what the labels and `sizes` mean; what files hold is for the fingerprint."""
        return content_key([self.classes, self.code.plain(), *sizes])


def read_description(root: Path) -> Description:
    """The dataset.toml in `root`; BadData or UnknownName where it is missing or says something impossible."""
    path = root / FILE
    if not path.exists():
        hint = f"write one: wsssbench's docs/own-data.md shows a complete {FILE}"
        raise BadData(f"there is no {FILE} in this folder", where=root, hint=hint)
    not_linked_out(path, root, path)
    table = _typed(_parsed(path), KEYS, f"{path}: ")
    for key, example in REQUIRED.items():
        if key not in table:
            raise BadData(f"the key {key} is missing", where=f"{path}: {key}", hint=f"write {example}")
    classes = _classes(table["classes"], f"{path}: classes")
    splits = tuple(_split(name, given, table, root, path) for name, given in _splits(table, path))
    fit, label, judged = _roles(table, splits, path)
    tags = table["tags"]
    return Description(
        path=path,
        name=_name(table["name"], f"{path}: name"),
        version=_line(table.get("version", "1"), f"{path}: version"),
        classes=classes,
        splits=splits,
        image_suffixes=_suffixes(table.get("image_suffix"), PICTURES, PICTURES, f"{path}: image_suffix"),
        mask_suffixes=_suffixes(table.get("mask_suffix"), (".png",), LOSSLESS, f"{path}: mask_suffix"),
        tags=None if tags == FROM_MASKS else inside(root, tags, f"{path}: tags"),
        code=read_code(table, classes, path),
        coding=_coding(table),
        image_px=_positive(table.get("image_px"), f"{path}: image_px"),
        fit_split=fit,
        label_split=label,
        eval_split=judged,
        licence=_line(table.get("licence", "not stated"), f"{path}: licence"),
        source=_line(table.get("source", "not stated"), f"{path}: source"),
    )


def _coding(table: Mapping[str, Any]) -> str:
    if "palette" in table:
        return VOC if table["palette"] == VOC else "palette"
    return "labels" if "labels" in table else ""


def _parsed(path: Path) -> dict[str, Any]:
    return parse_toml(read_text(path, MOST_BYTES, FILE), path, "mend that line; strings are quoted")


def _typed(given: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`given` with every key known and every value of its type."""
    for key in given:
        if key not in kinds:
            place = f"{where}{key:.80}"
            raise UnknownName(f"unknown key {key!r:.80}", where=place, hint=nearest(key, tuple(kinds)))
    return {key: coerce(value, kinds[key], f"{where}{key}") for key, value in given.items()}


# -------------------------------------------------------------------------------------------------- values


def _line(text: str, where: str) -> str:
    """`text`; BadData for one that is empty, long, or has what no line of a table can show."""
    if not text.strip() or len(text) > 4 * LONGEST or not text.isprintable():
        what = f"{text!r:.80} is empty, longer than {4 * LONGEST} characters, or more than a line"
        raise BadData(what, where=where, hint="write one short line of text")
    return text


def _name(text: str, where: str) -> str:
    if not ID.fullmatch(text) or len(text) > LONGEST:
        hint = "it names a folder: letters, digits and . _ + = @ -, as pets-2024"
        raise BadData(f"{text!r:.80} cannot be a name", where=where, hint=hint)
    return text


def _classes(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    if not 0 < len(names) < IGNORE:
        hint = "name 1 to 254 classes, without the background"
        raise BadData(f"{len(names)} classes", where=where, hint=hint)
    for name in names:
        if _line(name, where) != name.strip() or len(name) > LONGEST or re.search(r"[|;]", name):
            hint = f"at most {LONGEST} characters, without | and ;, no blanks around it"
            raise BadData(f"{name!r:.80} cannot be a class", where=where, hint=hint)
        if name in (BACKGROUND, IGNORED):
            hint = f"leave it out: {BACKGROUND} is label 0, ignored pixels are {IGNORE}"
            raise BadData(f"{name!r} is not a class of its own", where=where, hint=hint)
        if names.count(name) > 1:
            raise BadData(f"the class {name!r} stands twice", where=where, hint="remove one")
    return names


def _suffixes(
    given: str | None, default: tuple[str, ...], ends: Sequence[str], where: str
) -> tuple[str, ...]:
    if given is None:
        return default
    if "/" in given or not given.lower().endswith(tuple(ends)):
        hint = f"what follows the id in a file's name, up to {', '.join(ends)}, as _label.png"
        raise BadData(f"{given!r:.80} is no such ending", where=where, hint=hint)
    return (given.lower(),)


def _positive(number: int | None, where: str) -> int | None:
    if number is not None and not 0 < number <= 100_000:
        raise BadData(f"{number} is not a size of an image in pixels", where=where, hint="as image_px = 500")
    return number


# -------------------------------------------------------------------------------------------------- splits


def _splits(table: Mapping[str, Any], path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and table of each split; a text alone is a list."""
    given = table["splits"]
    if not isinstance(given, Mapping) or not given:
        raise BadData("splits is not a table", where=f"{path}: splits", hint=f"write {REQUIRED['splits']}")
    found: list[tuple[str, Mapping[str, Any]]] = []
    for name, value in given.items():
        where = f"{path}: splits.{name:.80}"
        _name(name, where)
        content = {"list": value} if isinstance(value, str) else value
        if not isinstance(content, Mapping):
            hint = f'{name} = "{name}.txt", or [splits.{name}] with list, images, masks'
            raise BadData("this is neither a list nor a table", where=where, hint=hint)
        found.append((name, _typed(content, SPLIT_KEYS, f"{where}.")))
    return found


def _split(
    name: str, given: Mapping[str, Any], table: Mapping[str, Any], root: Path, path: Path
) -> SplitPlace:
    where = f"{path}: splits.{name}"
    listed, masks = given.get("list"), given.get("masks", table.get("masks", "masks"))
    if masks is not False and not isinstance(masks, str):
        raise BadData(
            f"{masks!r:.80} is not a folder of masks", where=f"{where}.masks", hint="a path, or false"
        )
    images = given.get("images", table.get("images", "images"))
    return SplitPlace(
        name=name,
        list=None if listed is None else inside(root, listed, f"{where}.list"),
        images=inside(root, images, f"{where}.images" if "images" in given else f"{path}: images"),
        masks=None if masks is False else inside(root, masks, f"{where}.masks"),
        written=PurePosixPath(images).as_posix(),
    )


def _roles(table: Mapping[str, Any], splits: Sequence[SplitPlace], path: Path) -> tuple[str, str, str]:
    """Names of the splits where methods train, where labels and where segmentations are judged."""
    known = {split.name: split for split in splits}
    fit = table.get("fit_split", "train")
    roles = {
        "fit_split": fit,
        "label_split": table.get("label_split", fit),
        "eval_split": table.get("eval_split", "val"),
    }
    for key, name in roles.items():
        where = f"{path}: {key}"
        if name not in known:
            hint = f'name one: {key} = "{splits[0].name}"; {nearest(name, tuple(known))}'
            raise UnknownName(f"there is no split {name!r:.80}", where=where, hint=hint)
        if key != "fit_split" and known[name].masks is None:
            hint = f"{key} needs masks: name another split there, or give {name} its masks"
            raise BadData(f"the split {name} has no masks", where=where, hint=hint)
    if table["tags"] == FROM_MASKS and known[fit].masks is None:
        hint = 'give a file: tags = "tags.csv"'
        raise BadData(f"no tags from masks: {fit} has none", where=f"{path}: tags", hint=hint)
    return fit, roles["label_split"], roles["eval_split"]
