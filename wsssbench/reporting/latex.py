r"""Rows -> LaTeX: one booktabs table per data set, stage and terms, as a paper prints it.

The text is pasted or \input into a document that says \usepackage{booktabs}. Whatever names a user gave are
escaped here and nowhere else. Which rows stand in one table is decided in `wsssbench.reporting.rows`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from wsssbench.reporting.conditions import row_conditions
from wsssbench.reporting.rows import Row
from wsssbench.reporting.table_parts import (
    TextTable,
    definition,
    filled,
    heading,
    number_in,
    other_metrics,
    row_cells,
)

NONE = "--"
BOLD = "Bold: the highest mean mIoU of the ranked rows here, whether or not intervals overlap."
BELOW = "Below the line: learned from masks, a ceiling that is not ranked."
COLUMNS = (
    *("method", "supervision", "mIoU", "foreground mIoU", "precision", "recall", "coverage", "% of full"),
    *("pretraining", "image tags from"),
)
CONDITIONS = ("threshold", "filter backend", "arithmetic", "pretraining", "scales of the steps")
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
MINUS = re.compile(r"(?<![\w.])-(?=\d)")
LONG = 45  # letters of a name that is set in several lines


def escaped(text: str) -> str:
    r"""`text` as LaTeX prints it literally: specials escaped, control characters and line ends as spaces."""
    shown = re.sub(r"[\s\x00-\x1f\x7f]+", " ", text)
    doubled = {match.start() for match in LIGATURES.finditer(shown)}
    return "".join(c if c in "-'" and i not in doubled else SPECIAL.get(c, c) for i, c in enumerate(shown))


def latex_document(
    tables: Sequence[Sequence[Row]], others: Sequence[TextTable] = (), reported: Sequence[TextTable] = ()
) -> str:
    """All `tables` of equal terms, then `others`; `reported` stands below each of them, if there is any."""
    parts = [latex_table(table, tables) for table in tables if table]
    if reported:
        parts = [part for pair in zip(parts, map(_other_table, reported), strict=True) for part in pair]
    return "\n".join([HEAD, *parts, *map(_other_table, others)])


def latex_table(table: Sequence[Row], tables: Sequence[Sequence[Row]] = ()) -> str:
    """One `table` environment: ranked rows, below a line what is not ranked, and the defining caption."""
    others = [other[0].terms for other in tables if other is not table and other]
    terms = table[0].terms
    own_crf = terms.crf is None  # else the definition has the stage's
    said = [definition(table), row_conditions(table, ("CRF", *CONDITIONS) if own_crf else CONDITIONS)]
    said += [BOLD] if _bold(table) else []
    said += [BELOW] if any(row.rank is None and not row.failed for row in table) else []
    caption = f"{escaped(heading(terms, others))}. {_sentences(' '.join(said))}"
    label = _label(terms.dataset, terms.stage, terms.split, table[0].terms_hash[:8])
    return _environment(caption, label, _lines(table), latex_rows(table)[1])


def latex_rows(table: Sequence[Row]) -> tuple[list[str], str]:
    r"""The heads of the columns that have content, escaped, and the lines below them, each ended by \\."""
    lines, ranked = _lines(table), sum(row.rank is not None for row in table)
    body = _body(lines, bold=_bold(table))
    if 0 < ranked < len(table):
        body.insert(ranked, r"\midrule")
    return list(map(escaped, filled(lines))), "\n".join(body)


def _bold(table: Sequence[Row]) -> int:
    """How many rows share the first rank; 0 where there is one ranked row alone."""
    ranks = [row.rank for row in table if row.rank is not None]
    return ranks.count(1) if len(ranks) > 1 else 0


def _lines(table: Sequence[Row]) -> list[dict[str, str]]:
    """The columns that fit a paper, of the ranked rows first; the caption describes the others."""
    ordered = sorted(table, key=lambda row: row.rank is None)
    return [
        {name: text for name, text in row_cells(row, table).items() if name in COLUMNS}
        | {"mIoU": "failed" if row.failed else row_cells(row, table)["mIoU"]}
        | other_metrics(row, table)
        for row in ordered
    ]


def _body(lines: Sequence[Mapping[str, str]], bold: int = 0) -> list[str]:
    r"""Each line, ended by \\; long texts are broken, the mIoU of the first `bold` lines is set so."""
    body = []
    for n, line in enumerate(lines):
        cells = {name: MINUS.sub("$-$", escaped(line[name])) or NONE for name in filled(lines)}
        for name in (name for name in cells if len(line[name]) > LONG):
            cells[name] = rf"\parbox[t]{{5cm}}{{\raggedright {cells[name]}}}"
        if n < bold:
            cells["mIoU"] = rf"\textbf{{{cells['mIoU']}}}"
        body.append(" & ".join(cells.values()) + r" \\")
    return body


def _other_table(text: TextTable) -> str:
    """A table of throughput or of published numbers; what it remarks stands in comments."""
    remarks = "".join(f"% {' '.join(remark.split())}\n" for remark in text.remarks)
    if not text.lines:
        return f"% {' '.join(text.title.split())}: {text.note}\n{remarks}"
    caption = f"{escaped(text.title)}. {_sentences(text.note)}"
    body = "\n".join(_body(text.lines))
    return _environment(caption, _label(text.title, text.label), text.lines, body) + remarks


def _sentences(text: str) -> str:
    """A text of the report: escaped, with what stands between backticks in quotes."""
    pieces = text.split("`")
    quoted = [
        f"``{escaped(p)}''" if i % 2 and i < len(pieces) - 1 else escaped(p) for i, p in enumerate(pieces)
    ]
    return "".join(quoted)


def _label(*names: str) -> str:
    return "tab:" + "-".join(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") for name in names if name)


def _environment(caption: str, label: str, lines: Sequence[Mapping[str, str]], body: str) -> str:
    """A booktabs table of `body`; columns with a number in `lines` are set flush right, but the first."""
    kept = filled(lines)
    numbers = {name for name in kept[1:] if any(number_in(line[name]) is not None for line in lines)}
    alignment = "".join("r" if name in numbers else "l" for name in kept)
    head = " & ".join(map(escaped, kept))
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
