"""LaTeX of the report: names print literally, tables are whole, and what is bold or marked says so."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsssbench.records.store import write_record
from wsssbench.reporting import report
from wsssbench.reporting.latex import escaped, latex_document, latex_rows
from wsssbench.reporting.rows import rows_of
from wsssbench.reporting.table_parts import TextTable
from wsssbench.reporting.tables import render

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
fake_record, fake_terms = FAKE["fake_record"], FAKE["fake_terms"]
NASTY = r"""a_b & 50% of $x$ #1 {y} ~ ^ \z <w> |v| "q" 'r' `s` --t [*u*]"""
COMMAND = re.compile(r"\\(text[a-z]+|ldots|[a-zA-Z]+|.)")


def tex(records) -> str:
    return render(rows_of(records), "tex")


def balanced(text: str) -> bool:
    """Whether braces match once escaped ones are gone."""
    depth = 0
    for brace in re.findall(r"[{}]", re.sub(r"\\[\\{}]", "", text)):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


@given(st.text(max_size=40))
@settings(max_examples=40, deadline=None)
def test_no_special_survives_bare_and_braces_match(name: str) -> None:
    shown = escaped(name)
    assert balanced(shown)
    bare = COMMAND.sub("", re.sub(r"\$(\^\\circ|\\[a-z]+)\$", "", shown))  # without the formulas put in here
    assert not set(bare) & set('&%$#_~^\\<>|"`\n')
    assert "--" not in shown
    assert not re.match(r"[\[*]", shown)


def test_a_table_has_intervals_n_and_its_definition_as_caption() -> None:
    full = fake_record("full", 0, 80.0, supervision=("masks", "tags"))
    text = tex([*(fake_record("cam", seed, 60.0 + seed) for seed in range(3)), full])
    line = next(line for line in text.splitlines() if line.startswith("cam"))
    assert r"cam & 61.00 $\pm$ 1.00 {[}58.52, 63.48{]} (3) &" in line
    assert r"full {[}masks seen{]} & 80.00 (1) &" in text
    assert line.endswith(r"& tags & imagenet \\")
    assert text.index("cam &") < text.index("\\midrule\nfull")  # what is not ranked stands below a line
    (caption,) = re.findall(r"\\caption\{(.*)\}\n", text)
    for words in (
        "Stage seg (version 1); shapes 1",
        "Masks seen: learned from them (full)",
        "Below the line",
    ):
        assert words in caption
    assert "Student's" in caption


def test_only_the_best_of_several_ranked_rows_is_bold() -> None:
    records = [fake_record("cam", 0, 60.0), fake_record("rrm", 0, 70.0)]
    records.append(fake_record("full", 0, 90.0, supervision=("masks", "tags")))
    assert re.findall(r"\\textbf\{(.*?)\}", tex(records)) == ["70.00 (1)"]
    assert "Bold: the highest" in tex(records)
    assert "Bold" not in tex(records[:1])
    assert r"\textbf" not in tex(records[:1])


def test_oracle_and_failed_rows_say_so() -> None:
    text = tex([fake_record(terms=fake_terms(threshold_policy="oracle"))])
    assert r"cam {[}oracle threshold{]} &" in text
    assert "Oracle thresholds were chosen on the judged masks, so these rows are not fair results." in text
    failed = tex([fake_record(), fake_record("rrm", reason="out of memory")])
    assert r"rrm {[}1 of 1 failed{]} & failed &" in failed


def test_every_line_of_a_table_has_as_many_cells_as_heads() -> None:
    rows = rows_of([fake_record("a&b", 0, 50.0), fake_record("rrm", reason="x"), fake_record("cam", 1)])
    heads, body = latex_rows(rows)
    lines = [line for line in body.splitlines() if line != r"\midrule"]
    assert [len(re.split(r"(?<!\\)&", line)) for line in lines] == [len(heads)] * 3
    assert all(line.endswith(r"\\") for line in lines)


def test_there_is_one_table_environment_per_table_of_equal_terms(tmp_path: Path) -> None:
    for record in (fake_record(), fake_record(terms=fake_terms(stage="pseudo"))):
        write_record(tmp_path / record.key[:8], record)
    text = report([tmp_path], "tex")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert len(set(re.findall(r"\\label\{(.*?)\}", text))) == 2
    assert balanced(text)


def test_throughput_is_a_table_of_its_own() -> None:
    line = {"method": "cam (a_b=1)", "what": "fit", "images/s": "12.3", "peak MB": "", "batch": "8"}
    text = latex_document([], [TextTable("throughput: shapes on CPU", [line], "Speed of `end to end`.")])
    assert r"cam (a\_b=1) & fit & 12.3 & 8 \\" in text
    assert "throughput: shapes on CPU. Speed of ``end to end''." in text
    assert "% none: Nothing was measured." in latex_document(
        [], [TextTable("none", (), "Nothing was measured.")]
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_a_document_with_the_worst_names_compiles(tmp_path: Path) -> None:
    records = [fake_record(NASTY, 0, 50.0), fake_record(f"[{NASTY * 3}", 0, 60.0), fake_record("*x", 0)]
    terms = fake_terms(dataset=NASTY, classes=("r_g", "s&e"), custom=True)
    records.append(fake_record("cam", terms=terms, supervision=("text", "saliency", "unknown")))
    body = tex(records)
    page = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + body + "\\end{document}"
    (tmp_path / "t.tex").write_text(page, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "undefined" not in done.stdout
