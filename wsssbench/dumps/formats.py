"""Any file that another repository has written for one image, read into the types of wsssbench.

A file becomes labels, maps or probabilities, with its values as they were: nothing is rescaled unless asked.
Formats are recognised by content, never by a file's name; where content cannot tell, the user must. Nothing
here needs torch, and nothing in a file is ever executed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.dumps.array_files import read_arrays
from wsssbench.dumps.label_pictures import Picture, is_png_file, picture_at
from wsssbench.dumps.prob_formats import is_crf_dict, sums_to_one
from wsssbench.dumps.registry import FORMATS, DumpFormat
from wsssbench.dumps.source import Source
from wsssbench.errors import BadData, UnknownName, nearest
from wsssbench.files.digests import SUFFIXES
from wsssbench.files.label_palette import LabelPalettes
from wsssbench.types import Maps, Outputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask

AUTO = "auto"
PLAIN = "save labels as a PNG or one (H, W) array of uint8, probabilities as one (K + 1, H, W) float array"


@dataclass(frozen=True)
class Dump:
    """What one foreign file says of one image: exactly one of labels, maps and probs."""

    format: str
    labels: Mask | None = None  # (H, W) uint8 in {0..K, 255}
    maps: Maps | None = None  # (T, h, w) float32 in [0, 1], classes ascending; T may be 0
    probs: NDArray[np.float32] | None = None  # (C, h, w), sums to 1

    def outputs(self) -> Outputs:
        """The same as a step's outputs, for stages and artifacts."""
        return Outputs(labels=self.labels, maps=self.maps, probs=self.probs)


def read_dump(
    path: Path | str,
    classes: int,
    format: str = AUTO,
    *,
    class_index: int | None = None,
    rescale: bool = False,
    shape: tuple[int, int] | None = None,
    palettes: LabelPalettes | None = None,
) -> Dump:
    """What the file at `path` says of its image, for a data set of `classes` foreground classes.

    `format` is a name of `list_formats()` or "auto". Maps keep the values that their producer wrote (each
    format's range stands there; all lie in 0..1, and what SEAM leaves below 0 becomes 0) and are refused
    beyond them, unless `rescale` divides each by its largest value. `class_index` (0-based) is the class of
    a file with one bare map. Logits are enlarged to `shape`, the (H, W) of the image, and become
    probabilities by a softmax in float32; without `shape` the softmax is that of the file's size.
    `palettes`: of the folder's label PNGs, where there are more; a `format` that is named goes before them.

    BadData names the file, what is wrong (missing, damaged, not recognised, a class out of range, sizes that
    differ, maps or planes of another ratio of the sides than `shape`, palettes that were renumbered, values
    that are not finite, a pickle that needs code) and the next step; UnknownName a format.
    """
    palettes = (palettes or LabelPalettes(classes)) if format == AUTO else None
    source = Source(Path(path), classes, class_index, rescale, shape, palettes)
    known = {found.name: found for found in FORMATS}
    if format != AUTO and format not in known:
        raise UnknownName(f"unknown format {format!r}", where=path, hint=nearest(format, [AUTO, *known]))
    content = _content(source.path)
    found = _recognised(source, content) if format == AUTO else _checked(source, content, known[format])
    try:
        return Dump(found.name, **{found.holds: found.read(source, content)})
    except MemoryError as error:
        raise source.bad("this file needs more memory than there is") from error


def _content(path: Path) -> Any:
    """A `Picture`, an array, or a dict of stored values."""
    return picture_at(path) if is_png_file(path) else read_arrays(path)


def _checked(source: Source, content: Any, wanted: DumpFormat) -> DumpFormat:
    """The format that the user has named, if the file has its form."""
    if not wanted.fits(content):
        name = f"{_article(wanted.name)} {wanted.name} file"
        what = f"this is not {name} ({wanted.values}), but {_description(content)}"
        raise source.bad(what, f"it could be: {_fitting(content) or 'none of the known formats'}")
    return wanted


def _recognised(source: Source, content: Any) -> DumpFormat:
    """The one format that the content has."""
    found = [known for known in FORMATS if known.automatic and known.fits(content)]
    if len(found) != 1:
        known = _fitting(content)
        hint = f"name the format; it could be: {known}" if known else PLAIN
        raise source.bad(f"its format is not clear: {_description(content)}", hint)
    if found[0].name == "psa" and _could_be_crf(source, content):
        what = "this could be class maps (psa) or the marginals of a CRF (psa-crf), whose 0 is the background"
        raise source.bad(what, "name the format: psa or psa-crf")
    return found[0]


def _could_be_crf(source: Source, content: dict[int, Any]) -> bool:
    """Whether class maps sum to 1 everywhere, as marginals do: 0 would be the background, not a class."""
    if not is_crf_dict(content) or len(content) > source.classes + 1:
        return False
    planes = [source.array(value, f"the map of class {key}") for key, value in content.items()]
    return len({plane.shape for plane in planes}) == 1 and sums_to_one(np.stack(planes))


def _fitting(content: Any) -> str:
    return ", ".join(known.name for known in FORMATS if known.fits(content))


def _description(content: Any) -> str:
    """One line on what a file holds."""
    if isinstance(content, Picture):
        return "a picture of colours" if content.coloured else "a picture of indices"
    if isinstance(content, np.ndarray):
        return f"an array {content.shape} of {content.dtype}"
    keys = ", ".join(repr(key)[:40] for key in list(content)[:6])
    return f"a dict of {keys}{', ...' if len(content) > 6 else ''}" if content else "an empty dict"


def find_dump(folder: Path | str, id: str) -> Path:
    """The file of image `id` in `folder`, whatever its suffix; BadData where there is none, or two."""
    root = Path(folder)
    found = [path for path in (root / f"{id}{suffix}" for suffix in SUFFIXES) if path.is_file()]
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found)
    what = f"more than one file of {id}: {names}" if found else f"no file of {id}"
    raise BadData(what, where=root, hint=f"one file per image: {id} with one of {', '.join(SUFFIXES)}")


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
