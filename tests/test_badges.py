"""Every table says under which conditions its rows came about, and marks rows that are not as usual."""

from __future__ import annotations

import csv
import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from markupsafe import Markup

from wsssbench.cli.main import main
from wsssbench.identity import Record, StepIdentity
from wsssbench.metrics import confusion_counts
from wsssbench.records.store import StoredRecord, cell_folder, write_record
from wsssbench.reporting.conditions import ground_truth, masks_seen, own_scales, row_conditions
from wsssbench.reporting.gate import gate, write_baseline
from wsssbench.reporting.page import html_page
from wsssbench.reporting.protocol_text import protocol_text
from wsssbench.reporting.rows import Row, rows_of
from wsssbench.reporting.table_parts import definition
from wsssbench.reporting.tables import render
from wsssbench.scores.counts_table import COUNTS, CountsTable

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
fake_record, fake_terms = FAKE["fake_record"], FAKE["fake_terms"]
CRF = {
    "gauss_xy": 3, "gauss_compat": 3, "bilateral_xy": 83, "bilateral_rgb": 5, "bilateral_compat": 4,
    "iterations": 10, "xy_scale": 1.0,
}  # fmt: skip
VOC = {
    "dataset": "voc12", "dataset_version": "2012", "dataset_options": {"masks": {"val": "SegmentationClass"}},
    "split_fingerprint": "ab" * 32,
}  # fmt: skip


def of(record: Record, *, source: str = "xml", weights: str = "imagenet") -> Record:
    """The record with where tags come from, and what the weights have seen."""
    cards = {step.name: {"pretraining": weights} for step in record.identity.recipe}
    card = {"label_source": source, "image_px": 500, "image_px_from": "measured"}
    return dataclasses.replace(record, provenance={"dataset": card, "cards": cards})


def voc_rows() -> list[Record]:
    """A usual row, one with COCO's weights and the ceiling, after a dense CRF on VOC val."""
    terms = fake_terms(**VOC, stage="seg+crf", crf=CRF)
    return [
        of(fake_record("cam", terms=terms)),
        of(fake_record("coco-start", miou=70.0, terms=terms), weights="coco"),
        of(fake_record("full", miou=80.0, terms=terms, supervision=("masks", "tags"))),
    ]


def badges(record: Record, **flags: Any) -> tuple[str, ...]:
    (row,) = rows_of([record], limited=True, **flags)
    return row.badges


# ----------------------------------------------------------------------------------------- what stands out


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (of(fake_record()), ()),
        (of(fake_record(), weights="none"), ()),
        (of(fake_record(), weights="coco"), ("COCO weights",)),
        (of(fake_record(), weights="imagenet21k"), ("imagenet21k weights",)),
        (of(fake_record(), source="mask"), ("tags from masks",)),
        (of(fake_record(supervision=("masks",)), source="mask"), ("masks seen",)),
        (of(fake_record(supervision=("saliency", "tags"))), ("saliency",)),
        (of(fake_record(supervision=("unknown",))), ("supervision unknown",)),
        (of(fake_record(terms=fake_terms(limit=20))), ("limit 20",)),
        (of(fake_record(terms=fake_terms(threshold_policy="oracle"))), ("oracle threshold",)),
        (of(fake_record(terms=fake_terms(threshold_policy="held-out"))), ("held-out masks",)),
        (of(fake_record(terms=fake_terms(threshold_policy="held-out"), threshold=None)), ()),
        (of(fake_record(terms=fake_terms(threshold_policy="label-free"))), ()),
        (of(fake_record(terms=fake_terms(custom=True))), ("custom stage",)),
    ],
)
def test_a_row_is_badged_for_what_is_not_as_usual_and_for_nothing_else(
    record: Record, expected: tuple[str, ...]
) -> None:
    assert badges(record) == expected


def test_several_weights_are_badged_one_by_one() -> None:
    recipe = (StepIdentity("cam", "1", {}), StepIdentity("segmenter", "1", {}))
    record = of(fake_record(recipe=recipe))
    cards = {"cam": {"pretraining": "clip"}, "segmenter": {"pretraining": "coco"}}
    assert badges(dataclasses.replace(record, provenance={"cards": cards})) == (
        "CLIP weights",
        "COCO weights",
    )


