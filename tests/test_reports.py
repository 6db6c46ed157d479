"""The committed reports say what the records beside them say, by today's code."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

REPORTS = Path(__file__).resolve().parents[1] / "reports"
RENDER = runpy.run_path(str(REPORTS / "render.py"))
PAGES = sorted(page.name for page in REPORTS.glob("*.md") if RENDER["PART"].search(page.read_text("utf-8")))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date_with_its_records(name: str) -> None:
    text = (REPORTS / name).read_text(encoding="utf-8")
    assert RENDER["render"](text) == text, "run `python reports/render.py` and look at what has changed"


def test_every_kept_file_is_shown_on_a_page_and_every_shown_one_is_there() -> None:
    shown: set[Path] = set()
    for name in PAGES:
        for part in RENDER["PART"].finditer((REPORTS / name).read_text(encoding="utf-8")):
            shown |= set(RENDER["sources"](part[2], part[3]))
    assert shown == {path for folder in ("records", "performance") for path in (REPORTS / folder).iterdir()}
    assert len(PAGES) >= 4


def test_a_changed_number_is_noticed() -> None:
    text = (REPORTS / "shapes.md").read_text(encoding="utf-8")
    changed = text.replace("| 72.21 ±", "| 72.22 ±")
    assert changed != text
    assert RENDER["render"](changed) == text


def test_a_changed_measurement_of_speed_is_noticed(tmp_path: Path) -> None:
    text_of = runpy.run_path(str(REPORTS / "performance.py"))["text_of"]
    kept = REPORTS / "performance" / "cpu.json"
    content = json.loads(kept.read_text(encoding="utf-8"))
    case = next(case for case in content["cases"] if case.get("beside"))
    case["beside"][0] |= {"ratio": 123.0, "met": False}
    (tmp_path / "cpu.json").write_text(json.dumps(content))
    changed = text_of([tmp_path / "cpu.json"])
    assert "| 123.00 [" in changed
    assert "123.00" not in text_of([kept])


def measured_on_a_gpu() -> dict[str, Any]:
    """As pytest-benchmark writes it: mining in 7 ms, 8 CRFs in 120 ms, 14 and 1.5 steps a second."""
    seconds = {"mining": 0.007, "crf": 0.12, "paper": 2.0, "peer": 9.0}
    found = {"mining": {"note": "99.99 %"}, "crf": {"images": 8}}
    for row, rate in (("paper", 14.0), ("peer", 1.5)):
        times = dict.fromkeys(("median_ms", "quartile1_ms", "quartile3_ms"), 1000 / rate)
        found[row] = {"per_second": rate, "steps": 60, **times}
    cases = [
        {
            "name": f"test_{row}",
            "group": "gpu",
            "extra_info": {"what": f"work of {row}", "gpu": {"row": row, "peak_bytes": 3e9, **found[row]}},
            "stats": {"median": median, "q1": median, "q3": median, "rounds": 30},
        }
        for row, median in seconds.items()
    ]
    machine = {"cpu": "a CPU", "cores": 16, "versions": {"torch": "2"}, "features": []}
    machine |= {"gpu": "NVIDIA H200", "cuda": "13.0", "load_average": 0.5}
    info = {"machine_info": machine, "commit_info": {"id": "abc"}, "datetime": "2030-01-01T00:00"}
    return {**info, "benchmarks": cases}


def test_what_a_gpu_measured_fills_its_rows_and_the_others_stand_empty(tmp_path: Path) -> None:
    page = runpy.run_path(str(REPORTS / "performance.py"))
    on_cpu = {"machine_info": {}}
    assert page["by_device"]([on_cpu]) == {"cpu.json": [on_cpu]}
    measured = measured_on_a_gpu()
    assert page["by_device"]([measured, on_cpu]) == {"cpu.json": [on_cpu], "gpu.json": [measured]}
    gpu = tmp_path / "gpu.json"
    gpu.write_text(json.dumps(page["slim"]([measured])))
    text = page["text_of"]([REPORTS / "performance" / "cpu.json", gpu])
    rows = {
        cells[0]: cells[1:]
        for line in text.splitlines()
        if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) > 2
    }
    name = "GPU (NVIDIA H200): "
    assert "on one NVIDIA H200 (CUDA 13.0) and 16 cores of a CPU" in text
    assert [rows[f"{name}work of mining"][k] for k in (1, -1)] == ["7.00 ms", "yes"]
    assert [rows[f"{name}work of crf"][k] for k in (1, -1)] == ["15.00 ms", "**no**"]
    assert [rows[f"{name}work of paper"][k] for k in (1, -1)] == ["14.0 steps/s", "yes"]
    assert [rows[f"{name}work of peer"][k] for k in (1, -1)] == ["1.5 steps/s", ""]
    assert rows[f"{name}dense energy of 4 crops, forward and backward"][-1].startswith("not run")
    assert rows["work of crf"] == ["120.00 [120.00, 120.00]", "66.7 images/s", "3000", ""]


def test_kept_measurements_name_no_folder_and_no_machine() -> None:
    for path in (REPORTS / "performance").iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"[\"' ]/[a-z]+/", text), path.name
        known = {"cpu", "cores", "features", "load_average", "versions", "gpu", "cuda"}
        assert set(json.loads(text).get("machine", {})) <= known


def test_no_record_names_a_folder_of_the_machine_that_made_it() -> None:
    from wsssbench.records.finding import find_records

    def words(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [word for each in value.values() for word in words(each)]
        return [word for each in value for word in words(each)] if isinstance(value, list) else [str(value)]

    for archive in (REPORTS / "records").iterdir():
        for stored in find_records(archive):
            named = [word for word in words(dict(stored.record.provenance)) if Path(word).is_absolute()]
            assert not named, f"{archive.name}: {stored.record.method}: {named[:3]}"
