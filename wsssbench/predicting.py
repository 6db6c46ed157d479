"""How a predictor is asked, whatever it is: by the look of images, or by ids where its outputs were made
elsewhere; and what the folder is called in which its answers are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wsssbench.types import Kind, Outputs, Predictor, Stage, content_key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@runtime_checkable
class LabelSource(Protocol):
    """A predictor whose outputs were made elsewhere: asked by the ids of images, never by their look."""

    def look_up(self, ids: Sequence[str], images: Sequence[Tensor]) -> Sequence[Outputs]:
        """Outputs of the images called `ids`; `images` as for a Predictor, to check sizes by."""
        ...


def outputs_of(
    predictor: Predictor,
    ids: Sequence[str],
    images: Sequence[Tensor],
    tags: NDArray[np.bool_] | None,
    given: Sequence[Outputs],
    want: frozenset[Kind],
) -> Sequence[Outputs]:
    """What a predictor says of the images called `ids`; the names reach it only where it looks labels up."""
    if isinstance(predictor, LabelSource):
        return predictor.look_up(ids, images)
    return predictor(images, tags, given, want)


def artifact_name(
    split: str, tags_given: bool, stage: Stage | None = None, part: Sequence[str] | None = None
) -> str:
    """Folder name of a step's outputs: `train-tags`, `val`, `val@0.5,1.0+flip-v2`.

    The views' version is in the name: what an older rule made of several is never taken for another's. Of a
    `part` of the split, some of its ids, outputs lie apart, as `train+part-1a2b3c4d`: their last bits depend
    on the images that they were predicted with.
    """
    name = f"{split}-tags" if tags_given else split
    name += "" if part is None else f"+part-{content_key(list(part))[:8]}"
    if stage is not None and stage.multi_scale:
        name += "@" + ",".join(map(str, stage.scales)) + ("+flip" if stage.flip else "")
        name += "" if stage.version == "1" else f"-v{stage.version}"
    return name
