"""What came of verifying one record: differences, what could not be checked, and the verdict. Plain data; who
reads files is `wsssbench.verifying.verify` and `wsssbench.verifying.rejudging`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wsssbench.identity import Record

Part = Literal["record", "files", "weights", "data", "threshold", "labels", "counts", "scores"]
Verdict = Literal["ok", "differs", "cannot be verified"]
CLOSE = 1e-9  # relative: counts are whole, but a mean of ratios may be summed in another order elsewhere
LENGTH = "length of"
NAMED = 5  # images or files that a sentence names


@dataclass(frozen=True)
class Mismatch:
    """One thing that is recorded otherwise than it was found."""

    part: Part
    what: str  # "iou.miou", "protocol key", "masks/val_00012.png"
    recorded: Any
    found: Any


@dataclass
class Verification:
    """What became of one record; `unknown` says what could not be checked, and why."""

    path: Path
    record: Record
    differs: list[Mismatch] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)  # how many images, numbers, files

    @property
    def verdict(self) -> Verdict:
        """A difference outweighs what could not be checked."""
        return "differs" if self.differs else "cannot be verified" if self.unknown else "ok"

    def compare(self, part: Part, what: str, recorded: Any, found: Any) -> None:
        """Note a difference where the two are not equal."""
        if recorded != found:
            self.differs.append(Mismatch(part, what, recorded, found))

    def differ(self, part: Part, what: str, how: str) -> None:
        """Note a difference that has no two values: `how` says it."""
        self.differs.append(Mismatch(part, what, None, how))

    def compare_scores(self, recorded: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Note every number that is recorded otherwise; what was not recorded is not compared."""
        now = dict(flat_numbers(found))
        known = list(flat_numbers(recorded))
        self.checked["numbers"] = sum(not name.startswith(LENGTH) for name, _ in known)
        for name, value in known:
            if not is_close(value, now.get(name)):
                self.differs.append(Mismatch("scores", name, value, now.get(name)))


def flat_numbers(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf below `value` with its path: ("iou.per_class[1]", 72.5)."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from flat_numbers(below, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for place, below in enumerate(value):
            yield from flat_numbers(below, f"{name}[{place}]")
        yield f"{LENGTH} {name}", len(value)
    else:
        yield name, value


def is_close(recorded: Any, found: Any) -> bool:
    """Whether two leaves are equal, numbers up to the order of summation."""
    numbers = (int, float)
    if isinstance(recorded, numbers) and isinstance(found, numbers):
        return abs(recorded - found) <= CLOSE * max(1.0, abs(recorded))
    return bool(recorded == found)


def some_of(names: list[str], count: int, noun: str = "images") -> str:
    """ "2 of 160 images: val_00003, val_00017"; of many the first are named, of all none."""
    if len(names) == count:
        return f"all {count} {noun}"
    more = ", ..." if len(names) > NAMED else ""
    return f"{len(names)} of {count} {noun}: {', '.join(names[:NAMED])}{more}"
