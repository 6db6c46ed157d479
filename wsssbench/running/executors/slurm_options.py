"""What may be asked of Slurm: a table that goes to `sbatch` as it is, beside a few options of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from wsssbench.errors import WsssError
from wsssbench.plugins.options import build_config
from wsssbench.types import option

WORD = re.compile(r"--([a-z][a-z-]*)(=.*)?", re.DOTALL)
OURS = {"array", "error", "job-name", "no-requeue", "open-mode", "output", "parsable", "requeue"}
OURS |= {"signal", "wrap"}
DEFAULTS = {"time": 60}  # minutes


@dataclass(frozen=True)
class SlurmConfig:
    """Options of a job that wsssbench itself reads; every other one becomes a word of `sbatch`."""

    dependency: str | None = option(None, "jobs to wait for, as afterok:12")
    setup: tuple[str, ...] = option((), 'lines of shell before the worker, as ["module load cuda"]')
    srun_args: tuple[str, ...] = option((), "more words for srun")
    use_srun: bool = option(True, "start the worker by srun")
    signal_delay_s: int = option(
        90, "seconds before the limit at which a job saves and goes back to the queue", low=1
    )
    max_num_timeout: int = option(
        100, "how often a job may run into its limit; preemptions do not count", low=0
    )
    sbatch: tuple[str, ...] = option((), 'more words for sbatch, as ["--reservation=mine"]')
    poll_seconds: float = option(5.0, "seconds between two looks at the queue", low=0.1)

    def __post_init__(self) -> None:
        for word in self.sbatch:
            found = WORD.fullmatch(word)
            if found is None or found[1] in OURS:
                what = f"wsssbench itself sets {word}" if found else f"{word!r} is not an option of sbatch"
                hint = "write an option of sbatch by its long name, as -o slurm.partition=gpu"
                raise WsssError(what, where="slurm", hint=hint)

    @property
    def wants_gpu(self) -> bool:
        """Whether a job is given a GPU, as far as the options tell."""
        words = (*self.sbatch, *self.srun_args)
        return any("gpu" in word and not word.endswith("=0") for word in words)


class Slurm:
    """One job of a cluster for each trial. Every option that is not listed goes to sbatch: partition=gpu."""

    Config: ClassVar[type] = SlurmConfig


def slurm_config(given: Mapping[str, Any]) -> SlurmConfig:
    """The table [executors.slurm] and -o slurm.KEY=VALUE: what is not ours as words of sbatch.

    WsssError for a bad value of an option of ours, for a name that sbatch could not have, and for an option
    of sbatch that wsssbench sets. The others are checked by sbatch when a job is submitted.
    """
    given, own = {**DEFAULTS, **given}, {field.name for field in fields(SlurmConfig)}
    config: SlurmConfig = build_config("slurm", Slurm, {k: v for k, v in given.items() if k in own})
    words = [_word(key, value) for key, value in given.items() if key not in own and _is_asked(value)]
    return replace(config, sbatch=(*words, *config.sbatch))


def _is_asked(value: Any) -> bool:
    return value is not None and value is not False and value != "none"


def _word(key: str, value: Any) -> str:
    """`--partition=gpu`; a list is joined by commas, true gives the bare option."""
    name = f"--{key.replace('_', '-')}"
    text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return name if value is True else f"{name}={text}"
