"""What submitit pickles: a command line, run in a process that is interrupted where the job has to leave its
node, and goes on when the job runs again. Imported on the node; nothing of a trial is known here."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, NoReturn

from wsssbench.running.executors.outcome import status_text

if TYPE_CHECKING:
    from types import FrameType

    from submitit.helpers import DelayedSubmission

TICK = 0.2  # seconds between two looks at the process
INTERRUPTED = (130, -signal.SIGINT)  # the latter while Python itself starts
LEAVE = (signal.SIGTERM, signal.SIGUSR2)  # Slurm's, and submitit's before the limit of time


class Resumable:
    """Runs `words`, and ends the job as they end: their exit code is the job's.

    Slurm signals every process of a job. The worker is deaf to that: it is this object that interrupts it,
    once, so that it can save what it has in peace.
    """

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.asked = 0  # the signal that came

    def __call__(self) -> int:
        requeue = signal.getsignal(signal.SIGUSR2)  # submitit's
        for number in LEAVE:
            signal.signal(number, self._note)
        with subprocess.Popen(self.words, stdin=subprocess.PIPE, preexec_fn=_deaf) as process:
            while process.poll() is None and not self.asked:
                time.sleep(TICK)
            if self.asked and process.poll() is None:
                print(f"{signal.Signals(self.asked).name}: stopping the trial", flush=True)
                process.send_signal(signal.SIGINT)
                process.wait()
        code = process.returncode
        if self.asked and code in INTERRUPTED:
            self._leave(requeue)
        if code < 0:
            print(f"the trial's process was {status_text(code)}", flush=True)
        if code:
            raise SystemExit(code if code > 0 else 1)
        return code

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = self.asked or number

    def _leave(self, requeue: Any) -> NoReturn:
        """Back to the queue by submitit, unless Slurm has ended the job or queued it again by itself."""
        if self.asked == signal.SIGUSR2 or _state() == "RUNNING":
            requeue(signal.SIGUSR2, None)  # counts time-outs, asks for `checkpoint`, exits
        raise SystemExit(130)

    def checkpoint(self) -> DelayedSubmission:
        """What is submitted again: the same command line."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Resumable(self.words))


def _deaf() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, LEAVE)


def _state() -> str:
    """The state of this job: not RUNNING where it was cancelled, or where Slurm itself queues it again."""
    from wsssbench.running.executors.slurm_queue import QueueSilent, queue_states

    try:
        return queue_states().get(os.environ.get("SLURM_JOB_ID", ""), ("", ""))[0]
    except QueueSilent:
        return ""
