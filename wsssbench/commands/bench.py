"""`wsssbench bench`: plan like `run`, measure each method on each data set, print tables."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from wsssbench.distributed.launch import find_launch
from wsssbench.errors import WsssError
from wsssbench.machine.hardware import resolve_hardware
from wsssbench.machine.process import use_machine
from wsssbench.planning.cells import Trial
from wsssbench.planning.plan import make_plan
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins
from wsssbench.reporting.tables import render
from wsssbench.reporting.throughput import throughput_tables
from wsssbench.running.opening import open_flags
from wsssbench.running.screen.progress import Progress
from wsssbench.throughput.measure import bench_trial
from wsssbench.throughput.record import BenchProtocol, BenchRecord, write_bench


def bench_command(flags: Mapping[str, Any]) -> int:
    """Measure what the flags ask for; the exit code: 0, or 1 where a method could not be measured."""
    if find_launch() is not None:
        hint = "start wsssbench bench without torchrun"
        raise WsssError("bench measures one process", where="torchrun", hint=hint)
    seeds = None if flags["seed"] is None else (flags["seed"],)
    settings, plugins = open_flags({**flags, "seeds": seeds})
    use_machine()
    protocol = BenchProtocol(warmup=flags["warmup"], repeats=flags["repeats"])
    trials, progress = bench_trials(settings, plugins), Progress(quiet=flags["quiet"])
    records = measured(trials, settings, protocol, progress, _complain)
    click.echo(render((), "json" if flags["as_json"] else "md", throughput_tables(records)), nl=False)
    return 1 if len(records) < len(trials) else 0


def measured(
    trials: Sequence[Trial],
    settings: Settings,
    protocol: BenchProtocol,
    progress: Progress,
    failed: Callable[[str, BaseException], None],
) -> list[BenchRecord]:
    """The records of the trials, written to the folder of runs; `failed` hears of those that have none."""
    _check_runs(settings)
    hardware, records = resolve_hardware(settings), list[BenchRecord]()
    for trial in trials:  # without a live area, which would be drawn while laps are timed
        title = f"{trial.method} on {trial.dataset.card.name}"
        try:
            record = bench_trial(trial, hardware, protocol, progress.say)
        except (Exception, SystemExit) as error:  # a plugin's failure: the other methods go on
            failed(title, error)
            continue
        path = write_bench(settings.runs, record)
        progress.say(f"{trial.method} on {record.dataset}: {path}")
        records.append(record)
    return records


def bench_trials(settings: Settings, plugins: Plugins) -> list[Trial]:
    """The methods on the data sets, with one seed and all images; each has a data set of its own.

    What one method has read or drawn of its data set is then not at hand for the next. Raises as
    `make_plan` does, before anything is fitted.
    """
    whole = dataclasses.replace(settings, stages=("seg",), seeds=settings.seeds[:1], limit=None, rerun="all")
    alone = [dataclasses.replace(whole, methods=(name,)) for name in dict.fromkeys(settings.methods)]
    return [cell.trial for each in alone or [whole] for cell in make_plan(each, plugins)]


def _check_runs(settings: Settings) -> None:
    """WsssError where the folder of runs cannot be made: now, and not after minutes of measuring."""
    try:
        settings.runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "give another one with --runs"
        raise WsssError(
            f"cannot write to this folder ({error.strerror or error})", where=settings.runs, hint=hint
        ) from error


def _complain(title: str, error: BaseException) -> None:
    """Say why a method could not be measured; with -v, the traceback too."""
    if click.get_current_context().find_root().params.get("verbose"):
        traceback.print_exception(error)
    kind = "" if isinstance(error, WsssError) else f"{type(error).__name__}: "
    click.echo(f"FAILED {title}: {kind}{error}", err=True)
