"""The keys `labels`, `palette` and `ignore` of dataset.toml as a code of mask values, checked for sense.

No file is read here; what a code does to one is `label_code`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsssbench.errors import BadData, UnknownName, nearest
from wsssbench.masks import voc_palette
from wsssbench.types import IGNORE
from wsssbench_datasets.folder.label_code import MOST_INDEX, LabelCode, value_text

BACKGROUND, IGNORED, OTHER = "background", "ignore", "other"
VOC = "voc"  # the palette by this name
HEX = re.compile(r"#[0-9a-fA-F]{6}")
SHOWN = 3  # names in an error


def read_code(table: Mapping[str, Any], classes: Sequence[str], path: Path) -> LabelCode:
    """The code that `labels`, `palette` and `ignore` of dataset.toml (at `path`, for errors) describe.

    Without `labels` and `palette`: indices 0..K. BadData or UnknownName for a value that is none, means two
    things or names no class, and for a class that no value means.
    """
    if "labels" in table and "palette" in table:
        raise BadData("there is both labels and palette", where=f"{path}: palette", hint="keep one of them")
    if "labels" in table:
        code = _listed(table["labels"], classes, f"{path}: labels")
    elif "palette" in table:
        code = _of_palette(table["palette"], len(classes), f"{path}: palette")
    else:
        code = LabelCode(False, {index: index for index in range(len(classes) + 1)})
    code = _with_ignore(code, table, f"{path}: ignore")
    lacking = [name for k, name in enumerate(classes, start=1) if k not in code.labels.values()]
    if lacking:
        hint = f'as 7 = "{lacking[0]}"'
        raise BadData(f"no value means {', '.join(lacking[:SHOWN])}", where=f"{path}: labels", hint=hint)
    return code


def _listed(given: Any, classes: Sequence[str], where: str) -> LabelCode:
    """The code of the table [labels]: value -> name."""
    if not isinstance(given, Mapping) or not given:
        raise BadData("labels is not a table", where=where, hint='[labels], then as 7 = "cat"')
    meaning = {BACKGROUND: 0, IGNORED: IGNORE, **{name: k for k, name in enumerate(classes, start=1)}}
    labels: dict[int, int] = {}
    kinds, other = set(), None
    for key, name in given.items():
        if not isinstance(name, str) or name not in meaning:
            hint = nearest(str(name), tuple(meaning))
            raise UnknownName(f"{name!r:.80} is not a class", where=f"{where}.{key}", hint=hint)
        if key == OTHER:
            other = meaning[name]
            continue
        coloured, value = _value(key, f"{where}.{key}")
        if value in labels:
            raise BadData(f"the value {key} stands twice", where=f"{where}.{key}", hint="remove one")
        kinds.add(coloured)
        labels[value] = meaning[name]
    if len(kinds) != 1:
        raise BadData("indices and colours are mixed" if kinds else "no value has a meaning", where=where,
                      hint='either 7 = "cat" or "#80a000" = "cat"')  # fmt: skip
    return LabelCode(kinds.pop(), labels, other)


def _of_palette(given: Any, classes: int, where: str) -> LabelCode:
    """The code of colours in the order of the labels: background first."""
    if given == VOC:
        colours = [tuple(colour) for colour in voc_palette().tolist()[: classes + 1]]
    elif isinstance(given, list):
        colours = [_colour(colour, where) for colour in given]
    else:
        raise BadData(f"{given!r:.80} is not a palette", where=where, hint='"voc", or a list of [r, g, b]')
    if len(colours) != classes + 1:
        hint = "one for the background, then one for each class; the colour of ignored pixels is for `ignore`"
        raise BadData(f"{len(colours)} colours for {classes + 1} labels", where=where, hint=hint)
    values = [_packed(colour) for colour in colours]
    if len(set(values)) < len(values):
        raise BadData("a colour stands twice", where=where, hint="to merge, write [labels] instead")
    return LabelCode(True, {value: label for label, value in enumerate(values)})


def _with_ignore(code: LabelCode, table: Mapping[str, Any], where: str) -> LabelCode:
    """`code` and the values whose pixels are not judged; by default 255, of VOC's palette its last colour."""
    if "ignore" in table:
        given = table["ignore"]
        several = isinstance(given, list) and not (len(given) == 3 and code.colours and _numbers(given))
        values = [_value(item, where) for item in (given if several else [given])]
    elif code.colours:
        values = [(True, _packed(voc_palette()[IGNORE].tolist()))] if table.get("palette") == VOC else []
    else:
        values = [] if IGNORE in code.labels else [(False, IGNORE)]
    labels = dict(code.labels)
    for coloured, value in values:
        if coloured != code.colours:
            kind = "colours" if code.colours else "indices"
            raise BadData(
                f"masks hold {kind}, ignore says otherwise", where=where, hint='as 255 or "#e0e0c0"'
            )
        if labels.setdefault(value, IGNORE) != IGNORE:
            text = value_text(value, code.colours)
            raise BadData(
                f"{text} means a label and is ignored", where=where, hint="say under [labels] which"
            )
    return LabelCode(code.colours, labels, code.other)


def _numbers(items: Sequence[Any]) -> bool:
    return all(type(item) is int for item in items)


def _value(text: Any, where: str) -> tuple[bool, int]:
    """Whether it is a colour, and the value: 7, "7", "#80a000", "128,160,0" or [128, 160, 0]."""
    if isinstance(text, list) or (isinstance(text, str) and (text.startswith("#") or "," in text)):
        return True, _packed(_colour(text, where))
    digits = str(text) if type(text) in (int, str) else ""
    if not re.fullmatch(r"\d{1,5}", digits) or int(digits) > MOST_INDEX:
        hint = f'an index 0..{MOST_INDEX}, or a colour: "#80a000" or "128,160,0"'
        raise BadData(f"{text!r:.80} is not a value of a pixel", where=where, hint=hint)
    return False, int(digits)


def _colour(given: Any, where: str) -> tuple[int, int, int]:
    if isinstance(given, str) and HEX.fullmatch(given):
        return int(given[1:3], 16), int(given[3:5], 16), int(given[5:7], 16)
    parts = given.split(",") if isinstance(given, str) else given
    texts = [str(part).strip() for part in parts] if isinstance(parts, list) else []
    if len(texts) != 3 or not all(re.fullmatch(r"\d{1,3}", text) and int(text) < 256 for text in texts):
        hint = "as [128, 160, 0] or #80a000, each of 0..255"
        raise BadData(f"{given!r:.80} is not a colour", where=where, hint=hint)
    return int(texts[0]), int(texts[1]), int(texts[2])


def _packed(colour: Sequence[int]) -> int:
    return colour[0] * 65536 + colour[1] * 256 + colour[2]
