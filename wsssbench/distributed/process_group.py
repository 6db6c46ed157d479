"""The processes of one training: sums of tensors, common decisions, and the end where one of them fails.

Each training has a torch process group of its own (gloo on the CPU; NCCL for what lies on a GPU, gloo for
numbers beside it), so that after a failure the next one starts afresh. What is summed, and how a loss must be
normalised so that sums are right, is said in `wsssbench.train`.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store

from wsssbench.distributed.faults import LOST, PeerFailed, heard, told
from wsssbench.distributed.launch import Launch

LONGEST = timedelta(minutes=30)  # that one process may be behind the others in a training
WORD_SECONDS = 3.0  # to wait for the word of a process whose connection has closed
PATIENCE_SECONDS = 15.0  # for a training on GPUs to notice that another process has failed
BUCKET_BYTES = 32 * 2**20  # of one message of gradients
LOOK = timedelta(seconds=0.5)  # between two looks whether another process has failed, while waiting for it

T = TypeVar("T")


class Peers(Protocol):
    """What a group asks of its launch: its place among the processes, and words through their store."""

    launch: Launch
    store: Store
    complete: bool

    @property
    def others(self) -> list[int]: ...

    def say(self, key: str, text: str) -> None: ...

    def look(self, key: str) -> str | None: ...

    def wait(self, key: str, meanwhile: Callable[[], None] = ..., seconds: float = ...) -> str: ...


class Group:
    """The processes that share the training with `number`; made by all of them at once."""

    def __init__(self, team: Peers, number: int, device: str) -> None:
        self.team, self.number, self.device = team, number, device
        self.rank, self.size = team.launch.rank, team.launch.size
        self.decisions = 0
        self._over = threading.Event()
        cuda = device.startswith("cuda")
        if cuda:
            torch.cuda.set_device(device)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=PrefixStore(f"group/{number}", team.store),
            rank=self.rank, world_size=self.size, timeout=LONGEST,
        )  # fmt: skip
        if cuda:  # NCCL waits for a lost process until it runs out of time: somebody has to look
            threading.Thread(target=self._watch, name="peers", daemon=True).start()

    @property
    def leads(self) -> bool:
        return self.rank == 0

    # ------------------------------------------------------------------------------------------- collectives

    def slice_of(self, batch: int) -> tuple[int, int]:
        """First and last + 1 of the images of a batch that are this process's: as even as it goes."""
        return batch * self.rank // self.size, batch * (self.rank + 1) // self.size

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, many in one message."""
        for bucket in _buckets(tensors):
            flat = torch.cat([t.detach().reshape(-1) for t in bucket])
            self._run(dist.all_reduce, flat)
            _unpack(flat, bucket)

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by that of the first process."""
        for bucket in _buckets(tensors):
            flat = torch.cat([t.detach().reshape(-1) for t in bucket])
            self._run(dist.broadcast, flat, 0)
            _unpack(flat, bucket)

    def gathered(self, tensor: Tensor) -> Tensor:
        """(processes, *shape): the tensor of each process."""
        own = tensor.contiguous()
        every = [torch.empty_like(own) for _ in range(self.size)]
        self._run(lambda *args, **more: dist.all_gather(every, *args, **more), own)
        return torch.stack(every)

    def summed(self, numbers: Sequence[float]) -> list[float]:
        """The sum of each number over the processes, in float64: the same bits in all."""
        found: list[float] = self._reduced(numbers, dist.ReduceOp.SUM)
        return found

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """Which flags are set in at least one process."""
        return [bool(value) for value in self._reduced([float(flag) for flag in flags], dist.ReduceOp.MAX)]

    def _reduced(self, numbers: Sequence[float], how: Any) -> list[float]:
        values = torch.tensor(numbers, dtype=torch.float64)
        self._run(dist.all_reduce, values, how)
        found: list[float] = values.tolist()
        return found

    # --------------------------------------------------------------------------------------------- decisions

    def decided(self, decide: Callable[[], T]) -> T:
        """What the first process says (plain JSON): for whatever depends on files."""
        self.decisions += 1
        key = f"decision/{self.number}/{self.decisions}"
        if self.leads:
            value = decide()
            self.team.say(key, json.dumps(value))
            return value
        answer: T = json.loads(self.team.wait(key, self.raise_faults))
        return answer

    def all_ready(self, make: Callable[[], T]) -> T:
        """What `make` returns; where it fails in one process it fails in all, and all know why."""
        try:
            made = make()
        except Exception as error:
            self.team.say(self.fault_key(self.rank), told(self.rank, error))
            self.any_of([True])
            raise
        if self.any_of([False])[0]:
            self.raise_faults()
        return made

    # ------------------------------------------------------------------------------------------------ the end

    def finish(self) -> None:
        """Wait until every process has come so far."""
        self.team.say(f"finished/{self.number}/{self.rank}", "")
        for rank in self.team.others:
            self.team.wait(f"finished/{self.number}/{rank}", self.raise_faults, LONGEST.total_seconds())

    def close(self, *, failed: bool = False) -> None:
        """Let go of the others. Where the training has `failed` messages may still be under way, for which
        torch would wait as long as it goes: its group is left to the end of the process."""
        self._over.set()
        if failed:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(dist.group.WORLD))
        dist.destroy_process_group()

    def fault_key(self, rank: int) -> str:
        """Where a process tells why it failed."""
        return f"fault/{self.number}/{rank}"

    def raise_faults(self) -> None:
        """Raise what another process told of its failure, if one did."""
        for rank in self.team.others:
            text = self.team.look(self.fault_key(rank))
            if text is not None:
                raise heard(text)

    def _run(self, message: Callable[..., Any], tensor: Tensor, *more: Any) -> None:
        """Send and receive, and raise what another process tells of its failure meanwhile."""
        try:
            work = message(tensor, *more, async_op=True)
            if tensor.is_cuda:
                work.wait()  # only orders what the GPU does; `_watch` looks after the others
                return
            while not _has_arrived(work):
                self.raise_faults()
        except RuntimeError as error:  # another process is gone
            end = time.perf_counter() + WORD_SECONDS
            while time.perf_counter() < end:
                self.raise_faults()
                time.sleep(0.05)
            self.team.complete = False
            raise PeerFailed(LOST) from error

    def _watch(self) -> None:
        """End this process where another has failed and the main thread waits for it in vain."""
        while not self._over.wait(LOOK.total_seconds()):
            try:
                self.raise_faults()
            except BaseException as fault:
                if not self._over.wait(PATIENCE_SECONDS):
                    print(f"error: {fault or 'interrupted'}", file=sys.stderr, flush=True)
                    os._exit(130 if isinstance(fault, KeyboardInterrupt) else 1)
                return


def _has_arrived(work: Any) -> bool:
    """Whether the message is through after LOOK at the latest. RuntimeError where it never will be."""
    try:
        work.wait(LOOK)
    except RuntimeError:
        if work.is_completed():
            raise
        return False
    return True


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in their order, cut where type or device change or BUCKET_BYTES are full."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        size = sum(t.nbytes for t in bucket) + tensor.nbytes
        other = bucket and (bucket[0].dtype, bucket[0].device) != (tensor.dtype, tensor.device)
        if bucket and (other or size > BUCKET_BYTES):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


@torch.no_grad()
def _unpack(flat: Tensor, bucket: list[Tensor]) -> None:
    for tensor, part in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
        tensor.detach().copy_(part.view(tensor.shape))
