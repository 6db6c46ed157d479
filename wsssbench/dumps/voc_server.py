"""The archive that the PASCAL VOC evaluation server takes, and a check of one, strict enough to trust.

results/VOC2012/Segmentation/<competition>_test_cls/<id>.png in a tar.gz: palette PNGs at the images' sizes,
0..20 and nothing else. comp5 is for methods that have seen VOC data only, comp6 for any other.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, cast

import numpy as np
from PIL import Image as PilImage

from wsssbench.errors import BadData
from wsssbench.files.atomic import atomic_write_bytes
from wsssbench.files.label_png import label_png
from wsssbench.masks import voc_palette

if TYPE_CHECKING:
    from wsssbench.types import Mask

Competition = Literal["comp5", "comp6"]
COMPETITIONS = ("comp5", "comp6")
CLASSES = 20
ID = re.compile(r"[A-Za-z0-9_-]+")
HINT = "write the archive again with this project's export"


def member_name(id: str, competition: str) -> str:
    """Where the server looks for the labels of image `id`."""
    return f"results/VOC2012/Segmentation/{competition}_test_cls/{id}.png"


def write_voc_archive(
    labels: Callable[[str], Mask],
    ids: Sequence[str],
    sizes: Mapping[str, tuple[int, int]],
    target: Path | str,
    competition: Competition,
) -> None:
    """Write the labels of `ids` as the server's tar.gz, whole or not at all; equal labels, equal bytes.

    `labels(id)` is (H, W) uint8 in 0..20, of the size `sizes[id]` = (H, W); BadData for any other.
    """
    _check_request(ids, sizes, competition, target)
    buffer = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", fileobj=buffer, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for id in ids:
            mask = labels(id)
            _check_labels(mask, sizes[id], id)
            picture = label_png(mask, voc_palette().tobytes())
            member = tarfile.TarInfo(member_name(id, competition))  # no time, no owner
            member.size, member.mode = len(picture), 0o644
            archive.addfile(member, io.BytesIO(picture))
    atomic_write_bytes(target, buffer.getvalue())


def _check_request(
    ids: Sequence[str], sizes: Mapping[str, tuple[int, int]], competition: str, where: object
) -> None:
    if competition not in COMPETITIONS:
        raise BadData(
            f"{competition!r} is not a competition of the server", where=where, hint="comp5 or comp6"
        )
    if not ids or len(set(ids)) != len(ids):
        raise BadData("an empty list, or an id that stands twice", where=where, hint="check the split's list")
    for id in ids:
        if not ID.fullmatch(id):
            raise BadData(f"{id!r} is not an id of an image", where=where)
        if id not in sizes:
            raise BadData(f"the size of image {id} is not known", where=where)


def _check_labels(mask: Mask, size: tuple[int, int], where: object) -> None:
    """BadData unless `mask` is (H, W) uint8 of `size` in 0..20."""
    if mask.dtype != np.uint8 or mask.shape != tuple(size):
        what = f"the labels are {mask.dtype} of the shape {mask.shape}, the image {tuple(size)}"
        raise BadData(what, where=where, hint="give (H, W) uint8 labels of the image's size")
    wrong = np.unique(mask[mask > CLASSES])
    if len(wrong):
        what = f"label {', '.join(map(str, wrong[:5]))} is outside 0..{CLASSES}"
        hint = "the server knows no void: give every pixel a class or the background"
        raise BadData(what, where=where, hint=hint)


def verify_voc_archive(
    path: Path | str, ids: Sequence[str], sizes: Mapping[str, tuple[int, int]]
) -> Competition:
    """Read an archive again, as the server would, and say which competition it is for.

    BadData unless it holds one plain file for each of `ids` (1,456 of VOC's test list) in the right folder,
    and nothing else, each a PNG of mode P with the VOC palette, of the image's size, with labels in 0..20.
    """
    places = {member_name(id, c): (id, c) for id in ids for c in COMPETITIONS}
    seen: set[str] = set()
    competition = ""
    for member, data in _members(Path(path), _most_bytes(ids, sizes)):
        id, here = places.get(member, ("", ""))
        if not here or competition not in ("", here):
            raise BadData(f"{member!r} has no place in the archive", where=path, hint=HINT)
        if id in seen:
            raise BadData(f"{member} stands twice", where=path, hint=HINT)
        competition = here
        seen.add(id)
        _check_picture(data, sizes[id], f"{path}, {member}")
    missing = [id for id in ids if id not in seen]
    if missing or not ids:
        names = ", ".join(missing[:5])
        what = f"{len(missing)} of {len(ids)} images are missing: {names}"
        raise BadData(what, where=path, hint=HINT)
    return cast("Competition", competition)


def _most_bytes(ids: Sequence[str], sizes: Mapping[str, tuple[int, int]]) -> int:
    """More than the unpacked archive can have: a byte per pixel and room for headers."""
    return sum(2 * height * width + 65_536 for height, width in (sizes[id] for id in ids)) + 1_000_000


def _members(path: Path, most: int) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the plain files in a tar.gz; BadData for anything else in it, or too much of it."""
    try:
        with gzip.open(path) as packed:
            data = packed.read(most + 1)
        if len(data) > most:
            raise BadData("it unpacks to more than its pictures can have", where=path, hint=HINT)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if not member.isreg() or member.issparse():
                    what = f"{member.name!r} is not a plain file (a link, a folder or a device)"
                    raise BadData(what, where=path, hint=HINT)
                yield member.name, cast("IO[bytes]", archive.extractfile(member)).read()
    except FileNotFoundError:
        raise BadData("no such archive", where=path, hint=HINT) from None
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:
        raise BadData(f"this archive cannot be read ({error})", where=path, hint=HINT) from error


def _check_picture(data: bytes, size: tuple[int, int], where: str) -> None:
    """BadData unless `data` is a PNG as the server wants it."""
    try:
        with PilImage.open(io.BytesIO(data), formats=["PNG"]) as picture:
            found = (picture.height, picture.width)
            if found != tuple(size):
                raise BadData(f"the picture is {found}, the image {tuple(size)}", where=where, hint=HINT)
            mode, palette, mask = picture.mode, picture.getpalette() or [], np.asarray(picture)
    except (OSError, SyntaxError, ValueError, EOFError, PilImage.DecompressionBombError) as error:
        raise BadData(f"the picture cannot be read ({error})", where=where, hint=HINT) from error
    colours = voc_palette()[: CLASSES + 1].ravel().tolist()
    if mode != "P" or palette[: len(colours)] != colours:
        what = f"the picture has mode {mode}" if mode != "P" else "the palette is not VOC's"
        raise BadData(f"{what}; the server reads indices of the VOC palette", where=where, hint=HINT)
    _check_labels(mask, size, where)
