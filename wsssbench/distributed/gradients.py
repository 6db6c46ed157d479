"""One optimisation step of several processes: losses, gradients and weights become those of one process.

torch's DistributedDataParallel hooks into `forward` of one module; the trainings here call several heads of a
network through closures, some passes without gradient, and divide by counts of the whole batch. So gradients
are summed after the backward pass, in a few large messages: plain to read, the same on CPU and GPU. It does
not hide the messages behind the backward pass, which DDP does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from wsssbench.distributed.batch_norm import shared_batch_norm
from wsssbench.distributed.process_group import Group


@contextmanager
def shared_model(model: nn.Module, group: Group) -> Iterator[None]:
    """Inside, `model` has the first process's weights at the start, and BatchNorm of the whole batch."""
    with torch.no_grad():
        group.copy_first(model.state_dict().values())
    with shared_batch_norm(model, group):
        yield


def share_step(losses: dict[str, Tensor], model: nn.Module, share: float, group: Group) -> dict[str, Tensor]:
    """Sum the gradients of what `model` learns; the losses of the whole batch.

    `share` of the batch is this process's, and its gradients carry that factor already.
    """
    learned = [p for p in model.parameters() if p.requires_grad]
    own = [value.item() * share for value in losses.values()]
    totals = group.summed([*own, *(float(p.grad is not None) for p in learned)])
    used = [p for p, processes in zip(learned, totals[len(own) :], strict=True) if processes]
    for parameter in used:  # a slice may not have touched what others have
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    group.add(p.grad for p in used if p.grad is not None)
    return {name: torch.tensor(total) for name, total in zip(losses, totals, strict=False)}
