"""COCO's instances file (`instances_val2014.json`), checked: which images, which classes, which outlines.

The catalogue (sizes and classes of each image) is small and remembered between runs; outlines are read when a
mask is first asked for, as a few hundred MB of them are not needed for tags. Nothing is painted here.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import threading
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from wsssbench.errors import BadData, UnknownName, nearest
from wsssbench.files.image_files import MOST_PIXELS
from wsssbench_datasets.coco14.classes import CATEGORIES
from wsssbench_datasets.file_facts import cache_file, remembered
from wsssbench_datasets.image_names import json_fault

HINT = "mend it, or unpack annotations_trainval2014.zip of cocodataset.org again"
LABELS = {category: k + 1 for k, category in enumerate(CATEGORIES)}  # 1..90 with gaps -> 1..80
STORE = "coco-catalogues-1.json"  # the number changes with the form of its entries
FEWEST_NUMBERS = 6  # a polygon of fewer has no area; pycocotools would take four for a box
FAR = 1e5  # coordinates beyond are not pixels
MOST_BITS = 35  # of a run length; those of the largest image have 26
LONGEST = 1e6  # pixels of an outline: one of a thousand long strokes would fill the memory

Outline: TypeAlias = "tuple[array[float], ...] | array[int]"  # polygons (x, y, x, y, ...), or run lengths


class Listed(NamedTuple):
    """What the catalogue says of an image."""

    height: int
    width: int
    labels: tuple[int, ...]  # 1..80, ascending, of all its annotations, crowds included


class Instance(NamedTuple):
    """One annotated object, or a crowd of them."""

    label: int
    crowd: bool
    area: float
    outline: Outline


Catalogue: TypeAlias = Mapping[int, Listed]
_PARSING = threading.Lock()  # several threads may ask first; one file takes two GB to parse


def catalogue(path: Path) -> Catalogue:
    """Image number -> size and classes; BadData, with the annotation, for what is no instances file."""
    [text] = remembered([path], _catalogue_text, cache_file(STORE))
    try:
        return _catalogue(text)
    except (ValueError, AttributeError):  # somebody else's entry in the store
        return _catalogue(_catalogue_text(path))


def _catalogue(text: str) -> Catalogue:
    return {int(number): Listed(h, w, tuple(labels)) for number, (h, w, *labels) in json.loads(text).items()}


def outlines(path: Path) -> Mapping[int, Sequence[Instance]]:
    """Image number -> its annotations in the order of the file; kept in memory until the file changes."""
    stat = path.stat()
    with _PARSING:
        return _outlines(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _outlines(path: Path, size: int, mtime_ns: int) -> Mapping[int, Sequence[Instance]]:
    content = _parsed(path)
    sizes = _sizes(content, path)
    found: dict[int, list[Instance]] = {}
    for number, label, each in _annotations(content, sizes, path):
        found.setdefault(number, []).append(_instance(each, label, sizes[number], path))
    return found


def _catalogue_text(path: Path) -> str:
    with _PARSING:
        content = _parsed(path)
    sizes = _sizes(content, path)
    labels: dict[int, set[int]] = {number: set() for number in sizes}
    for number, label, _ in _annotations(content, sizes, path):
        labels[number].add(label)
    return json.dumps({number: [*sizes[number], *sorted(labels[number])] for number in sizes})


# --------------------------------------------------------------------------------------------- the content


def _parsed(path: Path) -> Mapping[str, Sequence[Any]]:
    """The file's tables, categories checked."""
    try:
        content: dict[str, list[Any]] = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        what = f"this annotation file is damaged ({json_fault(error)})"
        raise BadData(what, where=path, hint=HINT) from error
    for table in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(table), list):
            raise BadData(f"this is no instances file: no list {table!r} in it", where=path, hint=HINT)
    for category in content["categories"]:
        number = category.get("id") if isinstance(category, dict) else None
        known = CATEGORIES.get(number) if type(number) is int else None
        if not known or category.get("name") != known:
            what = f"the category {category!r:.80} is not COCO's{f', {known}' if known else ''}"
            raise BadData(what, where=path, hint="coco14 is for COCO's own 80 categories")
    return content


def _sizes(content: Mapping[str, Sequence[Any]], path: Path) -> dict[int, tuple[int, int]]:
    """Image number -> (H, W)."""
    sizes = {}
    for image in content["images"]:
        try:
            number, height, width = image["id"], image["height"], image["width"]
        except (TypeError, LookupError):
            what = "an image without id, height and width"
            raise BadData(f"{what}: {image!r:.80}", where=path, hint=HINT) from None
        if not all(type(v) is int and v > 0 for v in (number, height, width)):
            what = (
                f"id, height and width of an image are whole numbers from 1 on, without quotes: {image!r:.80}"
            )
            raise BadData(what, where=path, hint=HINT)
        if height * width > MOST_PIXELS:
            what = f"image {number} of {width} x {height} pixels: at most {MOST_PIXELS:,} are read"
            raise BadData(what, where=path, hint=HINT)
        sizes[number] = (height, width)
    return sizes


