"""Lists that charts are drawn from, in odd forms: a page and figures, or a record refused by its place."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from wsssbench.cli.main import main
from wsssbench.identity import plain
from wsssbench.records.finding import find_records
from wsssbench.records.store import cell_folder, write_record
from wsssbench.reporting.figures.curves import threshold_figure
from wsssbench.reporting.page.figures import drawn
from wsssbench.reporting.sections import sections_of
from wsssbench.scores.ladder import KINDS

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
fake_record = FAKE["fake_record"]
LADDER = [[kind, 50.0 + n] for n, kind in enumerate(KINDS)]
ALONE = dict.fromkeys(KINDS, 1.0)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file is found by chance."""
    monkeypatch.chdir(tmp_path)


def write(scores: dict[str, Any], seed: int = 0) -> None:
    """A record below ./runs that has `scores` beside IoU, whatever they are."""
    record = fake_record(seed=seed)
    folder = cell_folder("runs", "shapes", "cam", seed, "seg", "val", record.key)
    path = write_record(folder, record)
    content = plain(dataclasses.replace(record, scores={**record.scores, **scores}))
    path.write_text(json.dumps(content))


def page() -> Result:
    return CliRunner().invoke(main, ["report", "runs", "--html", "page.html"])


def figures() -> Result:
    return CliRunner().invoke(main, ["plot", "runs", "--out", "figures", "--format", "svg"])


def curve(values: Any, grid: Any) -> dict[str, Any]:
    return {"threshold_curve": {"best_miou": 50.0, "curve": values, "thresholds": grid}}


def ladder(**changes: Any) -> dict[str, Any]:
    whole = {"miou": 50.0, "alone": ALONE, "ladder": LADDER, **changes}
    return {"error_ladder": {name: value for name, value in whole.items() if value != "absent"}}


def bins(**changes: Any) -> dict[str, Any]:
    return {
        "calibration": {"ece": 3.0, "accuracy": [50.0], "confidence": [40.0], "share": [100.0], **changes}
    }


SHOWN = {
    "a curve of one point": curve([50.0], [0.3]),
    "a curve of no point": curve([], []),
    "a curve without a number": curve([None, None], [0.1, 0.2]),
    "a curve with a gap": curve([1.0, None, 3.0], [0.1, 0.2, 0.3]),
    "a curve of equal numbers": curve([5.0, 5.0], [0.1, 0.2]),
    "no curve": {"threshold_curve": {"best_miou": None}},
    "a metric that says nothing": {"threshold_curve": {}, "calibration": {}, "error_ladder": {}},
    "a ladder without numbers": ladder(
        miou=None, alone=dict.fromkeys(KINDS), ladder=[[k, None] for k in KINDS]
    ),
    "a ladder of other kinds": ladder(ladder=LADDER[:2], alone={"another": 1.0}),
    "one bin": bins(),
    "empty bins": bins(accuracy=[None], confidence=[None], share=[0.0]),
    "no foreground": bins(accuracy_foreground=[None], confidence_foreground=[None], share_foreground=[0.0]),
    "no bins": bins(accuracy=[], confidence=[], share=[]),
    "no pairs": {"confusion_pairs": {"pairs": []}},
}
REFUSED = {
    "a curve without x": {"threshold_curve": {"curve": [1.0, 2.0]}},
    "x without a curve": {"threshold_curve": {"thresholds": [1.0, 2.0]}},
    "a curve longer than x": curve([1.0, 2.0], [0.1]),
    "x of nothing": curve([1.0], [None]),
    "x that falls": curve([1.0, 2.0], [0.2, 0.1]),
    "a curve of words": curve(["a"], [0.1]),
    "a curve of truths": curve([True], [0.1]),
    "a curve of lists": curve([[1.0]], [0.1]),
    "a curve that is a number": curve(5.0, [0.1]),
    "x of words": curve([1.0, 2.0], ["a", 0.1]),
    "a ladder without alone": ladder(alone="absent"),
    "a ladder without steps": ladder(ladder="absent"),
    "a ladder of numbers": ladder(ladder=[1.0, 2.0]),
    "a ladder of words": ladder(ladder=[["stuff", "much"]]),
    "a ladder from a word": ladder(miou="much"),
    "bins without confidence": {"calibration": {"accuracy": [1.0]}},
    "bins of two lengths": bins(confidence=[1.0, 2.0]),
    "foreground bins alone": bins(accuracy_foreground=[1.0]),
    "a pair of an unknown class": {"confusion_pairs": {"pairs": [[0, 3, 1.0]]}},
    "a pair of two": {"confusion_pairs": {"pairs": [[0, 1]]}},
    "pairs that are none": {"confusion_pairs": {"pairs": 3}},
}


def threshold_numbers() -> list[list[str]]:
    """The table of numbers beside the curves of thresholds."""
    (section,) = sections_of(find_records("runs"))
    figure = threshold_figure(section)
    assert figure is not None
    (grid,) = drawn("thresholds", figure).numbers
    return [list(line.values()) for line in grid.lines]


@pytest.mark.parametrize("case", SHOWN)
def test_odd_lists_that_a_metric_may_write_are_shown_or_left_out(case: str) -> None:
    write(SHOWN[case])
    for done in (page(), figures()):
        assert done.exit_code == 0, done.output
    assert "cam" in Path("page.html").read_text()


@pytest.mark.parametrize("case", REFUSED)
def test_lists_that_no_metric_writes_are_refused_by_their_place(case: str) -> None:
    write(REFUSED[case])
    (metric,) = REFUSED[case]
    for done in (page(), figures()):
        assert done.exit_code == 2, done.output
        assert f"record is damaged (scores.{metric}" in done.stderr
        assert "record.json]" in done.stderr
        assert "run the cell again" in done.stderr
    assert not Path("page.html").exists()


def test_seeds_of_other_thresholds_are_left_out_of_the_mean() -> None:
    write(curve([10.0, 20.0], [0.1, 0.2]))
    write(curve([90.0], [0.1]), seed=1)
    write(curve([30.0, 40.0], [0.1, 0.2]), seed=2)
    for done in (page(), figures()):
        assert done.exit_code == 0, done.output
    assert threshold_numbers() == [["0.1", "20"], ["0.2", "30"]]


def test_a_curve_of_one_point_is_a_row_of_the_table_of_numbers() -> None:
    write(curve([50.0], [0.3]))
    assert threshold_numbers() == [["0.3", "50"]]
