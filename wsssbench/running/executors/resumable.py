"""`python -m wsssbench.running.executors.resumable FOLDER TIMEOUTS WORDS...`: what a job of Slurm runs.

WORDS are a command that is interrupted where the job has to leave its node, and goes on when the job runs
again: at most TIMEOUTS times after its limit of time. Nothing of a trial is known here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wsssbench.running.executors.outcome import status_text
from wsssbench.running.executors.slurm_queue import QueueSilent, queue_states

if TYPE_CHECKING:
    from types import FrameType

TICK = 0.2  # seconds between two looks at the process
INTERRUPTED = (130, -signal.SIGINT)  # the latter while Python itself starts
LEAVE = (
    signal.SIGTERM,
    signal.SIGUSR2,
)  # Slurm's own, and what it was asked to send before the limit of time
TIMEOUTS = "timeouts.txt"  # in a job's folder: a line each time that it has run into its limit


class Resumable:
    """Runs `words`; their exit code is the job's.

    Slurm signals every process of a job. The worker is deaf to that: it is this object that interrupts it,
    once, so that it can save what it has in peace.
    """

    def __init__(self, folder: Path, timeouts: int, words: Sequence[str]) -> None:
        self.folder, self.timeouts, self.words = folder, timeouts, words
        self.asked = 0  # the signal that came

    def run(self) -> int:
        """The exit code of the job."""
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
            self._leave()
            return 130
        if code < 0:
            print(f"the trial's process was {status_text(code)}", flush=True)
        return code if code >= 0 else 1

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = self.asked or number

    def _leave(self) -> None:
        """Back to the queue, unless Slurm has ended the job or queued it again by itself."""
        if self.asked == signal.SIGUSR2:
            with (self.folder / TIMEOUTS).open("a+") as notes:
                notes.write(f"{time.time():.0f}\n")
                notes.seek(0)
                if len(notes.readlines()) > self.timeouts:
                    print(f"it has run into its limit of time more than {self.timeouts} times", flush=True)
                    return
        elif _state() != "RUNNING":
            return
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)


def _deaf() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, LEAVE)


def _state() -> str:
    """The state of this job: not RUNNING where it was cancelled, or where Slurm itself queues it again."""
    try:
        return queue_states().get(os.environ.get("SLURM_JOB_ID", ""), ("", ""))[0]
    except QueueSilent:
        return ""


if __name__ == "__main__":
    sys.exit(Resumable(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]).run())
