"""Names of strangers that command a terminal, a shell, a page or a spreadsheet: refused, or shown only."""

from __future__ import annotations

import csv
import io
import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil

from wsssbench import errors
from wsssbench.cli.main import main
from wsssbench.errors import BadData, WsssError, is_name, printable
from wsssbench.records.store import read_record
from wsssbench.reporting.rows import rows_of
from wsssbench.reporting.tables import FORMATS, render
from wsssbench_datasets.class_choice import ClassOptions, class_choice
from wsssbench_datasets.id_lists import read_list
from wsssbench_datasets.survey import Finding, PrepareReport

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
stored = FAKE["stored_content"]
ESCAPE = "\x1b]0;title\x07\x1b[2J"
UNPRINTABLE = (ESCAPE, "two\nlines", "bell\x07", "\u202egnp.exe", "nul\0", "c1\x9b31m", "")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


# --------------------------------------------------------------------------- names that command a terminal


def test_what_is_not_printable_is_shown_as_its_escape() -> None:
    assert printable("cat\x1b[31m") == "cat\\x1b[31m"
    assert printable("\u202e\x9b\udc80") == "\\u202e\\x9b\\udc80"
    assert printable("two\nlines, ä and 猫") == "two\nlines, ä and 猫"
    assert all(is_name(text) for text in ("traffic light ±", "猫"))
    assert not any(is_name(text) for text in (*UNPRINTABLE, " ", "x" * 1000, 3, None))


@pytest.mark.skipif(not hasattr(errors, "printable"), reason="errors show their text as it is")
def test_an_error_cannot_command_the_terminal() -> None:
    text = str(BadData(f"no class {ESCAPE}", where=f"a{ESCAPE}.toml", hint=f"rename {ESCAPE}\nit"))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("\n") == 2


def test_what_prepare_lists_cannot_command_the_terminal() -> None:
    report = PrepareReport((f"tree: {ESCAPE}",), (), (), (Finding("picture in no split", f"a{ESCAPE}"),))
    assert all(line.isprintable() for line in report.lines())


@pytest.mark.parametrize("name", ["a\x1b[31m", "$(touch_x)", "a;b", "-rf", "<b>", "a|b", "a'b", "\u202ea"])
def test_a_list_cannot_name_an_image_like_a_command(tmp_path: Path, name: str) -> None:
    path = tmp_path / "val.txt"
    path.write_text(f"2007_000032\n{name}\n", encoding="utf-8")
    with pytest.raises(BadData, match="cannot be the id of an image") as caught:
        read_list(path)
    assert caught.value.where == f"{path}, line 2"
    assert str(caught.value).splitlines()[0].isprintable()


@pytest.mark.parametrize("place", ["method", "identity/terms/dataset", "identity/terms/stage"])
@pytest.mark.parametrize("name", UNPRINTABLE)
def test_a_record_with_a_name_that_no_table_can_show_is_refused(
    tmp_path: Path, place: str, name: str
) -> None:
    path = stored(tmp_path, **{place: name})
    with pytest.raises(BadData, match="which no table can show") as caught:
        read_record(path)
    assert caught.value.where == str(path)
    assert caught.value.what.isprintable()


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b1m", "\u202e"])
@pytest.mark.parametrize("place", ["reason", "provenance/anything", "identity/terms/dataset_options/a"])
def test_no_text_of_a_record_holds_escape_codes(tmp_path: Path, place: str, text: str) -> None:
    with pytest.raises(BadData, match="not printable"):
        read_record(stored(tmp_path, **{place: f"well {text}"}))
    assert read_record(stored(tmp_path, **{place: "line one\nline two\tand on"}))


@pytest.mark.parametrize("name", UNPRINTABLE)
def test_a_row_and_a_merged_class_cannot_get_such_a_name(tmp_path: Path, name: str) -> None:
    scored = call("score", tmp_path, "--dataset", "shapes", "--as", name)
    assert scored.exit_code == 2
    assert "--as" in scored.output
    card = replace(FAKE_CARD, class_names=("cat", "dog"))
    with pytest.raises(WsssError, match=r"cannot be the name of a class|is not a merge"):
        class_choice(ClassOptions(merge=(f"{name}:cat+dog",)), card)


def fake_card() -> Any:
    return runpy.run_path(str(Path(__file__).with_name("fake_run.py")))["Toy"].card


FAKE_CARD = fake_card()

# --------------------------------------------------------------------------------- names in tables and pages


def test_a_bar_in_a_name_stays_in_its_cell_in_heads_too(tmp_path: Path) -> None:
    records = [FAKE["fake_record"](method) for method in ("a|b", "c")]
    table = render(rows_of(records)).split("IoU per class")[1].strip().splitlines()
    assert "a\\|b" in table[2]
    lines = [line for line in table if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {4}


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-2+3", "@SUM(A1)"])
def test_a_spreadsheet_takes_no_text_of_the_csv_for_a_formula(name: str) -> None:
    scores = {f"{name}": 3.0}
    record = FAKE["fake_record"](name)
    record = replace(record, scores={**record.scores, name: scores})
    lines = list(csv.reader(io.StringIO(render(rows_of([record]), "csv"))))
    cells = [cell for line in lines for cell in line]
    assert f"'{name}" in cells
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]


def test_numbers_of_the_csv_stay_numbers() -> None:
    record = FAKE["fake_record"](scores={"delta": -1.5})
    lines = list(csv.DictReader(io.StringIO(render(rows_of([record]), "csv"))))
    assert float(lines[0]["delta_mean"]) == -1.5


def test_class_names_with_html_and_shell_signs_go_through_a_run_and_all_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    evil = "$(touch pwned) `touch pwned` & <script>alert(1)</script> %s {} \\input"
    tree = tmp_path / "data"
    for folder in ("images", "masks"):
        (tree / folder).mkdir(parents=True)
    for id in ("a", "b"):
        Pil.fromarray(np.full((9, 8, 3), 99, np.uint8)).save(tree / "images" / f"{id}.png")
        Pil.fromarray(np.eye(9, 8, dtype=np.uint8)).save(tree / "masks" / f"{id}.png")
        (tree / f"{id}.txt").write_text(id)
    text = f'name = "evil"\nclasses = [{json.dumps(evil)}]\ntags = "masks"\n'
    (tree / "dataset.toml").write_text(f'{text}[splits]\ntrain = "a.txt"\nval = "b.txt"\n')
    data = ("--dataset", "folder", "-o", f"folder.root={tree}")
    done = call(
        "run", *data, "--method", "constant", "--stages", "seg", "--device", "cpu", "-q", "--runs", "r"
    )
    assert done.exit_code == 0, done.output
    for format in FORMATS:
        assert call("report", "r", "--format", format).exit_code == 0
    assert "\\input" not in call("report", "r", "--format", "tex").stdout
    assert call("report", "r", "--html", "page.html", "-o", f"folder.root={tree}").exit_code == 0
    page = Path("page.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert(1)" not in page
    assert not list(tmp_path.rglob("pwned"))
