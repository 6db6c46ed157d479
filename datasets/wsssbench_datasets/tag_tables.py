"""Image tags of a user's data set from csv, json or npy: id -> multi-hot vector, and what is wrong.

A file that cannot be read at all is refused at once; a fault of one image stays with that image, so that
`wsssbench prepare folder` can list all of them. Tags that are the classes of masks are not read here.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from wsssbench.errors import BadData, UnknownName, nearest
from wsssbench_datasets.id_lists import voc_id
from wsssbench_datasets.image_names import Naming, json_fault, read_small_file, read_text
from wsssbench_datasets.tag_files import read_tag_file

if TYPE_CHECKING:
    from wsssbench.types import Tags

FORMS = (".csv", ".tsv", ".json", ".npy")
MOST_BYTES = 256 * 2**20  # a table of a million images
DELIMITERS = (",", ";", "\t")
HINT = "id,cat,dog with 0 or 1 in each line, or id,tags with cat|dog"
TWICE = ("it stands twice", "remove one of the two")
JSON_HINT = '{"image": ["cat", "dog"]}: for each image the names of its classes, or K numbers 0 and 1'


@dataclass
class TagTable:
    """What a file of tags says of each image, and what is wrong with it: (problem, next step)."""

    path: Path
    classes: tuple[str, ...]
    vectors: dict[str, Tags] = field(default_factory=dict)
    faults: dict[str, tuple[str, str]] = field(default_factory=dict)

    def of(self, id: str) -> Tags:
        """(K,) bool, a copy; BadData for an image that is not in the file or faulty there."""
        key = self._key(id)
        if key in self.faults:
            what, hint = self.faults[key]
            raise BadData(f"the tags of {id}: {what}", where=self.path, hint=hint)
        if key not in self.vectors:
            raise BadData(f"no tags for {id}", where=self.path, hint="each image needs a line in this file")
        return self.vectors[key].copy()

    def knows(self, id: str) -> bool:
        """Whether the file says anything of the image."""
        return self._key(id) in self.vectors or self._key(id) in self.faults

    def tagged(self, id: str) -> bool:
        """Whether the file names any class of the image."""
        vector = self.vectors.get(self._key(id))
        return vector is not None and bool(vector.any())

    def _key(self, id: str) -> str:
        """Keys of a .npy may be numbers, as VOC codes its ids: there all keys are in VOC's form."""
        return voc_id(id) if self.path.suffix.lower() == ".npy" else id

    def add_names(self, id: str, names: Iterable[str]) -> None:
        """Add classes by name to what is known of an image."""
        vector = self.vectors.setdefault(id, np.zeros(len(self.classes), bool))
        for name in names:
            if name in self.classes:
                vector[self.classes.index(name)] = True
            else:
                self.faults.setdefault(id, (f"{name!r:.80} is not a class", nearest(name, self.classes)))

    def add_vector(self, id: str, values: Sequence[Any]) -> None:
        """Set the classes of an image by 0 and 1 in their order."""
        numbers = [str(value).strip() for value in values]
        wrong = [text for text in numbers if text not in ("0", "1", "0.0", "1.0")]
        if id in self.vectors:
            self.faults.setdefault(id, TWICE)
        if wrong:
            self.faults.setdefault(id, (f"{wrong[0]!r:.80} is not 0 or 1", HINT))
        elif len(numbers) != len(self.classes):
            what = f"{len(numbers)} numbers for {len(self.classes)} classes"
            self.faults.setdefault(id, (what, "one for each class; the background has no place in it"))
        self.vectors[id] = np.array([text in ("1", "1.0") for text in numbers], bool)


def read_tags(path: Path, classes: Sequence[str], naming: Naming) -> TagTable:
    """The tags in the file at `path`, by the ending of its name; BadData where it is no such file."""
    table = TagTable(path, tuple(classes))
    form = path.suffix.lower()
    if form in (".csv", ".tsv"):
        _read_csv(table, naming)
    elif form == ".json":
        _read_json(table, naming)
    elif form == ".npy":
        read_small_file(path, MOST_BYTES, "file of tags")
        table.vectors.update(read_tag_file(path, len(classes), lambda key: voc_id(naming.id_of(key))))
    else:
        raise BadData(f"files of tags end with {', '.join(FORMS)}", where=path, hint=HINT)
    return table


# ----------------------------------------------------------------------------------------------------- csv


def _read_csv(table: TagTable, naming: Naming) -> None:
    text = read_text(table.path, MOST_BYTES, "file of tags")
    head = text.splitlines()[0] if text.strip() else ""
    delimiter = max(DELIMITERS, key=head.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise BadData(f"this is not a csv file ({error})", where=table.path, hint=HINT) from error
    columns = [name.strip() for name in lines[0]] if lines else []
    if len(columns) < 2:
        raise BadData("no header with a column of ids and one of tags", where=table.path, hint=HINT)
    order = None if _holds_names(columns, table.classes) else _column_order(columns, table)
    for number, line in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in line):
            continue
        if len(line) != len(columns):
            what = f"{len(line)} cells under {len(columns)} columns"
            raise BadData(what, where=f"{table.path}, line {number}", hint=HINT)
        id = naming.id_of(line[0])
        if order is None:
            table.add_names(id, [name.strip() for name in re.split(r"[|;]", line[1]) if name.strip()])
        else:
            table.add_vector(id, [line[k] for k in order])


def _holds_names(columns: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether the one column beside the ids holds names, not 0 and 1 of the one class."""
    return len(columns) == 2 and columns[1] not in classes


def _column_order(columns: Sequence[str], table: TagTable) -> list[int]:
    """For each class its column."""
    for name in columns[1:]:
        if name not in table.classes:
            hint = nearest(name, table.classes)
            raise UnknownName(f"the column {name!r:.80} is not a class", where=table.path, hint=hint)
    lacking = [name for name in table.classes if name not in columns[1:]]
    if lacking or len(set(columns)) < len(columns):
        what = f"no column for {', '.join(lacking[:3])}" if lacking else "a column stands twice"
        raise BadData(what, where=table.path, hint="one column for each class, named like it")
    return [columns.index(name, 1) for name in table.classes]


# ---------------------------------------------------------------------------------------------------- json


def _read_json(table: TagTable, naming: Naming) -> None:
    text = read_text(table.path, MOST_BYTES, "file of tags")
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        what = f"this is not a json file of tags ({json_fault(error)})"
        raise BadData(what, where=table.path, hint=JSON_HINT) from error
    if not isinstance(content, dict):
        _not_tags(table, f"a {type(content).__name__}, not a table by image")
    for name, value in content.items():
        id = naming.id_of(name)
        if not isinstance(value, list):
            _not_tags(table, f"{name!r:.80} has a {type(value).__name__}, not a list")
        if table.knows(id):
            table.faults.setdefault(id, TWICE)
        elif all(isinstance(item, str) for item in value):
            table.add_names(id, value)
        else:
            table.add_vector(id, value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r:.80} stands twice")
    return found


def _not_tags(table: TagTable, what: str) -> NoReturn:
    raise BadData(what, where=table.path, hint=JSON_HINT)
