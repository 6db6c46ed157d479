"""BatchNorm over the batch of all processes: the statistics, and the gradient through them, of one process.

torch's SyncBatchNorm runs on GPUs alone, and as another class than BatchNorm2d it would slip through the code
that freezes BatchNorm. Here the layers of a network change their class while it trains, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from wsssbench.distributed.process_group import Group
from wsssbench.errors import WsssError


class _Shared(nn.modules.batchnorm._BatchNorm):
    """Beside a BatchNorm class: its training forward pass, over all processes of `group`."""

    group: Group

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        x = input.float()
        mean, var, count = shared_statistics(x.detach(), self.group)
        if self.track_running_stats:
            self._track(mean, var * (count / (count - 1)))
        scale = self.weight if self.affine else torch.ones_like(mean)
        shift = self.bias if self.affine else torch.zeros_like(mean)
        out = _Normalise.apply(x, scale, shift, mean, var + self.eps, count, self.group)
        return cast(Tensor, out).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        rate = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)


class _Shared1d(_Shared, nn.BatchNorm1d):
    pass


class _Shared2d(_Shared, nn.BatchNorm2d):
    pass


class _Shared3d(_Shared, nn.BatchNorm3d):
    pass


SHARED: dict[type[nn.Module], type[_Shared]] = {
    nn.BatchNorm1d: _Shared1d, nn.BatchNorm2d: _Shared2d, nn.BatchNorm3d: _Shared3d,
}  # fmt: skip


@contextmanager
def shared_batch_norm(model: nn.Module, group: Group) -> Iterator[None]:
    """Inside, the BatchNorm layers of `model` see the batch of all processes while they train.

    WsssError for layers with statistics of a batch that are not torch's BatchNorm: theirs cannot be shared.
    """
    layers = [layer for layer in model.modules() if type(layer) in SHARED]
    strange = [
        layer
        for layer in model.modules()
        if isinstance(layer, (nn.modules.batchnorm._NormBase))
        and layer.training
        and layer not in layers
        and layer.track_running_stats
    ]
    if strange:
        raise WsssError(
            f"{type(strange[0]).__name__} keeps statistics of a batch that processes cannot share",
            hint="use torch's BatchNorm, freeze the layer, or train in one process",
        )
    kinds = [type(layer) for layer in layers]
    for layer, kind in zip(layers, kinds, strict=True):
        layer.__class__ = SHARED[kind]
        layer.group = group  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer, kind in zip(layers, kinds, strict=True):
            layer.__class__ = kind
            del layer.__dict__["group"]


def shared_statistics(x: Tensor, group: Group) -> tuple[Tensor, Tensor, float]:
    """Mean (C,) and biased variance (C,) of all processes' x (N, C, ...) float32, and how many values a
    channel has; by the sums of squares around each process's own mean, in float64."""
    others = [d for d in range(x.dim()) if d != 1]
    own = x.numel() // x.shape[1]
    var, mean = torch.var_mean(x, others, correction=0)
    every = group.gathered(torch.stack([mean.double(), var.double(), torch.full_like(mean, own).double()]))
    means, variances, counts = every.unbind(1)
    count = counts.sum(0)
    mean = (means * counts).sum(0) / count
    var = ((variances + (means - mean) ** 2) * counts).sum(0) / count
    return mean.to(x.dtype), var.to(x.dtype), float(count[0])


class _Normalise(torch.autograd.Function):
    """scale * (x - mean) / sqrt(spread) + shift per channel; mean and spread come from all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        mean: Tensor,
        spread: Tensor,
        count: float,
        group: Group,
    ) -> Tensor:
        shape = [1, -1] + [1] * (x.dim() - 2)
        inverse = spread.rsqrt()
        ctx.save_for_backward(x, scale, mean, inverse)
        ctx.count, ctx.group = count, group
        return (x - mean.view(shape)) * (inverse * scale).view(shape) + shift.view(shape)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        """The loss is the sum of the processes' losses: the sums through mean and spread are over all."""
        x, scale, mean, inverse = ctx.saved_tensors
        slope, shape = outputs[0], [1, -1] + [1] * (x.dim() - 2)
        others = [d for d in range(x.dim()) if d != 1]
        normal = (x - mean.view(shape)) * inverse.view(shape)
        own = torch.stack([slope.sum(others), (slope * normal).sum(others)])
        whole = own.clone()
        ctx.group.add([whole])
        plain, tilted = (whole / ctx.count).unbind(0)
        inner = slope - plain.view(shape) - normal * tilted.view(shape)
        return inner * (inverse * scale).view(shape), own[1], own[0], None, None, None, None
