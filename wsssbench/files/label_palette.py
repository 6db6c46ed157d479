"""What the palette of a label PNG says of its indices: nothing, or that a program has renumbered them.

oxipng, zopflipng, pngquant and Pillow's adaptive palettes keep every colour of a palette PNG and number the
colours, in each file in another way: the picture looks right, and its class numbers are others. Two things
prove it. All colours of a palette are VOC's and stand at other places than VOC's; or one colour has one index
in this file and another in a file beside it. Any other palette (grey, a tool's own) says nothing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.files.image_files import FileFault

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Labels: TypeAlias = NDArray[np.uint8]  # (H, W)

VOC = "voc"  # the name of VOC's palette, in cards and descriptions
VOID = 255
KIND = "mask palette"
RENUMBERED = "oxipng, zopflipng, pngquant and adaptive palettes renumber the colours"
FORMATS_HINT = f"{RENUMBERED}; say which holds: format `index` (the numbers) or `palette-colours`"


@functools.cache
def voc_palette() -> NDArray[np.uint8]:
    """(256, 3) RGB of the VOC devkit: bit 3j + c of the index is bit 7 - j of channel c. Read-only."""
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for j in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * j + channel)) & 1) << (7 - j)).astype(np.uint8)
    palette.setflags(write=False)
    return palette


@functools.cache
def _voc_index() -> dict[bytes, int]:
    return {bytes(colour): index for index, colour in enumerate(voc_palette())}


@functools.lru_cache(maxsize=4096)
def voc_places(palette: bytes) -> NDArray[np.uint8] | None:
    """(256,) uint8: the index that each entry's colour has in VOC's palette; 0 beyond its end.

    None where one of its colours is none of VOC's, or all of them stand where VOC's palette has them.
    """
    known = _voc_index()
    places = [known.get(palette[at : at + 3], -1) for at in range(0, len(palette), 3)]
    if -1 in places or places == list(range(len(places))):
        return None
    found = np.zeros(256, np.uint8)
    found[: len(places)] = places
    found.setflags(write=False)
    return found


def renumbered(indices: Labels, palette: bytes, classes: int) -> Labels | None:
    """What VOC's colours in `palette` (RGB triples) mean, in 0..classes or 255, where that is not `indices`.

    None where the palette has other colours, colours do not tell the labels apart, or some are not labels.
    """
    places = voc_places(palette)
    if places is None:
        return None
    used = _used(indices)
    meant = places[used]
    alike = used[-1] * 3 >= len(palette) or len(np.unique(meant)) < len(used)
    foreign = ((meant > classes) & (meant != VOID)).any()
    return None if alike or foreign or (meant == used).all() else places[indices]


@dataclass
class LabelPalettes:
    """What the palettes of the label PNGs of one folder say, file after file.

    `classes` is K. With `meaning` "voc" the data set's classes have VOC's colours, so that colours decide
    where indices were renumbered; else such a file is refused with `hint`. Where the user has said what
    `indices` mean, VOC's colours alone are not a reason. Threads may share one: at worst two read a palette.
    """

    classes: int
    meaning: str = ""
    indices: bool = False
    hint: str = FORMATS_HINT
    _index: dict[bytes, tuple[int, str]] = field(default_factory=dict)  # colour -> index, file
    _looked_at: set[bytes] = field(default_factory=set)  # palettes of files whose indices hold

    def labels(self, indices: Labels, palette: bytes, where: object) -> Labels:
        """`indices` (H, W), or what the colours of `palette` (RGB triples; empty: none) mean instead.

        FileFault, naming `where`, for indices that were renumbered where nothing says what colours mean.
        """
        if palette in self._looked_at and voc_places(palette) is None:
            return indices
        if (moved := renumbered(indices, palette, self.classes)) is not None:
            if self.meaning == VOC:
                return moved
            if not self.indices:
                raise self._fault(_of_voc(indices, moved), where)
        if palette and palette not in self._looked_at:
            self._compare(_used(indices), palette, where)
            self._looked_at.add(palette)
        return indices

    def _compare(self, used: NDArray[np.intp], palette: bytes, where: object) -> None:
        """Remember the index of each colour; FileFault where a file before had it at another index."""
        colours = [palette[at : at + 3] for at in range(0, len(palette), 3)]
        once = {c: colours[c] for c in used.tolist() if c < len(colours) and colours.count(colours[c]) == 1}
        for index, colour in once.items():
            before, file = self._index.setdefault(colour, (index, str(where)))
            if before != index:
                shown = tuple(colour)
                what = f"the colour {shown} has the index {index} here and {before} in {file}"
                raise self._fault(f"the palette was renumbered: {what}", where)

    def _fault(self, what: str, where: object) -> FileFault:
        return FileFault(KIND, what, where, self.hint)


def by_colours(indices: Labels, palette: bytes, where: object) -> Labels:
    """(H, W) labels by VOC's colours in a palette, where the user asks for that.

    FileFault for a colour that is used and not VOC's.
    """
    known = _voc_index()
    used, meant = _used(indices), np.zeros(256, np.uint8)
    for index in used.tolist():
        colour = palette[3 * index : 3 * index + 3]
        if colour not in known:
            what = f"the colour {tuple(colour)} of index {index} is not in the VOC palette"
            raise FileFault(KIND, what, where, "colours of another palette: save class indices, mode L")
        meant[index] = known[colour]
    found: Labels = meant[indices]
    return found


def _used(indices: Labels) -> NDArray[np.intp]:
    return np.flatnonzero(np.bincount(indices.ravel(), minlength=256))


def _of_voc(indices: Labels, moved: Labels) -> str:
    index = int(indices[indices != moved][0])
    label = int(moved[indices == index][0])
    return f"its palette has VOC's colours at other places: index {index} has the colour of label {label}"
