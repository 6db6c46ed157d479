"""Typed outputs of a step on disk, one file per image and kind, each written whole or not at all.

Maps and probabilities are float16 at native stride (uint8 would break the mining rule's cut at 0.007), labels
are palette PNGs. Nothing here knows what the numbers mean, and nothing imports torch.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.errors import BadData
from wsssbench.files.atomic import atomic_write_bytes, atomic_write_text, read_bytes
from wsssbench.files.image_files import LOSSLESS, opened
from wsssbench.masks import read_labels, write_labels
from wsssbench.types import KINDS, Kind, Maps, Outputs

if TYPE_CHECKING:
    import numpy as np


AGAIN = "remove it; the next run makes it again"
SUFFIX = {"maps": ".npz", "probs": ".npz", "labels": ".png", "mined": ".png", "tag_scores": ".npz"}


class ArtifactFolder:
    """The outputs of one step on one split: `folder/<kind>/<id>.<suffix>`, and what making them cost.

    `kinds` are those that `given[id]` reads: a step is handed what its card declares, not all that is there.
    """

    def __init__(self, folder: Path, ids: Sequence[str] = (), kinds: Sequence[Kind] = KINDS) -> None:
        self.folder, self.ids, self.kinds = folder, tuple(ids), tuple(kinds)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, id: str) -> Outputs:
        return self.read(id, [kind for kind in self.kinds if self.path(id, kind).exists()])

    def only(self, kinds: Sequence[Kind]) -> ArtifactFolder:
        """The same folder, of which `given[id]` reads `kinds` alone."""
        return ArtifactFolder(self.folder, self.ids, kinds)

    def path(self, id: str, kind: Kind) -> Path:
        """Where this image's `kind` lies."""
        return self.folder / kind / f"{id}{SUFFIX[kind]}"

    def missing(self, kinds: Iterable[Kind]) -> list[str]:
        """The ids that lack a file of one of `kinds`."""
        wanted = list(kinds)
        return [id for id in self.ids if self.lacking(id, wanted)]

    def lacking(self, id: str, kinds: Iterable[Kind]) -> list[Kind]:
        """Those of `kinds` of which this image has no file."""
        return [kind for kind in kinds if not self.path(id, kind).exists()]

    def write(self, id: str, outputs: Outputs, kinds: Iterable[Kind]) -> None:
        """Keep the named kinds of one image's outputs; one that is None is the step's breach of contract."""
        for kind in kinds:
            value = _given(outputs, kind, id)
            path = self.path(id, kind)
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind in ("labels", "mined"):
                write_labels(path, value)
            else:
                atomic_write_bytes(path, _packed(kind, value, id), sync=False)

    def share(self, id: str, kind: Kind, target: Path) -> None:
        """Put this image's picture at `target` too, as a hard link where the file system has them.

        BadData where it is damaged: named here, since at `target` the damage could not be mended.
        """
        source = self.path(id, kind)
        with opened(source, "artifact", LOSSLESS, hint=AGAIN) as picture:
            picture.verify()
        try:
            target.unlink(missing_ok=True)
            os.link(source, target)
        except OSError:  # no links here, or the disk is full: then this says so
            atomic_write_bytes(target, read_bytes(source), sync=False)

    def read(self, id: str, kinds: Iterable[Kind]) -> Outputs:
        """The named kinds of one image. Raises BadData where a file is missing or damaged."""
        return Outputs(**{kind: self._read(id, kind) for kind in kinds})

    def _read(self, id: str, kind: Kind) -> Any:
        from wsssbench.dumps.array_files import read_npz  # late: a plan reads no artifact

        path = self.path(id, kind)
        try:
            return read_labels(path) if kind in ("labels", "mined") else _unpacked(kind, read_npz(path))
        except Exception as error:  # an array may be missing, or of any shape and type
            why = error.what if isinstance(error, BadData) else error
            raise BadData(f"cannot read this artifact ({why})", where=path, hint=AGAIN) from error

    # ------------------------------------------------------------------------------------------ what it cost

    def add_cost(self, images: int, seconds: float) -> None:
        """Add to the count of images and the seconds that predicting them took."""
        old = self.cost()
        total = {"images": old["images"] + images, "seconds": round(old["seconds"] + seconds, 3)}
        atomic_write_text(self.folder / "cost.json", json.dumps(total))

    def cost(self) -> dict[str, float]:
        """Images and seconds so far."""
        try:
            found: dict[str, float] = json.loads((self.folder / "cost.json").read_text())
            return {"images": found["images"], "seconds": found["seconds"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {"images": 0, "seconds": 0.0}


HEAD_BYTES = 1024  # of an .npz file and the arrays in it, at most


def most_bytes(kind: Kind, images: int, planes: int, cells: int) -> int:
    """What files of `kind`, maps or probs, of so many images take at most on disk: they are not compressed.

    `planes` counts those of all images together, `cells` is the grid of one plane.
    """
    value, index = np.dtype(np.float16).itemsize, np.dtype(np.int64).itemsize
    return images * HEAD_BYTES + planes * (cells * value + (index if kind == "maps" else 0))


def as_kept(outputs: Outputs, kinds: Iterable[Kind], id: str) -> Outputs:
    """The named kinds as `read` gives them after `write`, without a file: what is judged, to the last bit."""
    return Outputs(**{kind: _as_kept(kind, _given(outputs, kind, id), id) for kind in kinds})


def _as_kept(kind: Kind, value: Any, id: str) -> Any:
    return value if kind in ("labels", "mined") else _unpacked(kind, _arrays(kind, value, id))


def _given(outputs: Outputs, kind: Kind, id: str) -> Any:
    value = getattr(outputs, kind)
    if value is None:
        raise BadData(
            f"the step was asked for {kind} and returned none",
            where=id,
            hint="its card says that it gives them: return them, or take them out of `gives`",
        )
    return value


def _packed(kind: Kind, value: Any, id: str) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **_arrays(kind, value, id))
    return buffer.getvalue()


def _arrays(kind: Kind, value: Any, id: str) -> dict[str, Any]:
    if kind == "maps":
        return {"classes": value.classes.astype(np.int64), "values": _finite(value.values, np.float16, id)}
    if kind == "probs":
        return {"probs": _finite(value, np.float16, id)}
    return {"scores": _finite(value, np.float32, id)}


def _finite(values: Any, dtype: type[np.floating[Any]], id: str) -> Any:
    """`values` as `dtype`; BadData for NaN and infinity, which every comparison would take for background."""
    with np.errstate(over="ignore"):
        found = np.asarray(values).astype(dtype)
    if not np.isfinite(found).all():
        hint = "look at the step's weights and losses (log.jsonl), and for a division by zero"
        raise BadData("the step returned numbers that are not finite", where=id, hint=hint)
    return found


def _unpacked(kind: Kind, data: Any) -> Any:
    if kind == "maps":
        return Maps(classes=data["classes"], values=data["values"].astype(np.float32))
    if kind == "probs":
        return data["probs"].astype(np.float32)
    return data["scores"]
