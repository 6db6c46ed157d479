"""The gate: four exit codes, and every one for its own reason."""

from __future__ import annotations

import dataclasses
import json
import runpy
import statistics
from pathlib import Path

import pytest

from wsssbench.errors import BadData, NotComparable
from wsssbench.records.store import write_record
from wsssbench.reporting.gate import gate, gate_runs, read_baseline, write_baseline

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
fake_record, fake_terms = FAKE["fake_record"], FAKE["fake_terms"]


def baseline(tolerance: float = 1.0) -> dict:
    """From two seeds of two methods: cam 61, rrm 65."""
    records = [fake_record("cam", 0, 60.0), fake_record("cam", 1, 62.0), fake_record("rrm", 0, 65.0)]
    return write_baseline(records, tolerance)


def test_a_baseline_holds_mean_tolerance_n_and_the_terms():
    cam, rrm = sorted(baseline()["rows"], key=lambda row: row["method"])
    assert {k: cam[k] for k in ("method", "dataset", "stage", "metric", "mean", "tolerance", "n")} == {
        "method": "cam", "dataset": "shapes", "stage": "seg", "metric": "miou", "mean": 61.0,
        "tolerance": 1.0, "n": 2,
    }  # fmt: skip
    assert cam["terms"] == rrm["terms"]
    assert json.loads(json.dumps(baseline())) == baseline()


@pytest.mark.parametrize(
    ("now", "code", "verdict"),
    [(61.0, 0, "ok"), (60.0, 0, "ok"), (59.99, 1, "regression"), (62.0, 0, "ok"), (70.0, 0, "better")],
)
def test_a_mean_below_baseline_minus_tolerance_is_a_regression(now, code, verdict):
    result = gate([fake_record("cam", 7, now), fake_record("rrm", 7, 65.0)], baseline())
    assert result.code == code
    assert {line.expected["method"]: line.verdict for line in result.lines} == {"cam": verdict, "rrm": "ok"}
    assert verdict in str(result)
    assert f"{now:.2f} (1)" in str(result)


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        ((59.0, 61.1, 62.9), "regression"),  # every seed a point lower
        ((57.0, 64.0, 62.0), "ok"),  # a point lower on average, and as well three higher
        ((61.0, 63.1, 64.9), "better"),
    ],
)
def test_an_interval_over_paired_seeds_can_decide(now, verdict):
    before = [fake_record("cam", seed, value) for seed, value in enumerate((60.0, 62.0, 64.0))]
    today = [fake_record("cam", seed, value) for seed, value in enumerate(now)]
    result = gate(today, json.loads(json.dumps(write_baseline(before, 0.1))), interval=True)
    (line,) = result.lines
    assert line.verdict == verdict
    changes = [new - old for new, old in zip(now, (60.0, 62.0, 64.0), strict=True)]
    half = 4.302653 * statistics.stdev(changes) / 3**0.5  # Student's 97.5 % point of two degrees of freedom
    assert line.interval == pytest.approx((statistics.mean(changes) - half, statistics.mean(changes) + half))
    assert "3 paired seeds" in str(result)
    assert "interval" in str(result)


def test_an_interval_needs_two_seeds_of_the_baseline():
    records = [fake_record("cam", 0, 61.0), fake_record("cam", 7, 61.0), fake_record("rrm", 0, 65.0)]
    result = gate(records, baseline(), interval=True)
    assert result.code == 3
    assert str(result).count("1 seeds in common") == 2
    older = baseline()
    for row in older["rows"]:
        del row["seeds"]
    assert gate(records, older, interval=True).code == 3
    assert gate(records, older).code == 0


def test_a_missing_method_is_not_comparable():
    result = gate([fake_record("cam", 0, 61.0)], baseline())
    assert result.code == 3
    assert "no record of this method" in str(result)
    assert gate([], baseline()).code == 3


def test_other_terms_are_not_comparable_and_the_field_is_named():
    terms = fake_terms(threshold_policy="oracle", limit=5)
    records = [fake_record(method, 0, 99.0, terms=terms) for method in ("cam", "rrm")]
    result = gate(records, baseline())
    assert result.code == 3
    assert "other terms: limit, threshold_policy" in str(result)


def test_a_failed_cell_counts_like_a_regression():
    records = [fake_record("cam", 0, 61.0), fake_record("rrm", 0, reason="out of memory")]
    result = gate(records, baseline())
    assert result.code == 1
    assert "out of memory" in str(result)


def test_a_regression_outweighs_a_row_that_cannot_be_compared():
    assert gate([fake_record("cam", 0, 10.0)], baseline()).code == 1


