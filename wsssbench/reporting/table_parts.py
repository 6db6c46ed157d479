"""What every format shows of a table as text: columns, cells, heading, and the definition of its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsssbench.errors import printable
from wsssbench.identity import Terms
from wsssbench.reporting.conditions import (
    FACTS,
    crf_of_row,
    row_conditions,
    shared_conditions,
    threshold_words,
    unlike_terms,
)
from wsssbench.reporting.rows import Number, Row

NUMBER = re.compile(r"-?\d+(\.\d+)?")
DETAILS = ("compatible", "error_ladder")  # metrics that repeat the protocol's own number: in no column


def heading(terms: Terms, others: Iterable[Terms]) -> str:
    """Data set and stage, and what sets these terms apart from others of the same data set and stage."""
    same = [o for o in others if (o.dataset, o.stage) == (terms.dataset, terms.stage)]
    own = {name: pair[0] for other in same for name, pair in unlike_terms(terms, other).items()}
    custom = " (custom stage)" if terms.custom else ""
    apart = ", ".join(f"{name} {_short(value)}" for name, value in sorted(own.items()))
    return f"{terms.dataset}: {terms.stage}{custom} on {terms.split}" + (f"; {apart}" if apart else "")


def _short(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:  # a sha256
        return value[:8]
    text = ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class TextTable:
    """What every format shows of a table: lines, by the names of the columns, and the words around them."""

    title: str
    lines: Sequence[Mapping[str, str]]
    note: str = ""  # the sentences that define its numbers, or why there are none
    remarks: Sequence[str] = ()  # a list below it
    level: int = 2  # of its heading
    badges: Sequence[Sequence[str]] = ()  # of each line, where a page shows them apart from the text
    label: str = ""  # what distinguishes it from others of the same title

    def markdown(self) -> str:
        """Heading, table, note and list."""
        listed = "\n".join(f"- {remark}" for remark in self.remarks)
        parts = [
            f"{'#' * self.level} {self.title}",
            grid(self.lines) if self.lines else "",
            self.note,
            listed,
        ]
        return "\n\n".join(filter(None, parts)) + "\n"


def filled(lines: Sequence[Mapping[str, str]]) -> list[str]:
    """The columns that have any content, in their order."""
    return [name for name in lines[0] if any(line[name] for line in lines)] if lines else []


def number_in(text: str) -> float | None:
    """The number that a cell begins with."""
    found = NUMBER.match(text)
    return float(found[0]) if found else None


def grid(lines: Sequence[Mapping[str, str]]) -> str:
    """A markdown table; columns without any content are dropped."""
    from tabulate import tabulate  # late: not needed by csv, json and --help

    kept = filled(lines)
    body = [[_cell(line[name]) for name in kept] for line in lines]
    return str(tabulate(body, headers=list(map(_cell, kept)), tablefmt="github", disable_numparse=True))


def _cell(text: str) -> str:
    """`text` in one cell of a markdown table."""
    return printable(text.replace("|", "\\|").replace("\n", " "))


def row_cells(row: Row, table: Sequence[Row]) -> dict[str, str]:
    """One line of the main table."""
    numbers = row.numbers
    badges = "".join(f" [{badge}]" for badge in row.badges)
    rank = "failed" if row.failed else "ceiling" if row.rank is None else str(row.rank)
    cells = {"rank": rank, "method": row.title + badges, "mIoU": _spread(numbers.get("miou"))}
    cells["foreground mIoU"] = _plain_mean(numbers.get("miou_foreground"))
    for name in ("precision", "recall", "coverage"):
        cells[name] = _plain_mean(numbers.get(name))
    cells |= {
        "% of full": "" if row.of_full is None else f"{row.of_full:.1f}",
        "supervision": ", ".join(row.identity.supervision) or "none",
        "tags at evaluation": "yes" if row.terms.tags_at_evaluation else "no",
        "threshold": threshold_words(row),
        "CRF": crf_of_row(row),
        "backend": row.identity.filter_backend,
        "arithmetic": row.identity.precision if _mixed(table, "arithmetic") else "",
        "pretraining": FACTS["pretraining"](row),
        "image tags from": FACTS["image tags from"](row) if _mixed(table, "image tags from") else "",
        "scales of the steps": FACTS["scales of the steps"](row),
        **other_metrics(row, table),
        "train images/s": _plain_mean(numbers.get("train_images_per_s"), 1),
        "predict images/s": _plain_mean(numbers.get("predict_images_per_s"), 1),
    }
    return cells


def class_lines(table: Sequence[Row]) -> list[dict[str, str]]:
    """One line per class with truth pixels: IoU of each method, mean over seeds."""
    shown = [row for row in table if not row.failed]
    names = ("background", *table[0].terms.classes)
    lines = []
    for k, name in enumerate(names):
        values = [row.per_class[k] if k < len(row.per_class) else None for row in shown]
        if any(values):
            cells = zip(shown, values, strict=True)
            lines.append({"class": name, **{row.title: _plain_mean(value, 1) for row, value in cells}})
    return lines


def _spread(number: Number | None) -> str:
    """Mean, of several values their sd and interval, and n: "61.24 ± 0.80 [60.25, 62.23] (5)"."""
    if number is None:
        return ""
    if number.interval is None:
        return f"{number.mean:.2f} ({number.n})"
    low, high = number.interval
    return f"{number.mean:.2f} ± {number.sd:.2f} [{low:.2f}, {high:.2f}] ({number.n})"


def _plain_mean(number: Number | None, digits: int = 2) -> str:
    return "" if number is None else f"{number.mean:.{digits}f}"


def other_metrics(row: Row, table: Sequence[Row]) -> dict[str, str]:
    """One number of every metric beside IoU: the one called like the metric, else the first by name.

    csv and json have them all.
    """
    names = sorted({name for other in table for name in other.numbers if "." in name})
    chosen: dict[str, str] = {}
    for name in names:
        metric, _, number = name.partition(".")
        if metric not in DETAILS and (metric not in chosen or number == metric):
            chosen[metric] = name
    return {_title(metric, name): _plain_mean(row.numbers.get(name)) for metric, name in chosen.items()}


def _title(metric: str, name: str) -> str:
    number = name.partition(".")[2]
    return metric if number == metric else f"{metric}: {number}"


def _mixed(table: Sequence[Row], fact: str) -> bool:
    return len({FACTS[fact](row) for row in table}) > 1


def _range(numbers: Sequence[int]) -> str:
    """ "5", or "4 to 6" where seeds draw different data."""
    return " to ".join(str(n) for n in sorted({min(numbers), max(numbers)})) if numbers else "C"


def definition(
    table: Sequence[Row], conditions: Iterable[str] = ("image size", "masks seen", "image tags from")
) -> str:
    """The sentences that say what the numbers of one table are, and these conditions of its rows."""
    row = next((row for row in table if not row.failed), table[0])
    terms = row.terms
    out = {k for other in table for k in other.left_out}
    names = ("background", *terms.classes)
    left = ", ".join(names[k] for k in sorted(out) if k < len(names))
    judged = _range([k for other in table for k in other.judged])
    oracle = " Oracle thresholds were chosen on the judged masks, so these rows are not fair results." * (
        terms.threshold_policy == "oracle"
    )
    return (
        f"{shared_conditions(terms, row.n_images)} {row_conditions(table, conditions)} mIoU, precision and "
        f"recall (%) are means over the {judged} classes with truth pixels, background included "
        f"(foreground mIoU: without it); left out: {left or 'no class'}. Void pixels are not judged; "
        "abstaining counts as a miss; coverage is the share of pixels that got a label. "
        "± is the sample standard deviation over seeds, in brackets the interval of 95 % for their mean "
        f"(Student's), (n) their number.{oracle}"
    )
