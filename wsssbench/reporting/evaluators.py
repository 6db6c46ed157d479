"""The mIoU that the field's other evaluators would print, as a table beside ours.

Of rows whose records hold the metric `compatible`, and of counts (`wsssbench report --compatible`). How each
counts is `wsssbench.scores.compatible`; nothing is ranked by these numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from wsssbench.reporting.rows import Row
from wsssbench.reporting.table_parts import grid
from wsssbench.scores.compatible import EVALUATORS

METRIC = "compatible"
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
    "points; a dash where the script stops with an error or prints NaN, as noted. These numbers are for "
    "comparison with older tables; ranks and differences use only ours. Means over seeds. "
    f"{'; '.join(f'{name}: {users}' for name, users in USERS.items())}."
)


def as_markdown(rows: Sequence[Row]) -> str:
    """The table of rows whose records hold the metric, and what each evaluator did that ours does not.

    READING says how it is to be read.
    """
    return "\n\n".join([grid([_line(row) for row in rows]), *_notes(rows)])


def _line(row: Row) -> dict[str, str]:
    line = {"method": row.title, "ours": _shown(row, "ours", ".2f")}
    for name in EVALUATORS:
        theirs, less = _shown(row, f"{name}_miou", ".2f"), _shown(row, f"{name}_difference", "+.2f")
        line[name] = f"{theirs} ({less})" if theirs else "-" if _notes_of(row, name) else ""
    return line


def _shown(row: Row, name: str, form: str) -> str:
    """The mean over seeds; empty where one seed has none."""
    number = row.numbers.get(f"{METRIC}.{name}")
    if number is None or number.n != len(row.seeds):
        return ""
    return format(round(number.mean, 2) + 0.0, form)  # no -0.00


def _notes_of(row: Row, evaluator: str) -> Sequence[str]:
    return row.notes.get(f"{METRIC}.{evaluator}_note", ())


def _notes(rows: Sequence[Row]) -> list[str]:
    """What each evaluator did that ours does not, with the rows it did it to."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for said in ((name, note) for name in EVALUATORS for note in _notes_of(row, name)):
            found.setdefault(said, []).append(row.title)
    lines = [f"- {name}: {note} ({', '.join(titles)})" for (name, note), titles in found.items()]
    return ["\n".join(lines)] if lines else []
