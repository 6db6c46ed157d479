"""How this process was started: alone, or by torchrun as one of several; and what several cannot do.

Only environment variables and flags are read here, neither torch nor files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsssbench.errors import WsssError

if TYPE_CHECKING:
    from wsssbench.planning.cells import Cell

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # torchrun sets them

sharing: list[Any] = []  # the Team that shares the present training, if there is one: at most one


@dataclass(frozen=True)
class Launch:
    """Which of how many processes this is; those of one machine are counted apart."""

    rank: int
    size: int
    local_rank: int
    local_size: int

    @property
    def leads(self) -> bool:
        return self.rank == 0


def find_launch(environ: Mapping[str, str] | None = None) -> Launch | None:
    """The place of this process among several; None where it is the only one. WsssError for numbers that make
    no sense."""
    env = os.environ if environ is None else environ
    if not all(env.get(name) for name in NEEDED):
        return None
    try:
        rank, size = int(env["RANK"]), int(env["WORLD_SIZE"])
        local = int(env.get("LOCAL_RANK") or rank), int(env.get("LOCAL_WORLD_SIZE") or size)
    except ValueError:
        rank, size, local = -1, 0, (0, 0)
    if not 0 <= rank < size:
        said = ", ".join(f"{name}={env[name]}" for name in NEEDED[:2])
        raise WsssError(
            "these are not numbers of a process among several", where=said, hint="start it with torchrun"
        )
    return Launch(rank, size, *local) if size > 1 else None


@contextmanager
def at_work(team: Any) -> Iterator[None]:
    """Inside, `team` shares what is trained."""
    sharing.append(team)
    try:
        yield
    finally:
        sharing.remove(team)


def refuse_unshared(*, isolate: bool, jobs: int, executor: str) -> None:
    """WsssError where several processes, as torchrun has started them, are asked for what only one can do."""
    wanted = {
        "--isolate": (isolate, "a sandbox holds one process"),
        "--jobs": (jobs > 1, "it starts processes of its own"),
        "--executor": (executor != "here", "it starts processes of its own"),
    }
    for flag, (asked, reason) in wanted.items():
        if asked and find_launch() is not None:
            raise WsssError(
                f"{flag} does not go with torchrun: {reason}",
                where=flag,
                hint=f"leave out {flag}, or start wsssbench without torchrun",
            )


def refuse_small_batches(cells: Sequence[Cell], launch: Launch) -> None:
    """WsssError where a batch has fewer images than there are processes to share it."""
    for planned in (p for cell in cells if cell.state in ("missing", "failed") for p in cell.trial.steps):
        for name, batch in planned.step.batches().items() if planned.step.trains_together else ():
            if batch < launch.size:
                raise WsssError(
                    f"a batch of {batch} cannot be shared by {launch.size} processes",
                    where=f"{planned.name}.{name}",
                    hint=f"start at most {batch} processes, or raise the batch (it is part of the key)",
                )


def device_of(asked: str, launch: Launch, gpus: int) -> str:
    """The device of this process where `asked` is --device and torch sees `gpus` GPUs on this machine.

    WsssError for a numbered GPU, which all would share, and where there are fewer GPUs than processes.
    """
    if asked.startswith("cuda:"):
        hint = "use --device cuda: process N of a machine takes cuda:N"
        raise WsssError("torchrun gives each process a GPU of its own", where=f"--device {asked}", hint=hint)
    if asked == "cpu" or not gpus:
        return asked
    if launch.local_size > gpus:
        raise WsssError(
            f"{launch.local_size} processes were started on a machine of which torch sees {gpus} GPUs",
            where="--nproc-per-node",
            hint=f"start {gpus}, or use --device cpu",
        )
    return f"cuda:{launch.local_rank}"