@pytest.mark.parametrize(
    ("changes", "supervision", "expected"),
    [
        ({}, ("tags",), "none"),
        ({}, ("masks",), "learned from them"),
        ({}, ("unknown",), "unknown"),
        ({"threshold_policy": "oracle"}, ("tags",), "threshold chosen on the judged"),
        (
            {"threshold_policy": "held-out"},
            ("masks",),
            "learned from them, threshold chosen on held-out ones",
        ),
    ],
)
def test_who_has_seen_masks(changes: Any, supervision: tuple[str, ...], expected: str) -> None:
    (row,) = rows_of([fake_record(terms=fake_terms(**changes), supervision=supervision)])
    assert masks_seen(row) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "drawn by the generator"),
        (VOC, "SegmentationClass"),
        ({**VOC, "split": "train"}, "the data set's own masks"),
        ({**VOC, "dataset_options": {"masks": "json"}}, "json"),
    ],
)
def test_the_ground_truth_is_the_folder_of_the_judged_split(changes: Any, expected: str) -> None:
    assert ground_truth(fake_terms(**changes)) == expected


def test_scales_of_the_steps_are_told_where_tags_are_given() -> None:
    config = {"scales": [0.5, 1.0], "flip": True}
    with_tags = fake_record(terms=fake_terms(tags_at_evaluation=True), config=config)
    for record, expected in ((with_tags, "cam 0.5, 1 + flip"), (fake_record(config=config), "")):
        (row,) = rows_of([record])
        assert own_scales(row) == expected
        assert ("scales of the steps" in render([row]).partition("IoU per class")[0]) is bool(expected)


def test_what_rows_share_is_said_once_and_what_differs_by_name() -> None:
    rows = rows_of(voc_rows())
    assert (
        row_conditions(rows, ["image tags from"]) == "Image tags from: the annotated objects of the data set."
    )
    said = row_conditions(rows, ["pretraining"])
    assert said == "Pretraining: imagenet (full, cam); coco (coco-start)."
    assert row_conditions(rows, ["scales of the steps"]) == ""


# ------------------------------------------------------------------------------------------- table by table

SAID = (  # of `voc_rows`, in words that every format has
    ("supervision", ("masks", "tags")),
    ("label source", ("the annotated objects",)),
    ("masks seen", ("learned from them",)),
    ("threshold policy", ("threshold policy fixed",)),
    ("pretraining", ("coco",)),
    ("CRF parameters", ("G 3/3 B 83/5/4 t 10",)),
    ("backend", ("lattice",)),
    ("split", ("split val",)),
    ("ground truth", ("SegmentationClass",)),
    ("resolution", ("at the size of the image",)),
    ("test-time augmentation", ("scales 1, no flip",)),
    ("tags at evaluation", ("not given at evaluation",)),
)


def missing(text: str) -> list[str]:
    return [name for name, words in SAID if not all(word in text for word in words)]


def test_markdown_says_all_of_it_and_marks_rows() -> None:
    text = render(rows_of(voc_rows()))
    assert missing(text) == []
    assert "coco-start [COCO weights]" in text
    assert "full [masks seen]" in text


def test_latex_says_all_of_it_and_marks_rows() -> None:
    text = render(rows_of(voc_rows()), "tex")
    plainly = text.replace("{-}", "-").replace(r"\_", "_")
    assert missing(plainly) == []
    plainly = plainly.replace("{[}", "[").replace("{]}", "]")
    assert "coco-start [COCO weights]" in plainly
    assert "full [masks seen]" in plainly


def test_the_page_says_all_of_it_and_marks_rows() -> None:
    cells = [StoredRecord(record, Path(f"{n}/record.json")) for n, record in enumerate(voc_rows())]
    page = html_page(cells, open_data=lambda record: pytest.fail("there are no masks to show"))
    assert missing(page.replace("&#39;", "'")) == []
    rows = rows_of(voc_rows())
    assert str(Markup.escape(definition(rows))) in page
    assert "COCO weights" in page
    assert "masks seen" in page


