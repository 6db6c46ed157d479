"""The mIoU that the field's other evaluators would print, as a table beside ours.

Of rows whose records hold the metric `compatible`, and of counts (`wsssbench report --compatible`). How each
counts is `wsssbench.scores.compatible`; nothing is ranked by these numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from wsssbench.reporting.rows import Row
from wsssbench.reporting.table_parts import grid
from wsssbench.scores.compatible import EVALUATORS

METRIC = "compatible"
NUMBERS = ("ours", *(f"{name}_{what}" for name in EVALUATORS for what in ("miou", "difference")))
USERS = {
    "chainercv": "IRN's and ReCAM's CAM evaluation",
    "irn": "IRN's eval_sem_seg",
    "seam_counters": "SEAM, MCTformer, PuzzleCAM, PNOC",
    "fast_hist": "deeplab-pytorch, CLIP-ES, AFA, ToCo, WeCLIP",
    "pseudo_scores": "AFA, ToCo, WeCLIP, for pseudo labels",
    "voc-devkit": "VOCevalseg of the VOC devkit",
    "mmseg": "IoUMetric of MMSegmentation",
}
READING = (
    "mIoU (%) as those scripts would print it for the same labels, in brackets its distance from ours in "
    "points; a dash where the script stops with an error or prints NaN, as noted. For reading beside old "
    "tables: ranks and differences are ours alone. Means over seeds. "
    f"{'; '.join(f'{name}: {users}' for name, users in USERS.items())}."
)


@dataclass(frozen=True)
class OthersCount:
    """What the evaluators print for one row: numbers by their names in the metric, and what they did."""

    title: str
    numbers: Mapping[str, float | None]  # means over seeds; None where one seed has none
    notes: Mapping[str, Sequence[str]]  # by evaluator

    @classmethod
    def of_scores(cls, title: str, scores: Sequence[Mapping[str, Any]]) -> OthersCount:
        """Of the metric's scores, seed by seed."""
        columns = {name: [score[name] for score in scores] for name in NUMBERS}
        means = {
            name: None if not values or None in values else fmean(values) for name, values in columns.items()
        }
        notes = {name: [score[f"{name}_note"] for score in scores] for name in EVALUATORS}
        return cls(title, means, {n: tuple(dict.fromkeys(filter(None, each))) for n, each in notes.items()})

    @classmethod
    def of_row(cls, row: Row) -> OthersCount:
        """Of a row whose records hold the metric."""
        found = {name: row.numbers.get(f"{METRIC}.{name}") for name in NUMBERS}
        means = {
            name: n.mean if n is not None and n.n == len(row.seeds) else None for name, n in found.items()
        }
        return cls(row.title, means, {n: row.notes.get(f"{METRIC}.{n}_note", ()) for n in EVALUATORS})


def as_markdown(rows: Sequence[OthersCount]) -> str:
    """The table, and what each evaluator did that ours does not; READING says how it is to be read."""
    return "\n\n".join([grid([_line(row) for row in rows]), *_notes(rows)])


def _line(row: OthersCount) -> dict[str, str]:
    line = {"method": row.title, "ours": _shown(row.numbers["ours"], ".2f")}
    for name in EVALUATORS:
        theirs = _shown(row.numbers[f"{name}_miou"], ".2f")
        less = _shown(row.numbers[f"{name}_difference"], "+.2f")
        line[name] = f"{theirs} ({less})" if theirs else "-" if row.notes[name] else ""
    return line


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(round(value, 2) + 0.0, form)  # no -0.00


def _notes(rows: Sequence[OthersCount]) -> list[str]:
    """What each evaluator did that ours does not, with the rows it did it to."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, notes in row.notes.items():
            for note in notes:
                found.setdefault((name, note), []).append(row.title)
    lines = [f"- {name}: {note} ({', '.join(titles)})" for (name, note), titles in found.items()]
    return ["\n".join(lines)] if lines else []
