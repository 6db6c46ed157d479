"""Files of a user's data set: paths that stay in its root, pictures by image id, lists of ids.

What a file holds (pixels, tags) is read elsewhere. An image id names files of ours too, so it is the path
below the folder of images, without the suffix and with "__" for "/".
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wsssbench.errors import BadData, first_names

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
UNREAD = (".gif", ".heic", ".avif", ".jp2", ".svg")  # pictures, too, but of kinds that are not read
BLANKS, COLUMNS = r"\s", r"\s,;"  # what ends a word of a list: blanks, or what stands between columns
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=@-]*")  # what names a file everywhere
ID_HINT = "rename it: a name begins with a letter or digit and goes on with these and . _ + = @ -"
NESTED = "__"  # stands for "/" in an id
TWICE = "remove one of the two lines; a path with a blank in it begins with / or ./"
MOST_LIST_BYTES = 64 * 2**20  # some million lines
SHOWN = 3  # names in an error


def inside(root: Path, text: str, where: str) -> Path:
    """`root`/`text`; BadData for an absolute path, one with "..", and one that a link leads out of `root`."""
    if not text or "\\" in text or "\0" in text:
        raise BadData(f"{text!r} is not a path", where=where, hint="write it from the root, with /")
    relative = PurePosixPath(text)
    if relative.is_absolute() or ".." in relative.parts:
        hint = "put the files below the folder of dataset.toml and write the path from there"
        raise BadData(f"{text!r} leads out of the data set's root", where=where, hint=hint)
    return not_linked_out(root / relative, root, where)


def not_linked_out(path: Path, root: Path, where: object) -> Path:
    """`path`; BadData where a symbolic link leads from it out of `root`."""
    try:
        fits = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:
        raise BadData("this path cannot be followed: its links lead in a circle", where=path) from error
    if not fits:
        hint = "give a root that holds all of it, or copy the files: links that leave the root are refused"
        raise BadData(f"{path.name} is a link that leads out of the data set's root", where=where, hint=hint)
    return path


def read_small_file(path: Path, most_bytes: int, what: str) -> bytes:
    """The bytes of a regular file of at most `most_bytes`; BadData names it otherwise."""
    if not path.is_file():
        raise BadData(f"this {what} does not exist", where=path, hint="check the path in dataset.toml")
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise BadData(f"this {what} cannot be read ({error.strerror})", where=path) from error
    if len(data) > most_bytes:
        hint = f"at most {most_bytes // 2**20} MiB are read"
        raise BadData(f"this is too large for a {what}", where=path, hint=hint)
    return data


def read_text(path: Path, most_bytes: int, what: str) -> str:
    """The text of such a file in UTF-8, a byte order mark at its beginning left out."""
    try:
        return read_small_file(path, most_bytes, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(f"this {what} is not a text in UTF-8", where=path, hint="save it as UTF-8") from error


def entries_in(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name; BadData where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise BadData(f"this folder cannot be read ({error.strerror})", where=folder) from error


def json_fault(error: Exception) -> str:
    """Why a JSON file cannot be read, in words for its owner."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[:1].lower()}{error.msg[1:]} in line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not a text in UTF-8"
    if isinstance(error, RecursionError):
        return "its lists are nested too deep"
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    return "a number of too many digits" if "digits" in str(error) else str(error)


# ----------------------------------------------------------------------------------------------------- ids


@dataclass(frozen=True)
class Naming:
    """How a name of an image (in a list, a file of tags, a folder) becomes its id."""

    suffixes: tuple[str, ...]  # what may follow the id in the name of a file, in lower case
    folders: tuple[str, ...] = ()  # of images, as written in dataset.toml: left out at the beginning

    def id_of(self, name: str) -> str:
        """ "images/a/b.jpg" -> "a__b". The id as it stands: whether it is one is not checked."""
        name = name.strip().replace("\\", "/").lstrip("/").removeprefix("./")
        for folder in self.folders:
            if folder != "." and name.startswith(f"{folder}/"):
                name = name[len(folder) + 1 :]
                break
        return self.stem(name).replace("/", NESTED)

    def stem(self, name: str) -> str:
        """`name` without the first of the suffixes that it ends with."""
        end = next((s for s in self.suffixes if name.lower().endswith(s) and len(name) > len(s)), "")
        return name[: len(name) - len(end)]


def checked_id(id: str, where: object) -> str:
    """`id`; BadData where it could not name a file."""
    if not ID.fullmatch(id):
        raise BadData(f"{id!r:.80} cannot be the id of an image", where=where, hint=ID_HINT)
    return id


