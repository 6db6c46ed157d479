"""Which image is in which split, and where its files are: the lists and folders of a description, read once.

An id names one image and one mask, whatever splits it is in; results are kept by id. What files hold is read
elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsssbench.errors import BadData, nearest
from wsssbench.split_rules import refuse_overlap
from wsssbench_datasets.folder.toml import FILE, Description, SplitPlace
from wsssbench_datasets.image_names import PICTURES, Naming, PictureFolder, read_ids


class SplitFiles:
    """The ids of each split and the files of each id."""

    def __init__(self, root: Path, described: Description) -> None:
        """Read the lists and look into the folders; BadData for what cannot be used."""
        self._root, self.described = root, described
        self._places = {split.name: split for split in described.splits}
        self._images, self._masks = self._picture_folders()
        self._ids = {name: self._ids_of(place) for name, place in self._places.items()}
        self._place_of = self._place_of_each_id()
        self._refuse_overlap()

    @property
    def naming(self) -> Naming:
        """How names of images elsewhere, as in a file of tags, become ids."""
        return self._naming(*(place.written for place in self.described.splits))

    def mask_folders(self) -> dict[str, str]:
        """The folder of masks of each split that has some, from the root."""
        return {name: self._from_root(p.masks) for name, p in self._places.items() if p.masks is not None}

    def mask_source(self, id: str) -> str:
        """The folder that the mask of `id` is in, from the root; "" for none."""
        folder = self._place(id).masks
        return "" if folder is None else self._from_root(folder)

    def _from_root(self, folder: Path) -> str:
        return folder.relative_to(self._root).as_posix()

    def ids(self, split: str) -> tuple[str, ...]:
        """The ids of `split` in the order of its list, or sorted where it is all of a folder."""
        if split not in self._ids:
            hint = nearest(split, tuple(self._ids))
            raise BadData(f"there is no split {split!r}", where=self.described.path, hint=hint)
        return self._ids[split]

    def image_path(self, id: str) -> Path:
        """Where the image is, or should be; BadData for an id that is in no split."""
        return self._images[self._place(id).images].path(id)

    def mask_path(self, id: str) -> Path:
        """Where the mask is, or should be; BadData for an image without one."""
        folder = self._place(id).masks
        if folder is None:
            hint = f"give its split masks in {FILE}, or judge another split"
            raise BadData(f"{id} has no mask: its split has none", where=self.described.path, hint=hint)
        return self._masks[folder].path(id)

    def unused(self) -> tuple[str, ...]:
        """Ids of pictures in the folders of images that are in no split."""
        found = dict.fromkeys(id for folder in self._images.values() for id in folder.known())
        return tuple(id for id in found if id not in self._place_of)

    def _picture_folders(self) -> tuple[dict[Path, PictureFolder], dict[Path, PictureFolder]]:
        """Each folder of images, and each of masks, read once."""
        known = self.described
        images = list(dict.fromkeys(place.images for place in known.splits))
        masks = list(dict.fromkeys(place.masks for place in known.splits if place.masks is not None))
        both = [path for path in masks if path in images]
        if both and known.image_suffixes == PICTURES:
            hint = 'say what follows the id in the name of an image, as image_suffix = ".jpg"'
            what = f"images and masks share a folder, {self._from_root(both[0])}"
            raise BadData(what, where=f"{known.path}: masks", hint=hint)

        def read(
            path: Path, suffixes: Sequence[str], others: Sequence[str], left: list[Path]
        ) -> PictureFolder:
            apart = [end for end in others if path in both and end not in suffixes]
            return PictureFolder(path, self._root, suffixes, left, apart)

        of_images, of_masks = known.image_suffixes, known.mask_suffixes
        return (
            {path: read(path, of_images, of_masks, masks) for path in images},
            {path: read(path, of_masks, of_images, images) for path in masks},
        )

    def _naming(self, *folders: str) -> Naming:
        return Naming((*self.described.image_suffixes, *PICTURES), folders)

    def _ids_of(self, place: SplitPlace) -> tuple[str, ...]:
        if place.list is None:
            return self._images[place.images].ids()
        return read_ids(place.list, self._naming(place.written).id_of)

    def require(self, id: str) -> None:
        """BadData for an id that is in no split."""
        self._place(id)

    def _place(self, id: str) -> SplitPlace:
        if id not in self._place_of:
            raise BadData(f"no image {id!r:.80} in any split", where=self.described.path)
        return self._place_of[id]

    def _place_of_each_id(self) -> dict[str, SplitPlace]:
        """Where each image is; one that is in several splits must be the same files in all."""
        places: dict[str, SplitPlace] = {}
        for name, ids in self._ids.items():
            here = self._places[name]
            for id in ids:
                there = places.setdefault(id, here)
                if there.images != here.images:
                    what = f"the id {id} names two images, in {there.images.name} and {here.images.name}"
                    hint = "rename one: results are kept by id"
                    raise BadData(what, where=self.described.path, hint=hint)
                if there.masks is None:
                    places[id] = here
                elif here.masks not in (None, there.masks):
                    what = f"{id} has two masks, in {there.masks.name} and {here.masks.name}"
                    hint = "give the splits that share an image the same folder of masks"
                    raise BadData(what, where=self.described.path, hint=hint)
        return places

    def _refuse_overlap(self) -> None:
        """No image may be both learned from and judged in the evaluation split, whatever its ids there.

        One file has two ids where the folder of one split lies in that of another.
        """
        known, fit, judged = self.described, self.described.fit_split, self.described.eval_split
        refuse_overlap(fit, self._ids[fit], judged, self._ids[judged], known.path)
        one, other = self._places[fit].images, self._places[judged].images
        if one != other and (one.is_relative_to(other) or other.is_relative_to(one)):
            learned, seen = (map(str, map(self.image_path, self._ids[split])) for split in (fit, judged))
            refuse_overlap(fit, learned, judged, seen, known.path)
