"""Which mask each image of a VOC tree has: in which folder, as a PNG or as one of SBD's .mat files, or none.

Only names of files. The folders are listed once, since thousands of images are looked up; what a mask holds
is read elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from wsssbench.errors import BadData, UnknownName, nearest
from wsssbench_datasets.image_names import entries_in

CLASS, AUG = "SegmentationClass", "SegmentationClassAug"
SUFFIXES = (".png", ".mat")  # of two files of an image the first


class MaskFiles:
    """The mask folder and the file of each image of `ids`, the splits that have masks.

    With the choice "auto" an image of train or val has its mask in SegmentationClass where there is one, any
    other in SegmentationClassAug, or in SegmentationClass where that is the only folder.
    """

    def __init__(self, tree: Path, choice: str, ids: Mapping[str, Sequence[str]]) -> None:
        """UnknownName for a choice that does not exist, BadData for a folder that is not there."""
        folders = _folders(tree, choice)
        self._tree = tree
        self._names = {folder: _names_in(tree / folder) for folder in folders}
        rest = choice if choice != "auto" else folders[-1]
        self.folders = {id: rest for members in ids.values() for id in members}  # id -> name of the folder
        if choice == "auto" and CLASS in folders:
            own = (id for split in ("train", "val") for id in ids.get(split, ()))
            self.folders |= {id: CLASS for id in own if id in self._names[CLASS]}
        self.lacking = {id for id, folder in self.folders.items() if id not in self._names[folder]}

    def path(self, id: str) -> Path:
        """Where the mask of `id` is, or should be."""
        folder = self.folders[id]
        return self._tree / folder / self._names[folder].get(id, f"{id}{SUFFIXES[0]}")

    def used(self, ids: Sequence[str]) -> str:
        """The folders of the masks of `ids`, as the card has them."""
        return "+".join(sorted({self.folders[id] for id in ids}))


def _folders(tree: Path, choice: str) -> list[str]:
    """The mask folders of the tree, with the chosen one among them."""
    if choice not in ("auto", CLASS, AUG):
        hint = nearest(choice, ("auto", CLASS, AUG))
        raise UnknownName(f"no mask folder {choice!r}", where="voc12.masks", hint=hint)
    folders = [folder for folder in (CLASS, AUG) if (tree / folder).is_dir()]
    if not folders or choice not in ("auto", *folders):
        hint = f"found: {', '.join(folders) or f'neither {CLASS} nor {AUG}'}"
        where = tree / choice.replace("auto", CLASS)
        raise BadData("no masks: this folder does not exist", where=where, hint=hint)
    return folders


def _names_in(folder: Path) -> dict[str, str]:
    """Id -> name of its file."""
    names = [entry.name for entry in entries_in(folder)]
    found: dict[str, str] = {}
    for suffix in reversed(SUFFIXES):
        found |= {name.removesuffix(suffix): name for name in names if name.endswith(suffix)}
    return found
