"""The processes of one launch: plans, orders, the trainings that they share, and how one failure reaches all.

The first process leads: it runs everything, and orders the others to fit a step along with it. What they say
to each other outside of a training stands in torch's key-value store, into which a process looks again and
again, so that a signal ends the waiting and nothing runs out of time while the leader predicts and judges.
Each training has a process group of torch of its own (gloo on the CPU; NCCL for what lies on a GPU, gloo for
numbers beside it). A process that fails closes it, which wakes those who wait for a message of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from wsssbench.distributed.launch import Launch, at_work, device_of, refuse_small_batches, refuse_unshared
from wsssbench.errors import WsssError
from wsssbench.identity import content_key
from wsssbench.machine.process import usable_cores

if TYPE_CHECKING:
    from wsssbench.planning.cells import Cell
    from wsssbench.planning.settings import Settings

LONGEST_PAUSE = 0.2  # seconds between two looks into the store
LONGEST = 1800.0  # seconds that one process may be behind the others in a training
PATIENCE = 15.0  # seconds that a process that failed on a GPU waits for the others
FAREWELL = 10.0  # seconds that the leader waits for the others to have read the last order
INTERRUPTED = "interrupted"

T = TypeVar("T")


class PeerFailed(WsssError):
    """Another process of the same training failed, or is lost; the cell fails, the others go on."""

    code = 1


class Lost(PeerFailed):
    """No message of another process comes any more; why, it tells in the store if it can."""

    def __init__(self) -> None:
        hint = "look at what torchrun says of it, then run the same command again"
        super().__init__("another process has ended, or does not answer", hint=hint)


class Team:
    """This process among those of its launch. `store` is shared by all."""

    def __init__(self, launch: Launch, store: Store) -> None:
        self.launch, self.store = launch, store
        self.rank, self.size, self.leads = launch.rank, launch.size, launch.leads
        self.orders = self.trainings = 0  # so far
        self.on_gpu = False  # the present training

    # ------------------------------------------------------------------------------------------- the store

    def _say(self, key: str, what: Any) -> None:
        """Write `what` (plain JSON) for the others."""
        with _reached():
            self.store.set(key, json.dumps(what))

    def _hear(self, key: str, seconds: float = float("inf")) -> Any:
        """What stands under `key` once it does; Lost after `seconds`."""
        pause, end = 0.0005, time.perf_counter() + seconds
        with _reached():
            while not self.store.check([key]):
                if time.perf_counter() > end:
                    raise Lost
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            return json.loads(self.store.get(key))

    def _meet(self, what: str, own: Any = None, seconds: float = float("inf")) -> list[Any]:
        """What each process says of `what`, in their order, once all have; Lost after `seconds`."""
        self._say(f"{what}/{self.rank}", own)
        return [self._hear(f"{what}/{rank}", seconds) for rank in range(self.size)]

    # --------------------------------------------------------------------------------------------- planning

    @property
    def threads(self) -> int:
        """This process's share of the machine's cores."""
        return max(1, usable_cores() // self.launch.local_size)

    def settings(self, asked: Settings) -> Settings:
        """The settings of this process, with a device of its own; WsssError for what several cannot do."""
        refuse_unshared(isolate=asked.isolate, jobs=asked.jobs, executor=asked.executor)
        return replace(asked, device=device_of(asked.device, self.launch, torch.cuda.device_count()))

    def check_cells(self, cells: Sequence[Cell]) -> None:
        """Leader: let the others plan, now that what planning reads is cached. WsssError where one cannot, or
        plans other cells, and where a batch is too small to be shared."""
        refuse_small_batches(cells, self.launch)
        self.order({"plan": True})
        own, *others = self._meet("plan", {"plan": plan_text(cells)})
        for rank, answer in enumerate(others, 1):
            if "fault" in answer:
                raise WsssError(f"process {rank} cannot plan: {answer['fault']}", hint=answer["hint"])
            if answer != own:
                raise WsssError(
                    f"process {rank} plans other cells than the first one",
                    hint="give all processes the same command, settings, data and version of wsssbench",
                )

    def answer_plan(self, make: Callable[[], Sequence[Cell]]) -> None:
        """Others: plan as the leader has. A failure is reported to the leader, who ends the run."""
        try:
            answer = {"plan": plan_text(make())}
        except Exception as error:
            answer = {"fault": _what(error), "hint": error.hint if isinstance(error, WsssError) else ""}
        self._meet("plan", answer)

    # ---------------------------------------------------------------------------------------------- orders

    def order(self, order: dict[str, Any]) -> None:
        """Leader: what the others do next: {"plan": True}, {"fit": key of a step} or {"end": exit code}."""
        self.orders += 1
        self._say(f"order/{self.orders}", order)

    def next_order(self) -> dict[str, Any]:
        """Others: what the leader wants next."""
        self.orders += 1
        order: dict[str, Any] = self._hear(f"order/{self.orders}")
        return order

    def end(self, code: int) -> None:
        """Leader: the run is over; returns when the others know, at the latest after FAREWELL seconds."""
        with suppress(WsssError):
            self.order({"end": code})
            self._meet("gone", seconds=FAREWELL)

    def leave(self) -> None:
        """Others: this process ends, whyever."""
        with suppress(WsssError):
            self._say(f"gone/{self.rank}", None)

    # -------------------------------------------------------------------------------------------- trainings

    @contextmanager
    def training(self, device: str, step: str = "") -> Iterator[None]:
        """Inside, all processes share the training of the planned step with the key `step`: the leader orders
        it, the others come here when they read that order.

        Where one of them fails all fail: with their own error, or with what that one tells (PeerFailed).
        """
        if self.leads:
            self.order({"fit": step})
        self.trainings += 1
        self._meet(f"ready/{self.trainings}")
        self.on_gpu = device.startswith("cuda")
        if self.on_gpu:
            torch.cuda.set_device(device)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if self.on_gpu else "gloo",
            store=PrefixStore(f"training/{self.trainings}", self.store),
            rank=self.rank, world_size=self.size, timeout=timedelta(seconds=LONGEST),
        )  # fmt: skip
        try:
            with at_work(self):
                yield
        except BaseException as error:
            self._part(error)
            raise
        self._part(None)

    def _part(self, error: BaseException | None) -> None:
        """Wait until every process has come to the end of the training; raise what another one tells where
        this one has no failure of its own."""
        if error is not None:
            dist.destroy_process_group()  # whoever waits for a message of this process wakes
        alone = self.on_gpu and error is not None  # NCCL cannot be called off: the others may never come
        try:
            faults = self._meet(f"done/{self.trainings}", _fault(error), PATIENCE if alone else LONGEST)
        except Lost:
            if alone:
                _end_process(error)
            raise
        if error is None:
            dist.destroy_process_group()
        if error is None or isinstance(error, Lost):
            for rank, fault in enumerate(faults):
                if fault is not None and "lost" not in fault:
                    raise _heard(rank, fault) from error

    # ------------------------------------------------------------------------------------------- collectives

    def slice_of(self, batch: int) -> tuple[int, int]:
        """First and last + 1 of the images of a batch that are this process's: as even as it goes."""
        return batch * self.rank // self.size, batch * (self.rank + 1) // self.size

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        with _reached():
            for message in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                message.wait()

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by that of the first process."""
        with _reached():
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def summed(self, numbers: Sequence[float]) -> list[float]:
        """The sum of each number over the processes, in float64: the same bits in all."""
        values = torch.tensor(numbers, dtype=torch.float64)
        self.add([values])
        found: list[float] = values.tolist()
        return found

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """Which flags are set in at least one process."""
        return [total > 0 for total in self.summed([float(flag) for flag in flags])]

    def decided(self, decide: Callable[[], T]) -> T:
        """What the first process says (plain JSON): for whatever depends on files."""
        said: list[Any] = [decide() if self.leads else None]
        with _reached():
            dist.broadcast_object_list(said)
        answer: T = said[0]
        return answer


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's name for a connection that is gone
        raise Lost from error


def _fault(error: BaseException | None) -> dict[str, Any] | None:
    """What is sent to the others about `error`, as plain JSON."""
    if error is None:
        return None
    if isinstance(error, Lost):
        return {"lost": True}
    if isinstance(error, WsssError):
        return {"what": error.what, "where": error.where, "hint": error.hint}
    if isinstance(error, KeyboardInterrupt):
        return {"what": INTERRUPTED}
    trace = "".join(traceback.format_exception(error))[-4000:]
    return {"what": _what(error), "trace": trace}


def _what(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, WsssError):
        return error.what
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _heard(rank: int, fault: dict[str, Any]) -> BaseException:
    """What to raise for a failure of the process `rank`."""
    if fault["what"] == INTERRUPTED:
        return KeyboardInterrupt()
    error = PeerFailed(
        f"process {rank}: {fault['what']}", where=fault.get("where", ""), hint=fault.get("hint", "")
    )
    if "trace" in fault:
        error.add_note(f"in process {rank}:\n{fault['trace']}")
    return error


def _end_process(error: BaseException | None) -> None:
    """End this process at once; torchrun then ends the others."""
    print(f"error: {error or INTERRUPTED}", file=sys.stderr, flush=True)
    os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def plan_text(cells: Sequence[Cell]) -> str:
    """What the plans of all processes must agree in."""
    return content_key([[cell.key, *(step.key for step in cell.trial.steps)] for cell in cells])


def open_team(launch: Launch) -> Team:
    """Meet the other processes at the place that torchrun has named."""
    store, _, _ = next(rendezvous("env://", rank=launch.rank, world_size=launch.size))
    return Team(launch, PrefixStore("wsssbench", store))
