"""Losses that are read late. A GPU works behind the program that gives it work; whoever asks for a number of
the present step makes the program wait, and the GPU after it. So the losses of a step travel to the host
beside the next steps, and are reported a few steps later: each step's own, in order, none left out.

What is reported to whom, and when a checkpoint is due, is the training's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from wsssbench import distributed
from wsssbench.training.checks import Losses
from wsssbench.training.optimizers import GRADIENT
from wsssbench.types import Context

LATE_STEPS = 2  # on a GPU: while the host waits for a step, one is computed and one more is at hand


@runtime_checkable
class HearsAtOnce(Protocol):
    """A context that can ask to hear of every step as it ends, as one that measures does."""

    hears_at_once: bool


def steps_late(ctx: Context) -> int:
    """How many steps behind losses are read: none on a CPU, which has them, none where processes share the
    training, which wait for each other in every step anyway, and none for a context that asks for it."""
    waits = distributed.group() is not None or (isinstance(ctx, HearsAtOnce) and ctx.hears_at_once)
    return LATE_STEPS if ctx.device.startswith("cuda") and not waits else 0


@dataclass(frozen=True)
class StepReport:
    """What a training says of a step that it has taken."""

    step: int
    losses: Losses  # named scalars
    images: int  # of the whole batch
    rate: float  # the learning rate


class LateLosses:
    """Hands every report to `tell`, `late` steps after it came, its losses then on the host.

    What is still outstanding at the end of a `with` block is reported there, also after an error, which came
    later than these steps did; only an interruption that acts at once leaves it out.
    """

    def __init__(self, tell: Callable[[StepReport], None], late: int) -> None:
        self._tell, self._late = tell, late
        self._outstanding: deque[tuple[StepReport, Callable[[], Losses]]] = deque()

    def note(self, report: StepReport) -> None:
        """The step of `report` has been taken, or given to the device."""
        self._outstanding.append((report, sent(report.losses)))
        self._tell_but(self._late)

    def settle(self) -> None:
        """Wait for all that is outstanding, and tell it."""
        self._tell_but(0)

    def _tell_but(self, count: int) -> None:
        while len(self._outstanding) > count:
            report, read = self._outstanding.popleft()
            try:
                self._tell(replace(report, losses=read()))
            except BaseException:
                self._outstanding.clear()  # the training ends with this step
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.settle()
        elif issubclass(kind, Exception):
            with suppress(RuntimeError):  # of a device that computes no more
                self.settle()


def sent(losses: Losses) -> Callable[[], Losses]:
    """Start what of `losses` lies on a GPU on its way to the host, in one copy; the function that is returned
    waits for it and gives all of them there. A norm of the gradient that has travelled and is finite is none
    of them any more.
    """
    away = {name: value for name, value in losses.items() if value.is_cuda}
    if not away:
        return lambda: losses
    together = torch.stack([value.detach().reshape(()) for value in away.values()])
    host = on_its_way(together)
    # who waits for it sleeps: the cores are for decoding
    arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    arrived.record(torch.cuda.current_stream(together.device))

    def read() -> Losses:
        arrived.synchronize()
        return with_arrived(losses, dict(zip(away, host.unbind(), strict=True)))

    return read


def with_arrived(losses: Losses, arrived: Losses) -> Losses:
    """The losses in their order, those that have `arrived` as they are on the host."""
    known = {name: arrived.get(name, value) for name, value in losses.items()}
    if GRADIENT in arrived and torch.isfinite(arrived[GRADIENT]):
        del known[GRADIENT]
    return known


def on_its_way(tensor: Tensor) -> Tensor:
    """`tensor` on the host, for whoever reads it when its step is reported; before, its copy is not whole.

    A GPU's tensor goes to page-locked memory, for which nobody has to wait here; another is given back.
    """
    if not tensor.is_cuda:
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
