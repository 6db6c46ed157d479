"""One training in several processes, as torchrun starts them: who they are, what they say to each other, and
how a training shares its batch so that it learns what one process would. Without torchrun nothing of it is at
work.

This page is what a training, a loss or a plugin asks; it imports neither torch nor torch.distributed. Which
steps are run, and what is judged and written, must not enter: the engine decides that, in the first process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsssbench.distributed.launch import sharing

if TYPE_CHECKING:
    from torch import Tensor

    from wsssbench.distributed.team import Team


def group() -> Team | None:
    """The processes that share the present training; None where one process trains alone."""
    return sharing[-1] if sharing else None


def leads() -> bool:
    """Whether this process writes: the first of several, or the only one."""
    own = group()
    return own is None or own.leads


def normaliser(counts: Tensor, images: int) -> Tensor:
    """What a loss divides sums over pixels by, at least 1: the `counts` of the whole batch.

    `counts` (any shape) are those of this process's `images` images. The quotient then counts as a mean over
    these images, as every loss does in `wsssbench.train`: the whole count is handed out by images.
    """
    own = group()
    if own is None:
        return counts.clamp(min=1)
    *whole, every = own.summed([*counts.flatten().tolist(), float(images)])
    shares = [max(count, 1.0) * images / every for count in whole]
    kind = counts.dtype if counts.is_floating_point() else counts.new_empty(0).float().dtype
    return counts.new_tensor(shares, dtype=kind).view(counts.shape)
