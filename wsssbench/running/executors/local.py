"""The executor `local`: trials in worker processes of this machine, so many at a time.

A worker has a session of its own, so that Ctrl-C reaches it through this process alone, and a pipe that tells
it when this process is gone. Which trial comes next is decided in `schedule`, what a worker does in `worker`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from wsssbench.running.executors.jobs import Job
from wsssbench.running.executors.outcome import ENDED, LOG, Ended, read_end, status_text
from wsssbench.running.executors.schedule import Seat, next_job
from wsssbench.running.renewal import Renewed
from wsssbench.running.screen.progress import Progress

INTERRUPTED = (130, -signal.SIGINT)  # the latter while Python itself starts
TICK = 0.1  # seconds between two looks at the workers
LOOK = 1.0  # seconds between two looks for a trial that need not wait any more
LAST_CHANCE = 10.0  # seconds after the second Ctrl-C
Heard = tuple["Worker", str]


class Worker:
    """One process with one trial; what it says goes to `heard`."""

    def __init__(self, job: Job, seat: Seat, heard: SimpleQueue[Heard]) -> None:
        self.job, self.seat, self.log = job, seat, job.folder / LOG
        (job.folder / ENDED).unlink(missing_ok=True)
        receiver, sender = os.pipe()
        words = [sys.executable, "-m", "wsssbench.running.executors.worker", str(job.folder.absolute())]
        words += ["--threads", str(seat.threads), "--events", str(sender), "--lifeline"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=(sender,),
                start_new_session=True, env={**os.environ, **seat.environment},
            )  # fmt: skip
        os.close(sender)
        self.ear = threading.Thread(target=self._listen, args=(receiver, heard), daemon=True)
        self.ear.start()

    def _listen(self, receiver: int, heard: SimpleQueue[Heard]) -> None:
        with os.fdopen(receiver) as lines:
            for line in lines:
                with suppress(ValueError):  # cut off by its death
                    heard.put((self, str(json.loads(line))))

    def ended(self) -> Ended | None:
        """How it ended; None while it works."""
        status = self.process.poll()
        if status is None:
            return None
        self.ear.join(5)
        assert self.process.stdin is not None
        self.process.stdin.close()
        how = "it was interrupted from outside" if status in INTERRUPTED else status_text(status)
        return Ended(read_end(self.job.folder), how, self.log)

    def interrupt(self) -> None:
        """Ask it to stop, as Ctrl-C does."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Pool:
    """The seats, who works on them, and what is still to do."""

    def __init__(
        self, jobs: Sequence[Job], seats: Sequence[Seat], progress: Progress, renewed: Renewed
    ) -> None:
        self.waiting, self.free, self.progress, self.renewed = list(jobs), list(seats), progress, renewed
        self.count = len(jobs)
        self.working: list[Worker] = []
        self.heard: SimpleQueue[Heard] = SimpleQueue()
        self._looked = -LOOK

    def run(self) -> Generator[tuple[Job, Ended]]:
        """Run every job; each as it ends. After an error or Ctrl-C no worker is left."""
        try:
            while self.waiting or self.working:
                self._start()
                self._hear(TICK)
                for worker in [worker for worker in self.working if worker.process.poll() is not None]:
                    yield worker.job, self._leave(worker)
        except BaseException:
            self._stop()
            raise

    def _start(self) -> None:
        if not (self.free and self.waiting) or time.monotonic() - self._looked < LOOK:
            return
        while self.free:
            job = next_job(self.waiting, [worker.job for worker in self.working], self.renewed)
            if job is None:
                self._looked = time.monotonic()
                return
            self.waiting.remove(job)
            seat = self.free.pop(0)
            self.working.append(Worker(job, seat, self.heard))
            self.progress.say(f"[{job.title}] started{' on ' if seat.name else ''}{seat.name}")
            self._show()

    def _leave(self, worker: Worker) -> Ended:
        ended = worker.ended()
        assert ended is not None
        self._hear(0)
        self.working.remove(worker)
        self.free.append(worker.seat)
        self._looked = -LOOK
        self._show()
        return ended

    def _show(self) -> None:
        names = ", ".join(worker.job.title for worker in self.working)
        done = self.count - len(self.waiting) - len(self.working)
        self.progress.heading(f"at work: {names}", f"{done} of {self.count} trials ended")

    def _hear(self, seconds: float) -> None:
        """Say what workers have said, waiting so long for a first word."""
        try:
            while True:
                worker, text = self.heard.get(timeout=seconds) if seconds else self.heard.get_nowait()
                self.progress.say(prefixed(worker.job, text))
                seconds = 0
        except Empty:
            return

    def _stop(self) -> None:
        """Interrupt the workers and wait; a second Ctrl-C reaches them too, a third one ends them."""
        if not self.working:
            return
        said = f"stopping {len(self.working)} trials, each with a checkpoint; once more to stop at once"
        for patience in (None, LAST_CHANCE, 0.0):
            try:
                for worker in self.working:
                    worker.interrupt() if patience != 0 else worker.kill()
                self.progress.say(said)
                if self._gone(patience):
                    return
            except KeyboardInterrupt:
                said = "stopping them at once"
        self._gone(None)

    def _gone(self, seconds: float | None) -> bool:
        """Wait so long (None: for ever) for all workers to end; whether they have."""
        end = None if seconds is None else time.monotonic() + seconds
        while any(worker.process.poll() is None for worker in self.working):
            if end is not None and time.monotonic() > end:
                return False
            self._hear(TICK)
        return True


def prefixed(job: Job, text: str) -> str:
    """What a worker says, with its trial in front; a cell's own name loses what the trial's has."""
    trial = job.cells[0].trial
    failed, rest = ("FAILED ", text[7:]) if text.startswith("FAILED ") else ("", text)
    return f"{failed}[{job.title}] {rest.removeprefix(f'{trial.method} seed {trial.seed} ')}"