def test_json_and_csv_have_a_field_for_each() -> None:
    rows = rows_of(voc_rows())
    (table,) = json.loads(render(rows, "json"))
    full = table["rows"][0]
    assert (full["method"], full["badges"], full["masks_seen"]) == (
        "full",
        ["masks seen"],
        "learned from them",
    )
    assert (full["label_source"], full["pretraining"]) == ("xml", "imagenet")
    assert table["terms"]["crf"] == CRF
    assert missing(table["definition"] + " tags masks coco lattice") == []
    line = next(csv.DictReader(render(rows, "csv").splitlines()))
    expected = {
        "supervision": "masks; tags", "label_source": "xml", "masks_seen": "learned from them",
        "tags_at_evaluation": "False", "threshold_policy": "fixed", "threshold": "fixed 0.3",
        "pretraining": "imagenet", "crf": "G 3/3 B 83/5/4 t 10", "backend": "lattice", "split": "val",
        "ground_truth": "SegmentationClass", "resolution": "image", "test_time": "scales 1, no flip",
        "limit": "", "badges": "masks seen", "arithmetic": "fp32", "scales_of_steps": "",
    }  # fmt: skip
    assert {name: line[name] for name in expected} == expected


def test_the_paragraph_of_a_paper_says_all_of_it() -> None:
    records = voc_rows()
    text = protocol_text(rows_of(records), records)
    for words in ("masks, tags (full)", "the annotated objects", "learned from them (full)",
                  "fixed in advance", "coco (coco-start)", "width 3 px and weight 3", "lattice", "split val",
                  "SegmentationClass", "at the size of the image", "no flip", "not given"):  # fmt: skip
        assert words in text, words
    limited = of(fake_record(terms=fake_terms(limit=20)))
    assert "first 20 images" in protocol_text(rows_of([limited], limited=True), [limited])


def test_the_gate_says_all_of_it_and_marks_rows() -> None:
    records = voc_rows()
    text = str(gate(records, write_baseline(records, 1.0)))
    assert missing(text) == []
    line = next(line for line in text.splitlines() if "| coco-start" in line)
    assert "COCO weights" in line


def test_compare_says_all_of_it_and_marks_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.chdir(tmp_path)
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    for record in voc_rows():
        folder = cell_folder("runs", "voc12", record.method, 0, "seg+crf", "val", record.key)
        labels = np.array([[record.method == "cam", 0, 1, 1]], np.uint8)
        counts = [confusion_counts(truth, labels, 2) for _ in range(3)]
        folder.mkdir(parents=True)
        CountsTable.of(("a", "b", "c"), counts).save(folder / COUNTS)
        write_record(folder, record)
    words = ["compare", "cam", "coco-start", "full", "--runs", "runs", "--resamples", "100"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert missing(done.stdout) == []
    assert "cam - coco-start [COCO weights]" in done.stdout
    assert "cam - full [masks seen]" in done.stdout
    found = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert found[1]["methods"]["full"]["badges"] == ["masks seen"]
    assert found[0]["terms"]["crf"] == CRF


def test_files_that_were_scored_say_that_nothing_is_known_of_how_they_were_made() -> None:
    record = dataclasses.replace(fake_record(supervision=("unknown",)), provenance={"cards": {}})
    (row,) = rows_of([record])
    text = render([row])
    assert "[supervision unknown]" in text
    assert "Masks seen: unknown." in text
    assert "Image tags from: unknown." in text
    heads, _, line = (line.split("|") for line in text.splitlines()[2:5])
    cells = {head.strip(): cell.strip() for head, cell in zip(heads, line, strict=True)}
    assert cells["pretraining"] == "unknown"


def test_rows_with_tags_of_two_sources_get_a_column_for_them() -> None:
    def head(rows: list[Row]) -> str:
        return render(rows).splitlines()[2]

    same = rows_of(voc_rows())
    terms = fake_terms(**VOC, stage="seg+crf", crf=CRF)
    mixed = rows_of([*voc_rows(), of(fake_record("other", terms=terms), source="file")])
    assert "image tags from" not in head(same)
    assert "image tags from" in head(mixed)
    assert "a file of tags (other)" in definition(mixed)


def version(text: str) -> dict[str, Any]:
    return {"provenance": {"versions": {"wsssbench": text}}}


def test_rows_of_unlike_versions_in_one_table_say_theirs() -> None:
    same = [dataclasses.replace(fake_record(name), **version("1.0")) for name in ("cam", "rrm")]
    assert not any("wsssbench" in badge for row in rows_of(same) for badge in row.badges)
    later = [dataclasses.replace(fake_record("rrm", seed), **version(f"1.{seed}")) for seed in (0, 1)]
    badges = {row.method: row.badges for row in rows_of([same[0], *later])}
    assert badges == {"cam": ("wsssbench 1.0",), "rrm": ("wsssbench 1.0, 1.1",)}
    assert not any(row.badges for row in rows_of([same[0], fake_record("rrm")]))  # one does not say
