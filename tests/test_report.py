"""Rows are ranked among equal terms only and say what they are; tables keep every number."""

from __future__ import annotations

import csv
import json
import runpy
import statistics
from pathlib import Path

import numpy as np
import pytest

from wsssbench.errors import BadData, UnknownName
from wsssbench.identity import StepIdentity
from wsssbench.masks import overlay
from wsssbench.records.store import write_record
from wsssbench.reporting import report
from wsssbench.reporting.rows import rows_of
from wsssbench.reporting.tables import render

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
fake_record, fake_terms = FAKE["fake_record"], FAKE["fake_terms"]


def ranks(rows) -> dict[str, int | None]:
    return {row.title: row.rank for row in rows}


def test_seeds_of_one_method_become_mean_and_sample_deviation():
    values = [60.0, 61.0, 65.0]
    (row,) = rows_of(fake_record("cam", seed, value) for seed, value in enumerate(values))
    miou = row.numbers["miou"]
    assert (miou.mean, miou.sd, miou.n) == (62.0, pytest.approx(statistics.stdev(values)), 3)
    assert row.seeds == (0, 1, 2)
    assert row.numbers["train_images_per_s"].mean == 101
    assert "62.00 ± 2.65 [55.43, 68.57] (3)" in render([row])


def test_one_seed_has_no_deviation():
    (row,) = rows_of([fake_record()])
    assert row.numbers["miou"].sd is None
    assert "60.00 (1)" in render([row])
    assert "± 0" not in render([row])


def test_methods_are_ranked_by_mean_miou_and_ties_share_a_rank():
    values = {"a": 50.0, "b": 70.0, "c": 50.0, "d": 40.0}
    rows = rows_of(fake_record(name, 0, value) for name, value in values.items())
    assert ranks(rows) == {"b": 1, "a": 2, "c": 2, "d": 4}
    assert [row.method for row in rows] == ["b", "a", "c", "d"]


@pytest.mark.parametrize(
    "other",
    [
        {"stage": "pseudo"},
        {"split": "train"},
        {"threshold_policy": "oracle"},
        {"custom": True},
        {"tags_at_evaluation": True},
        {"dataset_options": {"size": 64}},
        {"stage_version": "2"},
    ],
    ids=str,
)
def test_rows_of_other_terms_are_never_ranked_together(other):
    rows = rows_of([fake_record("cam", 0, 50.0), fake_record("rrm", 0, 60.0, terms=fake_terms(**other))])
    assert ranks(rows) == {"cam": 1, "rrm": 1}
    text = render(rows)
    assert text.count("## ") == 2
    assert len({line for line in text.splitlines() if line.startswith("## ")}) == 2  # distinguished by name


def test_oracle_and_custom_rows_are_flagged():
    text = render(rows_of([fake_record(terms=fake_terms(threshold_policy="oracle", custom=True))]))
    assert "cam [oracle threshold] [custom stage]" in text
    assert "Oracle thresholds were chosen on the judged masks" in text
    assert "shapes: seg (custom stage) on val" in text


def test_limited_runs_stay_out_unless_asked_for():
    records = [fake_record(), fake_record("rrm", terms=fake_terms(limit=8))]
    assert [row.method for row in rows_of(records)] == ["cam"]
    both = rows_of(records, limited=True)
    assert ranks(both) == {"cam": 1, "rrm": 1}
    assert "[limit 8]" in render(both)


def test_failures_are_shown_with_their_reason_and_do_not_enter_means():
    records = [fake_record("cam", 0, 60.0), fake_record("cam", 1, reason="loss is nan | dead")]
    records.append(fake_record("rrm", 0, reason="out of memory"))
    cam, rrm = rows_of(records)
    assert (cam.rank, cam.numbers["miou"].n, cam.badges) == (1, 1, ("1 of 2 failed",))
    assert (rrm.rank, rrm.failed) == (None, True)
    text = render([cam, rrm])
    assert "- rrm: out of memory" in text
    assert "loss is nan" in text
    assert "failed" in next(line for line in text.splitlines() if "rrm [" in line)


def test_a_result_beats_a_failure_of_the_same_key_and_copies_count_once():
    good, bad = fake_record(), fake_record(reason="killed")
    for records in ([good, bad], [bad, good], [good, good]):
        (row,) = rows_of(records)
        assert row.numbers["miou"].n == 1
        assert not row.reasons


def test_two_configurations_of_one_method_are_two_rows_named_by_what_differs():
    records = [fake_record("rrm", seed, 60.0 + seed, config={"crop": 64}) for seed in (0, 1)]
    records.append(fake_record("rrm", 0, 50.0, config={"crop": 96}))
    records.append(fake_record("rrm", 0, 40.0, config={"crop": 96}, precision="bf16"))
    assert ranks(rows_of(records)) == {
        "rrm (precision=fp32, rrm.crop=64)": 1,
        "rrm (precision=fp32, rrm.crop=96)": 2,
        "rrm (precision=bf16, rrm.crop=96)": 3,
    }


def test_stale_rows_carry_a_badge():
    record = fake_record()
    assert "cam [stale]" in render(rows_of([record], stale={record.key}))


