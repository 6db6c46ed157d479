"""A network that processes train together: one optimisation step of all of them is the step of one process.

torch's DistributedDataParallel sums the same gradients, but it keeps the connections of its group open after
a failure, so that the other processes would wait until they run out of time; torch's SyncBatchNorm does not
run on a CPU. docs/design.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from wsssbench.distributed.team import Team
from wsssbench.errors import WsssError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@contextmanager
def shared_model(model: nn.Module, team: Team) -> Iterator[None]:
    """Inside, `model` has the first process's weights at the start, and its BatchNorm layers see the batch of
    all processes while they train.

    WsssError for layers with statistics of a batch that are not torch's BatchNorm: theirs cannot be shared.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._NormBase)]
    for layer in layers:
        if type(layer) not in BATCH_NORMS and layer.training and layer.track_running_stats:
            raise WsssError(
                f"{type(layer).__name__} keeps statistics of a batch that processes cannot share",
                hint="use torch's BatchNorm, freeze the layer, or train in one process",
            )
    team.copy_first(model.state_dict().values())
    shared = [layer for layer in layers if type(layer) in BATCH_NORMS]
    for layer in shared:
        layer.forward = partial(batch_norm, layer, team)
    try:
        yield
    finally:
        for layer in shared:
            del layer.__dict__["forward"]


def share_step(losses: dict[str, Tensor], model: nn.Module, share: float, team: Team) -> dict[str, Tensor]:
    """Sum the gradients of what `model` learns; the losses of the whole batch.

    `share` of the batch is this process's, and its gradients carry that factor already.
    """
    learned = [p for p in model.parameters() if p.requires_grad]
    own = [value.item() * share for value in losses.values()]
    totals = team.summed([*own, *(float(p.grad is not None) for p in learned)])
    used = [p for p, processes in zip(learned, totals[len(own) :], strict=True) if processes]
    for parameter in used:  # a slice may not have touched what others have
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    team.add(p.grad for p in used if p.grad is not None)
    return {name: torch.tensor(total) for name, total in zip(losses, totals, strict=False)}


def batch_norm(layer: nn.modules.batchnorm._NormBase, team: Team, input: Tensor) -> Tensor:
    """What the BatchNorm `layer` makes of `input` (N, C, ...), with the statistics of all processes while it
    trains; gradients flow through them to each."""
    if not layer.training:
        return cast(Tensor, type(layer).forward(layer, input))
    layer._check_input_dim(input)  # type: ignore[no-untyped-call]
    x, shape = input.float(), [1, -1] + [1] * (input.dim() - 2)
    mean, var, count = shared_statistics(x, team)
    if layer.track_running_stats:
        _track(layer, mean.detach(), (var * count / (count - 1)).detach())
    scale = (var + layer.eps).rsqrt() * (1.0 if layer.weight is None else layer.weight)
    out = (x - mean.view(shape)) * scale.view(shape)
    out = out if layer.bias is None else out + layer.bias.view(shape)
    return out.to(input.dtype)


def shared_statistics(x: Tensor, team: Team) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,) and biased variance (C,) of all processes' x (N, C, ...) float32, and how many values a
    channel has (C,); by the squares around each process's own mean, put together in float64."""
    var, mean = torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)
    own = torch.stack([mean, var, torch.full_like(mean, x.numel() // x.shape[1])])
    means, variances, counts = _Gathered.apply(own.double(), team).unbind(1)
    count = counts.sum(0)
    mean = (means * counts).sum(0) / count
    var = ((variances + (means - mean) ** 2) * counts).sum(0) / count
    return mean.to(x.dtype), var.to(x.dtype), count.to(x.dtype)


@torch.no_grad()
def _track(layer: nn.modules.batchnorm._NormBase, mean: Tensor, unbiased: Tensor) -> None:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    rate = layer.momentum if layer.momentum is not None else 1 / float(layer.num_batches_tracked)
    layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), rate)
    layer.running_var.lerp_(unbiased.to(layer.running_var.dtype), rate)


class _Gathered(torch.autograd.Function):
    """(processes, *shape): the tensor of each process. The loss is the sum of the processes' losses: the
    gradient of a process's tensor is the sum of what comes back from all."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, team: Team) -> Tensor:
        ctx.team = team
        every = own.new_zeros(team.size, *own.shape)
        every[team.rank] = own
        team.add([every])
        return every

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        whole = slopes[0].clone(memory_format=torch.contiguous_format)
        ctx.team.add([whole])
        return whole[ctx.team.rank], None
