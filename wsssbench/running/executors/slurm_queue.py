"""What Slurm says of jobs, asked by its own commands. squeue knows running and lately ended ones on every
cluster; sacct, which not every cluster keeps, is asked of older ones."""

from __future__ import annotations

import subprocess

from wsssbench.errors import WsssError

SECONDS = 60  # that an answer may take
# of a job that has not ended. PREEMPTED is on its way back to the queue, or gone from it soon.
GOING_ON = (
    "CONFIGURING", "COMPLETING", "PENDING", "PREEMPTED", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD",
    "RESIZING", "RESV_DEL_HOLD", "RUNNING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED",
)  # fmt: skip


class QueueSilent(WsssError):
    """Slurm does not answer: nothing is known of the jobs."""


def queue_states() -> dict[str, tuple[str, str]]:
    """Job id -> (state, why it waits or where it runs) of this user's jobs that squeue knows of."""
    lines = _answer("squeue", "--me", "--noheader", "--states=all", "--format=%A|%T|%R").splitlines()
    found = (line.strip().split("|", 2) for line in lines)
    return {parts[0]: (parts[1], parts[2]) for parts in found if len(parts) == 3}


def is_going_on(state: str) -> bool:
    """Whether a job of that state waits or runs."""
    return state in GOING_ON


def last_state(job: str) -> str:
    """The state in which a job that is not in the queue has ended, if the cluster keeps it; else ""."""
    try:
        text = _answer("sacct", "--jobs", job, "--allocations", "--noheader", "--parsable2", "--format=State")
    except QueueSilent:
        return ""
    return text.strip().splitlines()[-1].strip() if text.strip() else ""


def _answer(*words: str) -> str:
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QueueSilent(f"{words[0]} does not answer ({error})", where="slurm") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise QueueSilent(f"{words[0]} does not answer ({said})", where="slurm")
    return done.stdout
