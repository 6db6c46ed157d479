"""What tables of every kind share: grids, cells with their spread, the definition of the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from wsssbench.errors import printable
from wsssbench.identity import Terms
from wsssbench.reporting.conditions import (
    EARLIER,
    FACTS,
    augmentation,
    crf_words,
    ground_truth,
    judged_size,
    row_conditions,
    unlike_terms,
)
from wsssbench.reporting.rows import Number, Row

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


def grid(lines: Sequence[dict[str, str]]) -> str:
    """A markdown table; columns without any content are dropped."""
    from tabulate import tabulate  # late: not needed by csv, json and --help

    kept = [name for name in lines[0] if any(line[name] for line in lines)]
    body = [[_cell(line[name]) for name in kept] for line in lines]
    return str(tabulate(body, headers=list(map(_cell, kept)), tablefmt="github", disable_numparse=True))


def _cell(text: str) -> str:
    """`text` in one cell of a markdown table."""
    return printable(text.replace("|", "\\|").replace("\n", " "))


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


def definition(table: Sequence[Row]) -> str:
    """The sentence that says what the numbers of one table are."""
    row = next((row for row in table if not row.failed), table[0])
    terms = row.terms
    out = {k for other in table for k in other.left_out}
    names = ("background", *terms.classes)
    left = ", ".join(names[k] for k in sorted(out) if k < len(names))
    judged = _range([k for other in table for k in other.judged])
    drawn = " (drawn anew from each seed)" if not terms.split_fingerprint else ""
    post = "no CRF" if terms.crf is None else f"a dense CRF ({crf_words(terms.crf)}"
    if terms.crf:
        scaled = terms.crf.get("xy_scale", 1) != 1
        post += "; spatial widths in pixels of a VOC image, times xy)" if scaled else ")"
    oracle = " Oracle thresholds were chosen on the judged masks: no fair row." * (
        terms.threshold_policy == "oracle"
    )
    earlier = f" This table was {EARLIER}." if terms.earlier else ""
    return (
        f"Stage {terms.stage} (version {terms.stage_version}) on {terms.dataset} {terms.dataset_version}, "
        f"split {terms.split}{drawn}, {row.n_images if row.n_images is not None else 'all'} images"
        f"{f' (limit {terms.limit})' if terms.limit is not None else ''}; truth: {ground_truth(terms)}, "
        f"judged {judged_size(terms)}; image tags are "
        f"{'given' if terms.tags_at_evaluation else 'not given'} at evaluation; threshold policy "
        f"{terms.threshold_policy}; {post}, {augmentation(terms)} added by the stage. "
        f"{row_conditions(table, ('masks seen', 'image tags from'))} mIoU, precision and recall (%) are "
        f"means over the {judged} classes with truth pixels, background included "
        f"(foreground mIoU: without it); left out: {left or 'no class'}. Void pixels are not judged; "
        "abstaining counts as a miss; coverage is the share of pixels that got a label. "
        "± is the sample standard deviation over seeds, in brackets the interval of 95 % for their mean "
        f"(Student's), (n) their number.{oracle}{earlier}"
    )
