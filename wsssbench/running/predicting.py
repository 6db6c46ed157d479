"""How a predictor is asked, whatever it is: by the look of images, or by ids where its outputs were made
elsewhere; and what the folder is called in which its answers are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsssbench.types import Kind, Outputs, Predictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def looks_up(predictor: Predictor) -> bool:
    """Whether its outputs were made elsewhere: it is asked by the ids of images, never by their look."""
    return type(predictor).look_up is not Predictor.look_up


def outputs_of(
    predictor: Predictor,
    ids: Sequence[str],
    images: Sequence[Tensor],
    tags: NDArray[np.bool_] | None,
    given: Sequence[Outputs],
    want: frozenset[Kind],
) -> Sequence[Outputs]:
    """What a predictor says of the images called `ids`; the names reach it only where it looks labels up."""
    found = predictor.look_up(ids, images)
    return predictor(images, tags, given, want) if found is None else found
