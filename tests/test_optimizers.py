"""The update that a device leaves out by itself where the gradient's norm is not a number, while nobody
waits; and that on a CPU a step is to the bit what it is in plain words."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsssbench.running.context import RunContext
from wsssbench.testing.tiny import TinyDataset
from wsssbench.train import Losses, one_step
from wsssbench.training.crops import Batch, CropBatches, CropRule
from wsssbench.training.optimizers import (
    GRADIENT,
    Schedule,
    clipped,
    make_optimizer,
    update,
    update_on_device,
)
from wsssbench.types import IGNORE, View
from wsssbench_methods.segment_training import cross_entropy

pytestmark = pytest.mark.usefixtures("one_thread")
CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)


def with_gradients(
    optimizer: str, device: str = "cpu", **more: Any
) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).to(device)
    return net, make_optimizer(net[0], [net[1]], Schedule(10, 0.1, optimizer=optimizer, **more))


def take(net: nn.Module, optimizer: torch.optim.Optimizer, step: int, *, spoilt: bool, device: bool) -> None:
    """A step whose gradient holds a number that is none where it is `spoilt`."""
    net.zero_grad()
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
    net(inputs.to(next(net.parameters()).device)).square().sum().backward()
    if spoilt:
        next(net.parameters()).grad[0] = math.inf  # type: ignore[index]
    norm = clipped(net, 1.0)
    assert bool(norm.isfinite()) != spoilt
    update_on_device(optimizer, norm) if device else update(optimizer, norm)


def states(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Copies of the weights and of all that the optimizer remembers."""
    kept = [value for p in net.parameters() for value in optimizer.state.get(p, {}).values()]
    return [tensor.detach().clone() for tensor in (*net.parameters(), *kept)]


OPTIMIZERS = [("adamw", {}), ("sgd", {}), ("sgd", {"momentum": 0.0}), ("sgd", {"bias_factor": 2.0})]


@pytest.mark.parametrize(("name", "more"), OPTIMIZERS, ids=str)
def test_where_the_device_decides_a_step_is_the_very_step(name: str, more: dict[str, Any]) -> None:
    there, here = with_gradients(name, **more), with_gradients(name, **more)
    for step in range(4):
        take(*there, step, spoilt=False, device=True)
        take(*here, step, spoilt=False, device=False)
        pairs = list(zip(states(*there), states(*here), strict=True))
        assert all(torch.equal(a, b) for a, b in pairs)
    assert not hasattr(there[1], "found_inf")


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize(("name", "more"), OPTIMIZERS, ids=str)
def test_where_the_device_leaves_a_step_out_weights_and_state_stay(
    name: str, more: dict[str, Any], device: str
) -> None:
    net, optimizer = with_gradients(name, device, **more)
    take(net, optimizer, 0, spoilt=False, device=True)
    before = states(net, optimizer)
    take(net, optimizer, 1, spoilt=True, device=True)
    assert all(torch.equal(a, b) for a, b in zip(before, states(net, optimizer), strict=True))
    take(net, optimizer, 2, spoilt=False, device=True)
    assert not all(torch.equal(a, b) for a, b in zip(before, states(net, optimizer), strict=True))


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize(("name", "more"), OPTIMIZERS, ids=str)
def test_a_first_step_that_is_left_out_leaves_no_trace(name: str, more: dict[str, Any], device: str) -> None:
    spoilt, fresh = with_gradients(name, device, **more), with_gradients(name, device, **more)
    take(*spoilt, 0, spoilt=True, device=True)
    for step in (1, 2):
        take(*spoilt, step, spoilt=False, device=True)
        take(*fresh, step, spoilt=False, device=device != "cpu")
    assert all(torch.equal(a, b) for a, b in zip(states(*spoilt), states(*fresh), strict=True))


def test_an_optimizer_that_cannot_leave_out_a_step_is_decided_for(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Linear(1, 1)
    plain, calls = torch.optim.SGD(net.parameters(), 0.1, fused=False), []
    monkeypatch.setattr(plain, "step", lambda: calls.append(1))
    elsewhere: Any = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    monkeypatch.setattr(torch, "isfinite", lambda norm: norm is elsewhere)
    assert update(plain, elsewhere) == {}
    assert calls == [1]
    other: Any = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    assert update(plain, other) == {GRADIENT: other}
    assert calls == [1]


def old_step(
    net: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, clip: float
) -> None:
    """One step in the plainest words."""
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_([p for p in net.parameters() if p.requires_grad], clip)
    if bool(torch.isfinite(norm)):
        optimizer.step()


def small_net() -> nn.Sequential:
    torch.manual_seed(5)
    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), *pooled)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_on_a_cpu_a_step_is_to_the_bit_what_it_is_in_plain_words(name: str, tmp_path: Path) -> None:
    plan = Schedule(10, 0.01, optimizer=name)
    nets = small_net(), small_net()
    optimizers = [make_optimizer(net[:3], [net[3:]], plan) for net in nets]
    batches = CropBatches(View(TinyDataset(), "train", ("tags",)), CropRule(20), 2, 11)
    ctx = RunContext("cpu", "fp32", "lattice", TinyDataset.card, tmp_path, None, 3, "toy")
    for step in range(4):
        batch, rate = batches(step), 1 - step / 10
        torch.manual_seed(step)
        loss = F.binary_cross_entropy_with_logits(nets[0](batch.images / 255), batch.tags)
        old_step(nets[0], optimizers[0], loss, rate, 1.0)
        torch.manual_seed(step)

        def losses(batch: Batch) -> Losses:
            return {"total": F.binary_cross_entropy_with_logits(nets[1](batch.images / 255), batch.tags)}

        values = one_step(ctx, nets[1], optimizers[1], losses, batch, rate, 1.0)
        assert (list(values), values["total"]) == (["total"], loss.detach())
        assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_the_cross_entropy_that_waits_for_no_count_is_torchs_mean_to_the_bit(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 7, (3, 33, 29), generator=draw).byte()
    labels[torch.rand(labels.shape, generator=draw) < 0.3] = IGNORE
    own = (4 * torch.randn(3, 7, 33, 29, generator=draw)).requires_grad_()
    torchs = copy.deepcopy(own)
    loss, mean = cross_entropy(own, labels), F.cross_entropy(torchs, labels.long(), ignore_index=IGNORE)
    loss.backward()  # type: ignore[no-untyped-call]
    mean.backward()  # type: ignore[no-untyped-call]
    assert own.grad is not None
    assert torchs.grad is not None
    assert torch.equal(loss, mean)
    assert torch.equal(own.grad, torchs.grad)
