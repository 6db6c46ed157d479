"""Figures: drawn where records allow them, of the right numbers, equal bytes each time."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from wsssbench.cli.main import main
from wsssbench.identity import Record
from wsssbench.records.store import StoredRecord, cell_folder, write_record
from wsssbench.reporting.figures.bars import class_figure, ladder_figure, miou_figure
from wsssbench.reporting.figures.curves import (
    coverage_figure,
    reliability_figure,
    threshold_figure,
    training_figure,
)
from wsssbench.reporting.figures.style import FORMATS, file_bytes, literal
from wsssbench.reporting.sections import sections_of
from wsssbench.scores.ladder import KINDS

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
fake_record, fake_terms = FAKE["fake_record"], FAKE["fake_terms"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_scores(record: Record, **scores: Any) -> Record:
    record.scores.update(scores)  # type: ignore[attr-defined]
    return record


def tables(*records: Record) -> Any:
    return sections_of(StoredRecord(record, Path("a/b/c/d/record.json")) for record in records)


def table(*records: Record) -> Any:
    (only,) = tables(*records)
    return only


def lines_at(panel: Any) -> list[list[float]]:
    return [np.asarray(line.get_ydata(), float).tolist() for line in panel.lines]


LADDER = {
    "miou": 60.0,
    "alone": dict.fromkeys(KINDS, 8.0),
    "ladder": [[k, 60.0 + 8 * (i + 1) - 8 * (i == 5)] for i, k in enumerate(KINDS)],
}
BINS = {
    name + suffix: values
    for suffix in ("", "_foreground")
    for name, values in (
        ("accuracy", [None, 40.0, 90.0]),
        ("confidence", [None, 50.0, 95.0]),
        ("share", [0.0, 30.0, 70.0]),
    )
}
CURVE = {"thresholds": [0.0, 0.3, 0.6], "curve": [40.0, 60.0, 20.0]}


def test_the_figure_of_miou_has_a_panel_a_table_and_a_mark_for_mean_interval_and_each_seed() -> None:
    records = [fake_record("cam", seed, 60.0 + seed) for seed in range(3)]
    records.append(fake_record("cam", 0, 50.0, terms=fake_terms(stage="pseudo")))
    figure = miou_figure(tables(*records))
    assert figure is not None
    one, several = figure.axes
    marks = [np.asarray(line.get_xdata(), float).tolist() for line in several.lines]
    assert marks == [pytest.approx([58.5159, 63.4841], abs=1e-3), [60.0, 61.0, 62.0], [61.0]]
    assert [len(line.get_xdata()) for line in one.lines] == [1, 1]  # a single seed has no interval


def test_classes_are_bars_of_the_mean_and_those_without_truth_are_left_out() -> None:
    figure = class_figure(table(fake_record("cam", 0, 60.0), fake_record("rrm", 0, 70.0)))
    assert figure is not None
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["background", "ring"]
    assert [bar.get_height() for bar in panel.patches] == [80.0, 70.0, 80.0, 60.0]


def test_many_classes_are_broken_into_panels() -> None:
    terms = fake_terms(classes=tuple(f"c{k}" for k in range(20)))
    record = fake_record(terms=terms, scores={"per_class": [50.0] * 21, "left_out": []})
    figure = class_figure(table(record))
    assert figure is not None
    assert [len(panel.patches) for panel in figure.axes] == [7, 7, 7]


def test_the_mean_of_threshold_curves_is_drawn_with_the_threshold_in_use() -> None:
    records = [
        with_scores(fake_record(seed=s), threshold_curve={**CURVE, "curve": [40.0 + s, 60.0, 20.0]})
        for s in (0, 2)
    ]
    figure = threshold_figure(table(*records))
    assert figure is not None
    assert lines_at(figure.axes[0]) == [[40.0, 60.0, 20.0], [42.0, 60.0, 20.0], [41.0, 60.0, 20.0], [60.0]]


def test_rows_that_differ_in_one_number_are_joined_in_the_order_of_its_values() -> None:
    records = [
        fake_record("sure", config={"fraction": f}, scores={"precision": 100 - 50 * f, "coverage": 90 * f})
        for f in (0.8, 0.2, 0.4)
    ]
    figure = coverage_figure(table(*records, fake_record("cam")))
    assert figure is not None
    assert lines_at(figure.axes[0]) == [[90.0, 80.0, 60.0], [71.0]]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.2", "0.8"]


def test_a_table_where_all_is_labelled_has_no_figure_of_coverage() -> None:
    assert coverage_figure(table(fake_record())) is None


def test_the_ladder_reaches_from_miou_to_100() -> None:
    figure = ladder_figure(table(with_scores(fake_record(), error_ladder=LADDER)))
    assert figure is not None
    bars = figure.axes[0].patches
    assert bars[0].get_width() == 60.0
    assert bars[-1].get_x() + bars[-1].get_width() == pytest.approx(100.0)


def test_empty_bins_of_calibration_are_left_out() -> None:
    figure = reliability_figure(table(with_scores(fake_record(), calibration=BINS)))
    assert figure is not None
    assert lines_at(figure.axes[0]) == [[0.0, 100.0], [40.0, 90.0]]


@pytest.mark.parametrize("draw", [threshold_figure, ladder_figure, reliability_figure])
def test_what_the_records_do_not_have_is_not_drawn(draw: Any) -> None:
    assert draw(table(fake_record())) is None


def test_losses_are_the_median_of_seeds() -> None:
    logs = [{"total": [(step, value + step) for step in range(1, 11)]} for value in (0.0, 1.0, 5.0)]
    figure = training_figure({"rrm": logs})
    assert figure is not None
    *seeds, middle = lines_at(figure.axes[0])
    assert len(seeds) == 3
    assert middle == [1.0 + step for step in range(1, 11)]
    assert training_figure({}) is None


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_figure_twice_has_the_same_bytes(format: str) -> None:
    def drawn() -> bytes:
        figure = class_figure(table(fake_record("cam"), fake_record("r$r_m$", 0, 50.0)))
        assert figure is not None
        return file_bytes(figure, format)

    assert drawn() == drawn()


def test_names_are_drawn_literally_and_long_ones_are_cut() -> None:
    assert literal("a$b$") == r"a\$b\$"
    assert len(literal("x" * 100, 20)) == 20


# ----------------------------------------------------------------------------------------------- the command


def keep(record: Record) -> Path:
    """The record as a cell below runs/."""
    terms, seed = record.identity.terms, record.identity.seed
    folder = cell_folder("runs", terms.dataset, record.method, seed, terms.stage, terms.split, record.key)
    write_record(folder, record)
    return folder


def plot(*words: object) -> Result:
    return CliRunner().invoke(main, ["plot", *map(str, words)])


def test_plot_writes_what_the_records_and_logs_allow_and_prints_the_files() -> None:
    keep(with_scores(fake_record(), error_ladder=LADDER))
    step = Path("runs/shapes/steps/cam-12345678")
    step.mkdir(parents=True)
    entries = [json.dumps({"done": n, "losses": {"total": 1.0 / n}}) for n in range(1, 5)]
    (step / "log.jsonl").write_text("\n".join([*entries, '{"done": 5, "los']))  # killed in a line
    done = plot("--out", "figures", "--format", "png")
    assert done.exit_code == 0, done.output
    names = ["captions.md", *(f"{n}.png" for n in ("classes-shapes-seg-val", "ladder-shapes-seg-val",
             "miou-shapes", "training-shapes-cam"))]  # fmt: skip
    assert sorted(p.name for p in Path("figures").iterdir()) == names
    assert sorted(Path(line).name for line in done.stdout.split()) == names
    captions = Path("figures/captions.md").read_text()
    assert [name for name in names[1:] if f"**{name[:-4]}**" not in captions] == []


def test_tables_of_one_stage_get_names_of_their_own() -> None:
    for policy in ("fixed", "oracle"):
        keep(fake_record(terms=fake_terms(threshold_policy=policy)))
    assert plot("--out", "figures", "--format", "svg").exit_code == 0
    found = {path.name for path in Path("figures").glob("classes-*")}
    assert found == {f"classes-shapes-seg-val-{policy}.svg" for policy in ("fixed", "oracle")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "gif"), "no format 'gif'"),
        (("--method", "camm"), "did you mean cam"),
        (("--stage", "sag"), "did you mean seg"),
        (("nowhere",), "no such folder of runs"),
    ],
)
def test_a_wrong_request_is_one_clear_error(words: tuple[str, ...], said: str) -> None:
    keep(fake_record())
    done = plot(*words, "--out", "figures")
    assert done.exit_code == 2
    assert said in done.output
    assert not Path("figures").exists()


def test_limited_runs_are_drawn_when_asked_for() -> None:
    keep(fake_record(terms=fake_terms(limit=8)))
    refused = plot("--out", "figures")
    assert refused.exit_code == 2
    assert "--limited" in refused.output
    assert plot("--out", "figures", "--limited", "--format", "svg").exit_code == 0
