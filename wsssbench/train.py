"""The training loop that methods share: plain torch, one visible loop, with poly schedule, autocast, checks
for numbers that break, and checkpoints from which an interrupted run goes on as if nothing had happened."""

from __future__ import annotations

import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from wsssbench.context import NotesRate
from wsssbench.crops import Batch, CropBatches
from wsssbench.errors import BadData, TrainingFailed, WsssError
from wsssbench.nets.weights import read_tensors
from wsssbench.types import Context

CHECKPOINT_SECONDS = 60.0
AHEAD = 4  # batches under way while a GPU trains
POLY_POWER = 0.9  # DeepLab's schedule; RRM's code likewise (tool/torchutils.py)
STEPS = "/steps"  # after a training's name: the purpose of the seed that its steps draw from
NOTHING_MINED = 100  # batches; an epoch of a small data set
HELD = "stopping after this step, with a checkpoint; once more to stop at once"

Losses = dict[str, Tensor]  # named scalars; "total" is what is minimised


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


def make_optimizer(backbone: nn.Module, heads: Iterable[nn.Module], plan: Schedule) -> torch.optim.Optimizer:
    """AdamW or SGD over the backbone's and the heads' parameters, frozen ones left out.

    Two groups, or four where biases have a rate of their own.
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
        return torch.optim.SGD(groups, momentum=plan.momentum, weight_decay=plan.weight_decay)
    return torch.optim.AdamW(groups, weight_decay=plan.weight_decay)


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
    TrainingFailed where a loss is not finite, or where `check` does.
    """
    saved = ctx.workdir / "ckpt" / f"{name}.pt"
    start = load_checkpoint(saved, model, optimizer, check)
    seed, last_save = ctx.seed(name + STEPS), time.perf_counter()
    end = last_step(plan, ctx.step_limit, start)
    model.train()
    with HeldInterrupts() as interrupts:
        for step, batch in _timed(ctx, batches, start, end):
            torch.manual_seed((seed + step) % 2**63)
            values = one_step(ctx, model, optimizer, losses, batch, poly(step, plan.steps), plan.clip)
            _finite(values, name, step)
            if check is not None and ctx.step_limit is None:
                check(values, step)
            if isinstance(ctx, NotesRate):
                ctx.rate = optimizer.param_groups[0]["lr"]
            ctx.progress(step + 1, end, len(batch.ids), {k: v.item() for k, v in values.items()})
            if interrupts.asked or time.perf_counter() - last_save > CHECKPOINT_SECONDS:
                _finite_weights(model, name, step)
                save_checkpoint(saved, model, optimizer, step + 1, check, more_to_come=True)
                last_save = time.perf_counter()
            if interrupts.asked:
                raise KeyboardInterrupt
    _finite_weights(model, name, end)
    save_checkpoint(saved, model, optimizer, end)


def last_step(plan: Schedule, limit: int | None, start: int) -> int:
    """Number of steps after which a training that goes on from `start` ends; never fewer than it has."""
    whole = plan.stop_at or plan.steps
    return whole if limit is None else max(start, min(whole, limit))


class HeldInterrupts:
    """Holds back Ctrl-C and SIGTERM while a step is half done; the second one acts at once."""

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
        self.asked = True
        self._restore()
        with suppress(RuntimeError):  # stderr was being written to when the signal came
            print(HELD, file=sys.stderr, flush=True)

    def _restore(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}

    def __exit__(self, *error: object) -> None:
        self._restore()


