r"""Rows -> LaTeX: one booktabs table per data set, stage and terms, as a paper prints it.

The text is pasted or \input into a document that says \usepackage{booktabs}. Whatever names a user gave are
escaped here and nowhere else. Which rows stand in one table is decided in `wsssbench.reporting.rows`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wsssbench.reporting.conditions import row_conditions
from wsssbench.reporting.rows import Number, Row
from wsssbench.reporting.table_parts import definition, heading, other_metrics

# I, F and S as papers write image tags, full masks and saliency; the others have no settled letter.
SYMBOLS = {
    "tags": (r"$\mathcal{I}$", "image tags"),
    "masks": (r"$\mathcal{F}$", "full masks"),
    "saliency": (r"$\mathcal{S}$", "saliency"),
    "text": (r"$\mathcal{T}$", "text"),
    "class_names": (r"$\mathcal{N}$", "names of the classes"),
    "unknown": ("?", "not known"),
}
NONE = "--"
DAGGER, STAR = r"$^\dagger$", r"$^\ast$"
SHOWN_ELSEWHERE = (  # by a sign, a symbol of supervision, or in the caption
    *("oracle threshold", "stale", "custom stage", "limit"),
    *("masks seen", "supervision unknown", "saliency", "text"),
    "a later attempt failed",  # says nothing of the number
)
TOLD = ("threshold", "filter backend", "arithmetic", "pretraining", "scales of the steps")
SPECIAL = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{c: f"{{{c}}}" for c in "[]*"},  # after a line's end they would be an argument of it
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\`{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"':  "{''}", "'": "{'}",
    "-": "{-}", "±": r"$\pm$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\rightarrow$",
    "…": r"\ldots{}", "°": r"$^\circ$", "µ": r"$\mu$", "α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$",
}  # fmt: skip
LIGATURES = re.compile(r"-(?=-)|(?<=-)-|'(?=')|(?<=')'")  # two of them would become one other sign
HEAD = r"""% Needs \usepackage{booktabs} in the preamble. What is too wide for one column of two wants table*.
"""
LONG = 45  # letters of a name that is set in several lines


def escaped(text: str) -> str:
    r"""`text` as LaTeX prints it literally: specials escaped, control characters and line ends as spaces."""
    shown = re.sub(r"[\s\x00-\x1f\x7f]+", " ", text)
    doubled = {match.start() for match in LIGATURES.finditer(shown)}
    return "".join(c if c in "-'" and i not in doubled else SPECIAL.get(c, c) for i, c in enumerate(shown))


def latex_document(
    tables: Sequence[Sequence[Row]],
    others: Sequence[Mapping[str, Any]] = (),
    reported: Sequence[Mapping[str, Any]] = (),
) -> str:
    """All `tables` of equal terms, then `others` (the JSON form of tables of another kind).

    `reported` holds what stands below each table, in the same form; mostly nothing.
    """
    parts = [latex_table(table, tables) for table in tables if table]
    if reported:
        parts = [part for pair in zip(parts, map(_other_table, reported), strict=True) for part in pair]
    return "\n".join([HEAD, *parts, *(_other_table(data) for data in others)])


def latex_table(table: Sequence[Row], tables: Sequence[Sequence[Row]] = ()) -> str:
    """One `table` environment: ranked rows, below a line what is not ranked, and the defining caption."""
    others = [other[0].terms for other in tables if other is not table and other]
    columns, body = latex_rows(table)
    head = " & ".join(columns)
    caption = f"{escaped(heading(table[0].terms, others))}. {_defined(table)} {_legend(table)}"
    terms = table[0].terms
    label = f"tab:{_label(terms.dataset, terms.stage, terms.split)}-{table[0].terms_hash[:8]}"
    return _environment(caption, label, _alignment(columns), head, body)


def latex_rows(table: Sequence[Row]) -> tuple[list[str], str]:
    r"""The heads of the columns that have content, and the lines below them, each ended by \\."""
    ranked = [row for row in table if row.rank is not None]
    first = min((row.rank for row in ranked if row.rank is not None), default=None)
    best = {id(row) for row in ranked if row.rank == first and len(ranked) > 1}
    cells = {id(row): _cells(row, table, bold=id(row) in best) for row in table}
    kept = [name for name in next(iter(cells.values())) if any(line[name] for line in cells.values())]

    def lines(rows: Sequence[Row]) -> list[str]:
        return [" & ".join(cells[id(row)][name] or NONE for name in kept) + r" \\" for row in rows]

    rest = [row for row in table if row.rank is None]
    rule = [r"\midrule"] if ranked and rest else []
    return kept, "\n".join([*lines(ranked), *rule, *lines(rest)])


# ------------------------------------------------------------------------------------------------- columns


def _cells(row: Row, table: Sequence[Row], *, bold: bool) -> dict[str, str]:
    """One line, by the heads of the columns."""
    miou = row.numbers.get("miou")
    shown = {
        "Method": _title(row),
        "Sup.": _symbols(row),
        "Backbone": _backbone(row) if len(_backbones(table)) > 1 else "",
        "mIoU": "failed" if row.failed else _miou(miou, bold=bold),
        r"95\,\%": _interval(miou),
        "$n$": "" if miou is None else str(miou.n),
    }
    for name, head in (("miou_foreground", "fg"), ("precision", "Prec."), ("recall", "Rec.")):
        shown[head] = _mean(row.numbers.get(name))
    sparse = any(r.numbers["coverage"].mean < 99.995 for r in table if "coverage" in r.numbers)
    shown["Cov."] = _mean(row.numbers.get("coverage")) if sparse else ""
    shown[r"\% of full"] = "" if row.of_full is None else f"{row.of_full:.1f}"
    return shown | {escaped(name): cell for name, cell in other_metrics(row, table).items()}


def _title(row: Row) -> str:
    text = escaped(row.title) + DAGGER * _has(row, "oracle") + STAR * _has(row, "stale") + _flags(row)
    return text if len(row.title) <= LONG else rf"\parbox[t]{{5cm}}{{\raggedright {text}}}"


def _symbols(row: Row) -> str:
    known = [SYMBOLS.get(name, (escaped(name), ""))[0] for name in row.identity.supervision]
    return " + ".join(known)


def _backbone(row: Row) -> str:
    """That of each step that names one, and what its weights have seen; escaped."""
    named = dict.fromkeys(str(s.config["backbone"]) for s in row.identity.recipe if s.config.get("backbone"))
    seen = f" ({row.pretraining})" if named and row.pretraining not in ("", "none") else ""
    return escaped(", ".join(named) + seen)


def _backbones(table: Sequence[Row]) -> list[str]:
    """Those that differ: a single one is told by the caption."""
    return [name for name in dict.fromkeys(_backbone(row) for row in table) if name]


def _has(row: Row, badge: str) -> bool:
    return any(name.startswith(badge) for name in row.badges)


def _flags(row: Row) -> str:
    """Badges that neither a sign nor the caption tells."""
    shown = [badge for badge in row.badges if not badge.startswith(SHOWN_ELSEWHERE)]
    return f" ({escaped('; '.join(shown))})" if shown else ""


def _miou(number: Number | None, *, bold: bool) -> str:
    if number is None:
        return ""
    mean = rf"\textbf{{{number.mean:.2f}}}" if bold else f"{number.mean:.2f}"
    return mean if number.sd is None else rf"{mean} $\pm$ {number.sd:.2f}"


def _interval(number: Number | None) -> str:
    if number is None or number.interval is None:
        return ""
    low, high = number.interval
    return f"[{_signed(low)}, {_signed(high)}]"


def _signed(value: float) -> str:
    return f"{value:.2f}" if value >= 0 else f"$-${-value:.2f}"


def _mean(number: Number | None) -> str:
    return "" if number is None else _signed(number.mean)


# ----------------------------------------------------------------------------------------- caption and frame


def _legend(table: Sequence[Row]) -> str:
    """What the symbols say, as far as this table has them."""
    used = dict.fromkeys(name for row in table for name in row.identity.supervision)
    known = [f"{SYMBOLS[name][0]} {SYMBOLS[name][1]}" for name in SYMBOLS if name in used]
    parts = [f"Supervision: {', '.join(known)}."] if known else []
    if len(_backbones(table)) == 1:
        parts.append(f"Backbone: {_backbones(table)[0]}.")
    if sum(row.rank is not None for row in table) > 1:
        parts.append("Bold: the highest mean mIoU of the ranked rows here, whether or not intervals overlap.")
    if any(row.rank is None and not row.failed for row in table):
        parts.append("Below the line: learned from masks, a ceiling that is not ranked.")
    own_crf = table[0].terms.crf is None  # else the definition has the stage's
    parts.append(escaped(row_conditions(table, ("CRF", *TOLD) if own_crf else TOLD)))
    if any(_has(row, "oracle") for row in table):
        parts.append(rf"{DAGGER} The threshold was chosen on the judged masks.")
    if any(_has(row, "stale") for row in table):
        parts.append(rf"{STAR} Made by code that has changed since.")
    return " ".join(parts)


def _defined(table: Sequence[Row]) -> str:
    """The sentence below a table of the report; n has a column here."""
    return _sentences(definition(table).replace("(n) their number", "n their number"))


def _sentences(text: str) -> str:
    """A text of the report: escaped, with what stands between backticks in quotes."""
    pieces = text.split("`")
    quoted = [
        f"``{escaped(p)}''" if i % 2 and i < len(pieces) - 1 else escaped(p) for i, p in enumerate(pieces)
    ]
    return "".join(quoted)


def _label(*names: str) -> str:
    return "-".join(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") for name in names)


TEXT_COLUMNS = (
    "Method",
    "Sup.",
    "Backbone",
    "step",
    "what",
    "Second stage",
    "Pretraining",
    "Scales",
    "CRF",
    "Source",
)


def _alignment(columns: Sequence[str]) -> str:
    return "".join("l" if name in TEXT_COLUMNS else "r" for name in columns)


def _environment(caption: str, label: str, alignment: str, head: str, body: str) -> str:
    return rf"""\begin{{table}}[t]
