"""`wsssbench report --compatible`: the mIoU that the field's evaluators would print for the rows of finished
cells, from their counts alone, and how far each is from ours. Nothing is ranked here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import click

from wsssbench.errors import BadData
from wsssbench.judging.judge import COUNTS, CountsTable
from wsssbench.report.rows import Row, rows_of
from wsssbench.report.tables import grid
from wsssbench.scores.compatible import EVALUATORS, Compatible
from wsssbench.store import StoredRecord, find_records

USERS = {
    "chainercv": "IRN's and ReCAM's CAM evaluation",
    "irn": "IRN's eval_sem_seg",
    "seam_counters": "SEAM, MCTformer, PuzzleCAM, PNOC",
    "fast_hist": "deeplab-pytorch, CLIP-ES, AFA, ToCo, WeCLIP",
    "pseudo_scores": "AFA, ToCo, WeCLIP, for pseudo labels",
}
READING = (
    "mIoU (%) as those scripts would print it for the same labels, in brackets its distance from ours in "
    "points; empty where the script would crash. For reading beside old tables: ranks and differences are "
    "ours alone. Means over seeds."
)


def compatible_command(runs: Sequence[Path], limited: bool) -> None:
    """Print a table for each data set and stage of the records below `runs`, with what the scripts do."""
    cells = [cell for root in runs for cell in find_records(root) if cell.record.status == "ok"]
    click.echo(as_text(cells, limited))


def as_text(cells: Sequence[StoredRecord], limited: bool) -> str:
    """Markdown; BadData where there is no finished cell, or one has no counts."""
    rows = rows_of([cell.record for cell in cells], limited=limited)
    if not rows:
        raise BadData("no finished cells", where="report", hint="rows of --limit need --limited")
    by_key = {cell.record.key: cell for cell in cells}
    scores = {row.keys: [_scores(by_key[key]) for key in row.keys] for row in rows}
    parts = []
    for hash in dict.fromkeys(row.terms_hash for row in rows):
        here = [row for row in rows if row.terms_hash == hash]
        terms = here[0].terms
        parts += [f"## {terms.dataset}: {terms.stage} on {terms.split}, as others count"]
        parts += [grid([_line(row, scores[row.keys]) for row in here])]
        parts += _notes(here, scores)
    who = "; ".join(f"{name}: {users}" for name, users in USERS.items())
    return "\n\n".join([*parts, f"{READING} {who}."])


def _scores(cell: StoredRecord) -> Mapping[str, Any]:
    table = CountsTable.load(cell.path.parent / COUNTS)
    return Compatible().score(table.total(), len(cell.record.identity.terms.classes))


def _line(row: Row, scores: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    line = {"method": row.title, "ours": _mean(scores, "ours", ".2f")}
    for name in EVALUATORS:
        theirs, less = _mean(scores, f"{name}_miou", ".2f"), _mean(scores, f"{name}_difference", "+.2f")
        line[name] = f"{theirs} ({less})" if theirs else ""
    return line


def _mean(scores: Sequence[Mapping[str, Any]], name: str, form: str) -> str:
    """Over the seeds; empty where one of them has none."""
    values = [score[name] for score in scores]
    return "" if not values or None in values else format(round(fmean(values), 2) + 0.0, form)  # no -0.00


def _notes(rows: Sequence[Row], scores: Mapping[tuple[str, ...], Sequence[Mapping[str, Any]]]) -> list[str]:
    """What each evaluator did that ours does not, with the rows it did it to."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name in EVALUATORS:
            for note in dict.fromkeys(score[f"{name}_note"] for score in scores[row.keys]):
                if note:
                    found.setdefault((name, note), []).append(row.title)
    lines = [f"- {name}: {note} ({', '.join(titles)})" for (name, note), titles in found.items()]
    return ["\n".join(lines)] if lines else []
