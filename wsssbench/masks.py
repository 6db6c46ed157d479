"""Label maps: palette PNGs on disk, and the two rules that turn maps and probabilities into labels.

The judge's side of an image: numpy and PIL only, no torch. Which threshold or which tags apply is decided by
the stage, not here; what a label map is worth is `wsssbench.metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from wsssbench.errors import BadData
from wsssbench.files.atomic import atomic_write_bytes
from wsssbench.files.image_files import LOSSLESS, is_scaled_grey, opened, palette_of
from wsssbench.files.label_palette import LabelPalettes
from wsssbench.files.label_palette import voc_palette as voc_palette  # its place for everyone else
from wsssbench.files.label_png import label_png, plain_picture
from wsssbench.types import IGNORE, Maps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Image, Mask

    Labels: TypeAlias = NDArray[np.uint8]  # (H, W) in {0..K, 255}
    Planes: TypeAlias = NDArray[np.float32]  # (T, h, w)


AGAIN = "write the file again"
MODES = ("P", "L", "1", "I;16", "I")  # one channel; the wide ones only with values that fit into a byte


def write_labels(path: Path | str, labels: Labels) -> None:
    """Write (H, W) uint8 `labels` as a PNG with the VOC palette; the file appears whole or not at all."""
    array = np.asarray(labels)
    if array.ndim != 2 or array.dtype != np.uint8 or array.size == 0:
        raise BadData(f"labels must be (H, W) uint8, not {array.shape} {array.dtype}", where=path)
    # no fsync: a mask can be drawn again, and ten thousand of them would wait for the disk
    atomic_write_bytes(path, label_png(array, voc_palette().tobytes()), sync=False)


def read_labels(path: Path | str, palettes: LabelPalettes | None = None) -> Labels:
    """The (H, W) uint8 indices of a one-channel picture; a palette is never converted to colours by itself.

    `palettes`, where given, sees to indices that a program has renumbered (`wsssbench.files.label_palette`).
    BadData names the file where it is missing, truncated, damaged, coloured or has values above 255.
    """
    labels, palette = read_indices(path)
    return labels if palettes is None else palettes.labels(labels, palette, path)


def read_indices(path: Path | str) -> tuple[Labels, bytes]:
    """(H, W) uint8 indices as they are stored, and the palette's RGB triples, none of a grey picture."""
    if (plain := plain_picture(path, hint=AGAIN)) is not None:
        return plain
    if not Path(path).exists():
        raise BadData("no such mask", where=path, hint="one <image id>.png per image is expected")
    with opened(path, "mask", LOSSLESS, hint=AGAIN) as picture:
        mode, scaled, array = picture.mode, is_scaled_grey(picture), np.asarray(picture)
        palette = palette_of(picture)
    if scaled:
        what = "a grey mask of 2 or 4 bits, whose values are spread over 0..255"
        raise BadData(what, where=path, hint="save it with 8 bits, or as a palette PNG")
    if mode not in MODES or array.ndim != 2:
        hint = "save class indices (mode P or L), not colours"
        raise BadData(f"mask has picture mode {mode}, not one channel", where=path, hint=hint)
    if array.dtype.itemsize > 1 and (array.min() < 0 or array.max() > 255):
        raise BadData("mask has values outside 0..255", where=path, hint="save class indices, 255 for void")
    return array.astype(np.uint8), palette


def missing_masks(folder: Path | str, ids: Sequence[str]) -> list[str]:
    """The ids without a file <folder>/<id>.png; BadData where the folder does not exist."""
    root = Path(folder)
    if not root.is_dir():
        raise BadData("the folder of labels does not exist", where=root, hint="one <image id>.png per image")
    return [id for id in ids if not (root / f"{id}.png").is_file()]


def lacking_masks(folder: Path | str, missing: Sequence[str], count: int, split: str) -> BadData:
    """The error that of `count` images of `split` those in `missing` have no file; the first are named, and
    what lies there under a name like theirs."""
    names = ", ".join(f"{id}.png" for id in missing[:5]) + (" ..." if len(missing) > 5 else "")
    what = f"{len(missing)} of {count} files are missing: {names}"
    instead = found_instead(folder, missing[0])
    if not instead and len(missing) == count and (names_there := _names(folder)):
        instead = f"{names_there[0]} is there; files are named by the ids of {split}"
    hint = f"{instead + '; ' if instead else ''}every image of {split} needs its labels"
    return BadData(what, where=folder, hint=hint)


