"""One method measured from beginning to end: its trainings, its predictions, and the record of both."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from wsssbench.errors import WsssError
from wsssbench.identity import plain
from wsssbench.machine.env import provenance
from wsssbench.machine.hardware import Hardware
from wsssbench.machine.interrupts import Interrupts
from wsssbench.planning.cells import Trial
from wsssbench.planning.made_by import trial_code
from wsssbench.throughput.clock import Clock
from wsssbench.throughput.device import Instruments, instruments_of, machine_of
from wsssbench.throughput.fitting import Fitter
from wsssbench.throughput.inference import Inference, questions_of
from wsssbench.throughput.record import BenchLine, BenchProtocol, BenchRecord


def bench_trial(
    trial: Trial,
    hardware: Hardware,
    protocol: BenchProtocol,
    say: Callable[[str], None],
    tools: Instruments | None = None,
) -> BenchRecord:
    """Measure the steps of `trial`; `say` hears what goes on. `tools` are the device's unless given.

    WsssError (and whatever a step raises) where it cannot be measured; nothing is left on disk in any case.
    """
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    with Interrupts(), tempfile.TemporaryDirectory(prefix="wsssbench-bench-") as name:
        tools, folder = tools or instruments_of(hardware.device), Path(name)
        lines = bench_lines(trial, hardware, protocol, folder, say, tools)
    card = trial.dataset.card
    seen, cuda = provenance(hardware.device), {"cuda": torch.version.cuda} if torch.version.cuda else {}
    return BenchRecord(
        method=trial.method,
        dataset=card.name,
        dataset_version=card.version,
        dataset_options=plain(card.options),
        seed=trial.seed,
        steps=tuple(planned.identity for planned in trial.steps),
        precision=hardware.precision,
        filter_backend=hardware.filter_backend,
        machine=machine_of(hardware.device),
        protocol=protocol,
        versions={**seen["versions"], **cuda},
        lines=lines,
        provenance={
            "commit": seen["commit"],
            "command": seen["command"],
            "code": trial_code(trial),
            "load_average": load,  # of the minute before: others who work on this machine slow it
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


def bench_lines(
    trial: Trial,
    hardware: Hardware,
    protocol: BenchProtocol,
    folder: Path,
    say: Callable[[str], None],
    tools: Instruments,
) -> tuple[BenchLine, ...]:
    """The lines of one trial, fitted below `folder`."""
    gc.collect()  # the networks of the trial before are not part of this one's memory
    clock = Clock(protocol, tools)
    fitter = Fitter(trial, hardware, clock, folder, say)
    try:
        fitter.fit_all()
    except torch.cuda.OutOfMemoryError as error:
        hint = "choose a smaller batch or crop (-o); that is another method, and its row says so"
        what = "the GPU has too little memory to fit this method"
        raise WsssError(what, where=trial.method, hint=hint) from error
    lines = _training_lines(trial, clock, say)
    inference = Inference(trial, fitter.predictors, clock, hardware.device)
    for question in questions_of(trial, say):
        say(f"{trial.method}: predicts {question.where}")
        lines += inference.lines(question)
    if not lines:
        hint = "no training is longer than its warm-up (--warmup), and no step says anything of its own"
        raise WsssError("there is nothing to measure", where=trial.method, hint=hint)
    return tuple(lines)


def _training_lines(trial: Trial, clock: Clock, say: Callable[[str], None]) -> list[BenchLine]:
    """A line for each training that has steps after its warm-up."""
    lines = []
    for training in clock.trainings:
        line = clock.line(training)
        if line is not None:
            lines.append(line)
        elif training.laps:
            count, warmup = len(training.laps), clock.protocol.warmup
            told = f"has {count} step{'s' * (count != 1)}, and {warmup} are warm-up: not measured"
            say(f"{trial.method}: {training.step}: {training.what} {told}; see --warmup")
    return lines
