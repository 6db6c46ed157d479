"""Published results: what others report, read from `published.toml`, with its source and what is not known.

One `Published` is one number. Nothing here is measured, and nothing here decides what may stand beside a
measured row (`wsssbench.reporting.beside` does).
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from msgspec import ValidationError, convert

from wsssbench.errors import BadData, UnknownName, nearest
from wsssbench.types import SUPERVISION

FILE = Path(__file__).with_name("published.toml")
Known = Literal["yes", "no", "unknown"]
STRENGTHS = {
    "code": "read in public code or its README",
    "thread": "a public issue thread",
    "paper": "a paper or its abstract page",
    "list": "a public list of results",
}


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published number and the terms that it was made under, as far as anybody recorded them.

    The fields are the keys of the file; `images` and `classes` may come from its [datasets]. Fields with
    "unknown" or "" say nothing.
    """

    name: str
    split: str
    miou: float  # in %, background included
    source: str
    strength: Literal["code", "thread", "paper", "list"]  # of the source
    pretraining: str
    dataset: str = "voc12"
    judged: Literal["maps", "pseudo", "seg"] = "seg"  # as of a stage
    variant: str = ""  # what distinguishes numbers of one method
    paper: str = ""  # title and venue
    code: str = ""  # owner/repository
    licence: str = ""  # of that code
    supervision: tuple[str, ...] = ("tags",)
    backbone: str = ""
    second_stage: str = ""  # network that learned from the pseudo masks; "": one step, or not known
    multi_scale: Known = "unknown"
    flip: Known = "unknown"
    scales: tuple[float, ...] = ()
    crf: Known = "unknown"
    crf_set: str = ""
    terms_by: Literal["author", "code", ""] = ""  # who describes how it was tested
    resolution: Literal["image", "unknown"] = "image"
    tags_at_evaluation: bool = False
    threshold: Literal["fixed", "oracle", "unknown", ""] = ""  # of maps and pseudo masks
    truth: str = ""  # folder of masks
    images: int = 0  # of the split; 0: not known
    classes: int = 0  # without background
    reruns: str = ""  # what others got from the same code
    note: str = ""

    @property
    def title(self) -> str:
        return f"{self.name} ({self.variant})" if self.variant else self.name


def load_published(path: Path = FILE) -> tuple[Published, ...]:
    """All published numbers in the order of the file.

    BadData where it is missing or not TOML, or an entry is incomplete, repeated or impossible; UnknownName
    for a key that does not exist.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadData(f"published results cannot be read ({error})", where=path) from error
    _no_other(content, ("datasets", "method"), str(path))
    entries = []
    for method in content.get("method", []):
        shared = {key: value for key, value in method.items() if key != "results"}
        where = f"{path.name}: {shared.get('name', 'a method without a name')}"
        if not method.get("results"):
            raise BadData("the method has no results", where=where)
        entries += [
            _entry(shared | result, content.get("datasets", {}), where) for result in method["results"]
        ]
    _no_twice(entries, path)
    return tuple(entries)


def _entry(given: Mapping[str, Any], datasets: Mapping[str, Any], where: str) -> Published:
    """One number, its defaults from [datasets] and from what is judged."""
    fields = {field.name: field.default for field in dataclasses.fields(Published)}
    _no_other(given, tuple(fields), where)
    dataset = given.get("dataset", fields["dataset"])
    if dataset not in datasets:
        raise BadData(
            f"data set {dataset!r} is not in [datasets]", where=where, hint=nearest(dataset, [*datasets])
        )
    known = datasets[dataset]
    defaults = {"classes": known["classes"], "images": known["images"].get(given.get("split"), 0)}
    defaults["tags_at_evaluation"] = given.get("judged", "seg") != "seg"  # maps are judged with tags given
    try:
        entry = convert({**defaults, **given}, Published)
    except ValidationError as error:
        raise BadData(str(error), where=where) from None
    _possible(entry, where)
    return entry


def _possible(entry: Published, where: str) -> None:
    """BadData for what no result can be, or for a number that nobody could look up."""
    seg = entry.judged == "seg"
    checks = {
        "a source says where the number was read": bool(entry.source.strip()),
        "mIoU is a percentage above 0 and below 100": 0 < entry.miou < 100,
        "it has a name and a split": bool(entry.name.strip() and entry.split.strip()),
        f"supervision is some of {', '.join(SUPERVISION)}": bool(entry.supervision)
        and set(entry.supervision) <= set(SUPERVISION),
        "scales are positive, and several exactly where the test is multi-scale": _scales_fit(entry),
        "a CRF set needs crf = yes": entry.crf == "yes" or not entry.crf_set,
        "terms_by says who described how it was tested": bool(entry.terms_by)
        or (entry.multi_scale, entry.crf, entry.flip) == ("unknown",) * 3,
        "maps and pseudo masks have a threshold, segmentation has none here": bool(entry.threshold) != seg,
        "counts are not negative": entry.images >= 0 and entry.classes > 0,
    }
    for rule, holds in checks.items():
        if not holds:
            raise BadData(f"{rule} ({entry.title}, {entry.split})", where=where)


def _scales_fit(entry: Published) -> bool:
    if not entry.scales:
        return True
    known = {"yes": len(entry.scales) > 1, "no": len(entry.scales) == 1, "unknown": False}
    return min(entry.scales) > 0 and known[entry.multi_scale]


def _no_other(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in known:
            raise UnknownName(f"unknown key {key!r}", where=where, hint=nearest(key, known))


def _no_twice(entries: Sequence[Published], path: Path) -> None:
    """BadData where two entries would be one line of a table."""
    seen: set[tuple[str, ...]] = set()
    for entry in entries:
        own = (entry.title, entry.dataset, entry.split, entry.judged)
        if own in seen:
            what = f"{entry.title} occurs twice for {entry.dataset} {entry.split}"
            raise BadData(what, where=path, hint="give each its own `variant`")
        seen.add(own)
