"""One documented tree of exceptions. A user error carries what went wrong, where, and the next step."""

from __future__ import annotations

from collections.abc import Sequence


class WsssError(Exception):
    """A mistake that the user can mend; printed as one message, exit code `code`.

    `what` states the cause, `where` the file, key or option, `hint` the next step.
    """

    code = 2

    def __init__(self, what: str, *, where: object = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, str(where), hint
        super().__init__(what)

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        step = f"\n  next: {self.hint}" if self.hint else ""
        return printable(f"{self.what}{place}{step}")


class UnknownName(WsssError):
    """A plugin, option or key that does not exist; the hint names the nearest ones."""


class BadData(WsssError):
    """A file of the user's that is missing, damaged or says something impossible."""


class NotComparable(WsssError):
    """Rows whose terms differ, or a baseline that is missing."""

    code = 3


class TrainingFailed(WsssError):
    """A loss that is not finite, or a classifier that died: the cell fails, the others go on."""

    code = 1


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """A hint for an unknown `name`: the closest known names first, then the whole list."""
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    guess = f"did you mean {', '.join(close)}? " if close else ""
    return f"{guess}known: {', '.join(sorted(known)) or 'none'}"


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
