"""Which figures records and the logs of their trainings allow, and the title and caption of each kind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from wsssbench.errors import BadData
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.figures.bars import class_figure, ladder_figure
from wsssbench.reporting.figures.curves import (
    Log,
    coverage_figure,
    reliability_figure,
    threshold_figure,
    training_figure,
)
from wsssbench.reporting.figures.style import MOST_LINES
from wsssbench.reporting.sections import Section
from wsssbench.verifying.recorded import recorded_steps

LOG, STEPS = "log.jsonl", "steps"
OF_A_TABLE = {
    "classes": class_figure,
    "thresholds": threshold_figure,
    "coverage": coverage_figure,
    "ladder": ladder_figure,
    "reliability": reliability_figure,
}
TITLES = {
    "classes": "IoU per class",
    "thresholds": "mIoU by threshold",
    "coverage": "Precision and coverage",
    "ladder": "Error ladder",
    "reliability": "Calibration",
    "training": "Training",
}
CAPTIONS = {
    "miou": (
        "mIoU of each method, a panel for each table of equal terms. Stroke: mean over seeds; bar: "
        "interval of 95 % for the mean (Student's); grey dots: seeds. A diamond marks a row that is not "
        "ranked, as it learned from masks."
    ),
    "classes": (
        "IoU of each class, mean over seeds, with the interval of 95 % for it (Student's), for the first "
        "eight methods of the table."
    ),
    "thresholds": (
        "mIoU of the maps at each background threshold: the mean over seeds (bold) and each seed (thin). "
        "The ring is the threshold that the row was judged with. The top of a curve needs the judged "
        "masks to be found, so it is not a fair result."
    ),
    "coverage": (
        "Precision against coverage of labels that may abstain, means over seeds. Lines join rows that "
        "differ in one option alone; its values stand at the marks."
    ),
    "ladder": (
        "From mIoU (grey) to 100 %: what is gained where one kind of error after the other is repaired, "
        "mean over seeds. The steps depend on the order, which is that of the legend."
    ),
    "reliability": (
        "Accuracy against confidence in 15 bins, means over seeds; on the dashed line a method is as sure "
        "as it is right. Below: the share of pixels in each bin."
    ),
    "training": (
        "Losses against training steps, running means over a twentieth of the training: the median "
        "over seeds (bold) and, of up to three methods, each seed (thin), for the first eight methods. The "
        "heights of the first steps are cut off."
    ),
}


def table_figures(section: Section) -> Iterator[tuple[str, Figure]]:
    """Kind and figure of everything that the records of one table hold lists for."""
    for kind, draw in OF_A_TABLE.items():
        figure = draw(section)
        if figure is not None:
            yield kind, figure


def training_figures(
    stored: Sequence[StoredRecord], sections: Sequence[Section]
) -> Iterator[tuple[str, str, Figure]]:
    """(data set, step, figure) for each step that left a log beside the records of `sections`.

    `stored` holds all records that are known: logs of those that stand in no section are passed over.
    """
    ranks = list(dict.fromkeys(line.row.method for section in sections for line in section.lines))
    for (dataset, step), logs in _logs(stored, sections).items():
        ordered = sorted(logs, key=lambda name: ranks.index(name) if name in ranks else -1)[:MOST_LINES]
        figure = training_figure({name: [read_log(path) for path in logs[name]] for name in ordered})
        if figure is not None:
            yield dataset, step, figure


def _logs(
    stored: Sequence[StoredRecord], sections: Sequence[Section]
) -> dict[tuple[str, str], dict[str, list[Path]]]:
    """The logs by data set and step, then by the method that they are of, or by the step where none is."""
    cells = [cell for section in sections for line in section.lines for cell in line.cells]
    homes = {above / STEPS for cell in cells for above in cell.path.resolve().parents[3:4]}
    paths = [path for home in sorted(homes) for path in sorted(home.glob(f"*/{LOG}"))]
    found: dict[tuple[str, str], dict[str, list[Path]]] = {}
    if not paths:
        return found
    known, labels = _labels(stored), _labels(cells)
    for path in paths:
        folder = path.parent
        if folder in labels or folder not in known:  # else of a method that was left out
            step = folder.name.rpartition("-")[0]
            logs = found.setdefault((folder.parents[1].name, step), {})
            logs.setdefault(labels.get(folder, step), []).append(path)
    return found


def _labels(stored: Iterable[StoredRecord]) -> dict[Path, str]:
    """Folder of each recipe's step -> the shortest name of a method that it is a step of."""
    methods: dict[Path, set[str]] = {}
    for cell in stored:
        for _, folder in step_folders(cell):
            methods.setdefault(folder.resolve(), set()).add(cell.record.method)
    return {folder: min(names, key=lambda name: (len(name), name)) for folder, names in methods.items()}


def step_folders(cell: StoredRecord) -> list[tuple[str, Path]]:
    """Name and folder of each step of the cell's recipe; whether the folder is there is not asked."""
    try:
        return [(step.name, step.folder) for step in recorded_steps(cell)]
    except BadData:  # labels that came as files, or a record that has kept less
        return []


def read_log(path: Path) -> Log:
    """Losses by name, (step, value) each; lines that a killed run left unfinished are passed over.

    Of steps that an interrupted run wrote twice the last ones count.
    """
    log: dict[str, dict[int, float]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            values = [(n, int(entry["done"]), float(v)) for n, v in (entry.get("losses") or {}).items()]
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        for name, step, value in values:
            log.setdefault(name, {})[step] = value
    return {name: list(losses.items()) for name, losses in log.items()}
