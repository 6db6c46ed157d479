"""How a predictor is asked, whatever it is: by the look of images, or by ids where its outputs were made
elsewhere; and what the folder is called in which its answers are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wsssbench.types import Kind, Outputs, Predictor

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
