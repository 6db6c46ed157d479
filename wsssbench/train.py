"""The training loop that methods share: plain torch, one visible loop, with poly schedule, autocast, checks
for numbers that break, and checkpoints from which an interrupted run goes on as if nothing had happened.

Where several processes share a training (`wsssbench.distributed`), each takes its slice of every batch, and
all take the step that one process would. For that a loss is a mean over the images of its batch: gradients
of a slice count by its share of the batch and are summed. A loss that is divided by something else, such as a
count of pixels, takes the count of the whole batch, by `wsssbench.distributed.normaliser`.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from wsssbench import distributed
from wsssbench.machine.hardware import sizes_repeat
from wsssbench.training.checkpoints import load_checkpoint, save_checkpoint
from wsssbench.training.checks import (
    NOTHING_MINED,
    AliveCheck,
    Losses,
    check_finite,
    check_weights,
    patience_of,
    tag_frequencies,
)
from wsssbench.training.crops import Batch, CropBatches
from wsssbench.training.late_losses import LateLosses, StepReport, steps_late
from wsssbench.training.optimizers import Schedule, clipped, make_optimizer, update
from wsssbench.types import Context

__all__ = [  # what steps import from here, wherever it lives
    "NOTHING_MINED",
    "STEPS",
    "AliveCheck",
    "HeldInterrupts",
    "Losses",
    "Schedule",
    "autocast",
    "clipped",
    "last_step",
    "load_checkpoint",
    "make_optimizer",
    "one_step",
    "patience_of",
    "poly",
    "save_checkpoint",
    "tag_frequencies",
    "train",
]

CHECKPOINT_SECONDS = 60.0
AHEAD = 4  # batches under way while a GPU trains
POLY_POWER = 0.9  # DeepLab's schedule; RRM's code likewise (tool/torchutils.py)
STEPS = "/steps"  # after a training's name: the purpose of the seed that its steps draw from
RANK_SEED = 1 << 40  # between the seeds of processes that share a training: more than it has steps
HELD = "stopping after this step, with a checkpoint"
AT_ONCE = "; once more to stop at once"


def train(
    ctx: Context,
    name: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: CropBatches,
    losses: Callable[[Batch], Losses],
    plan: Schedule,
    check: Callable[[Losses, int], None] | None = None,
) -> None:
    """Run the optimisation steps of `plan` on `model` under the name `name`.

    Each step's random numbers come from the seed and the step's number alone, so a run that was stopped and
    resumed ends with the same weights. Ctrl-C and SIGTERM take effect between two steps, after a checkpoint.
    `ctx.step_limit` ends the training early, at the rates of the whole schedule; `check` does not judge what
    was ended so. What a check has in `memory` (plain lists and numbers) goes into the checkpoint. Raises
    TrainingFailed where a loss is not finite, or where `check` does: it sees the losses of the whole batch,
    whoever shares it. On a GPU losses are checked and reported LATE_STEPS later, and before every checkpoint.
    """
    saved = ctx.workdir / "ckpt" / f"{name}.pt"
    start = load_checkpoint(saved, model, optimizer, check)
    seed, last_save = ctx.seed(name + STEPS) + _rank_seed(), time.perf_counter()
    end = last_step(plan, ctx.step_limit, start)
    model.train()
    late = LateLosses(_teller(ctx, name, end, check), steps_late(ctx))
    with sizes_repeat(ctx.device), _shared(model), HeldInterrupts() as interrupts, late:
        for step, batch in _timed(ctx, batches, start, end):
            torch.manual_seed((seed + step) % 2**63)
            values = one_step(ctx, model, optimizer, losses, batch, poly(step, plan.steps), plan.clip)
            late.note(StepReport(step, values, batch.whole, optimizer.param_groups[0]["lr"]))
            asked, due = _agreed(interrupts.asked, time.perf_counter() - last_save > CHECKPOINT_SECONDS)
            if asked or due:
                late.settle()
                check_weights(model, name, step)
                save_checkpoint(saved, model, optimizer, step + 1, check, more_to_come=True)
                last_save = time.perf_counter()
            if asked:
                raise KeyboardInterrupt
        late.settle()
        asked, _ = _agreed(interrupts.asked, False)  # while the last step was saved
    check_weights(model, name, end)
    save_checkpoint(saved, model, optimizer, end)
    if asked:
        raise KeyboardInterrupt


def _teller(
    ctx: Context, name: str, end: int, check: Callable[[Losses, int], None] | None
) -> Callable[[StepReport], None]:
    """What becomes of a step's losses when they are read."""

    def tell(report: StepReport) -> None:
        check_finite(report.losses, name, report.step)
        if check is not None and ctx.step_limit is None:
            check(report.losses, report.step)
        if isinstance(ctx, NotesRate):
            ctx.rate = report.rate
        numbers = {key: value.item() for key, value in report.losses.items()}
        ctx.progress(report.step + 1, end, report.images, numbers)

    return tell


