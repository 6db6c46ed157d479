"""Where things are in a COCO 2014 tree: images, annotation files, masks, lists; and the id in a name.

Only names of files and lines of text. What the files hold (pixels, annotations, tags) is read elsewhere.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from wsssbench.errors import BadData
from wsssbench_datasets.id_lists import read_list
from wsssbench_datasets.image_names import entries_in
from wsssbench_datasets.voc12.lists import DEPTH, only_below

SPLITS = ("train", "val")
CLASS = "SegmentationClass"
BASES = ("", "MSCOCO", "coco", "COCO", "coco2014")  # below the root: all are in circulation
IMAGE_FOLDERS = ("", "images", "JPEGImages", "coco2014")
MASK_FOLDERS = (CLASS, f"../{CLASS}")
LIST_NAMES = ("{}.txt", "{}_id.txt", "{}(id).txt", "{}2014.txt")
GLANCE = 100  # files of a folder that are looked at to tell images from masks
NUMBER = re.compile(r"(?:COCO_(?:train|val)2014_)?(\d{1,12})")
OFFICIAL = {"all": {"train": 82_783, "val": 40_504}, "objects": {"train": 82_081, "val": 40_137}}


def split_folder(folder: Path, split: str) -> Path | None:
    """train2014 or train in `folder`."""
    return next((place for name in (f"{split}2014", split) if (place := folder / name).is_dir()), None)


def image_folders(root: str) -> dict[str, Path]:
    """Split -> folder of its JPEGs, of the splits that are there; BadData where there is none, or several."""
    hint = "give it as -o coco14.root=FOLDER, or as root under [datasets.coco14] in wsssbench.toml"
    if not root:
        raise BadData("coco14 needs the folder of COCO 2014", where="coco14.root", hint=hint)
    given = Path(root).expanduser().absolute()
    for base in BASES:
        if found := _images_in(given / base):
            return found
    if below := only_below(given, _is_tree, "MSCOCO", "coco14.root"):
        return _images_in(below)
    what = (
        f"this is not a COCO 2014 tree (no train2014 or val2014 with images, here or {DEPTH} folders below)"
    )
    raise BadData(what if given.is_dir() else "this folder does not exist", where=given, hint=hint)


def _images_in(folder: Path) -> dict[str, Path]:
    """Split -> folder of its JPEGs in `folder` or in one of IMAGE_FOLDERS there; empty where none has any."""
    for inner in IMAGE_FOLDERS:
        found = {split: place for split in SPLITS if (place := split_folder(folder / inner, split))}
        if any(_has_jpegs(place) for place in found.values()):
            return found
    return {}


def _is_tree(folder: Path) -> bool:
    """Whether it is surely one of COCO 2014: other data sets have folders called train and val, too."""
    return any(place.name.endswith("2014") for place in _images_in(folder).values())


def _has_jpegs(folder: Path) -> bool:
    return any(path.name.endswith(".jpg") for path in itertools.islice(folder.iterdir(), GLANCE))


def tree_of(folders: dict[str, Path]) -> Path:
    """The folder that holds the image folders."""
    return next(iter(folders.values())).parent


def annotation_file(root: str, tree: Path, option: str, split: str) -> Path | None:
    """instances_<split>2014.json in the folder `option`, else in or below `root`, else in or above `tree`."""
    given = Path(root).expanduser().absolute()
    bases = [given / base for base in BASES] + [tree, tree.parent]
    if option:
        bases = [Path(option).expanduser().absolute()]
    names = (f"{folder}instances_{split}2014.json" for folder in ("annotations/", ""))
    return next((path for name in names for base in bases if (path := base / name).is_file()), None)


def mask_folder(folders: dict[str, Path], option: str, split: str) -> Path | None:
    """The folder of PNG masks of `split`: in `option`, or it itself; else SegmentationClass in the tree.

    None where there is none, or only one of the other split.
    """
    if option:
        given = Path(option).expanduser().absolute()
        if not given.is_dir():
            raise BadData("no masks: this folder does not exist", where=given, hint="-o coco14.masks=FOLDER")
        apart = any(split_folder(given, name) for name in SPLITS)
        return split_folder(given, split) or (None if apart else given)
    tree = tree_of(folders)
    places = [(tree / name).resolve() for name in MASK_FOLDERS]
    return next((found for place in places if (found := split_folder(place, split))), None)


# ----------------------------------------------------------------------------------------------------- ids


def image_number(name: str) -> str:
    """The number of the image in an id, a path or a bare number, as text without leading zeros; "" for none.

    COCO_val2014_000000000042.jpg, 000000000042 and 42 name one image; the two splits share no number.
    """
    stem = re.sub(r"\.(jpg|jpeg|png)$", "", name.replace("\\", "/").rsplit("/", 1)[-1], flags=re.IGNORECASE)
    found = NUMBER.fullmatch(stem)
    return str(int(found[1])) if found else ""


def coco_id(split: str, number: int) -> str:
    """COCO's own name of an image's file, without suffix."""
    return f"COCO_{split}2014_{number:012d}"


def file_of(folder: Path, id: str, suffix: str) -> Path:
    """The file of `id` under one of the names in circulation; the official one where none is there."""
    number = int(image_number(id))
    names = (id, f"{number:012d}", str(number))
    return next(
        (p for name in names if (p := folder / f"{name}{suffix}").is_file()), folder / f"{id}{suffix}"
    )


def numbers_in(folder: Path) -> list[int]:
    """The numbers of all JPEGs in `folder`, ascending."""
    found = (image_number(entry.name) for entry in entries_in(folder) if entry.name.endswith(".jpg"))
    return sorted({int(number) for number in found if number})


def listed_numbers(option: str, split: str) -> list[int]:
    """The numbers in the list of `split` in the folder `option`, ascending; BadData where there is none."""
    folder = Path(option).expanduser().absolute()
    if not folder.is_dir():
        hint = "coco14.lists is objects, all, or a folder with train.txt and val.txt"
        raise BadData("no lists: this folder does not exist", where=folder, hint=hint)
    names = [name.format(split) for name in LIST_NAMES]
    path = next((place for name in names if (place := folder / name).is_file()), None)
    if path is None:
        raise BadData(f"no list of {split} here", where=folder, hint=f"it is called {', '.join(names)}")
    return sorted(int(number) for number in read_list(path, image_number))


def convention(split: str, images: int) -> str:
    """Which of the two list conventions has this many images: "all" or "objects"; else "own"."""
    return next((name for name, counts in OFFICIAL.items() if counts[split] == images), "own")
