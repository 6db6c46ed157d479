"""Made-up finished cells with masks, counts, logs and optional scores, for the tests of the HTML page."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np

from wsssbench.identity import Record, plain
from wsssbench.masks import write_labels
from wsssbench.metrics import Iou, confusion_counts
from wsssbench.records.store import StoredRecord, cell_folder, write_record
from wsssbench.reporting.figures.drawn import step_folders
from wsssbench.scores.counts_table import COUNTS, CountsTable
from wsssbench.scores.ladder import KINDS
from wsssbench.types import DatasetCard, StepCard

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
fake_record, fake_terms = FAKE["fake_record"], FAKE["fake_terms"]

EVIL = "<img src=x onerror=alert(1)>"
CLASSES = ("ring", "</script><b>stripe</b>")
METHODS = {"cam": 0.3, EVIL: 0.15, "rrm": 0.05}  # name: share of wrong pixels


class Pictures:
    """A data set in memory: `n` images with one rectangle each."""

    def __init__(self, n: int = 12, shape: tuple[int, int] = (30, 40)) -> None:
        self.ids, self.shape = [f"val{i:04d}" for i in range(n)], shape

    def image(self, id: str) -> np.ndarray:
        return np.random.default_rng(int(id[3:])).integers(0, 256, (*self.shape, 3), np.uint8)

    def mask(self, id: str) -> np.ndarray:
        mask = np.zeros(self.shape, np.uint8)
        mask[5:20, 5 : 15 + int(id[3:]) % 9] = 1 + int(id[3:]) % 2
        mask[0] = 255
        return mask

    def guess(self, id: str, wrong: float, seed: int) -> np.ndarray:
        """The truth with a share of other labels."""
        rng = np.random.default_rng([int(id[3:]), seed])
        return np.where(rng.random(self.shape) < wrong, rng.integers(0, 3, self.shape), self.mask(id)).astype(
            np.uint8
        )


def optional_scores() -> dict[str, Any]:
    """What optional metrics would have said."""
    grid = [i / 100 for i in range(100)]
    bins = {"accuracy": [50.0, None, 90.0], "confidence": [40.0, None, 80.0], "share": [60.0, 0.0, 40.0]}
    alone = {kind: 1.0 + n for n, kind in enumerate(KINDS)}
    return {
        "confusion_pairs": {"pairs": [[0, 1, 12.5], [1, 0, 8.0]]},
        "threshold_curve": {
            "best_miou": 60.0,
            "curve": [60 - 50 * abs(t - 0.3) for t in grid],
            "thresholds": grid,
        },
        "error_ladder": {
            "miou": 50.0,
            "alone": alone,
            "ladder": [[k, 50.0 + n] for n, k in enumerate(KINDS)],
        },
        "calibration": {"ece": 3.0, **bins, **{f"{name}_foreground": v for name, v in bins.items()}},
    }


def write_cell(runs: Path, data: Pictures, method: str, wrong: float, seed: int, terms: Any) -> None:
    """A finished cell with masks, counts, record, and the log of its training."""
    record = fake_record(method, seed, terms=terms)
    folder = cell_folder(runs, terms.dataset, method, seed, terms.stage, terms.split, record.key)
    counts = []
    for id in data.ids:
        labels = data.guess(id, wrong, seed)
        write_labels(folder / "masks" / f"{id}.png", labels)
        counts.append(confusion_counts(data.mask(id), labels, len(CLASSES)))
    table = CountsTable.of(data.ids, counts)
    table.save(folder / COUNTS)
    iou = {**Iou().score(table.total(), len(CLASSES)), "n_images": len(data.ids)}
    timing = {"train_images_per_s": 9.0, "fit_phases": {method: {"network": 3.0, "mining": 1.0}}}
    step = StepCard(method, "1", "localizer", ("tags",), ("maps",), pretraining="imagenet")
    data_card = DatasetCard(
        terms.dataset, "1", CLASSES, ("train", "val"), "train", "train", "val", "generated", "", "", 96
    )
    seen = {"cards": {method: plain(step)}, "dataset": plain(data_card), "finished": "2026-01-01T00:00:00"}
    whole = Record(**{**vars(record), "scores": {"iou": iou, **optional_scores()}, "timing": timing,
                      "provenance": {**record.provenance, **seen}})  # fmt: skip
    ((_, steps),) = step_folders(StoredRecord(whole, write_record(folder, whole)))
    steps.mkdir(parents=True)
    lines = [{"done": n + 1, "total": 900, "losses": {"cls": 1.0, "total": 1 / (n + 1)}} for n in range(900)]
    (steps / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"done": 90')
    (steps.parent / "shared-12345678").mkdir(exist_ok=True)
    (steps.parent / "shared-12345678" / "log.jsonl").write_text(json.dumps(lines[0]))


def write_runs(runs: Path) -> Pictures:
    """Three methods of two seeds, and a failed cell."""
    data, terms = Pictures(), fake_terms(classes=CLASSES)
    for seed in (0, 1):
        for method, wrong in METHODS.items():
            write_cell(runs, data, method, wrong, seed, terms)
    failed = fake_record("broken", 0, terms=terms, reason="<script>boom</script>")
    write_record(runs / "shapes" / "broken" / "seed0" / "cell", failed)
    return data