def one_step(
    ctx: Context,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: Callable[[Batch], Losses],
    batch: Batch,
    rate: float,
    clip: float,
) -> Losses:
    """Forward, backward, update at `rate` times each group's base rate; detached losses.

    Where the gradient's norm is not finite it is among the losses, and the weights stay as they are.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * rate
    optimizer.zero_grad(set_to_none=True)
    values = losses(batch.to(ctx.device))
    with ctx.phase("backward"):
        values["total"].backward()  # type: ignore[no-untyped-call]
    with ctx.phase("optimizer"):
        norm = clipped(model, clip or math.inf)  # a factor of 1 where nothing is to be clipped
        if torch.isfinite(norm):
            optimizer.step()
        else:
            values["gradient"] = norm
    return {name: value.detach() for name, value in values.items()}


def clipped(model: nn.Module, limit: float) -> Tensor:
    """Scale the gradient so that its norm is at most `limit`; the norm that it had.

    What was frozen after an earlier training may still hold that one's gradient: it does not count.
    """
    norm: Tensor = nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), limit)
    return norm


def poly(step: int, steps: int) -> float:
    """The factor (1 - step / steps) ** 0.9."""
    return float((1 - step / steps) ** POLY_POWER)


def autocast(ctx: Context) -> AbstractContextManager[Any]:
    """bfloat16 for the network where the context says so; losses and filters leave it by `.float()`."""
    device = ctx.device.split(":")[0]
    return torch.autocast(device, dtype=torch.bfloat16, enabled=ctx.precision == "bf16")


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, step: int, check: object = None,
    *, more_to_come: bool = False,
) -> None:  # fmt: skip
    """Write weights, optimizer state, step number and the memory of `check` under a temporary name, then move
    them in place. While there is `more_to_come` the checkpoint before it is kept as well.

    Raises WsssError where that cannot be written; an older checkpoint stays as it was.
    """
    part = path.with_name(f".{path.name}.part")
    state = {"model": model.state_dict(), "step": step}
    if optimizer is not None:
        state["optimizer"] = optimizer.state_dict()
    if hasattr(check, "memory"):
        state["check"] = check.memory
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, part)
        if more_to_come and path.exists():
            path.replace(_previous(path))
        part.replace(path)
        if not more_to_come:
            _previous(path).unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError on a full disk
        reason = str(error).partition("\n")[0]
        what = f"cannot write this checkpoint ({reason})"
        raise WsssError(what, where=path, hint=f"make room{_free(path.parent)}") from error
    finally:  # after an interruption, too
        with suppress(OSError):
            part.unlink(missing_ok=True)


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, check: object = None
) -> int:
    """Fill `model`, `optimizer` and the memory of `check` from `path`; the step to go on with, 0 if none.

    A damaged file is set aside, with a word on stderr, where the checkpoint before it can take its place.
    Raises BadData where it cannot, where the file belongs to another network, or where it is missing and
    there is no `optimizer`: then a fitted model was asked for.
    """
    previous = _previous(path)
    if not previous.exists():
        return _load(path, model, optimizer, check)
    try:
        if path.exists():
            return _load(path, model, optimizer, check)
    except BadData as error:
        step = _load(previous, model, optimizer, check)
        path.replace(path.with_name(f"{path.name}.damaged"))
        print(f"{error.what} [{path}]: going on from the one before it, of step {step}", file=sys.stderr)
    previous.replace(path)
    return _load(path, model, optimizer, check)


def _free(folder: Path) -> str:
    """What torch does not say of a full disk: how much of it is free."""
    try:
        return f": {shutil.disk_usage(folder).free / 2**20:,.0f} MiB are free on this disk"
    except OSError:
        return ""


def _previous(path: Path) -> Path:
    """Where the checkpoint before that of `path` lies while a training goes on."""
    return path.with_name(f".{path.name}.previous")


def _load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, check: object) -> int:
    again = "remove the folder of this step: the next run fits it again"
    if not path.exists():
        if optimizer is None:
            raise BadData("the weights of a fitted step are gone", where=path, hint=again)
        return 0
    try:
        _check_bytes(path)
        state = read_tensors(path)
        model.load_state_dict(state["model"])
        if optimizer is not None and "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
        if hasattr(check, "memory") and "check" in state:
            check.memory = state["check"]
        return int(state["step"])
    except (ValueError, RuntimeError, LookupError, TypeError, OSError, BadZipFile) as error:
        reason = str(error).partition("\n")[0][:120]
        raise BadData(f"cannot read this checkpoint ({reason})", where=path, hint=again) from error


def _check_bytes(path: Path) -> None:
    """ValueError or BadZipFile where the file is not as it was written: torch.load ignores its checksums."""
    with ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"its part {damaged} is damaged")


class AliveCheck:
    """Stops a run whose classifier has died, no better than guessing every tag by its frequency, and one
    whose mining, where it has some, finds no pixel to learn from in NOTHING_MINED batches in a row.

    The mean classification loss of the last `window` steps is compared with the entropy of the tag
    frequencies, the loss of a constant answer; steps before `patience` are not judged. `mined` among the
    losses is the share of pixels that mining has labelled.
    """

    def __init__(self, frequencies: Tensor, *, patience: int, window: int = 40) -> None:
        p = frequencies.double().clamp(1e-6, 1 - 1e-6)
        self.guess = float(-(p * p.log() + (1 - p) * (1 - p).log()).mean())
        self.patience, self.window = patience, window
        self.losses: list[float] = []  # of the window, the last one last
        self.empty = 0  # batches in a row without a mined pixel

    @property
    def memory(self) -> list[float]:
        """What a resumed training must know, as plain numbers."""
        return [float(self.empty), *self.losses]

    @memory.setter
    def memory(self, known: list[float]) -> None:
        self.empty, self.losses = int(known[0]), list(known[1:])

    def __call__(self, losses: Losses, step: int) -> None:
        self._mined(losses, step)
        self.losses = [*self.losses[-self.window + 1 :], float(losses["cls"])]
        mean = math.fsum(self.losses) / len(self.losses)
        if step >= self.patience and len(self.losses) == self.window and mean > self.guess:
            raise TrainingFailed(
                f"the classifier died: its loss over the last {self.window} steps is {mean:.3f}, "
                f"guessing tag frequencies costs {self.guess:.3f}",
                where=f"step {step}",
                hint="lower the learning rate (option lr) or check the tags",
            )

    def _mined(self, losses: Losses, step: int) -> None:
        self.empty = self.empty + 1 if "mined" in losses and not losses["mined"] else 0
        if self.empty >= NOTHING_MINED:
            raise TrainingFailed(
                f"mining found no reliable pixel in {self.empty} batches in a row",
                where=f"step {step}",
                hint="look at the maps of the classifier (`--stages seed`), or ease the rule of mining",
            )


def tag_frequencies(tags: Iterable[Any]) -> Tensor:
    """(K,) share of images that carry each tag."""
    import numpy as np

    return torch.from_numpy(np.mean([np.asarray(t, np.float64) for t in tags], axis=0))


def _finite(values: Losses, name: str, step: int) -> None:
    bad = [key for key, value in values.items() if not bool(torch.isfinite(value))]
    if bad:
        raise TrainingFailed(
            f"not finite: {', '.join(bad)}",
            where=f"{name}, step {step}",
            hint="lower the learning rate (option lr), or look at the images of this step in log.jsonl",
        )


def _finite_weights(model: nn.Module, name: str, step: int) -> None:
    """TrainingFailed, before they are saved, where an update has carried weights beyond all numbers."""
    bad = [key for key, value in model.state_dict().items() if not bool(torch.isfinite(value).all())]
    if bad:
        what = f"not finite: {len(bad)} tensors of weights ({', '.join(bad[:3])})"
        raise TrainingFailed(what, where=f"{name}, step {step}", hint="lower the learning rate (option lr)")


def _timed(ctx: Context, batches: CropBatches, start: int, steps: int) -> Iterator[tuple[int, Batch]]:
    gpu = ctx.device.startswith("cuda")
    source = batches.run(start, steps, AHEAD if gpu else 0, pinned=gpu)
    for step in range(start, steps):
        with ctx.phase("wait for data"):
            batch = next(source)
        yield step, batch
