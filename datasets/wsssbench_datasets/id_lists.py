"""Lists of image ids, a line each, in the ways that people write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wsssbench.errors import BadData
from wsssbench_datasets.image_names import (
    MOST_LIST_BYTES,
    TWICE,
    checked_id,
    first_name,
    read_text,
)

INT_ID_DIGITS = 10  # 2007000032 is 2007_000032: four digits of the year, six of the number


SUFFIXES = (".jpg", ".jpeg", ".png")


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
