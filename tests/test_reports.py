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


def test_kept_measurements_name_no_folder_and_no_machine() -> None:
    for path in (REPORTS / "performance").iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"[\"' ]/[a-z]+/", text), path.name
        assert set(json.loads(text)["machine"]) <= {"cpu", "cores", "features", "load_average", "versions"}


def test_no_record_names_a_folder_of_the_machine_that_made_it() -> None:
    from wsssbench.store import find_records

    def words(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [word for each in value.values() for word in words(each)]
        return [word for each in value for word in words(each)] if isinstance(value, list) else [str(value)]

    for archive in (REPORTS / "records").iterdir():
        for stored in find_records(archive):
            named = [word for word in words(dict(stored.record.provenance)) if Path(word).is_absolute()]
            assert not named, f"{archive.name}: {stored.record.method}: {named[:3]}"
