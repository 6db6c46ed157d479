"""Records of the bench and their tables: what is one record, and what may stand in one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wsssbench.errors import BadData
from wsssbench.identity import StepIdentity
from wsssbench.records.finding import find_records
from wsssbench.reporting import report
from wsssbench.reporting.tables import render
from wsssbench.reporting.throughput import throughput_tables
from wsssbench.throughput.record import (
    BenchProtocol,
    BenchRecord,
    Lap,
    Machine,
    bench_line,
    find_benches,
    read_bench,
    write_bench,
)

PROTOCOL = BenchProtocol(warmup=2, repeats=3)
GPU = Machine("cuda", "NVIDIA H200", "Old", 16)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`runs` is this test's own."""
    monkeypatch.chdir(tmp_path)


# ------------------------------------------------------------------------------------------------- records


def made_up(method: str = "cam", **changes: Any) -> BenchRecord:
    """A record with a training and a call."""
    laps = [Lap(seconds, 16, {}) for seconds in (1.0, 2.0, 3.0)]
    lines = (
        bench_line("cam", "train", laps, [Lap(2.0, 16, {"network": 1.5})], 5_000_000),
        bench_line("cam", "predict val", [Lap(0.5, 16, {})]),
    )
    fields: dict[str, Any] = {
        "method": method, "dataset": "shapes", "dataset_version": "1", "dataset_options": {"px": 96},
        "seed": 0, "steps": (StepIdentity("cam", "1", {"batch": 16}),), "precision": "fp32",
        "filter_backend": "lattice", "machine": Machine("cpu", "Old", "Old", 2), "protocol": PROTOCOL,
        "versions": {"torch": "2.9"}, "lines": lines, "provenance": {"finished": "2026-01-01T00:00:00"},
    }  # fmt: skip
    return BenchRecord(**{**fields, **changes})


def test_a_record_is_read_as_it_was_written_and_lies_beside_the_cells_without_being_one() -> None:
    record = made_up("cam > crf")
    path = write_bench(Path("runs"), record)
    assert path.parent.parent.name == "bench"
    assert path.parent.name == record.key[:8]
    assert read_bench(path) == record
    assert find_benches("runs") == [record]
    assert find_records("runs") == []
    assert find_benches("nowhere") == []


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"machine": Machine("cpu", "Old", "Old", 4)}, False),
        ({"machine": Machine("cuda", "GPU", "Old", 2)}, False),
        ({"protocol": BenchProtocol(3, 3)}, False),
        ({"steps": (StepIdentity("cam", "1", {"batch": 8}),)}, False),
        ({"precision": "bf16"}, False),
        ({"filter_backend": "exact"}, False),
        ({"seed": 1}, False),
        ({"dataset_options": {"px": 48}}, False),
        ({"versions": {"torch": "3.0"}}, True),
        ({"lines": ()}, True),
        ({"provenance": {"finished": "2027-01-01T00:00:00"}}, True),
    ],
)
def test_the_same_on_the_same_hardware_replaces_its_record_and_all_else_stands_beside_it(
    changes: dict[str, Any], same: bool
) -> None:
    write_bench(Path("runs"), made_up())
    write_bench(Path("runs"), made_up(**changes))
    assert len(find_benches("runs")) == (1 if same else 2)


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"schema": 1}', '{"schema": 99}'])
def test_a_damaged_record_is_named(damage: str) -> None:
    path = write_bench(Path("runs"), made_up())
    path.write_text(damage)
    with pytest.raises(BadData, match="bench record") as caught:
        report(["runs"])
    assert caught.value.where == str(path)


def test_a_record_with_a_missing_number_is_damaged() -> None:
    path = write_bench(Path("runs"), made_up())
    content = json.loads(path.read_text())
    del content["lines"][0]["median_ms"]
    path.write_text(json.dumps(content))
    with pytest.raises(BadData, match="damaged"):
        read_bench(path)


# -------------------------------------------------------------------------------------------------- report


def test_no_table_holds_numbers_of_two_machines_or_data_sets() -> None:
    other = {"dataset_options": {"px": 48}}
    records = [made_up(), made_up("rrm"), made_up(machine=GPU), made_up(**other)]
    tables = throughput_tables([*records, made_up()])  # a copied folder adds nothing
    assert sorted(len(table.records) for table in tables) == [1, 1, 2]
    text = render((), "md", tables)
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## throughput: shapes (px=96) on NVIDIA H200, Old, 16 threads",
        "## throughput: shapes (px=96) on Old, 2 threads",
        "## throughput: shapes (px=48) on Old, 2 threads",
    ]
    assert "allocated on the GPU" in text
    assert "largest resident set" in text


def test_the_table_shows_the_numbers_and_below_them_where_the_time_goes() -> None:
    (table,) = throughput_tables([made_up()])
    main_table, phases = (text.markdown().split("\n\n")[1] for text in table.texts())
    head, _, training, call = ([cell.strip() for cell in line.split("|")] for line in main_table.splitlines())
    shown = dict(zip(head, training, strict=True))
    assert shown["median ms [quartiles]"] == "2000.0 [1500.0, 2500.0]"
    assert (shown["images/s"], shown["peak MB"], shown["batch"], shown["measured"]) == ("8.0", "5", "16", "3")
    assert call[head.index("peak MB")] == ""
    assert "1500.0 (75 %)" in phases
    assert "500.0 (25 %)" in phases
    assert "predict val" not in phases  # of which it is not known


def test_records_of_one_method_are_told_apart_by_what_differs() -> None:
    records = [made_up(), made_up(protocol=BenchProtocol(9, 3)), made_up("rrm")]
    (table,) = throughput_tables(records)
    titles = {row["method"]: row["variant"] for row in table.data()["rows"] if row["method"] == "rrm"}
    assert titles == {"rrm": ""}
    assert {row["variant"] for row in table.data()["rows"]} == {"", "warmup=2", "warmup=9"}
    assert "cam (warmup=9)" in table.texts()[0].markdown()


def test_the_report_adds_throughput_after_the_other_tables_and_only_where_there_is_some() -> None:
    Path("runs").mkdir()
    assert report(["runs"]) == "No records yet.\n"
    assert json.loads(report(["runs"], "json")) == []
    write_bench(Path("runs"), made_up())
    write_bench(Path("runs"), made_up(machine=GPU))
    assert report(["runs"]).count("## throughput: shapes on") == 2
    tables = json.loads(report(["runs"], "json"))
    assert [(t["stage"], t["dataset"], t["machine"]["name"]) for t in tables] == [
        ("bench", "shapes", "NVIDIA H200"),
        ("bench", "shapes", "Old"),
    ]
    assert [row["images_per_s"] for row in tables[0]["rows"]] == [8.0, 32.0]
    header, *lines = report(["runs"], "csv").splitlines()
    assert len(lines) == sum(len(table["rows"]) for table in tables)
    assert {"dataset", "stage", "method", "machine_name", "images_per_s"} <= set(header.split(","))
