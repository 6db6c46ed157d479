"""A GPU that is not there: torch's fake CUDA tensors, which know their shape, type and device and hold no
numbers, and a watch that names every wait for the device. Material of test_gpu_waits.py.

`fake_gpu()` is the place where code for CUDA runs. Inside, what needs a number of the device (`.item()`, a
branch on a tensor, `nonzero`, a mask as an index) and what mixes devices raises, and so does, for a strict
watch, what copies between host and device while the host waits. Copies that are asked for with `non_blocking`
are taken to be of page-locked memory. Backward passes are walked node by node in Python: torch's own engine
asks a driver for the streams of CUDA tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
modes: list[FakeTensorMode] = []  # that are entered
COPIES = (aten._to_copy.default, aten.copy_.default)
INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)


class Waited(AssertionError):
    """The host waited for the device."""


class Watch(TorchDispatchMode):
    """Raises Waited at what fake tensors carry out without a word, though a GPU's host waits for it; keeps
    the precisions in which networks ran."""

    def __init__(self) -> None:
        super().__init__()
        self.strict = True
        self.precisions: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._fused_sgd_.default:  # of which torch has no fake
            assert {t.device.type for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)} == {"cuda"}
            return None
        out = func(*args, **kwargs)
        if func is aten.convolution.default:
            self.precisions.add(out.dtype)
        if self.strict and func in COPIES and not is_asked_to_hurry(func, args, kwargs):
            source = args[1] if func is aten.copy_.default else args[0]
            if isinstance(source, Tensor) and source.device != out.device:
                raise Waited(f"a copy from {source.device} to {out.device}")
        if self.strict and func in INDEXED and args[0].is_cuda:
            check_indices(args[1])
        return out


def is_asked_to_hurry(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a copy is `non_blocking`."""
    return bool(kwargs.get("non_blocking") or (func is aten.copy_.default and len(args) > 2 and args[2]))


def check_indices(indices: Any) -> None:
    """Waited where an index has to be brought to the device, or counted there."""
    for index in tree_leaves(list(indices)):
        if isinstance(index, Tensor) and index.device.type == "cpu":
            raise Waited("an index that lies on the host")
        if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8):
            raise Waited("a mask as an index")


# --------------------------------------------------------------------------------------- the backward pass


def walked_backward(root: Tensor) -> None:
    """`root.backward()`."""
    walked(root, {})


def walked_gradients(root: Tensor, inputs: list[Tensor], retain_graph: bool = False) -> list[Tensor]:
    """`torch.autograd.grad` of a scalar."""
    places = [torch.autograd.graph.get_gradient_edge(tensor) for tensor in inputs]
    found: dict[tuple[Any, int], Tensor] = {(place.node, place.output_nr): root for place in places}
    walked(root, found)
    return [found[place.node, place.output_nr] for place in places]


def walked(root: Tensor, wanted: dict[tuple[Any, int], Tensor]) -> None:
    """The nodes of the graph in an order that suits, each with the sum of what it gets, which is noted where
    it is `wanted` (node, number of its output); without any wanted, leaves keep theirs."""
    assert root.grad_fn is not None
    held: dict[Any, dict[int, Tensor]] = {root.grad_fn: {0: torch.ones_like(root)}}
    with torch.no_grad():
        for node in in_order(root.grad_fn):
            got = held.pop(node, {})
            wanted.update({(node, k): gradient for k, gradient in got.items() if (node, k) in wanted})
            if hasattr(node, "variable"):
                keep(node.variable, got[0]) if got and not wanted else None
                continue
            given = [got.get(k) for k in range(len(node._input_metadata))]
            out = node.apply(*given) if hasattr(node, "apply") else node(*given)
            out = out if isinstance(out, tuple) else (out,)
            for (target, k), gradient in zip(node.next_functions, out, strict=False):
                if target is not None and gradient is not None:
                    add(held.setdefault(target, {}), k, gradient, target._input_metadata[k])


def in_order(root: Any) -> list[Any]:
    """The nodes behind `root`, each before those that it gives to."""
    done, seen, stack = [], set(), [(root, False)]
    while stack:
        node, left = stack.pop()
        if left:
            done.append(node)
        elif node not in seen:
            seen.add(node)
            stack += [(node, True), *((other, False) for other, _ in node.next_functions if other)]
    return done[::-1]


