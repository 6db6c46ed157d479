"""`wsssbench paper`: tables, protocol, figure, commands and hashes of a paper, in one folder.

Each file is made by `wsssbench.reporting`; here they are put together and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from wsssbench._version import __version__
from wsssbench.commands.judged_data import JudgedData
from wsssbench.commands.plot import chosen_sections
from wsssbench.commands.qualitative import Choice, chosen_images, draw
from wsssbench.errors import WsssError
from wsssbench.files.atomic import atomic_write_text
from wsssbench.machine.process import keep_memory
from wsssbench.reporting.figures.style import save
from wsssbench.reporting.latex import HEAD, escaped, latex_document, latex_rows
from wsssbench.reporting.protocol_text import protocol_text
from wsssbench.reporting.reviewers import commands_text, hashes_text
from wsssbench.reporting.sections import Section

FIGURE = "figure"
CONTENTS = {
    "tables.tex": "the tables, ready to \\input; they need the package booktabs",
    "rows.tex": "their rows alone, for a table of your own",
    "protocol.tex": "a paragraph for each table that states its protocol",
    "figure.tex": "the figure with its caption; it needs the package graphicx",
    "figure.pdf": "the same images for all methods, for LaTeX",
    "figure.png": "the same as a picture",
    "commands.txt": "the command that made each record; absolute paths are cut to their last name",
    "hashes.txt": "keys of the records, hashes of weights, code and data, versions of libraries",
    "paper.tex": "a page that shows all of this: pdflatex paper.tex",
}
PAGE = r"""\documentclass{article}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs,graphicx}
\begin{document}
\input{protocol}
\input{tables}
%s\end{document}
"""


def paper_command(
    runs: Sequence[Path],
    out: Path,
    methods: Sequence[str],
    stages: Sequence[str],
    limited: bool,
    count: int,
    rule: str,
    seed: int,
    options: Sequence[str],
    config: Path | None,
) -> None:
    """Write the bundle of the records below `runs` to `out`; print the files."""
    keep_memory()
    _, sections = chosen_sections(runs, methods, stages, limited)
    records = [record for section in sections for record in section.records]
    texts = {
        "tables.tex": latex_document([section.rows for section in sections]),
        "rows.tex": _rows(sections),
        "protocol.tex": _protocol(sections),
        "commands.txt": commands_text(records),
        "hashes.txt": hashes_text(records),
    }
    missing = ""
    try:
        texts["figure.tex"] = write_figure(sections, out, count, rule, seed, options, config)
    except WsssError as error:
        if options:  # what was asked for by name must be right
            raise
        missing = str(error)
        click.echo(f"no figure: {missing}", err=True)
    texts["paper.tex"] = PAGE % ("" if missing else "\\input{figure}\n")
    texts["README.md"] = _readme(texts, missing)
    for name, text in texts.items():
        atomic_write_text(out / name, text)
    written = [*texts, *([] if missing else ("figure.pdf", "figure.png"))]
    click.echo("\n".join(str(out / name) for name in sorted(written)))


def _rows(sections: Sequence[Section]) -> str:
    """The lines of every table below a comment that names it and its columns."""
    parts = [HEAD]
    for section in sections:
        columns, body = latex_rows(section.rows)
        title = " ".join(section.heading.split())
        parts.append(f"% {title}\n% {' & '.join(columns)}\n{body}\n")
    return "\n".join(parts)


def _protocol(sections: Sequence[Section]) -> str:
    parts = []
    for section in sections:
        text = protocol_text(section.rows, section.records)
        parts.append(f"\\paragraph{{Protocol ({escaped(section.heading)}).}}\n{escaped(text)}\n")
    return "\n".join(parts)


def write_figure(
    sections: Sequence[Section],
    out: Path,
    count: int,
    rule: str,
    seed: int,
    options: Sequence[str],
    config: Path | None,
) -> str:
    """Write figure.pdf and figure.png; the LaTeX that shows them. WsssError where they cannot be made."""
    choice = chosen_images(sections, count, rule, seed)
    if choice is None:
        raise WsssError("no cell has its masks and counts", hint="`wsssbench run` and `score` keep them")
    dataset = JudgedData(options, config)(choice.first)
    save(draw(choice, dataset), out / FIGURE, ("pdf", "png"))
    return _figure(choice)


def _figure(choice: Choice) -> str:
    terms, seed = choice.first.identity.terms, choice.first.identity.seed
    left = f" Not shown: {', '.join(choice.left_out)}." if choice.left_out else ""
    where = f"{terms.dataset}, split {terms.split}, stage {terms.stage}, seed {seed}"
    caption = (
        f"Labels of {where}; background shows the image in grey. The images are {choice.rule}: "
        f"{', '.join(choice.ids)}. They were chosen by this rule, not by eye.{left}"
    )
    return (
        "% Needs \\usepackage{graphicx} in the preamble.\n\\begin{figure}[t]\n\\centering\n"
        f"\\includegraphics[width=\\linewidth]{{{FIGURE}.pdf}}\n\\caption{{{escaped(caption)}}}\n"
        f"\\label{{fig:masks}}\n\\end{{figure}}\n"
    )


def _readme(texts: dict[str, str], missing: str) -> str:
    shown = [n for n in CONTENTS if n in texts or (not missing and n.startswith(f"{FIGURE}."))]
    lines = [f"| `{name}` | {CONTENTS[name]} |" for name in shown]
    head = f"# What is here\n\nWritten by `wsssbench paper`, version {__version__}."
    numbers = "Unrounded numbers are printed by `wsssbench report --format json`."
    anonymous = "Before an anonymous submission, read `commands.txt` and `hashes.txt`: a command may name "
    anonymous += "folders or a data set of yours, and hardware is listed."
    parts = [head, "\n".join(["| file | what |", "|---|---|", *lines]), numbers, anonymous]
    parts += [f"There is no figure: {' '.join(missing.split())}"] if missing else []
    return "\n\n".join(parts) + "\n"