def _annotations(
    content: Mapping[str, Sequence[Any]], sizes: Mapping[int, Any], path: Path
) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """(image number, label, annotation) of each."""
    for each in content["annotations"]:
        try:
            number, category = each["image_id"], each["category_id"]
            known, label = number in sizes, LABELS.get(category)
        except (TypeError, LookupError):
            raise _bad(each, "no image or category", path) from None
        if label is None:
            hint = nearest(str(category), tuple(map(str, LABELS)))
            raise UnknownName(f"annotation {each.get('id')}: no category {category!r}", where=path, hint=hint)
        if not known:
            raise _bad(each, f"no image {number!r}", path)
        yield number, label, each


def _bad(annotation: Any, what: str, path: Path) -> BadData:
    name = annotation.get("id", "?") if isinstance(annotation, dict) else repr(annotation)[:40]
    return BadData(f"annotation {name}: {what}", where=path, hint=HINT)


def _instance(each: Mapping[str, Any], label: int, size: tuple[int, int], path: Path) -> Instance:
    try:
        outline = _outline(each.get("segmentation"), size)
    except ValueError as error:
        raise _bad(each, f"its outline is damaged ({error})", path) from None
    try:
        area = float(each["area"])
    except (TypeError, ValueError, LookupError):
        area = math.nan
    if not math.isfinite(area):
        raise _bad(each, f"its area is not a number: {each.get('area')!r:.40}", path)
    return Instance(label, bool(each.get("iscrowd", 0)), area, outline)


def _outline(given: Any, size: tuple[int, int]) -> Outline:
    """Polygons as they are, those without area left out; run lengths that fill the image, packed or not.

    ValueError, in words for the file's owner, for anything else.
    """
    if isinstance(given, list):
        return tuple(p for p in map(_polygon, given) if len(p) >= FEWEST_NUMBERS)
    if not isinstance(given, dict) or "counts" not in given:
        raise ValueError("neither a list of polygons nor run lengths with counts and size")
    runs = _runs(given["counts"])
    if given.get("size") != list(size) or sum(runs) != size[0] * size[1]:
        raise ValueError("run lengths that do not fill the image")
    return runs


def _polygon(given: Any) -> array[float]:
    numbers = _array("d", given)
    if numbers is None and isinstance(given, list) and any(isinstance(item, list) for item in given):
        raise ValueError("a polygon of pairs [x, y]: COCO writes all its numbers in one list, [x, y, x, y]")
    if numbers is None:
        raise ValueError("a polygon that is not a list of numbers: COCO writes [[x, y, x, y], ...]")
    if len(numbers) >= FEWEST_NUMBERS and not _are_points(numbers):
        raise ValueError("numbers that are not points")
    return numbers


def _runs(counts: Any) -> array[int]:
    """Run lengths from a list, or from pycocotools' compressed text."""
    found = _array("L", run_lengths(counts.encode()) if isinstance(counts, str) else counts)
    if found is None:
        raise ValueError("run lengths that are not numbers of pixels")
    return found


def _array(kind: str, given: Any) -> array[Any] | None:
    """The list `given` as an array; None where it is not a list, or holds what is none of its numbers."""
    try:
        return array(kind, given) if isinstance(given, list) else None
    except (TypeError, OverflowError):
        return None


def run_lengths(text: bytes) -> list[int]:
    """The run lengths in pycocotools' compressed form; ValueError for a text that is none.

    Read here because its own `decode` leans on a way of handing over arrays that numpy 2 gives up. Of a
    character less 48, five bits are digits, the sixth says that the number goes on, and the last character's
    fifth is the sign; from the fourth on, a number is the difference to the last but one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = character - 48
        if not 0 <= bits < 64 or shift > MOST_BITS:
            raise ValueError("compressed run lengths with a sign that is none of theirs")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def _are_points(polygon: array[float]) -> bool:
    near = min(polygon) > -FAR and max(polygon) < FAR and math.isfinite(sum(polygon))  # a NaN hides from min
    return near and len(polygon) % 2 == 0 and _length(polygon[::2]) + _length(polygon[1::2]) < LONGEST


def _length(along: array[float]) -> float:
    """How far an outline goes along one axis; pycocotools takes memory for each pixel of it."""
    return sum(abs(b - a) for a, b in itertools.pairwise(along))
