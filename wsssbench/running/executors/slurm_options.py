"""What may be asked of Slurm: the options of the executor `slurm`, their checks, and the words that submitit
and sbatch have for them. Neither is needed to look an option up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from wsssbench.plugins.options import build_config
from wsssbench.types import option

DAYS = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
MEMORY = re.compile(r"\d+[KMGT]")
OURS = ("time", "mem", "sbatch", "max_num_timeout", "poll_seconds")  # the others go to submitit as they are


@dataclass(frozen=True)
class SlurmConfig:
    """Options of a job, most of them named as sbatch names them."""

    partition: str | None = option(None, "the partition; without it the cluster's default")
    time: int | str = option(
        60, "limit of a job: minutes, or as sbatch has it (8:00:00, 2-12); it goes on after it", low=1
    )
    gpus_per_node: int | None = option(None, "GPUs of a job; a trial uses one", low=0)
    gres: str | None = option(None, "other resources, as gpu:a100:1")
    cpus_per_task: int | None = option(None, "cores of a job, which are its threads", low=1)
    mem: str | None = option(None, "memory of a job, with its unit: 32G")
    account: str | None = option(None, "the account that is charged")
    qos: str | None = option(None, "quality of service")
    constraint: str | None = option(None, "features that the node must have")
    nodelist: str | None = option(None, "these nodes alone")
    exclude: str | None = option(None, "not these nodes")
    exclusive: bool | None = option(None, "a node of its own for each job")
    dependency: str | None = option(None, "jobs to wait for, as afterok:12")
    comment: str | None = option(None, "a comment")
    mail_type: str | None = option(None, "when Slurm writes a mail: BEGIN, END, FAIL")
    mail_user: str | None = option(None, "who gets it")
    wckey: str | None = option(None, "a key of the accounting")
    setup: tuple[str, ...] = option((), 'lines of shell before the worker, as ["module load cuda"]')
    srun_args: tuple[str, ...] = option((), "more words for srun")
    use_srun: bool = option(True, "start the worker by srun")
    signal_delay_s: int = option(
        90, "seconds before the limit at which a job saves and goes back to the queue", low=1
    )
    max_num_timeout: int = option(
        100, "how often a job may run into its limit; preemptions do not count", low=0
    )
    sbatch: tuple[str, ...] = option((), 'other options of sbatch, as ["--reservation=mine"]')
    poll_seconds: float = option(5.0, "seconds between two looks at the queue", low=0.1)

    def __post_init__(self) -> None:
        minutes(self.time)
        if self.mem is not None and not MEMORY.fullmatch(self.mem):
            raise ValueError(f"mem is a number with its unit, as 32G, not {self.mem!r}")
        wrong = [word for word in self.sbatch if not re.fullmatch(r"--[a-z][a-z-]*(=.+)?", word)]
        if wrong:
            raise ValueError(f"sbatch has options as --reservation=mine, not {wrong[0]!r}")

    @property
    def wants_gpu(self) -> bool:
        """Whether a job is given a GPU, as far as the options tell."""
        asked = [self.gres or "", *self.srun_args, *self.sbatch]
        return bool(self.gpus_per_node) or any("gpu" in text for text in asked)

    def parameters(self) -> dict[str, Any]:
        """What submitit's executor of Slurm is told."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in OURS}
        given = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        more: dict[str, Any] = {"requeue": True, **({"mem": self.mem} if self.mem else {})}
        for word in self.sbatch:
            name, equals, value = word.removeprefix("--").partition("=")
            more[name] = value if equals else True
        return {**given, "time": minutes(self.time), "additional_parameters": more, "stderr_to_stdout": True}


class Slurm:
    """One job of a cluster for each trial; most options are named as sbatch names them."""

    Config: ClassVar[type] = SlurmConfig


def slurm_config(given: Mapping[str, Any]) -> SlurmConfig:
    """The options of [executors.slurm] and -o slurm.KEY=VALUE, checked.

    UnknownName for a key that does not exist, with the nearest; WsssError for a value that is none.
    """
    config: SlurmConfig = build_config("slurm", Slurm, given)
    return config


def minutes(limit: int | str) -> int:
    """A limit of time as sbatch reads it, in whole minutes, rounded up. ValueError where it is none.

    Minutes; minutes:seconds; hours:minutes:seconds; days-hours[:minutes[:seconds]].
    """
    found = DAYS.fullmatch(str(limit))
    if not found:
        raise ValueError(f"time is minutes, or as sbatch has it (8:00:00, 2-12), not {limit!r}")
    days, *rest = found.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is not None:
        hours, least, seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, least, seconds = parts
    else:
        hours, (least, seconds) = 0, (*parts, 0)[:2]
    whole = 60 * (24 * int(days or 0) + hours) + least + (1 if seconds else 0)
    if whole < 1:
        raise ValueError(f"time is at least a minute, not {limit!r}")
    return whole
