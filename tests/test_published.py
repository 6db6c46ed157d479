"""Published numbers stand beside measured rows of the same terms only, marked, and with a source each."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from wsssbench.cli.main import main
from wsssbench.errors import BadData, UnknownName
from wsssbench.identity import Record, plain
from wsssbench.planning.stages import STAGES
from wsssbench.records.finding import find_records
from wsssbench.records.store import write_record
from wsssbench.reporting.beside import HEADING, beside, fitting_stage
from wsssbench.reporting.latex import latex_document
from wsssbench.reporting.page import html_page
from wsssbench.reporting.published import FILE, Published, load_published
from wsssbench.reporting.rows import rows_of
from wsssbench.reporting.tables import FORMATS, render

ROOT = Path(__file__).resolve().parents[1]
FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
fake_record, fake_terms = FAKE["fake_record"], FAKE["fake_terms"]
PUBLISHED = load_published()
SIZES = {"train": 1464, "val": 1449}
MINIMAL = """
[datasets.voc12]
classes = 20
images = { val = 1449 }
[[method]]
name = "one"
pretraining = "imagenet"
source = "a paper"
strength = "paper"
results = [{ split = "val", miou = 50.0 }]
"""


def voc_terms(stage: str = "seg+crf", **changes):
    """Terms of a registered stage on all of VOC 2012."""
    known = STAGES[stage]
    fields = {
        "stage": stage, "dataset": "voc12", "classes": tuple(f"c{k}" for k in range(20)),
        "split": "val" if known.split == "eval" else "train", "split_fingerprint": "f" * 64,
        "dataset_options": {"masks": {"val": "SegmentationClass"}}, "tags_at_evaluation": known.tags_given,
        "crf": plain(known.crf) if known.crf else None, "scales": known.scales, "flip": known.flip,
    }  # fmt: skip
    return fake_terms(**{**fields, **changes})


def voc_record(stage: str = "seg+crf", images: int | None = None, method: str = "rrm", **changes) -> Record:
    terms = voc_terms(stage, **changes)
    images = SIZES.get(terms.split, 7) if images is None else images
    return fake_record(method, terms=terms, scores={"n_images": images})


def found(record: Record):
    return beside(rows_of([record], limited=True), PUBLISHED)


def titles(record: Record) -> list[str]:
    return [entry.title for entry in found(record).shown]


def reason_of(record: Record, title: str) -> list[str]:
    return [reason for reason, names in found(record).left_out if title in names]


# ---------------------------------------------------------------------------------------------- what fits


def test_a_number_stands_in_the_table_of_the_kind_of_test_it_was_made_by() -> None:
    assert titles(voc_record("seg+crf")) == ["RRM one-step"]
    assert titles(voc_record("seg+ms")) == ["WeCLIP (no CRF)", "1-stage-wseg (no CRF)"]
    assert titles(voc_record("seg")) == []
    several = titles(voc_record("seg+ms+crf"))
    assert {"1-stage-wseg (CRF)", "AFA", "IRN", "CLIP-ES COCO init"} <= set(several)
    assert "RRM one-step" not in several
    assert reason_of(voc_record("seg"), "1-stage-wseg (no CRF)")[-1] == "tested as in seg+ms"


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage.startswith("seg")])
def test_every_shown_number_agrees_with_the_table_in_what_must_be_the_same(stage: str) -> None:
    record = voc_record(stage)
    terms = record.identity.terms
    for entry in found(record).shown:
        assert (entry.dataset, entry.split, entry.images) == ("voc12", "val", 1449)
        assert (entry.judged, entry.resolution, entry.tags_at_evaluation) == ("seg", "image", False)
        assert entry.multi_scale == ("yes" if len(terms.scales) > 1 else "no")
        assert entry.crf == ("yes" if terms.crf else "no")


def test_every_published_number_is_shown_or_left_out_with_a_reason() -> None:
    for stage in STAGES:
        result = found(voc_record(stage))
        named = {name for _, names in result.left_out for name in names}
        assert {entry.title for entry in PUBLISHED} == named | {entry.title for entry in result.shown}
        assert all(reason for reason, _ in result.left_out)
        assert len({reason for reason, _ in result.left_out}) == len(result.left_out)


def test_maps_and_pseudo_masks_stand_in_their_own_tables_by_threshold_policy() -> None:
    fixed = titles(voc_record("seed"))
    assert fixed == ["IRN maps", "PSA maps (as submitted to CVPR)", "PSA maps"]
    assert reason_of(voc_record("seed"), "CLIP-ES maps") == ["its threshold was chosen on the judged masks"]
    assert titles(voc_record("seed", threshold_policy="oracle")) == ["CLIP-ES maps"]
    assert "IRN random walk" in titles(voc_record("pseudo"))
    unknown = reason_of(voc_record("pseudo"), "SEAM random walk")
    assert unknown == ["how its threshold was chosen is not known"]


def test_a_number_with_image_tags_at_evaluation_is_left_out() -> None:
    assert reason_of(voc_record("seg+ms+crf"), "1-stage-wseg (val-clean)") == [
        "image tags were given at evaluation"
    ]


def test_a_number_of_unknown_test_or_size_is_left_out_and_says_so() -> None:
    (reason,) = reason_of(voc_record("seg+ms+crf"), "DuPL")
    assert reason == "whether it was tested with several scales and with a CRF is not known"
    (reason,) = reason_of(voc_record("seg"), "ToCo ViT-B (one scale, no CRF)")
    assert reason == "the size at which labels were compared is not known"


@pytest.mark.parametrize(
    ("images", "changes", "reason"),
    [
        (60, {}, "over 1,449 images of val; here are 60"),
        (8, {"limit": 8}, "the whole split; here are the first 8 images of it"),
        (None, {"classes": ("cat", "dog")}, "over 20 classes and background; here are 2"),
        (None, {"split": "test"}, "on the split val, not on test"),
        (None, {"dataset": "shapes"}, "of voc12, not of shapes"),
        (None, {"custom": True}, "this stage is custom: no published number was made by it"),
        (None, {"threshold_policy": "oracle"}, "here thresholds were chosen on the judged masks"),
        (None, {"resolution": "half"}, "the size at which labels were compared is not known"),
    ],
)
def test_rows_of_other_terms_leave_out_the_number_that_would_fit(images, changes, reason: str) -> None:
    record = voc_record("seg+crf", images, **changes)
    assert titles(record) == []
    assert reason in reason_of(record, "RRM one-step")


def test_a_table_without_a_measured_row_has_nothing_beside_it() -> None:
    record = fake_record("rrm", terms=voc_terms("seg+crf"), reason="out of memory")
    assert titles(record) == []
    assert "no row here has been measured" in reason_of(record, "RRM one-step")


def test_coco_numbers_stand_with_their_own_list_of_images() -> None:
    classes = tuple(f"c{k}" for k in range(80))
    tested = {"dataset": "coco14", "classes": classes, "dataset_options": {}}
    fits = titles(voc_record("seg+ms+crf", 40137, **tested))
    assert fits == ["WeCLIP (CRF)", "ToCo ViT-B", "ToCo DeiT-B"]
    assert titles(voc_record("seg+ms+crf", 40504, **tested)) == []
    assert reason_of(voc_record("seg", 40504, **tested), "P-NOC")[-1] == (
        "which list of coco14 val was judged is not known"
    )


# ------------------------------------------------------------------------------------------------- formats


def test_ranks_numbers_and_intervals_of_measured_rows_do_not_change() -> None:
    rows = rows_of([voc_record(), voc_record(method="cam")])
    plain_text, text = render(rows), render(rows, published=PUBLISHED)
    assert text.startswith(plain_text)
    assert HEADING in text
    assert HEADING not in plain_text
    without = json.loads(render(rows, "json"))
    (table,) = json.loads(render(rows, "json", published=PUBLISHED))
    assert [row.pop("origin") for row in table["rows"]] == ["measured", "measured"]
    table.pop("reported")
    assert [table] == without


def test_markdown_has_the_reported_line_its_terms_and_a_line_per_reason() -> None:
    text = render(rows_of([voc_record()]), published=PUBLISHED).split(HEADING)[1]
    (line,) = (line for line in text.splitlines() if "RRM one-step" in line and line.startswith("| reported"))
    for words in (
        "62.6",
        "G 3/3 B 83/5/4 t 10",
        "WRN-38",
        "imagenet",
        "its test program",
        "arXiv 1911.08039",
    ):
        assert words in line
    assert "±" not in line
    assert "here: SegmentationClass" in text
    left = [line for line in text.splitlines() if line.startswith("- left out: ")]
    assert all(re.fullmatch(r"- left out: .+ \(.+\)", line) for line in left)
    assert any("PSA" in line and line.endswith("(on the split test, not on val)") for line in left)


def test_a_table_that_nothing_fits_says_so_and_why() -> None:
    text = render(rows_of([voc_record("seg", 60)]), published=PUBLISHED)
    assert "No published number is known under these terms." in text
    assert "| reported" not in text
    assert "(over 1,449 images of val; here are 60)" in text


def test_json_and_csv_keep_reported_apart_from_measured() -> None:
    rows = rows_of([voc_record()])
    (table,) = json.loads(render(rows, "json", published=PUBLISHED))
    (shown,) = table["reported"]["rows"]
    assert (shown["origin"], shown["method"], shown["miou"]) == ("reported", "RRM one-step", 62.6)
    assert shown["source"]
    assert not {"rank", "interval", "sd", "n"} & set(shown)
    assert all(item["reason"] and item["methods"] for item in table["reported"]["left_out"])
    lines = list(csv.DictReader(io.StringIO(render(rows, "csv", published=PUBLISHED))))
    assert [line["origin"] for line in lines] == ["measured", "reported"]
    assert (lines[1]["miou_reported"], lines[1]["miou_mean"], lines[1]["rank"]) == ("62.6", "", "")
    assert (lines[0]["miou_reported"], lines[0]["miou_mean"]) == ("", "60.0")


def test_latex_sets_a_table_of_reported_numbers_below_each_table() -> None:
    records = [voc_record(stage) for stage in ("seg+crf", "seg+ms+crf", "seg")]
    records.append(voc_record("seg+ms+crf", threshold_policy="label-free"))
    text = render(rows_of(records), "tex", published=PUBLISHED)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 4 + 3
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(set(labels)) == len(labels)
    assert "% voc12: seg, reported: No published number is known under these terms." in text
    assert "its test program" in text
    assert "% left out: " in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_of_reported_numbers_compiles(tmp_path: Path) -> None:
    rows = [[row] for row in rows_of([voc_record("seg+ms+crf"), voc_record("seed")])]
    body = latex_document(rows, (), [beside(table, PUBLISHED).paper_text() for table in rows])
    page = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + body + "\\end{document}"
    (tmp_path / "t.tex").write_text(page, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_page_shows_them_below_the_table_with_a_badge(tmp_path: Path) -> None:
    for stage in ("seg", "seg+crf"):
        write_record(tmp_path / stage, voc_record(stage))

    def no_data(record: Record):
        raise BadData("not here")

    cells = find_records(tmp_path)
    page = html_page(cells, open_data=no_data, published=PUBLISHED)
    assert "<td>reported</td>" in page
    assert "RRM one-step" in page
    assert page.count(f"<h3>{HEADING}</h3>") == 2
    assert "left out: " in page
    assert '<p class="definition">No published number is known' in page
    assert HEADING not in html_page(cells, open_data=no_data)


def test_the_command_shows_them_when_asked(tmp_path: Path) -> None:
    write_record(tmp_path / "runs" / "cell", voc_record())
    runs = str(tmp_path / "runs")

    def report(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["report", runs, *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert HEADING not in report()
    assert HEADING in report("--with-published")
    for format in FORMATS:
        assert "RRM one-step" in report("--with-published", "--format", format)
    report("--with-published", "--html", str(tmp_path / "page.html"))
    assert HEADING in (tmp_path / "page.html").read_text(encoding="utf-8")


# --------------------------------------------------------------------------------------------- the data file


def test_every_number_of_the_file_has_a_source_and_is_possible() -> None:
    assert len(PUBLISHED) > 50
    assert all(entry.source and 0 < entry.miou < 100 for entry in PUBLISHED)
    keys = [(e.title, e.dataset, e.split, e.judged) for e in PUBLISHED]
    assert len(set(keys)) == len(keys)
    assert {fitting_stage(entry) for entry in PUBLISHED} <= {"", *STAGES}


def test_some_numbers_are_those_of_their_sources() -> None:
    known = {(e.title, e.dataset, e.split): e.miou for e in PUBLISHED}
    assert known["RRM one-step", "voc12", "val"] == 62.6
    assert known["1-stage-wseg (CRF)", "voc12", "test"] == 64.3
    assert known["ToCo ViT-B", "coco14", "val"] == 42.2
    assert known["MCTformer", "voc12", "val"] == 71.9
    assert not [e for e in PUBLISHED if e.name.startswith("PuzzleCAM") and e.split == "val"]  # unchecked


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ('source = "a paper"', "", BadData, "missing required field `source`"),
        ('source = "a paper"', 'source = " "', BadData, "a source says where"),
        ("miou = 50.0", "miou = 100.0", BadData, "a percentage"),
        ("miou = 50.0", "miou = nan", BadData, "a percentage"),
        ("miou = 50.0", 'miou = "50"', BadData, "Expected `float`, got `str`"),
        ("miou = 50.0", 'miou = 50.0, dataset = "city"', BadData, "data set 'city' is not in"),
        ("miou = 50.0", 'miou = 50.0, crf_set = "G"', BadData, "a CRF set needs"),
        ("miou = 50.0", 'miou = 50.0, crf = "yes"', BadData, "terms_by says"),
        ("miou = 50.0", 'miou = 50.0, terms_by = "code", multi_scale = "no", scales = [1.0, 2.0]', BadData,
         "scales are positive"),
        ("miou = 50.0", 'miou = 50.0, judged = "maps"', BadData, "have a threshold"),
        ("miou = 50.0", 'miou = 50.0, supervision = ["boxes"]', BadData, "supervision is some of"),
        ("miou = 50.0", "miou = 50.0, mious = 1", UnknownName, "unknown key 'mious'"),
        ("miou = 50.0 }", 'miou = 50.0 }, { split = "val", miou = 51.0 }', BadData, "occurs twice"),
        ('strength = "paper"', 'strength = "rumour"', BadData, "Invalid enum value 'rumour'"),
        ('results = [{ split = "val", miou = 50.0 }]', "results = []", BadData, "has no results"),
        ("[[method]]", "[other]\n[[method]]", UnknownName, "unknown key 'other'"),
        ("[[method]]", "[[method]", BadData, "cannot be read"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_with_the_reason(tmp_path: Path, old, new, error, words: str) -> None:
    path = tmp_path / "published.toml"
    path.write_text(MINIMAL, encoding="utf-8")
    assert [entry.images for entry in load_published(path)] == [1449]
    assert old in MINIMAL
    path.write_text(MINIMAL.replace(old, new), encoding="utf-8")
    with pytest.raises(error, match=words):
        load_published(path)


def test_the_file_names_no_key_that_a_number_does_not_have() -> None:
    fields = {field.name for field in dataclasses.fields(Published)}
    assert {"name", "miou", "source", "strength"} <= fields
    assert "[datasets.voc12]" in FILE.read_text(encoding="utf-8")


def test_the_page_of_all_published_numbers_is_up_to_date() -> None:
    kept = (ROOT / "reports" / "published.md").read_text(encoding="utf-8")
    page = runpy.run_path(str(ROOT / "reports" / "published.py"))["published_page"]
    assert kept == page(PUBLISHED), "python reports/published.py"
    for entry in PUBLISHED:
        assert entry.title in kept