def add(held: dict[int, Tensor], k: int, gradient: Tensor, asked: Any) -> None:
    """As torch's engine: a gradient gets the shape and type of what it is of, and must be on its device."""
    if gradient.device != asked.device:
        raise AssertionError(f"a gradient on {gradient.device} of something on {asked.device}")
    gradient = gradient.sum_to_size(asked.shape).to(asked.dtype)
    held[k] = held[k] + gradient if k in held else gradient


def keep(variable: Tensor, gradient: Tensor) -> None:
    variable.grad = gradient.detach() if variable.grad is None else variable.grad + gradient


# ------------------------------------------------------------------------------------------------- the place


def move(net: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Give `net`, and the optimizer of its parameters, fake CUDA tensors for the real ones on the CPU."""
    new: dict[int, nn.Parameter] = {}
    for part in net.modules():
        for name, old in part._parameters.items():
            if old is not None and id(old) not in new:
                new[id(old)] = nn.Parameter(fake(old), old.requires_grad)
            part._parameters[name] = None if old is None else new[id(old)]
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else fake(buffer)
    for group in optimizer.param_groups if optimizer is not None else ():
        group["params"] = [new[id(old)] for old in group["params"]]


def fake(tensor: Tensor, device: str = "cuda") -> Tensor:
    """A fake tensor as `tensor` is, on `device`; inside `fake_gpu`."""
    return modes[-1].from_tensor(tensor).detach().to(device, non_blocking=True)


class Event:
    """torch.cuda.Event where there is no driver; `waits` counts who has waited for one."""

    waits = 0

    def __init__(self, **_: Any) -> None:
        pass

    def record(self, stream: Any) -> None:
        pass

    def synchronize(self) -> None:
        Event.waits += 1


@contextmanager
def fake_gpu() -> Iterator[Watch]:
    """Inside, tensors are fake and "cuda" is a device of this machine; networks are put there by `move`.

    The test is skipped where torch cannot do that (as by conftest's `fake_cuda`).
    """
    pytest.importorskip("torch", "2.15", reason="fake CUDA tensors of an older torch abort in a convolution")
    patches: list[Any] = [
        mock.patch.object(Tensor, "backward", walked_backward),
        mock.patch.object(torch.autograd, "grad", walked_gradients),
        mock.patch.object(torch.cuda, "Event", Event),
        mock.patch.object(torch.cuda, "current_stream", return_value=None),
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        mock.patch.object(torch.cuda, "is_bf16_supported", return_value=True),
    ]
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        modes.append(stack.enter_context(FakeTensorMode()))
        stack.callback(modes.pop)
        yield stack.enter_context(Watch())


@contextmanager
def networks_stay() -> Iterator[None]:
    """Inside, `module.to("cuda")` does nothing, for lack of a device; `move` has to be called instead."""
    to = nn.Module.to

    def stay(module: nn.Module, *given: Any, **more: Any) -> nn.Module:
        return module if given == ("cuda",) else to(module, *given, **more)

    with mock.patch.object(nn.Module, "to", stay):
        yield


@contextmanager
def launches_left_out() -> Iterator[None]:
    """Inside, Triton's kernels are not started; what is around them runs as for a GPU. Tensors that are kept
    from call to call are forgotten on both sides."""
    pytest.importorskip("triton", reason="Triton is not installed: its kernels cannot be imported")
    modules = [import_module(f"wsssbench.ops.{name}_triton") for name in ("lattice", "mean_field")]

    def forget() -> None:
        for kept in (value for module in modules for value in vars(module).values()):
            getattr(kept, "cache_clear", int)()

    def launch(kernel: Any, grid: Any, *arguments: Any) -> None:
        given = [x for x in arguments if isinstance(x, Tensor)]
        assert {tensor.device.type for tensor in given} == {"cuda"}
        assert all(
            isinstance(x, (int, float, bool)) for x in [*grid, *arguments] if not isinstance(x, Tensor)
        )

    with ExitStack() as stack:
        stack.callback(forget)
        forget()
        for module in modules:
            stack.enter_context(mock.patch.object(module, "launch", launch))
        yield


@contextmanager
def made_up_numbers() -> Iterator[None]:
    """Inside, `numpy()` of a fake tensor that is on the host gives zeros."""

    def numpy(tensor: Tensor) -> Any:
        assert tensor.device.type == "cpu"
        return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))

    with mock.patch.object(Tensor, "numpy", numpy):
        yield