def test_two_configurations_of_a_method_are_not_guessed_between():
    records = [fake_record("cam", 0, 61.0), fake_record("cam", 0, 70.0, config={"crop": 9})]
    records.append(fake_record("rrm", 0, 65.0))
    assert gate(records, baseline()).code == 3
    with pytest.raises(NotComparable, match="two configurations"):
        write_baseline(records, 1.0)


def test_limited_runs_can_be_gated():
    terms = fake_terms(limit=8)
    records = [fake_record("cam", 0, 61.0, terms=terms)]
    assert gate(records, write_baseline(records, 0.5)).code == 0


def test_a_failure_cannot_become_a_baseline():
    with pytest.raises(NotComparable, match="died"):
        write_baseline([fake_record(reason="died")], 1.0)


def test_files_are_gated_like_records(tmp_path):
    for record in (fake_record("cam", 0, 50.0), fake_record("rrm", 0, 65.0)):
        write_record(tmp_path / "runs" / record.method, record)
    (tmp_path / "base.json").write_text(json.dumps(baseline()))
    assert gate_runs([tmp_path / "runs"], tmp_path / "base.json").code == 1


def test_a_missing_baseline_exits_3(tmp_path):
    with pytest.raises(NotComparable, match=r"none\.json") as caught:
        read_baseline(tmp_path / "none.json")
    assert caught.value.code == 3


def broken() -> dict[str, str]:
    good = baseline()
    first = good["rows"][0]
    rows = {
        "mean": {**first, "mean": "high"},
        "tolerance": {**first, "tolerance": -1},
        "terms": {k: v for k, v in first.items() if k != "terms"},
        "method": {**first, "method": ""},
        "row": 3,
    }
    files = {name: json.dumps({**good, "rows": [first, row]}) for name, row in rows.items()}
    files |= {"rows": json.dumps({**good, "rows": []}), "baseline": json.dumps({**good, "schema": 9})}
    return {**files, "cannot be read": json.dumps(good)[:-9], "not a baseline": "[]"}


@pytest.mark.parametrize("complaint", list(broken()))
def test_a_bad_baseline_file_exits_2_and_says_what_is_wrong(tmp_path, complaint):
    (tmp_path / "base.json").write_text(broken()[complaint])
    with pytest.raises(BadData, match=rf"(?s){complaint}.*base\.json") as caught:
        read_baseline(tmp_path / "base.json")
    assert caught.value.code == 2


def scored(metric: str, **numbers: float) -> list:
    """Records of seeds 0, 1, 2 with numbers of another metric; `ece=5` gives 4, 5 and 6."""
    made = [fake_record("cam", seed) for seed in range(3)]
    tables = [{name: mid + seed - 1 for name, mid in numbers.items()} for seed in range(3)]
    return [
        dataclasses.replace(record, scores={**record.scores, metric: table})
        for record, table in zip(made, tables, strict=True)
    ]


@pytest.mark.parametrize("interval", [False, True])
@pytest.mark.parametrize(
    ("metric", "number", "change", "verdict"),
    [
        ("calibration", "ece", 3.0, "regression"),  # less is better
        ("calibration", "ece", -3.0, "better"),
        ("calibration", "ece", 0.0, "ok"),
        ("boundary_iou", "boundary_iou", 3.0, "better"),
        ("boundary_iou", "boundary_iou", -3.0, "regression"),
    ],
)
def test_a_loss_is_what_the_metric_says_it_is(
    metric: str, number: str, change: float, verdict: str, interval: bool
) -> None:
    expected = write_baseline(scored(metric, **{number: 20.0}), 1.0, f"{metric}.{number}")
    today = scored(metric, **{number: 20.0 + change})
    (line,) = gate(today, expected, interval=interval).lines
    assert line.verdict == verdict
    assert line.mean == pytest.approx(20.0 + change)
    for row in expected["rows"]:
        assert row.pop("better") == ("lower" if metric == "calibration" else "higher")
    (line,) = gate(today, expected, interval=interval).lines  # an older baseline does not say it
    assert line.verdict == verdict


def test_a_number_of_which_nobody_says_whether_more_is_better_is_not_judged() -> None:
    records = scored("mine", score=20.0)
    expected = write_baseline(records, 1.0, "mine.score")
    result = gate(records, expected)
    assert result.code == 3
    assert "whether a higher mine.score is better is not known" in str(result)
    expected["rows"][0]["better"] = "lower"
    assert gate(scored("mine", score=30.0), expected).code == 1
    expected["rows"][0]["better"] = "less"
    with pytest.raises(BadData, match="better"):
        gate(records, expected)
