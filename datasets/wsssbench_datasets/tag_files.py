"""Image tags as users have them: `cls_labels.npy` (a pickled dict) and VOC's Annotations XML.

Both are files of other people, so nothing in them is executed: only the data of the pickle is rebuilt, by
inert stand-ins for the numpy names that such files need (`wsssbench.dumps.safe_pickle`); an XML file that
declares a document type is refused.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.dumps.array_files import read_arrays
from wsssbench.dumps.safe_pickle import settled
from wsssbench.errors import BadData, first_names
from wsssbench_datasets.id_lists import voc_id
from wsssbench_datasets.image_names import read_small_file

if TYPE_CHECKING:
    from wsssbench.types import Tags

MOST_XML_BYTES = 2**22  # the largest of VOC has 20 kB
NPY_HINT = "give a cls_labels.npy that holds a dict: image id -> multi-hot vector of the classes"


def read_tag_file(path: Path, classes: int, image_id: Callable[[str], str] = voc_id) -> dict[str, Tags]:
    """The tags in a `cls_labels.npy`: id -> (classes,) bool.

    Keys may be text (`2007_000032`) or integers (2007000032), values any real dtype with 0 and 1 only;
    `image_id` makes the id of a key's text, "" where it is none.
    BadData, with the file's name, for anything else; nothing of the file is executed.
    """
    if not path.is_file():
        raise BadData("this tag file does not exist", where=path, hint=NPY_HINT)
    table = read_arrays(path, NPY_HINT)
    if not isinstance(table, dict):
        what = f"this is not a table of tags, but an array of shape {table.shape}"
        raise BadData(what, where=path, hint=NPY_HINT)
    tags: dict[str, Tags] = {}
    for key, value in table.items():
        id = _tag_id(key, path, image_id)
        if id in tags:
            raise BadData(f"the id {id} occurs twice", where=path, hint=NPY_HINT)
        tags[id] = _tag_vector(value, id, path, classes)
    return tags


def _tag_id(key: Any, path: Path, image_id: Callable[[str], str]) -> str:
    try:
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise ValueError(f"a key of type {type(key).__name__}")
        id = image_id(str(key))
        if not id:
            raise ValueError(repr(key))
    except (ValueError, TypeError) as error:
        raise BadData(f"a key that is not an image id ({error})", where=path, hint=NPY_HINT) from error
    return id


def require_tags(split: str, ids: Sequence[str], tags: Container[str], place: Path, name: str) -> None:
    """BadData, with the first ids, where some of `ids` have no tags at `place` of the data set `name`."""
    missing = [id for id in ids if id not in tags]
    if missing:
        what = f"{len(missing):,} of {len(ids):,} images of {split} have no tags: {first_names(missing)}"
        raise BadData(what, where=place, hint=f"give a complete file: -o {name}.tags=FILE")


def _tag_vector(value: Any, id: str, path: Path, classes: int) -> Tags:
    try:
        vector = settled(value)
        if not isinstance(vector, np.ndarray):
            raise ValueError(f"a {type(vector).__name__}, not an array")
        if vector.shape != (classes,):
            raise ValueError(f"shape {vector.shape}, not ({classes},); the background has no place in it")
        strange = [v for v in vector.tolist() if v not in (0, 1)]
        if strange:
            raise ValueError(f"the value {strange[0]!r}, not 0 or 1")
    except (ValueError, TypeError) as error:
        raise BadData(f"the tags of {id} are unusable: {error}", where=path, hint=NPY_HINT) from error
    return vector.astype(bool)


class XmlTags(Mapping[str, "Tags"]):
    """The tags of VOC's Annotations folder: id -> (K,) bool, each file read when first asked for."""

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self._folder, self._names = folder, tuple(class_names)
        self._read: dict[str, Tags] = {}

    def __getitem__(self, id: str) -> Tags:
        if id not in self._read:
            path = self._folder / f"{id}.xml"
            if not path.is_file():
                raise KeyError(id)
            self._read[id] = read_xml_tags(path, self._names)
        return self._read[id]

    def __contains__(self, id: object) -> bool:
        return id in self._read or (self._folder / f"{id}.xml").is_file()

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self._folder.glob("*.xml")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def read_xml_tags(path: Path, class_names: Sequence[str]) -> Tags:
    """(K,) bool: the classes with an `<object>` in a VOC annotation, those marked difficult included.

    BadData, with the file's name, for a file that is damaged, declares a document type or names a class that
    is not in `class_names`.
    """
    names = tuple(class_names)
    tags = np.zeros(len(names), bool)
    for item in _xml_root(path).findall("object"):
        name = (item.findtext("name") or "").strip()
        if name not in names:
            raise BadData(f"an object of the unknown class {name!r}", where=path)
        tags[names.index(name)] = True
    return tags


def _xml_root(path: Path) -> ET.Element:
    """The root element. UTF-16 (NUL bytes) is refused and UTF-8 forced, so that no encoding hides a DTD."""
    data = read_small_file(path, MOST_XML_BYTES, "annotation")
    if re.search(rb"\x00|<!\s*(DOCTYPE|ENTITY)", data, re.IGNORECASE):
        raise BadData("refused: this annotation declares a document type, or is not UTF-8", where=path)
    try:
        return ET.fromstring(data, parser=ET.XMLParser(encoding="utf-8"))
    except ET.ParseError as error:
        raise BadData(f"this annotation is damaged ({error})", where=path) from error
