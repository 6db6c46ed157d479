"""Where things are in a PASCAL VOC tree: its root, the list of a split, the id on a line.

Only names of files and lines of text. What the files hold (pixels, tags) is read elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wsssbench.errors import BadData

from .folder_files import MOST_LIST_BYTES, TWICE, checked_id, first_name, read_text

SPLITS = ("train", "train_aug", "val", "test")
LIST_FOLDERS = ("Segmentation", "SegmentationAug")
LIST_STEMS = ("{}", "{}(id)", "{}_id")  # val.txt, val(id).txt, val_id.txt: all are in circulation
ALIASES = {"train_aug": ("train_aug", "trainaug")}
INT_ID_DIGITS = 10  # 2007000032 is 2007_000032: four digits of the year, six of the number
SUFFIXES = (".jpg", ".jpeg", ".png")


def find_tree(root: str) -> Path:
    """The VOC2012 folder at `root`, in it, or in its VOCdevkit; BadData when there is none."""
    hint = "give it as -o voc12.root=FOLDER, or as root under [datasets.voc12] in wsssbench.toml"
    if not root:
        raise BadData("voc12 needs the folder of PASCAL VOC 2012", where="voc12.root", hint=hint)
    given = Path(root).expanduser().absolute()
    for tree in (given, given / "VOC2012", given / "VOCdevkit" / "VOC2012"):
        if (tree / "JPEGImages").is_dir() and (tree / "ImageSets").is_dir():
            return tree
    what = "this is no VOC tree (no JPEGImages and ImageSets here or in VOCdevkit/VOC2012)"
    raise BadData(what if given.is_dir() else "this folder does not exist", where=given, hint=hint)


def list_file(tree: Path, split: str) -> Path | None:
    """The list of `split`, ImageSets/Segmentation before SegmentationAug; None when there is none."""
    names = [stem.format(name) for name in ALIASES.get(split, (split,)) for stem in LIST_STEMS]
    places = (tree / "ImageSets" / folder / f"{name}.txt" for folder in LIST_FOLDERS for name in names)
    return next((place for place in places if place.is_file()), None)


def voc_id(token: str) -> str:
    """The image id in `token`: an id, an id as an integer, or a path to the image or its mask."""
    name = token.replace("\\", "/").rsplit("/", 1)[-1]
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    if len(name) == INT_ID_DIGITS and name.isascii() and name.isdigit():
        return f"{name[:4]}_{name[4:]}"
    return name


def read_list(path: Path, image_id: Callable[[str], str] = voc_id) -> tuple[str, ...]:
    """The ids of a list file in its order: the first name on each line that is not blank, by `image_id`.

    BadData for a file that is not text, a line without an id, an id that occurs twice and an empty list.
    """
    seen: dict[str, int] = {}
    for number, line in enumerate(read_text(path, MOST_LIST_BYTES, "list").splitlines(), start=1):
        if line.strip():
            _add(seen, image_id(first_name(line)), number, path)
    if not seen:
        raise BadData("this split is empty", where=path, hint="put one image id on each line")
    return tuple(seen)


def _add(seen: dict[str, int], id: str, number: int, path: Path) -> None:
    where = f"{path}, line {number}"
    if id in ("", ".", ".."):
        raise BadData("no image id on this line", where=where)
    checked_id(id, where)
    if id in seen:
        what = f"the id {id} occurs twice (first on line {seen[id]})"
        raise BadData(what, where=where, hint=TWICE)
    seen[id] = number
