"""Where things are in a PASCAL VOC tree: its root, the list of a split, the id on a line.

Only names of files and lines of text. What the files hold (pixels, tags) is read elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wsssbench.errors import BadData, first_names
from wsssbench_datasets.image_names import (
    entries_in,
)

SPLITS = ("train", "train_aug", "val", "test")
LIST_FOLDERS = ("Segmentation", "SegmentationAug")
LIST_STEMS = ("{}", "{}(id)", "{}_id")  # val.txt, val(id).txt, val_id.txt: all are in circulation
ALIASES = {"train_aug": ("train_aug", "trainaug")}
DEPTH, MOST_FOLDERS = 3, 2000  # below the root that is given, where the tree is looked for
PICTURE_FOLDERS = ("JPEGImages", "Segmentation", "Annotations", "train2014", "val2014", "test20")


def find_tree(root: str) -> Path:
    """The VOC2012 folder at `root` or below it; BadData when there is none, or a choice of several."""
    hint = "give it as -o voc12.root=FOLDER, or as root under [datasets.voc12] in wsssbench.toml"
    if not root:
        raise BadData("voc12 needs the folder of PASCAL VOC 2012", where="voc12.root", hint=hint)
    given = Path(root).expanduser().absolute()
    for tree in (given, given / "VOC2012", given / "VOCdevkit" / "VOC2012"):
        if _is_tree(tree):
            return tree
    if below := only_below(given, _is_tree, "VOC2012", "voc12.root"):
        return below
    what = f"this is not a VOC tree (no JPEGImages and ImageSets here or at most {DEPTH} folders below)"
    raise BadData(what if given.is_dir() else "this folder does not exist", where=given, hint=hint)


def _is_tree(folder: Path) -> bool:
    return (folder / "JPEGImages").is_dir() and (folder / "ImageSets").is_dir()


def only_below(root: Path, is_tree: Callable[[Path], bool], name: str, option: str) -> Path | None:
    """The folder at most DEPTH below `root` that is a tree: the nearest, of several the one called `name`.

    None where there is none. BadData where it is not clear which is meant. Folders of pictures are not
    entered, and no more than MOST_FOLDERS are.
    """
    level, entered = [root] if root.is_dir() else [], 0
    for _ in range(DEPTH):
        level = [folder for parent in level for folder in _folders_in(parent)]
        entered += len(level)
        found = [folder for folder in level if _is(is_tree, folder)]
        found = [folder for folder in found if folder.name == name] or found
        if len(found) > 1:
            what = f"several data sets lie here: {first_names([str(f.relative_to(root)) for f in found])}"
            raise BadData(what, where=root, hint=f"say which one: -o {option}=FOLDER")
        if found or entered > MOST_FOLDERS:
            return found[0] if found else None
    return None


def _folders_in(folder: Path) -> list[Path]:
    """Folders that a tree may lie in; none of one that cannot be read."""
    try:
        names = [entry.name for entry in entries_in(folder) if entry.is_dir()]
    except (BadData, OSError):
        return []
    return [folder / name for name in names if not name.startswith((".", *PICTURE_FOLDERS))]


def _is(tree: Callable[[Path], bool], folder: Path) -> bool:
    """Whether it is one; not, where nobody may look."""
    try:
        return tree(folder)
    except OSError:
        return False


def list_file(tree: Path, split: str) -> Path | None:
    """The list of `split`, ImageSets/Segmentation before SegmentationAug; None when there is none."""
    names = [stem.format(name) for name in ALIASES.get(split, (split,)) for stem in LIST_STEMS]
    places = (tree / "ImageSets" / folder / f"{name}.txt" for folder in LIST_FOLDERS for name in names)
    return next((place for place in places if place.is_file()), None)
