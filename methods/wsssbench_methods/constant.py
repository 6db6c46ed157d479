"""The floor: every pixel is background. A method that scores below it says less than nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.types import Artifacts, Context, Kind, NoConfig, Outputs, Step, StepCard, View


def all_background(
    images: Sequence[Tensor], tags: NDArray[np.bool_] | None, given: Sequence[Outputs], want: frozenset[Kind]
) -> list[Outputs]:
    """Labels that are 0 everywhere."""
    return [Outputs(labels=np.zeros(tuple(image.shape[1:]), np.uint8)) for image in images]


class Constant(Step):
    """A predictor that has seen nothing."""

    Config = NoConfig
    card = StepCard("constant", "1", "control", supervision=(), gives=("labels",))

    def fit(self, train: View, given: Artifacts, ctx: Context) -> Any:
        return all_background

    def restore(self, ctx: Context) -> Any:
        return all_background
