"""What the predictors of fitted networks share: images of one size go through the network together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsssbench.nets.batching import by_size
from wsssbench.types import Context, Kind, Outputs, Predictor

TagRows: TypeAlias = NDArray[np.bool_] | None  # (B, K); None asks for plain segmentation
Net = TypeVar("Net", bound=nn.Module)
Options = TypeVar("Options")


class NetPredictor(Predictor, Generic[Net, Options]):
    """A fitted network in evaluation mode. A subclass says what it gives of a stack, in `_outputs`."""

    def __init__(self, net: Net, config: Options, ctx: Context) -> None:
        self.net, self.config, self.ctx = net.to(ctx.device).eval(), config, ctx

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[Tensor], tags: TagRows, given: Sequence[Outputs], want: frozenset[Kind]
    ) -> Sequence[Outputs]:
        def run(stack: Tensor, members: list[int]) -> list[Outputs]:
            return self._outputs(stack, None if tags is None else tags[members], want)

        return by_size(images, run)

    def _outputs(self, stack: Tensor, tags: TagRows, want: frozenset[Kind]) -> list[Outputs]:
        """Outputs of images (b, 3, H, W) uint8 of one size, of the kinds that are wanted at least."""
        raise NotImplementedError