def found_instead(folder: Path | str, id: str) -> str:
    """What lies in `folder` under a name like that of image `id`, in words; empty where nothing does."""
    alike = next((name for name in _names(folder) if id in name), "")
    if alike.lower().endswith((".jpg", ".jpeg")):
        return f"{alike} is there: a JPEG, which changes label values; save {id}.png"
    return f"{alike} is there; files are named {id}.png (arrays: .npy)" if alike else ""


def _names(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def _taps(size: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each of `target` output pixels the two input pixels it mixes and the second one's share."""
    scale = np.float32(size) / np.float32(target)  # float32 like torch, so that ties fall alike
    source = np.maximum((np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5), 0)
    low = np.minimum(source.astype(np.intp), size - 1)
    share = np.clip(source - low.astype(np.float32), 0, 1, dtype=np.float32)
    return low, np.minimum(low + 1, size - 1), share


def resize_bilinear(values: Planes, shape: tuple[int, int]) -> Planes:
    """(T, h, w) float32 -> (T, H, W): torch's bilinear with align_corners off and no antialiasing."""
    planes = np.asarray(values, np.float32)
    height, width = shape
    if planes.shape[1:] == (height, width):
        return planes.copy()
    left, right, share = _taps(planes.shape[2], width)
    wide = planes[:, :, left]
    wide += (planes[:, :, right] - wide) * share
    top, bottom, share = _taps(planes.shape[1], height)
    result = wide[:, top]
    result += (wide[:, bottom] - result) * share[:, None]
    return result


def largest_plane(
    planes: Planes, labels: Iterable[int], shape: tuple[int, int], least: float
) -> tuple[Labels, NDArray[np.float32]]:
    """(H, W) label of the largest plane of each pixel and its value, after resizing (T, h, w) to `shape`.

    0 and `least` where no plane is above `least`. At a tie the earlier plane wins. One plane is resized at a
    time, to save memory.
    """
    best, result = np.full(shape, least, np.float32), np.zeros(shape, np.uint8)
    for plane, label in zip(planes, labels, strict=True):
        here = resize_bilinear(plane[None], shape)[0]
        larger = here > best
        np.copyto(best, here, where=larger)
        result[larger] = label
    return result, best


def tagged_maps(maps: Maps, tags: NDArray[np.bool_] | None) -> Maps:
    """The maps of the tagged classes alone, as `argmax_labels` does with planes; all without `tags` (K,)."""
    if tags is None or tags[maps.classes].all():
        return maps
    kept = tags[maps.classes]
    return Maps(maps.classes[kept], maps.values[kept])


def threshold_labels(maps: Maps, threshold: float, shape: tuple[int, int]) -> Labels:
    """(H, W) labels of class maps: the largest map's class + 1, background where none exceeds `threshold`.

    Maps are resized to `shape` first; T may be 0. At a tie the lower class wins.
    """
    return largest_plane(maps.values, (int(c) + 1 for c in maps.classes), shape, threshold)[0]


def argmax_labels(probs: Planes, shape: tuple[int, int], tags: NDArray[np.bool_] | None = None) -> Labels:
    """(H, W) argmax of the resized planes (C, h, w); with `tags` (K,) over background and tagged classes."""
    count = len(probs)
    if tags is not None and len(tags) != count - 1:
        raise ValueError(f"{len(tags)} tags for {count} planes; expected {count - 1}")
    allowed = range(count) if tags is None else [0, *(np.flatnonzero(tags) + 1).tolist()]
    planes = probs if tags is None else probs[allowed]
    return largest_plane(planes, allowed, shape, -np.inf)[0]


VOID_COLOUR = (225, 225, 225)  # light grey: neither a class nor background


def overlay(image: Image, labels: Mask, alpha: float = 0.5) -> Image:
    """(H, W, 3) uint8: `image` with the labels' colours laid over it at opacity `alpha` in [0, 1].

    Background keeps the image's own pixels; 255 is light grey. ValueError where the sizes differ.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f"image {image.shape[:2]} and labels {labels.shape} differ in size")
    palette = voc_palette().copy()
    palette[IGNORE] = VOID_COLOUR
    mixed = (1 - alpha) * image.astype(np.float32) + alpha * palette[labels]
    return np.where((labels == 0)[..., None], image, np.rint(mixed).astype(np.uint8))