def test_the_ceiling_is_shown_but_not_ranked_and_gives_percentages():
    records = [fake_record("full", 0, 80.0, supervision=("masks",)), fake_record("cam", 0, 60.0)]
    records.append(fake_record("big", 0, 70.0, config={"backbone": "resnet50"}))
    rows = rows_of(records)
    assert ranks(rows) == {"full": None, "big": 1, "cam": 2}
    assert {row.method: row.of_full for row in rows} == {"full": 100, "cam": 75, "big": None}
    assert "ceiling" in render(rows)
    elsewhere = [fake_record("full", 0, 80.0, supervision=("masks",), terms=fake_terms(split="train"))]
    assert rows_of([*elsewhere, records[1]])[1].of_full is None


def test_the_table_defines_its_numbers():
    text = render(rows_of([fake_record(miou=61.239)]))
    for part in ("Stage seg (version 1); shapes 1", "split val (drawn for each seed); 40 images",
                 "not given at evaluation", "threshold policy fixed", "means over the 2 classes",
                 "left out: stripe", "background included"):  # fmt: skip
        assert part in text
    assert "61.24 (1)" in text
    assert "| ring       | 61.2" in text
    assert "| stripe" not in text
    assert "fixed 0.3" in text
    assert "imagenet" in text


def test_json_and_csv_keep_unrounded_numbers_and_every_seed():
    values = [61.23456789, 62.3456789]
    rows = rows_of(fake_record("cam", seed, value) for seed, value in enumerate(values))
    (table,) = json.loads(render(rows, "json"))
    (row,) = table["rows"]
    assert row["numbers"]["miou"]["values"] == values
    assert row["per_class_iou"]["ring"]["values"] == values
    assert row["per_class_iou"]["stripe"] is None
    assert table["terms"]["split"] == "val"
    (line,) = csv.DictReader(render(rows, "csv").splitlines())
    assert float(line["miou_mean"]) == statistics.fmean(values)
    assert float(line["miou_sd"]) == statistics.stdev(values)
    assert (line["method"], line["seeds"], line["rank"]) == ("cam", "0; 1", "1")


def test_csv_of_two_data_sets_has_the_columns_of_both():
    other = fake_terms(dataset="voc12", classes=("cat", "dog"), split_fingerprint="f" * 64)
    lines = list(
        csv.DictReader(render(rows_of([fake_record(), fake_record(terms=other)]), "csv").splitlines())
    )
    assert [line["dataset"] for line in lines] == ["shapes", "voc12"]
    assert (lines[0]["iou[ring]"], lines[0]["iou[cat]"]) == ("60.0", "")


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(UnknownName, match=r"jsno.*\n.*json"):
        render([], "jsno")


def test_numbers_that_are_undefined_leave_blank_cells():
    rows = rows_of([fake_record(miou=None, scores={"precision": None})])
    assert rows[0].rank is None
    assert "None" not in render(rows)


def test_report_reads_several_folders_and_says_when_there_is_nothing(tmp_path):
    write_record(tmp_path / "a" / "cell", fake_record("cam"))
    write_record(tmp_path / "b" / "cell", fake_record("rrm", terms=fake_terms(limit=4)))
    text = report([tmp_path / "a", tmp_path / "b"])
    assert "cam" in text
    assert "rrm" not in text
    assert "rrm" in report([tmp_path / "a", tmp_path / "b"], limited=True)
    assert "--limit" in report([tmp_path / "b"])
    (tmp_path / "c").mkdir()
    assert "No records" in report([tmp_path / "c"])
    assert report([tmp_path / "c"], "json") == "[]\n"
    with pytest.raises(BadData, match="nowhere"):
        report([tmp_path / "nowhere"])


# ---------------------------------------------------------------------------------------------- pictures


def test_overlay_colours_classes_greys_void_and_keeps_background():
    image = np.full((1, 3, 3), 100, np.uint8)
    mixed = overlay(image, np.array([[0, 1, 255]], np.uint8), alpha=0.5)
    assert mixed[0, 0].tolist() == [100, 100, 100]
    assert mixed[0, 1].tolist() == [114, 50, 50]  # half of (128, 0, 0)
    assert len(set(mixed[0, 2].tolist())) == 1
    assert mixed[0, 2, 0] > 150
    with pytest.raises(ValueError, match="size"):
        overlay(image, np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize(
    ("steps", "said"),
    [(["cam"], "no"), (["cam", "crf"], "in recipe"), (["cam", "crf", "segmenter"], "on training labels")],
)
def test_a_row_says_whether_a_crf_made_its_masks_or_the_labels_it_learned_from(steps, said):
    recipe = tuple(StepIdentity(name, "1", {}) for name in steps)
    heads, _, line = (
        text.split("|") for text in render(rows_of([fake_record(recipe=recipe)])).splitlines()[2:5]
    )
    cells = {head.strip(): cell.strip() for head, cell in zip(heads, line, strict=True)}
    assert cells["CRF"] == said


def test_a_metric_beside_iou_has_one_column_and_all_its_numbers_in_csv():
    record = fake_record()
    record.scores["boundary_iou"] = {"a_share": 5.0, "boundary_iou": 41.25, "n_images": 40}
    record.scores["activation"] = {"under_activation": 0.5, "over_activation": 0.25}
    text = render(rows_of([record, fake_record("rrm")]))
    head = text.splitlines()[2]
    assert "| boundary_iou " in head
    assert "| activation: over_activation " in head
    assert "under_activation" not in head
    assert "41.25" in text
    assert "under_activation" in render(rows_of([record]), "csv")
