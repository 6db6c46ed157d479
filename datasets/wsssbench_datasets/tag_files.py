"""Image tags as users have them: `cls_labels.npy` (a pickled dict) and VOC's Annotations XML.

Both come from strangers, so nothing in them is executed: of the pickle only its data is rebuilt, by inert
stand-ins for the four numpy names that such files need; an XML file that declares a document type is refused.
"""

from __future__ import annotations

import pickle
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from wsssbench.errors import BadData

from .voc_lists import voc_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Tags

PLAIN_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|U\d{1,3}")
NPY_HINT = "give a cls_labels.npy that holds a dict: image id -> multi-hot vector of the classes"


class _Inert:
    """What a pickle may build instead of numpy's objects: it remembers its arguments and does nothing.

    numpy's own classes would be unsafe even alone: a forged dtype state makes numpy read bytes as pointers.
    """

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


class _Array(_Inert):
    """Stands for numpy.ndarray and _reconstruct; state (version, shape, dtype, is_fortran, bytes or list)."""


class _Dtype(_Inert):
    """Stands for numpy.dtype; args (code, ...), state (version, byte order, ...)."""


class _Scalar(_Inert):
    """Stands for numpy's scalar; args (dtype, bytes)."""


STAND_INS: dict[tuple[str, str], type[_Inert]] = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # numpy 1 and numpy 2
    STAND_INS[_module, "_reconstruct"] = _Array
    STAND_INS[_module, "scalar"] = _Scalar


class _TagUnpickler(pickle.Unpickler):
    """An unpickler that knows the stand-ins and no other name."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file, encoding="latin1")  # latin1 keeps the bytes of files written by Python 2
        self.path = path

    def find_class(self, module: str, name: str, /) -> type[_Inert]:
        stand_in = STAND_INS.get((module, name))
        if stand_in is None:
            what = f"refused: this file asks for {module}.{name}, which has no place in a table of tags"
            raise BadData(what, where=self.path, hint=f"do not load this file elsewhere; {NPY_HINT}")
        return stand_in


def read_tag_file(path: Path, classes: int) -> dict[str, Tags]:
    """The tags in a `cls_labels.npy`: id -> (classes,) bool.

    Keys may be text (`2007_000032`) or integers (2007000032), values any real dtype with 0 and 1 only.
    BadData, with the file's name, for anything else; nothing of the file is executed.
    """
    if not path.is_file():
        raise BadData("this tag file does not exist", where=path, hint=NPY_HINT)
    table = _load_table(path)
    tags: dict[str, Tags] = {}
    for key, value in table.items():
        id = _tag_id(key, path)
        if id in tags:
            raise BadData(f"the id {id} occurs twice", where=path, hint=NPY_HINT)
        tags[id] = _tag_vector(value, id, path, classes)
    return tags


def _load_table(path: Path) -> dict[Any, Any]:
    """The dict in the 0-d object array at `path`, its numpy values still stand-ins."""
    try:
        with path.open("rb") as file:
            shape, dtype = _npy_header(file)
            if shape != () or dtype != np.dtype(object):
                raise ValueError(f"an array of shape {shape} and type {dtype}, not one dict")
            array = _TagUnpickler(file, path).load()
        [table] = array.state[4]
        if not isinstance(table, dict):
            raise TypeError(f"a {type(table).__name__}, not a dict")
    except BadData:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise BadData(f"this is no table of tags ({error})", where=path, hint=NPY_HINT) from error
    return table


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"npy format {version}")
    return shape, dtype


def _plain_values(dtype: Any, data: Any) -> NDArray[Any]:
    """`data` (bytes) as a flat array; ValueError for a dtype that is not a plain number or text."""
    code = str(dtype.args[0]) if isinstance(dtype, _Dtype) else type(dtype).__name__
    if not PLAIN_DTYPE.fullmatch(code):
        raise ValueError(f"values of type {code}")
    order = dtype.state[1] if dtype.state else "="
    if order not in ("<", ">", "=", "|"):
        raise ValueError(f"byte order {order!r}")
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype=np.dtype(order + code))


def _tag_id(key: Any, path: Path) -> str:
    try:
        if isinstance(key, _Scalar):
            [key] = _plain_values(*key.args).tolist()
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise ValueError(f"a key of type {type(key).__name__}")
    except (ValueError, TypeError) as error:
        raise BadData(f"a key that is no image id ({error})", where=path, hint=NPY_HINT) from error
    return voc_id(str(key))


def _tag_vector(value: Any, id: str, path: Path, classes: int) -> Tags:
    try:
        if not isinstance(value, _Array):
            raise ValueError(f"a {type(value).__name__}, not an array")
        _, shape, dtype, _, data = value.state
        vector = _plain_values(dtype, data)
        if tuple(shape) != (classes,) or vector.shape != (classes,):
            raise ValueError(f"shape {tuple(shape)}, not ({classes},); the background has no place in it")
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
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadData(f"this annotation cannot be read ({error})", where=path) from error
    if re.search(rb"\x00|<!\s*(DOCTYPE|ENTITY)", data, re.IGNORECASE):
        raise BadData("refused: this annotation declares a document type, or is not UTF-8", where=path)
    try:
        return ET.fromstring(data, parser=ET.XMLParser(encoding="utf-8"))
    except ET.ParseError as error:
        raise BadData(f"this annotation is damaged ({error})", where=path) from error
