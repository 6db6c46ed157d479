"""An option of a plugin: a field of its Config, with what is said of it and the values that it may have.

Plain data, imported by `wsssbench.types`; raw values become options in `wsssbench.plugins.options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Range:
    """The values that an option may have: `low` and `high` are among them, `above` and `below` are not.

    Of a list each element counts, and with `filled` it has at least one (a text at least one character).
    What is not a number (none, a word where a number or a word may stand) has no bounds.
    """

    low: float | None = None
    above: float | None = None
    high: float | None = None
    below: float | None = None
    filled: bool = False

    def __post_init__(self) -> None:
        """ValueError for bounds that are not numbers, contradict each other or leave nothing between them."""
        bounds = [b for b in (self.low, self.above, self.high, self.below) if b is not None]
        if not all(type(bound) in (int, float) for bound in bounds):
            raise ValueError(f"the bounds of an option are numbers, not {bounds}")
        pairs = ((self.low, self.above), (self.high, self.below))
        if any(None not in pair for pair in pairs):
            raise ValueError("an option has `low` or `above`, and `high` or `below`, not both")
        if len(bounds) == 2 and (
            bounds[0] > bounds[1] or (bounds[0] == bounds[1] and None in (self.low, self.high))
        ):
            raise ValueError(f"no value lies between {bounds[0]} and {bounds[1]}")

    def holds(self, value: Any) -> bool:
        """Whether an option may have `value`, which is of the option's type."""
        if self.filled and isinstance(value, (tuple, list, str)) and not value:
            return False
        items = value if isinstance(value, (tuple, list)) else (value,)
        numbers = (n for n in items if isinstance(n, (int, float)) and not isinstance(n, bool))
        return all(map(self._within, numbers))

    def _within(self, number: float) -> bool:
        return (
            (self.low is None or number >= self.low)
            and (self.above is None or number > self.above)
            and (self.high is None or number <= self.high)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        """ "at least 1", "above 0, at most 1", "0 to 1", "not empty, above 0"; "" where everything goes."""
        if self.low is not None and self.high is not None:
            words = [f"{self.low} to {self.high}"]
        else:
            bounds = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
            words = [f"{word} {bound}" for word, bound in bounds.items() if bound is not None]
        return ", ".join([*(["not empty"] if self.filled else []), *words])


def option(
    default: Any, help: str, *, origin: str = "", key: bool = True, file: bool = False, folder: bool = False,
    low: float | None = None, above: float | None = None, high: float | None = None,
    below: float | None = None, filled: bool = False, added: bool = False,
) -> Any:  # fmt: skip
    """A field of a plugin's frozen Config dataclass, with what `wsssbench show` prints about it.

    `origin` says where the value comes from (paper, code, tuned on which ids); `key=False` marks an option
    that cannot change a result (workers, evaluation batch) and stays out of the row's key; `file=True` marks
    a path that enters the key by the sha256 of what it points to, `folder=True` of the dumps in it.
    `added=True` marks an option that earlier versions lacked: at its default, which does what they did, it
    stays out of the key, so that their rows keep theirs.

    `low <= value <= high`, or `above < value < below`, is checked before anything runs; of a list each
    element, and `filled=True` says that a list (or a text) may not be empty.
    """
    known = {"help": help, "origin": origin, "key": key, "file": file, "folder": folder}
    known |= {"added": True} if added else {}
    return field(default=default, metadata={**known, **asdict(Range(low, above, high, below, filled))})


def range_of(metadata: Mapping[str, Any]) -> Range:
    """The range that `option` has put into a field's `metadata`; a field made by other means has none.

    ValueError for bounds that are not possible (a plugin's mistake).
    """
    return Range(**{name: metadata[name] for name in Range.__dataclass_fields__ if name in metadata})


@dataclass(frozen=True)
class NoConfig:
    """The Config of a plugin without options."""
