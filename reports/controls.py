"""The controls side by side: scores of each method, and the paired differences that matter.

python reports/controls.py RUNS...     one folder of runs for each variant of the data set; stage `seg`
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tabulate import tabulate

from wsssbench.store import find_records

PAIRS = (
    ("rrm", "cam"), ("rrm", "cam+crf"), ("rrm", "cam-2step"), ("rrm", "rrm-no-energy"),
    ("rrm", "rrm-no-agreement"), ("rrm", "rrm-fraction-2"), ("rrm", "rrm-fraction-6"),
    ("rrm", "rrm-fraction-8"), ("rrm-2step", "rrm"), ("rrm-2step", "cam-2step"), ("full", "rrm-2step"),
)  # fmt: skip
SCORES = ("miou", "precision", "recall")

Found = dict[str, dict[int, dict[str, float]]]  # method -> seed -> scores


def scores(runs: Path) -> Found:
    """The finished cells of stage `seg` below `runs`."""
    found: Found = {}
    for stored in find_records(runs):
        record = stored.record
        if record.identity.terms.stage == "seg" and record.status == "ok":
            iou = record.scores["iou"]
            mine = found.setdefault(record.method, {})
            mine[record.identity.seed] = {name: iou[name] for name in SCORES}
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


def pair_table(variants: dict[str, Found]) -> str:
    """Differences of mIoU over the seeds that both methods have: mean, and the smallest to the largest."""
    lines = []
    for one, other in PAIRS:
        line = [f"{one} - {other}"]
        for found in variants.values():
            a, b = found.get(one, {}), found.get(other, {})
            d = np.array([a[seed]["miou"] - b[seed]["miou"] for seed in sorted(set(a) & set(b))])
            line.append(f"{d.mean():+.1f} ({d.min():+.1f} to {d.max():+.1f}; {len(d)})" if len(d) else "-")
        lines.append(line)
    return tabulate(lines, ["mIoU in `seg`", *variants], "github", disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    variants = {folder.name: scores(folder) for folder in parser.parse_args().runs}
    print("Paired differences: mean (smallest to largest; seeds).\n")
    print(pair_table(variants))
    for name, found in variants.items():
        print(f"\n### {name}\n\n{method_table(found)}")


if __name__ == "__main__":
    main()
