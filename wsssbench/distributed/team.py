"""What the processes of one launch say to each other outside of a training: plans, orders and the end.

The first one leads: it runs everything, and orders the others to fit a step along with it. All that goes
through torch's key-value store, asked again and again, so that a signal ends the waiting and nothing runs
out of time while the leader predicts and judges. Tensors are the business of `process_group`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wsssbench.distributed import at_work
from wsssbench.distributed.faults import LOST, PeerFailed, told
from wsssbench.distributed.launch import Launch, device_of, refuse_small_batches, refuse_unshared
from wsssbench.errors import WsssError
from wsssbench.identity import content_key
from wsssbench.machine.process import usable_cores

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

    from wsssbench.distributed.process_group import Group
    from wsssbench.planning.cells import Cell
    from wsssbench.planning.settings import Settings

LONGEST_PAUSE = 0.2  # seconds between two looks into the store
FAREWELL_SECONDS = 10.0  # that the leader waits for the others to have read the last order


class Team:
    """This process among those of its launch. `store` is shared by all."""

    def __init__(self, launch: Launch, store: Store) -> None:
        self.launch, self.store = launch, store
        self.number = 0  # of the last order
        self.complete = True  # no process was lost

    @property
    def leads(self) -> bool:
        return self.launch.leads

    @property
    def others(self) -> list[int]:
        """The ranks of all but this process."""
        return [rank for rank in range(self.launch.size) if rank != self.launch.rank]

    # ------------------------------------------------------------------------------------------- the store

    def say(self, key: str, text: str) -> None:
        """Write `text` for the others."""
        with self._reached():
            self.store.set(key, text)

    def look(self, key: str) -> str | None:
        """What stands under `key`, or None."""
        with self._reached():
            return self.store.get(key).decode() if self.store.check([key]) else None

    def wait(
        self, key: str, meanwhile: Callable[[], None] = lambda: None, seconds: float = float("inf")
    ) -> str:
        """What stands under `key` once it does; `meanwhile` may raise. TimeoutError after `seconds`."""
        pause, end = 0.0005, time.perf_counter() + seconds
        while (found := self.look(key)) is None:
            meanwhile()
            if time.perf_counter() > end:
                raise TimeoutError(key)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return found

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch's name for a connection that is gone
            hint = "look at what the first process said"
            raise WsssError("the other processes cannot be reached any more", hint=hint) from error

    # --------------------------------------------------------------------------------------------- planning

    @property
    def threads(self) -> int:
        """This process's share of the machine's cores."""
        return max(1, usable_cores() // self.launch.local_size)

    def settings(self, asked: Settings) -> Settings:
        """The settings of this process, with a device of its own; WsssError for what several cannot do."""
        import torch

        refuse_unshared(isolate=asked.isolate, jobs=asked.jobs, executor=asked.executor)
        return replace(asked, device=device_of(asked.device, self.launch, torch.cuda.device_count()))

    def check_cells(self, cells: Sequence[Cell]) -> None:
        """Leader: let the others plan, now that what planning reads is cached. WsssError where one cannot, or
        plans other cells, and where a batch is too small to be shared."""
        refuse_small_batches(cells, self.launch)
        plan = plan_text(cells)
        self.say("plan", plan)
        for rank in self.others:
            answer = json.loads(self.wait(f"plan/{rank}"))
            if "fault" in answer:
                raise WsssError(f"process {rank} cannot plan: {answer['fault']}", hint=answer["hint"])
            if answer["plan"] != plan:
                raise WsssError(
                    f"process {rank} plans other cells than the first one",
                    hint="give all processes the same command, settings, data and version of wsssbench",
                )

    def answer_plan(self, make: Callable[[], Sequence[Cell]]) -> bool:
        """Others: plan once the leader has; False where the run has ended before anything was to be done."""
        if self.wait_any("plan", "order/1") != "plan":
            return False
        try:
            answer = {"plan": plan_text(make())}
        except Exception as error:  # told to the leader, who ends the run
            fault = error.what if isinstance(error, WsssError) else f"{type(error).__name__}: {error}"
            answer = {"fault": fault, "hint": error.hint if isinstance(error, WsssError) else ""}
        self.say(f"plan/{self.launch.rank}", json.dumps(answer))
        if "fault" in answer:
            self.next_order()
        return "plan" in answer

    def wait_any(self, *keys: str) -> str:
        """The first of `keys` that something stands under."""
        pause = 0.001
        while True:
            for key in keys:
                if self.look(key) is not None:
                    return key
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    # ---------------------------------------------------------------------------------------------- orders

    @contextmanager
    def led_training(self, key: str, device: str) -> Iterator[None]:
        """Leader: inside, the others fit the step with that key as well."""
        self._order({"fit": key})
        with self._training(device):
            yield

    @contextmanager
    def joined_training(self, device: str) -> Iterator[None]:
        """Others: inside, share the training that was ordered last."""
        with self._training(device):
            yield

    def next_order(self) -> dict[str, Any]:
        """Others: what the leader wants next: {"fit": key of a step} or {"end": exit code}."""
        self.number += 1
        order: dict[str, Any] = json.loads(self.wait(f"order/{self.number}"))
        return order

    def end(self, code: int) -> None:
        """Leader: the run is over; returns when the others know, at the latest after FAREWELL_SECONDS."""
        with suppress(WsssError, TimeoutError):
            self._order({"end": code})
            end = time.perf_counter() + FAREWELL_SECONDS * self.complete
            for rank in self.others:
                self.wait(f"gone/{rank}", seconds=max(0.0, end - time.perf_counter()))

    def leave(self) -> None:
        """Others: this process ends, whyever."""
        with suppress(WsssError):
            self.say(f"gone/{self.launch.rank}", "")

    def _order(self, order: dict[str, Any]) -> None:
        self.number += 1
        self.say(f"order/{self.number}", json.dumps(order))

    @contextmanager
    def _training(self, device: str) -> Iterator[None]:
        group = self._gathered(device)
        try:
            with at_work(group):
                yield
                group.finish()
        except BaseException as error:
            with suppress(WsssError):
                self.say(group.fault_key(self.launch.rank), told(self.launch.rank, error))
            group.close(failed=True)
            raise
        group.close()

    def _gathered(self, device: str) -> Group:
        """The group of the training that was ordered last, once every process has come to it."""
        from wsssbench.distributed.process_group import Group

        if not self.complete:
            raise PeerFailed(LOST)
        self.say(f"ready/{self.number}/{self.launch.rank}", "")
        for rank in self.others:
            self.wait(f"ready/{self.number}/{rank}", lambda rank=rank: self._missed(rank))  # type: ignore[misc]
        return Group(self, self.number, device)

    def _missed(self, rank: int) -> None:
        if self.look(f"gone/{rank}") is not None:
            raise PeerFailed({"rank": rank, "what": "it has ended", "hint": "look at what it said"})


def plan_text(cells: Sequence[Cell]) -> str:
    """What the plans of all processes must agree in."""
    return content_key([[cell.key, *(step.key for step in cell.trial.steps)] for cell in cells])


def open_team(launch: Launch) -> Team:
    """Meet the other processes at the place that torchrun has named."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://", rank=launch.rank, world_size=launch.size))
    return Team(launch, PrefixStore("wsssbench", store))
