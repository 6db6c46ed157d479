"""The controls side by side: scores of each method, and the paired differences that matter.

python reports/controls.py RUNS...     a folder or archive of runs per variant of the data set; stage `seg`
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from wsssbench.commands.compare import compare_rows
from wsssbench.records.finding import find_records
from wsssbench.records.store import StoredRecord

PAIRS = (
    ("rrm", "cam"), ("rrm", "cam+crf"), ("rrm", "cam-2step"), ("rrm", "rrm-no-energy"),
    ("rrm", "rrm-no-agreement"), ("rrm", "rrm-fraction-2"), ("rrm", "rrm-fraction-6"),
    ("rrm", "rrm-fraction-8"), ("rrm-2step", "rrm"), ("rrm-2step", "cam-2step"), ("full", "rrm-2step"),
)  # fmt: skip
STAGE = "seg"
SCORES = ("miou", "precision", "recall")

Found = dict[str, dict[int, dict[str, float]]]  # method -> seed -> scores


def cells_of(runs: Path) -> list[StoredRecord]:
    """The finished cells of the stage below `runs`, one configuration of each method."""
    cells = [c for c in find_records(runs) if c.record.status == "ok"]
    return [
        c for c in cells if (c.record.identity.terms.stage, c.record.identity.terms.limit) == (STAGE, None)
    ]


def scores(cells: list[StoredRecord]) -> Found:
    """The scores of each method by seed."""
    found: Found = {}
    for cell in cells:
        mine = found.setdefault(cell.record.method, {})
        mine[cell.record.identity.seed] = {name: cell.record.scores["iou"][name] for name in SCORES}
    return found


def method_table(found: Found) -> str:
    """Mean ± sample deviation over seeds, best first."""
    lines = []
    for method, seeds in found.items():
        values = np.array([[each[name] for name in SCORES] for each in seeds.values()])
        lines.append([method, *(spread(column) for column in values.T), len(seeds)])
    lines.sort(key=lambda line: -float(line[1].split()[0]))
    return tabulate(
        lines, ["method", "mIoU", "precision", "recall", "seeds"], "github", disable_numparse=True
    )


def spread(values: np.ndarray) -> str:
    """Mean ± sample deviation."""
    return f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")


def pair_table(variants: dict[str, list[StoredRecord]]) -> str:
    """Differences of mIoU, paired by seed, with their intervals of 95 % and the number of seeds."""
    lines = []
    for one, other in PAIRS:
        line = [f"{one} - {other}"]
        for cells in variants.values():
            methods = {cell.record.method for cell in cells}
            if {one, other} <= methods:
                rows = {name: [c for c in cells if c.record.method == name] for name in (one, other)}
                (found,) = compare_rows(rows, resamples=10_000)
                d = found.miou
                line.append(f"{d.difference:+.1f} [{d.low:+.1f}, {d.high:+.1f}] ({len(found.seeds)})")
            else:
                line.append("-")
        lines.append(line)
    return tabulate(lines, ["mIoU in `seg`", *variants], "github", disable_numparse=True)


def text_of(runs: Sequence[Path]) -> str:
    """All tables of this report; each of `runs` is called by its name."""
    variants = {place.stem: cells_of(place) for place in runs}
    parts = ["Paired differences with intervals of 95 % (seeds).", pair_table(variants)]
    parts += [f"### {name}\n\n{method_table(scores(cells))}" for name, cells in variants.items()]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    print(text_of(parser.parse_args().runs))


if __name__ == "__main__":
    main()
