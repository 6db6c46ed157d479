"""The optimizers that trainings share: which parameters learn how fast, the limit of the gradient's norm, and
an update that is left out where that norm is not a number. Losses, batches and the loop must not enter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wsssbench.errors import WsssError

GRADIENT = "gradient"  # the name, among the losses of a step, of a gradient's norm that is not finite


@dataclass(frozen=True)
class Schedule:
    """How long, how fast. `lr` belongs to the backbone; heads learn `head_factor` times faster."""

    steps: int
    lr: float
    head_factor: float = 10.0
    weight_decay: float = 1e-4
    optimizer: str = "adamw"  # or "sgd"
    momentum: float = 0.9  # of SGD
    clip: float = 1.0  # largest gradient norm; 0 switches clipping off
    bias_factor: float = 1.0  # rate of biases over that of weights; where it is not 1 they do not decay
    stop_at: int = 0  # steps to take of this schedule, for an early checkpoint of it; 0: all

    def __post_init__(self) -> None:
        """Raise WsssError for fewer than no steps: nothing would be trained, and nothing said."""
        if self.steps < 0 or self.stop_at < 0:
            what = f"a training of {self.steps} steps that stops at {self.stop_at} is none"
            raise WsssError(what, where="Schedule", hint="give the option of the steps a range: low=1")


def make_optimizer(backbone: nn.Module, heads: Iterable[nn.Module], plan: Schedule) -> torch.optim.Optimizer:
    """AdamW or SGD over the backbone's and the heads' parameters, frozen ones left out.

    Two groups, or four where biases have a rate of their own. All parameters are updated in one pass over
    memory (`fused`), on CPU and GPU.
    """
    slow = [item for item in backbone.named_parameters() if item[1].requires_grad]
    fast = [item for head in heads for item in head.named_parameters() if item[1].requires_grad]
    groups: list[dict[str, Any]] = []
    for named, rate in ((slow, plan.lr), (fast, plan.lr * plan.head_factor)):
        apart = plan.bias_factor != 1.0
        weights = [p for name, p in named if not (apart and name.endswith("bias"))]
        groups.append({"params": weights, "lr": rate, "base": rate})
        if apart:
            biases, double = [p for name, p in named if name.endswith("bias")], rate * plan.bias_factor
            groups.append({"params": biases, "lr": double, "base": double, "weight_decay": 0.0})
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=plan.momentum, weight_decay=plan.weight_decay, fused=True)
    return torch.optim.AdamW(groups, weight_decay=plan.weight_decay, fused=True)


def clipped(model: nn.Module, limit: float) -> Tensor:
    """Scale the gradient so that its norm is at most `limit`; the norm that it had.

    What was frozen after an earlier training may still hold that one's gradient: it does not count.
    """
    norm: Tensor = nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), limit)
    return norm


def update(optimizer: torch.optim.Optimizer, norm: Tensor) -> dict[str, Tensor]:
    """Take the optimizer's step where the gradient's `norm` is finite; else weights and state stay as they
    are. GRADIENT: norm where it is not finite, or where that is not known: on a GPU it never is.
    """
    if norm.device.type != "cpu" and getattr(optimizer, "_step_supports_amp_scaling", False):
        update_on_device(optimizer, norm)
        return {GRADIENT: norm}
    if torch.isfinite(norm):
        optimizer.step()
        return {}
    return {GRADIENT: norm}


def update_on_device(optimizer: torch.optim.Optimizer, norm: Tensor) -> None:
    """The same where the device decides and nobody waits for it: a fused optimizer leaves out its step where
    its `found_inf` is 1, as torch's GradScaler has it do. `norm` lies where the parameters do.
    """
    if isinstance(optimizer, torch.optim.SGD) and not optimizer.state:
        _begin_momentum(optimizer)
    optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]


def _begin_momentum(optimizer: torch.optim.SGD) -> None:
    """Momentum of 0, from which a first step is that of none: torch leaves memory that nobody has written
    where the very first step is left out, and takes it for momentum in the next."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] and not group["dampening"] else ():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
