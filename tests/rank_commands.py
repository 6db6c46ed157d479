"""`wsssbench run` by forked processes, as torchrun would start them: material of test_distributed.py.

python tests/rank_commands.py FOLDER      leaves FOLDER/<case>/ with runs, what was printed, and codes.json;
                                          and what rank_trials.py makes, in FOLDER/trials
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

import wsssbench.commands.run  # noqa: F401
import wsssbench_datasets.shapes.dataset  # noqa: F401  (imported once, before the forks)
from wsssbench.cli.main import main

HERE = Path(__file__).resolve().parent
RANKS = runpy.run_path(str(HERE / "rank_trials.py"))
DATA = ["--dataset", "shapes", "-o", "shapes.preset=tiny", "-o", "shapes.train=12", "-o", "shapes.val=2"]
WORDS = ["run", "--plugin", str(HERE / "rank_plugin.py"), *DATA, "--stages", "seg", "--device", "cpu"]


def run(folder: Path, ranks: int, *words: str, name: str = "", waited: bool = True) -> Any:
    """Exit codes of so many processes, or their ids; they print to `folder`/<name>."""
    asked, said = [*WORDS, *words, "--runs", str(folder / "runs")], folder / (name or str(ranks))
    return RANKS["in_ranks"](ranks, said, lambda: told(asked, said), waited)


def told(asked: list[str], folder: Path) -> None:
    """The command, and what it has imported for several processes."""
    try:
        main(asked)
    finally:
        rooms = sorted(name for name in sys.modules if name.startswith("wsssbench.distributed."))
        (folder / f"rooms{os.environ.get('RANK', 0)}").write_text("\n".join(rooms))


def stopped(folder: Path, victim: int, *words: str) -> list[int]:
    """Exit codes of two processes of which one gets SIGTERM after the second step."""
    pids = run(folder, 2, *words, name="stopped", waited=False)
    end = time.monotonic() + 120
    while time.monotonic() < end and not any(folder.glob("runs/*/steps/pair-*/log.jsonl")):
        time.sleep(0.02)
    os.kill(pids[victim], signal.SIGTERM)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def every_command(root: Path) -> dict[str, list[int]]:
    pair, slow = ["--method", "pair"], ["-o", "pair.pause=0.15"]
    codes = {"alone": run(root / "alone", 1, *pair), "two": run(root / "two", 2, *pair)}
    codes["failing"] = run(root / "failing", 2, "--method", "flaky", *pair)
    for victim in (0, 1):
        codes[f"stopped {victim}"] = stopped(root / f"stopped{victim}", victim, *pair, *slow)
        codes[f"resumed {victim}"] = run(root / f"stopped{victim}", 3 - victim, *pair)
    codes["small batch"] = run(root / "small", 2, *pair, "-o", "pair.batch=1")
    codes["jobs"] = run(root / "jobs", 2, *pair, "--jobs", "2")
    codes["isolate"] = run(root / "isolate", 2, *pair, "--isolate")
    codes["unknown"] = run(root / "unknown", 2, "--method", "nothing")
    codes["dry"] = run(root / "dry", 2, *pair, "--dry-run")
    return codes


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    RANKS["every_size"](folder / "trials")
    (folder / "codes.json").write_text(json.dumps(every_command(folder)))