def last_step(plan: Schedule, limit: int | None, start: int) -> int:
    """Number of steps after which a training that goes on from `start` ends; never fewer than it has."""
    whole = plan.stop_at or plan.steps
    return whole if limit is None else max(start, min(whole, limit))


class HeldInterrupts:
    """Holds back Ctrl-C and SIGTERM while a step is half done; the second one acts at once.

    Where several processes share the step no second one does: torchrun sends what a terminal has sent
    already, and who stops at once leaves the others waiting.
    """

    def __init__(self) -> None:
        self.asked = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> HeldInterrupts:
        if threading.current_thread() is threading.main_thread():
            self._old = {
                number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def _note(self, number: int, frame: object) -> None:
        first, self.asked, alone = not self.asked, True, distributed.group() is None
        if alone:
            self._restore()
        if first and distributed.leads():
            with suppress(RuntimeError):  # stderr was being written to when the signal came
                print(HELD + (AT_ONCE if alone else ""), file=sys.stderr, flush=True)

    def _restore(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}

    def __exit__(self, *error: object) -> None:
        self._restore()
        if self.asked and isinstance(error[1], Exception) and distributed.group() is not None:
            raise KeyboardInterrupt  # torchrun stops all where one is lost: that is not a failure of the cell


def one_step(
    ctx: Context,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: Callable[[Batch], Losses],
    batch: Batch,
    rate: float,
    clip: float,
) -> Losses:
    """Forward, backward, update at `rate` times each group's base rate; detached losses, of the whole batch.

    Where the gradient's norm is not finite it is among the losses, and the weights stay as they are. Nothing
    here waits for a GPU, so its norm is among them always, until they are read.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * rate
    optimizer.zero_grad(set_to_none=True)
    values, sharers = losses(batch.to(ctx.device)), distributed.group()
    share = len(batch.ids) / batch.whole if sharers else 1.0
    with ctx.phase("backward"):
        (values["total"] * share if sharers else values["total"]).backward()  # type: ignore[no-untyped-call]
    if sharers:
        from wsssbench.distributed.shared_model import share_step

        with ctx.phase("gradients of others"):
            values = share_step(values, model, share, sharers)
    with ctx.phase("optimizer"):
        norm = clipped(model, clip or math.inf)  # a factor of 1 where nothing is to be clipped
        values = {**values, **update(optimizer, norm)}
    return {name: value.detach() for name, value in values.items()}


def poly(step: int, steps: int) -> float:
    """The factor (1 - step / steps) ** 0.9."""
    return float((1 - step / steps) ** POLY_POWER)


def autocast(ctx: Context) -> AbstractContextManager[Any]:
    """bfloat16 for the network where the context says so; losses and filters leave it by `.float()`."""
    device = ctx.device.split(":")[0]
    return torch.autocast(device, dtype=torch.bfloat16, enabled=ctx.precision == "bf16")


def _timed(ctx: Context, batches: CropBatches, start: int, steps: int) -> Iterator[tuple[int, Batch]]:
    gpu = ctx.device.startswith("cuda")
    source = batches.run(start, steps, AHEAD if gpu else 0, pinned=gpu)
    for step in range(start, steps):
        with ctx.phase("wait for data"):
            batch = next(source)
        yield step, batch


# ---------------------------------------------------------------------------------------- several processes


def _rank_seed() -> int:
    """What sets this process's random numbers (dropout) apart; the first draws what one process would."""
    group = distributed.group()
    return 0 if group is None else group.rank * RANK_SEED


@contextmanager
def _shared(model: nn.Module) -> Iterator[None]:
    """Inside, `model` trains as the processes that share the training need it; alone, as it is."""
    group = distributed.group()
    if group is None:
        yield
        return
    from wsssbench.distributed.shared_model import shared_model

    with shared_model(model, group):
        yield


def _agreed(asked: bool, due: bool) -> tuple[bool, bool]:
    """Whether anybody was asked to stop, and whether a checkpoint is due: the same in all processes."""
    group = distributed.group()
    if group is None:
        return asked, due
    asked, due = group.any_of([asked, due])
    return asked, due


@runtime_checkable
class NotesRate(Protocol):
    """A context that also keeps the learning rate of the step that `progress` reports next."""

    rate: float | None
