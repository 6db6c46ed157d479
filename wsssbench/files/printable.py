"""Text of strangers on its way to a terminal or a table: what is not printable is shown, never obeyed.

Names of files, classes and methods may hold escape codes, line ends or signs that turn the direction of
writing. This module imports nothing of the project, so that errors can use it.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_NAME = 200
SHOWN = 5  # names in an error


def printable(text: str) -> str:
    r"""`text` with every character that is not printable as its escape, "\x1b"; line ends stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def is_name(text: object) -> bool:
    """Whether `text` is one printable line that can stand in a table: not empty, not very long."""
    return isinstance(text, str) and text.isprintable() and 0 < len(text.strip()) <= LONGEST_NAME


def first_names(names: Sequence[str], shown: int = SHOWN) -> str:
    """The first names of a list, for an error: "a, b, c, ..."."""
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def size_text(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