def first_name(line: str, ends: str = BLANKS) -> str:
    """The first name on a line of a list: an id, the name of a file or a path, perhaps with blanks in it.

    It ends with the first suffix of a picture that one of `ends` or nothing follows. It is the first word
    where there is no suffix, and where the rest is another file: of that name (the mask), or, after a word
    that is not a path, a path.
    """
    line = line.strip()
    word, *rest = re.split(f"[{ends}]+", line, maxsplit=1)
    if not rest or word.lower().endswith(PICTURES):
        return word
    suffixes = "|".join(map(re.escape, PICTURES))
    found = re.match(rf".*?(?:{suffixes})(?=[{ends}]|$)", line, re.IGNORECASE)
    if not found:
        return word
    *folders, last = re.split(r"[/\\]", re.split(f"[{ends}]+", found[0], maxsplit=1)[1])
    *above, stem = re.split(r"[/\\]", word)
    return word if last.startswith(stem) or (folders and not above) else found[0]


def read_ids(path: Path, id_of: Callable[[str], str]) -> tuple[str, ...]:
    """The ids of a list, in its order: the first name on each line that is neither blank nor begins with #.

    BadData, with the line, for a name that cannot be an image's and one that stands twice; for an empty list.
    """
    seen: dict[str, int] = {}
    for number, line in enumerate(read_text(path, MOST_LIST_BYTES, "list").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{path}, line {number}"
        word = first_name(line, COLUMNS)
        if ".." in word.replace("\\", "/").split("/"):
            hint = "write paths from the root, or ids alone"
            raise BadData(f"{word!r:.80} leads out of the data set's root", where=where, hint=hint)
        id = checked_id(id_of(word), where)
        if id in seen:
            what = f"the image {id} stands twice (first on line {seen[id]})"
            raise BadData(what, where=where, hint=TWICE)
        seen[id] = number
    if not seen:
        raise BadData("this list is empty", where=path, hint="put one image on each line")
    return tuple(seen)


# ------------------------------------------------------------------------------------------------ pictures


class PictureFolder:
    """The pictures in a folder and below it, by id.

    `left_out` are folders in it that belong to others, `apart` endings of files in it that do.
    """

    def __init__(
        self,
        folder: Path,
        root: Path,
        suffixes: Sequence[str],
        left_out: Sequence[Path] = (),
        apart: Sequence[str] = (),
    ) -> None:
        if not folder.is_dir():
            raise BadData("this folder does not exist", where=folder, hint="check the path in dataset.toml")
        self.folder, self.suffixes, self._apart = folder, tuple(suffixes), tuple(apart)
        self._naming = Naming(self.suffixes)
        self._files: dict[str, list[str]] = {}
        self._unread: dict[str, str] = {}  # name, and name without suffix -> name
        self._walk(folder, "", root, {path for path in left_out if path != folder})

    def _walk(self, place: Path, above: str, root: Path, left_out: set[Path]) -> None:
        for entry in entries_in(place):
            path = place / entry.name
            if entry.name.startswith(".") or path in left_out:
                continue
            if entry.is_symlink():
                not_linked_out(path, root, path)
            if entry.is_dir(follow_symlinks=False):
                self._walk(path, f"{above}{entry.name}/", root, left_out)
            elif self._is_one(entry.name.lower()) and entry.is_file():  # no pipe: it would block
                name = f"{above}{entry.name}"
                self._files.setdefault(self._naming.id_of(name), []).append(name)
            elif entry.name.lower().endswith(UNREAD):
                name = f"{above}{entry.name}"
                self._unread |= {self._naming.id_of(n): name for n in (name, name.rpartition(".")[0])}

    def _is_one(self, name: str) -> bool:
        """Whether a file is a picture of this kind; the longer ending decides where kinds share a folder."""
        mine = max((len(end) for end in self.suffixes if name.endswith(end)), default=0)
        return mine > max((len(end) for end in self._apart if name.endswith(end)), default=0)

    def known(self) -> tuple[str, ...]:
        """The ids of all pictures, unchecked."""
        return tuple(sorted(self._files))

    def ids(self) -> tuple[str, ...]:
        """The ids of all pictures, sorted; BadData for a name that is not an id, and where there are none."""
        if not self._files:
            hint = f"pictures end with {', '.join(self.suffixes)}: see image_suffix"
            others = first_names(sorted(set(self._unread.values())))
            what = f"no picture in this folder that is read{f', but {others}' if others else ''}"
            raise BadData(what, where=self.folder, hint=hint)
        return tuple(checked_id(id, self.folder / self._files[id][0]) for id in sorted(self._files))

    def path(self, id: str) -> Path:
        """Where the picture of `id` is, or should be; BadData where there are two, or one of another kind."""
        if id not in self._files and id in self._unread:
            what = f"{self._unread[id]} is a picture of a kind that is not read"
            raise BadData(what, where=self.folder, hint=f"save it as {' or '.join(self.suffixes[:3])}")
        found = self._files.get(id, [f"{id}{self.suffixes[0]}"])
        if len(found) > 1:
            what = f"several files for the image {id}: {', '.join(found[:SHOWN])}"
            hint = "remove one, or say in dataset.toml what follows the id: image_suffix, mask_suffix"
            raise BadData(what, where=self.folder, hint=hint)
        return self.folder / found[0]
