"""Planning of thousands of cells and reports over thousands of records: CPU seconds of the whole command.

    python tests/scale_cells.py 500 1000 2000

The records are those of the committed archives under other names, so that their size is that of real ones.
"""

from __future__ import annotations

import copy
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from wsssbench.records.finding import find_records
from wsssbench.records.store import RECORD

ARCHIVE = Path(__file__).resolve().parents[1] / "reports" / "records" / "default.zip"
METHODS = ("constant", "cam", "cam+crf", "cam-2step", "gradcam", "layercam", "rrm", "full")
STAGES = "seed,pseudo,seg,seg+crf"
HEAD = "| cells | plan, CPU s | report, CPU s | report --html, CPU s |\n|---|---|---|---|"


def cpu_seconds(arguments: Sequence[str | Path], cwd: Path) -> tuple[float, str]:
    """User and system time of `wsssbench` with these arguments, importing included, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "wsssbench", *arguments]
    done = subprocess.run(
        command,
        cwd=cwd,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def plan(cells: int, cwd: Path) -> tuple[float, int]:
    """CPU seconds of planning `cells` cells, and how many lines the plan has."""
    seeds = -(-cells // (len(METHODS) * len(STAGES.split(","))))
    named = [word for method in METHODS for word in ("--method", method)]
    drawn = ",".join(map(str, range(seeds)))
    run = ["run", "--dataset", "shapes", "--dry-run", "--stages", STAGES, "--seeds", drawn]
    seconds, text = cpu_seconds([*run, *named], cwd)
    return seconds, text.count("\n| shapes ")


def write_records(cells: int, root: Path) -> None:
    """`cells` records below `root`: those of an archive, again and again, each time as other methods."""
    files = [json.loads(stored.path.read_text(encoding="utf-8")) for stored in find_records(ARCHIVE)]
    for n in range(cells):
        again, which = divmod(n, len(files))
        record = copy.deepcopy(files[which])
        record["method"] += f"-{again}" if again else ""
        record["identity"]["recipe"][-1]["version"] = f"{again}"
        record["key"] = f"{n:064x}"
        folder = root / "shapes" / record["method"] / f"seed{record['identity']['seed']}" / f"cell-{n:08x}"
        folder.mkdir(parents=True)
        (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    print(HEAD)
    for cells in map(int, arguments or ["500", "1000", "2000"]):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_records(cells, folder / "runs")
            planning, _ = plan(cells, folder)
            table, _ = cpu_seconds(["report", "runs"], folder)
            page, _ = cpu_seconds(["report", "runs", "--html", "page.html"], folder)
        print(f"| {cells:,} | {planning:.1f} | {table:.1f} | {page:.1f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
