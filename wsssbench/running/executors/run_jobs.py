"""From a plan to the end of its trials, whatever runs them; commands call this module alone."""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from wsssbench.errors import WsssError
from wsssbench.machine.hardware import Hardware
from wsssbench.machine.process import usable_cores
from wsssbench.planning.cells import Cell
from wsssbench.planning.plan import state_of
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins
from wsssbench.records.store import read_record
from wsssbench.running.executors.jobs import FOLDER, Job, jobs_of
from wsssbench.running.executors.outcome import Ended, end_text
from wsssbench.running.executors.request import Request, Switches, write_request
from wsssbench.running.executors.schedule import owners, seats, seats_text
from wsssbench.running.executors.slurm_options import slurm_config
from wsssbench.running.renewal import Renewed
from wsssbench.running.screen.progress import Progress


def run_jobs(
    cells: Sequence[Cell], settings: Settings, plugins: Plugins, hardware: Hardware, progress: Progress,
    switches: Switches, *, detach: bool = False,
) -> int:  # fmt: skip
    """Run the cells that are not done in processes or jobs; the number of trials that did not end well.

    With `detach` nothing is waited for.
    """
    jobs = jobs_of(cells, settings, plugins)
    if not jobs:
        progress.say("nothing to run; --rerun all runs what is done again")
        return 0
    notes = (
        (settings.runs / FOLDER).absolute() / f"renewed-{uuid.uuid4().hex[:8]}" if settings.rerun else None
    )
    slurm, failed, write = settings.executor == "slurm", 0, partial(_write, switches, notes)
    if slurm:
        ends = _slurm(jobs, settings, progress, write, Renewed(notes), detach)
    else:
        for job in jobs:
            write(job)
        ends = _local(jobs, settings.jobs, hardware.device, progress, Renewed(notes))
    with closing(ends):
        for job, ended in ends:
            for text in _cell_lines(job) if slurm else ():
                progress.say(text)
            if not ended.well:
                failed += 1
                loud = Progress(progress.stream) if progress.quiet else progress
                loud.say(end_text(job.title, ended))
    if notes is not None and not slurm:
        shutil.rmtree(notes, ignore_errors=True)
    return failed


def _write(switches: Switches, notes: Path | None, job: Job) -> None:
    """Write what the job's worker is asked for."""
    keys, words = tuple(cell.key for cell in job.cells), tuple(sys.argv[1:])
    write_request(job.folder, Request(job.settings, keys, Path.cwd(), words, switches, notes))


def _local(
    jobs: Sequence[Job], at_a_time: int, device: str, progress: Progress, renewed: Renewed
) -> Generator[tuple[Job, Ended]]:
    from wsssbench.running.executors.local import Pool

    gpus = 0
    if device == "cuda":
        import torch

        gpus = torch.cuda.device_count()
    places = seats(at_a_time, device, usable_cores(), gpus)
    if at_a_time > 1:
        progress.say(seats_text(places))
    with closing(Pool(jobs, places, progress, renewed).run()) as ends:
        yield from ends


def _slurm(
    jobs: Sequence[Job],
    settings: Settings,
    progress: Progress,
    write: Callable[[Job], None],
    renewed: Renewed,
    detach: bool,
) -> Generator[tuple[Job, Ended]]:
    from wsssbench.running.executors.slurm import Cluster

    config = slurm_config(settings.executor_options.get("slurm", {}))
    cluster, before = Cluster(config, progress), owners(jobs, renewed)
    loud = Progress(progress.stream) if progress.quiet else progress
    try:
        for job in jobs:
            cluster.take(job, write, before[job.title])
        if detach:
            loud.say(cluster.commands())
            return
        yield from cluster.ends()
    except (KeyboardInterrupt, WsssError):
        if cluster.open:
            loud.say(cluster.commands())
        raise


def _cell_lines(job: Job) -> Iterator[str]:
    """What was found of each cell that was to be run, as far as it was."""
    for cell in job.pending:
        state = state_of(cell)
        record = None if state == "missing" else read_record(cell.folder)
        if record is not None and record.reason:
            yield f"FAILED [{job.title}] {cell.stage.name} on {cell.split}: {record.reason}"
        elif record is not None and state == "done":
            miou = record.scores["iou"]["miou"]
            shown = "undefined" if miou is None else f"{miou:.1f}"
            yield f"[{job.title}] {cell.stage.name} on {cell.split}: mIoU {shown}"
