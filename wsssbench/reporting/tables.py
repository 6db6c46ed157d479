"""Rows -> text: markdown for people, tex for papers, csv and json with every unrounded number.

One table per data set, stage and terms, one of IoU per class below it, and a sentence that defines the
numbers. What is a row, and which rows may stand in one table, is decided in `wsssbench.reporting.rows`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from wsssbench.errors import UnknownName, nearest
from wsssbench.identity import plain
from wsssbench.reporting.conditions import (
    FACTS,
    augmentation,
    crf_of_row,
    ground_truth,
    masks_seen,
    threshold_words,
)
from wsssbench.reporting.rows import Number, Row
from wsssbench.reporting.table_parts import (
    class_lines,
    definition,
    grid,
    heading,
    row_cells,
)

if TYPE_CHECKING:
    from wsssbench.reporting.beside import Beside
    from wsssbench.reporting.published import Published
    from wsssbench.reporting.throughput import ThroughputTable

FORMATS = ("md", "csv", "json", "tex")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the begin of one


def render(
    rows: Sequence[Row],
    format: str = "md",
    others: Sequence[ThroughputTable] = (),
    published: Sequence[Published] = (),
) -> str:
    """`rows`, then `others`, as text in "md", "csv", "json" or "tex"; UnknownName for another format.

    Of `published` those that fit stand below each table of rows, which are then marked as measured.
    """
    from wsssbench.reporting.beside import beside  # late: few tables ask for it

    if format not in FORMATS:
        raise UnknownName(f"unknown format {format!r}", hint=nearest(format, FORMATS))
    tables = [list(group) for _, group in groupby(rows, key=lambda row: row.terms_hash)]
    blocks = [beside(table, published) if published else None for table in tables]
    if format == "json":
        data = [_table_data(table, block) for table, block in zip(tables, blocks, strict=True)]
        data += [other.data() for other in others]
        return json.dumps(data, indent=1, allow_nan=False) + "\n"
    if format == "csv":
        lines = [line for pair in zip(tables, blocks, strict=True) for line in _lines(*pair)]
        return _csv([*lines, *(line for other in others for line in other.lines())])
    below = [text for other in others for text in other.texts()]
    if format == "tex":
        from wsssbench.reporting.latex import latex_document

        return latex_document(tables, below, [block.paper_text() for block in blocks if block])
    parts: list[str] = []
    for table, block in zip(tables, blocks, strict=True):
        parts += [_markdown(table, tables), *([block.text().markdown()] if block else [])]
    return "\n".join([*parts, *(text.markdown() for text in below)])


# ------------------------------------------------------------------------------------------------ markdown


def _markdown(table: Sequence[Row], tables: Sequence[Sequence[Row]]) -> str:
    """Heading, main table, table of classes, sentence."""
    others = [other[0].terms for other in tables if other is not table]
    parts = [f"## {heading(table[0].terms, others)}", grid([row_cells(row, table) for row in table])]
    if any(number for row in table for number in row.per_class):
        parts += ["IoU per class (%)", grid(class_lines(table))]
    if counted := [row for row in table if "compatible.ours" in row.numbers]:
        from wsssbench.reporting.evaluators import READING, as_markdown  # late: few rows need it

        parts += ["As others count", as_markdown(counted), READING]
    failures = [f"- {failure}" for row in table for failure in row.failures]
    parts += [f"Failed:\n{chr(10).join(failures)}"] if failures else []
    return "\n\n".join([*parts, definition(table)]) + "\n"


# ------------------------------------------------------------------------------------------------ raw data


def _number_data(number: Number | None) -> dict[str, Any] | None:
    if number is None:
        return None
    spread = {"sd": number.sd, "interval": list(number.interval) if number.interval else None}
    return {"mean": number.mean, **spread, "n": number.n, "values": list(number.values)}


def _table_data(table: Sequence[Row], block: Beside | None = None) -> dict[str, Any]:
    """One table as JSON types; its rows say that they are measured where reported numbers stand below."""
    terms = table[0].terms
    head = {"dataset": terms.dataset, "stage": terms.stage, "split": terms.split}
    origin = {"origin": "measured"} if block else {}
    rows = [{**origin, **_row_data(row)} for row in table]
    data = {**head, "terms_hash": table[0].terms_hash, "terms": plain(terms), "rows": rows}
    return {**data, "definition": definition(table), **({"reported": block.data()} if block else {})}


def _row_data(row: Row) -> dict[str, Any]:
    names = ("background", *row.terms.classes)
    return {
        "rank": row.rank,
        "method": row.method,
        "variant": row.variant,
        "status": "failed" if row.failed else "ok",
        "reasons": [*row.reasons, *row.later],
        "badges": list(row.badges),
        "seeds": list(row.seeds),
        "percent_of_full": row.of_full,
        "pretraining": row.pretraining,
        "label_source": row.label_source,
        "image_px": row.image_px,
        "image_px_from": row.image_px_from,
        "masks_seen": masks_seen(row),
        "numbers": {name: _number_data(number) for name, number in row.numbers.items()},
        "per_class_iou": {n: _number_data(v) for n, v in zip(names, row.per_class, strict=True)},
        "notes": {name: list(texts) for name, texts in row.notes.items()},
        "left_out": [names[k] for k in row.left_out],
        "n_images": row.n_images,
        "identity": {k: v for k, v in plain(row.identity).items() if k not in ("terms", "seed")},
    }


def _lines(table: Sequence[Row], block: Beside | None) -> list[dict[str, Any]]:
    """The flat csv lines of one table, those of its reported numbers last."""
    if block is None:
        return [_line_data(row) for row in table]
    return [*({"origin": "measured", **_line_data(row)} for row in table), *block.lines()]


def _line_data(row: Row) -> dict[str, Any]:
    """One row as a flat csv line."""
    terms, data = row.terms, _row_data(row)
    line: dict[str, Any] = {"dataset": terms.dataset, "stage": terms.stage, "split": terms.split}
    line |= {"terms": row.terms_hash, "threshold_policy": terms.threshold_policy, "limit": terms.limit}
    line |= {"tags_at_evaluation": terms.tags_at_evaluation, "custom": terms.custom}
    line |= {"judged": terms.judged, "earlier_protocol": terms.earlier}
    line |= {name: data[name] for name in ("rank", "method", "variant", "status", "percent_of_full")}
    line |= {name: "; ".join(map(str, data[name])) for name in ("reasons", "badges", "seeds", "left_out")}
    line |= {"n_images": row.n_images, "supervision": "; ".join(row.identity.supervision)}
    line |= {"backend": row.identity.filter_backend, "pretraining": row.pretraining}
    line |= {"masks_seen": data["masks_seen"], "label_source": row.label_source}
    line |= {"image_px": row.image_px, "image_px_from": row.image_px_from}
    line |= {"threshold": threshold_words(row), "crf": crf_of_row(row), "ground_truth": ground_truth(terms)}
    line |= {"resolution": terms.resolution, "test_time": augmentation(terms)}
    line |= {"scales_of_steps": FACTS["scales of the steps"](row), "arithmetic": row.identity.precision}
    for name, number in row.numbers.items():
        low, high = number.interval or (None, None)
        line |= {f"{name}_mean": number.mean, f"{name}_sd": number.sd, f"{name}_n": number.n}
        line |= {f"{name}_low": low, f"{name}_high": high}
    line |= {name: "; ".join(texts) for name, texts in row.notes.items()}
    classes = zip(("background", *terms.classes), row.per_class, strict=True)
    return line | {f"iou[{name}]": number.mean for name, number in classes if number is not None}


def _csv(lines: Sequence[dict[str, Any]]) -> str:
    """Lines under the union of their columns, in order of first appearance."""
    columns = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_no_formula, columns))
    writer.writerows([_no_formula(line.get(name, "")) for name in columns] for line in lines)
    return text.getvalue()


def _no_formula(value: Any) -> Any:
    """`value`; text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
