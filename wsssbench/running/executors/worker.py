"""`python -m wsssbench.running.executors.worker FOLDER`: carries out FOLDER/job.json as `wsssbench run`
would.

What is said goes to stderr, which is the trial's log; with --events also to a pipe, one JSON string a line.
With --lifeline the worker stops, as at Ctrl-C, when its stdin is closed: whoever started it is gone.
The exit codes are those of `wsssbench run`; all but 130 are noted beside the job. Processes are started and
watched elsewhere.
"""

from __future__ import annotations

import os
import sys

from wsssbench.machine.interrupts import ended_by_signals

with ended_by_signals():  # Ctrl-C and SIGTERM may come early
    import argparse
    import json
    import signal
    import threading
    from collections.abc import Iterator, Sequence
    from contextlib import contextmanager
    from pathlib import Path
    from typing import TYPE_CHECKING, TextIO

    from wsssbench.errors import WsssError
    from wsssbench.running.executors.outcome import write_end
    from wsssbench.running.screen.progress import Progress
    from wsssbench.running.screen.tasks import Task

if TYPE_CHECKING:
    from wsssbench.planning.cells import Cell

# before torch and numba are imported: see wsssbench.cli.main
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class LogReporter(Progress):
    """Writes all to stderr, which is a log; what is said of cells, without the counting between, also to the
    stream `events`."""

    def __init__(self, events: TextIO | None) -> None:
        super().__init__()
        self.fancy, self.events, self.log = False, events, Progress()
        self.log.fancy = False

    def say(self, text: str) -> None:
        self.log.say(text)
        if self.events is not None:
            print(json.dumps(text), file=self.events, flush=True)

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        with self.log.task(title) as task:
            yield task


def main() -> int:
    """The worker's exit code."""
    parser = argparse.ArgumentParser("wsssbench.running.executors.worker")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--events", type=int)
    parser.add_argument("--lifeline", action="store_true")
    given = parser.parse_args()
    if given.lifeline:
        threading.Thread(target=_stop_with_parent, daemon=True).start()
    for name in THREADS if given.threads else ():
        os.environ[name] = str(given.threads)
    folder = given.folder.absolute()
    with ended_by_signals(), _stream(given.events) as events:
        try:
            code = run_trial(folder, given.threads, LogReporter(events))
        except WsssError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            code = error.code
        write_end(folder, code)
    return code


@contextmanager
def _stream(number: int | None) -> Iterator[TextIO | None]:
    """The pipe of that number, which this process's own children do not get."""
    if number is None:
        yield None
        return
    os.set_inheritable(number, False)
    with os.fdopen(number, "w") as stream:
        yield stream


def _stop_with_parent() -> None:
    """Wait for the end of stdin, then stop as at Ctrl-C."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGINT)


def run_trial(folder: Path, threads: int, progress: Progress) -> int:
    """Run the trial of folder/job.json: 0, or 1 where a cell failed. WsssError for what cannot be planned."""
    from wsssbench.machine.hardware import compute_deterministically
    from wsssbench.running.executors.request import read_request
    from wsssbench.running.opening import open_plugins
    from wsssbench.running.plan_run import plan_run, run_plan
    from wsssbench.running.renewal import Renewed

    request = read_request(folder)
    os.chdir(request.place)
    sys.argv[1:] = request.command  # records and locks name the command that was typed
    if request.switches.deterministic:
        compute_deterministically()
    plugins = open_plugins(request.settings.plugins, isolate=request.settings.isolate)
    plan = plan_run(request.settings, plugins, progress)
    _check_keys(plan.cells, request.keys)
    failed = run_plan(
        plan, progress, request.switches, threads=threads or None, renewed=Renewed(request.renewed)
    )
    return 1 if failed else 0


def _check_keys(cells: Sequence[Cell], keys: Sequence[str]) -> None:
    """WsssError where the cells of the trial are not those that were planned when it was started."""
    if {cell.key for cell in cells if cell.state != "skip"} != set(keys):
        hint = (
            "start the run again: data, code or settings were changed since; or name --device and --precision"
        )
        raise WsssError("this machine plans other cells than the one that the run was started on", hint=hint)


if __name__ == "__main__":
    ending = main()
    for number in (signal.SIGINT, signal.SIGTERM):  # it is over, and its end noted
        signal.signal(number, signal.SIG_IGN)
    sys.exit(ending)
