"""The executor `slurm`: one job a trial, submitted by sbatch, found again by the next command, waited for.

A job that has to leave its node saves, goes back to the queue and goes on from there (`resumable`). Its state
comes from `slurm_queue`, how its trial ended from the note of the worker; both may be late by seconds.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from wsssbench.errors import WsssError
from wsssbench.files.atomic import atomic_write_text
from wsssbench.files.locks import hold
from wsssbench.running.executors.jobs import Job
from wsssbench.running.executors.outcome import ENDED, Ended, read_end
from wsssbench.running.executors.resumable import TIMEOUTS
from wsssbench.running.executors.slurm_options import SlurmConfig
from wsssbench.running.executors.slurm_queue import QueueSilent, is_going_on, last_state, queue_states
from wsssbench.running.screen.progress import Progress

CORES = "${{SLURM_CPUS_PER_TASK:+{}$SLURM_CPUS_PER_TASK}}"  # in the shell of a job: where it was given some
SUBMITTED = "slurm.json"  # in a job's folder: its id, the last one counts
SETTLE_SECONDS = 10.0  # after which what another node has written is seen here
States = dict[str, tuple[str, str]]


@dataclass
class Submitted:
    """A job in Slurm's hands."""

    job: Job
    id: str
    log: Path
    state: str = ""
    gone: float | None = None  # since when it is not in the queue


def check_slurm() -> None:
    """WsssError where Slurm's commands are absent."""
    missing = [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]
    if missing:
        what = f"Slurm's commands are not here ({', '.join(missing)})"
        raise WsssError(what, where="--executor slurm", hint="run this where you would type sbatch")


class Cluster:
    """The jobs of one run."""

    def __init__(self, config: SlurmConfig, progress: Progress) -> None:
        self.config, self.progress = config, progress
        self.open: list[Submitted] = []
        self.silent = False
        self.states = queue_states()

    def take(self, job: Job, write: Any, after: Sequence[Job]) -> None:
        """Find the trial's job in the queue, or submit one, which starts after those of `after`.

        `write(job)` writes what the worker is asked for.
        """
        with hold(job.folder, self.progress.say):
            known = find(job, self.states)
            if known is None:
                write(job)
                (job.folder / ENDED).unlink(missing_ok=True)
                ids = [one.id for one in self.open if one.job in after]
                known = submit(job, self.config, ids)
                self.progress.say(f"[{job.title}] submitted as job {known.id}")
            else:
                self.progress.say(f"[{job.title}] is job {known.id} already ({known.state.lower()})")
        self.open.append(known)

    def ends(self) -> Iterator[tuple[Job, Ended]]:
        """Wait for all jobs; each as it ends."""
        count = len(self.open)
        while self.open:
            self.progress.heading(f"waiting for {len(self.open)} jobs of Slurm", f"{count} in all")
            states = self._look()
            for one in list(self.open):
                if states is not None:
                    self._tell(one, *states.get(one.id, ("", "")))
                ended = self._ended(one, states)
                if ended is not None:
                    self.open.remove(one)
                    yield one.job, ended
            if self.open:
                sleep(self.config.poll_seconds)

    def commands(self) -> str:
        """How to cancel what still runs, and to go on waiting."""
        ids = " ".join(one.id for one in self.open)
        return f"the jobs go on; the same command waits for them and collects; scancel {ids} ends them"

    def _look(self) -> States | None:
        try:
            states = queue_states()
        except QueueSilent as error:
            if not self.silent:
                self.progress.say(f"{error.what}; asking again")
            self.silent = True
            return None
        self.silent = False
        return states

    def _tell(self, one: Submitted, state: str, why: str) -> None:
        """Say what has changed."""
        before, one.state = one.state, state or one.state
        if before == state or not state:
            return
        if state == "RUNNING":
            self.progress.say(f"[{one.job.title}] job {one.id} runs on {why}")
        elif state == "PENDING" and before:
            self.progress.say(f"[{one.job.title}] job {one.id} left its node and waits to go on {why}")
        elif state == "REQUEUE_HOLD":
            self.progress.say(f"[{one.job.title}] job {one.id} is held {why}: scontrol release {one.id}")

    def _ended(self, one: Submitted, states: States | None) -> Ended | None:
        """How the trial ended; None while it goes on."""
        with suppress(OSError):
            os.utime(one.job.folder)  # what a network file system remembers of it is asked for again
        code = read_end(one.job.folder)
        if code is not None:
            return Ended(code, "", one.log)
        if states is None or is_going_on(states.get(one.id, ("", ""))[0]):
            one.gone = None
            return None
        one.gone = one.gone or monotonic()
        if monotonic() - one.gone < SETTLE_SECONDS:
            return None
        state = states.get(one.id, ("", ""))[0] or last_state(one.id) or "no longer in the queue"
        return Ended(None, f"job {one.id}: {state}", one.log)


def find(job: Job, states: States) -> Submitted | None:
    """The trial's job that waits or runs; None where there is none."""
    try:
        known = json.loads((job.folder / SUBMITTED).read_text())
        one = Submitted(job, str(known["id"]), Path(known["log"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    one.state = states.get(one.id, ("", ""))[0]
    return one if is_going_on(one.state) else None


def submit(job: Job, config: SlurmConfig, after: Sequence[str]) -> Submitted:
    """Submit the trial, to start when the jobs `after` have ended. WsssError where Slurm refuses."""
    folder = job.folder.absolute()
    words = sbatch_words(folder, config, after)
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in done.stderr.splitlines()]
        hint = "look at the options -o slurm.KEY=VALUE and at `sinfo`"
        raise WsssError(f"Slurm refuses this job ({'; '.join(said)})", where=job.title, hint=hint)
    number = done.stdout.strip().partition(";")[0]  # the name of the cluster may follow
    (folder / TIMEOUTS).unlink(missing_ok=True)
    log = folder / f"{number}.log"
    atomic_write_text(folder / SUBMITTED, json.dumps({"id": number, "log": str(log)}))
    return Submitted(job, number, log)


def sbatch_words(folder: Path, config: SlurmConfig, after: Sequence[str]) -> list[str]:
    """The command that submits the worker of the job in `folder`."""
    python = [sys.executable, "-u", "-m"]
    resumable = [*python, "wsssbench.running.executors.resumable", str(folder), str(config.max_num_timeout)]
    worker = [*python, "wsssbench.running.executors.worker", str(folder), "--lifeline"]
    start = "exec"  # Slurm signals the shell of a job alone where there is no srun
    if config.use_srun:
        start = f"srun {CORES.format('--cpus-per-task=')} {shlex.join(config.srun_args)}"
    command = f"{start} {shlex.join([*resumable, *worker])} {CORES.format('--threads=')}"
    waits = [f"afterany:{':'.join(after)}"] if after else []
    waits += [config.dependency] if config.dependency else []
    receiver = "" if config.use_srun else "B:"
    return [
        "sbatch", "--parsable", "--requeue", "--open-mode=append", f"--job-name=wsssbench-{folder.name}",
        f"--output={folder}/%j.log", f"--signal={receiver}USR2@{config.signal_delay_s}",
        *([f"--dependency={','.join(waits)}"] if waits else []), *config.sbatch,
        "--wrap", "\n".join([*config.setup, command]),
    ]  # fmt: skip
