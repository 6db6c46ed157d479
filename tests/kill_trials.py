"""Kills a running benchmark at random moments, lets it go on, and compares with an undisturbed one.

python tests/kill_trials.py FOLDER TRIALS SEED     prints a JSON object: moments, phases, differences

The heavy imports happen once, in this process; each benchmark is a fork of it, killed with SIGKILL.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

COMMAND = (
    "run --method cam --method rrm --dataset shapes -o cam.preset=tiny -o rrm.preset=tiny -o cam.steps=20"
    " -o rrm.classifier_steps=20 -o rrm.steps=8 -o shapes.train=16 -o shapes.val=8 --quiet"
)  # fmt: skip
NOT_COMPARED = ("timing", "provenance")  # seconds, and where and when it ran


def start(runs: Path) -> int:
    """The process of a benchmark into `runs`, forked from this one."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    if hasattr(os, "sched_setaffinity"):  # one thread: waiting threads are slow on a busy machine
        os.sched_setaffinity(0, {draw_core()})
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        with (runs.parent / f"{runs.name}.log").open("a") as log:
            os.dup2(log.fileno(), 2)
            code = 1
            try:
                import wsssbench.train
                from wsssbench.cli.main import main

                wsssbench.train.CHECKPOINT_SECONDS = 0.05  # type: ignore[attr-defined]
                main([*COMMAND.split(), "--runs", str(runs)])
            except SystemExit as ended:
                code = int(ended.code or 0)
            except BaseException as error:
                log.write(f"{type(error).__name__}: {error}\n")
                log.flush()
            finally:
                os._exit(code)


def draw_core() -> int:
    return random.choice(sorted(os.sched_getaffinity(0)))


def finish(runs: Path) -> float:
    """Run to the end; its seconds. RuntimeError where it fails."""
    begun = time.perf_counter()
    _, status = os.waitpid(start(runs), 0)
    if status:
        raise RuntimeError(f"status {status}:\n{(runs.parent / f'{runs.name}.log').read_text()[-2000:]}")
    return time.perf_counter() - begun


def kill(runs: Path, after: float) -> bool:
    """Start, kill after that many seconds; whether it was still running."""
    pid = start(runs)
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def content(runs: Path) -> dict[str, Any]:
    """What a benchmark found: its records but for times and places, digests of counts and masks."""
    found: dict[str, Any] = {}
    for path in sorted(runs.rglob("*")):
        name = str(path.relative_to(runs))
        if path.name == "record.json":
            record = json.loads(path.read_text())
            found[name] = {k: v for k, v in record.items() if k not in NOT_COMPARED}
        elif "/masks/" in f"/{name}" and path.suffix == ".png":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "counts.npz":
            import numpy as np

            with np.load(path) as counts:
                found[name] = {k: counts[k].tolist() for k in counts.files}
        elif ".tmp" in path.name or path.suffix == ".tmp":
            found[name] = "left over"
    return found


def phase(runs: Path) -> str:
    """How far the killed benchmark had come, from what lies in its folder."""
    records = len(list(runs.rglob("record.json")))
    fitted = len(list(runs.rglob("fitted.json")))
    return f"{fitted} fitted, {records} records"


def trials(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """The result of `count` killings, spread at random over the length of a run."""
    draw = random.Random(seed)
    finish(folder / "warm")  # compiled code is cached
    seconds = finish(folder / "undisturbed")
    expected = content(folder / "undisturbed")
    moments, phases, differences = [], Counter[str](), []
    for trial in range(count):
        runs = folder / f"trial{trial}"
        after = draw.uniform(0.02, seconds)
        if not kill(runs, after):
            phases["over already"] += 1
        else:
            phases[phase(runs)] += 1
        finish(runs)
        got = content(runs)
        wrong = sorted(name for name in got.keys() | expected.keys() if got.get(name) != expected.get(name))
        moments.append(round(after, 3))
        if wrong:
            differences.append({"trial": trial, "after": after, "files": wrong[:5]})
    return {
        "seconds": seconds, "files": len(expected), "moments": moments, "phases": phases,
        "differences": differences,
    }  # fmt: skip


if __name__ == "__main__":
    import torch  # noqa: F401

    import wsssbench.cli.main  # noqa: F401
    import wsssbench_methods.localizer
    import wsssbench_methods.rrm.step  # noqa: F401

    print(json.dumps(trials(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