\centering
\caption{{{caption}}}
\label{{{label}}}
\vspace{{4pt}}
\footnotesize
\setlength{{\tabcolsep}}{{3pt}}
\begin{{tabular}}{{@{{}}{alignment}@{{}}}}
\toprule
{head} \\
\midrule
{body}
\bottomrule
\end{{tabular}}
\end{{table}}
"""


# ---------------------------------------------------------------------------------------------- other tables

OTHER: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "method": ("Method", escaped),
    "step": ("step", escaped),
    "what": ("what", escaped),
    "images_per_s": ("images/s", "{:.1f}".format),
    "median_ms": ("median ms", "{:.1f}".format),
    "batch": ("batch", str),
    "backbone": ("Backbone", escaped),  # from here on of published numbers
    "second_stage": ("Second stage", escaped),
    "pretraining": ("Pretraining", escaped),
    "miou": ("mIoU", str),
    "scales": ("Scales", escaped),
    "crf": ("CRF", escaped),
    "source": ("Source", escaped),
}


def _other_table(data: Mapping[str, Any]) -> str:
    """A table of throughput or of published numbers, from its JSON form."""
    rows: Sequence[Mapping[str, Any]] = data["rows"]
    kept = [name for name in OTHER if any(row.get(name) is not None for row in rows)]
    left = "".join(f"% {' '.join(line.split())}\n" for line in data.get("left_out_lines", ()))
    if not rows or not kept:
        return f"% {data['dataset']}: {data['stage']}: {data.get('nothing', 'nothing was measured')}\n{left}"
    columns = [OTHER[name][0] for name in kept]
    body = "\n".join(" & ".join(_other_cell(row, name) for name in kept) + r" \\" for row in rows)
    machine = ", ".join(
        dict.fromkeys(str(v) for v in data.get("machine", {}).values() if v not in (None, ""))
    )
    title = f"{data['dataset']}: {data['stage']}" + (f" on {machine}" if machine else "")
    caption = f"{escaped(title)}. {_sentences(data['definition'])}"
    label = f"tab:{_label(data['dataset'], data['stage'], machine or data.get('label', ''))}"
    return _environment(caption, label, _alignment(columns), " & ".join(columns), body) + left


def _other_cell(row: Mapping[str, Any], name: str) -> str:
    if row.get(name) is None:
        return NONE
    variant = f" ({row['variant']})" if name == "method" and row.get("variant") else ""
    return OTHER[name][1](f"{row[name]}{variant}" if variant else row[name])
