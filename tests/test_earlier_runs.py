"""Runs of the version before terms changed: they load, verify, are shown apart, and are judged again without
training. `earlier_runs.zip` was made by that version: `constant` on 12 and 6 images of tiny `shapes`, judged
in `seg`, and in `pseudo` with held-out images."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wsssbench.cli.main import main
from wsssbench.identity import content_key, plain
from wsssbench.records.finding import find_records
from wsssbench.records.record_check import checked_record
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.conditions import EARLIER
from wsssbench.reporting.rows import rows_of
from wsssbench.reporting.tables import render

HERE = Path(__file__).resolve().parent
RECORDS = HERE.parent / "reports" / "records"
RUNS = HERE / "earlier_runs.zip"
TINY = ("-o", "shapes.preset=tiny", "-o", "shapes.train=12", "-o", "shapes.val=6")
ASKED = ("--method", "constant", "--dataset", "shapes", "--device", "cpu", "--stages", "seg", *TINY)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with zipfile.ZipFile(RUNS) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ok(*words: str) -> str:
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == 0, done.output
    return done.output


def by_protocol(runs: str = "runs") -> tuple[list[StoredRecord], list[StoredRecord]]:
    """The records of before, and those of today."""
    found = find_records(runs)
    return (
        [s for s in found if s.record.identity.terms.earlier],
        [s for s in found if not s.record.identity.terms.earlier],
    )


NOW = ("voc6_screen.zip",)  # made by the protocol of now


def test_records_of_now_say_their_size_and_keep_their_keys() -> None:
    for stored in (stored for archive in NOW for stored in find_records(RECORDS / archive)):
        assert not stored.record.identity.terms.earlier
        assert stored.record.identity.terms.image_px == 375
        assert content_key(stored.record.identity) == stored.record.key


@pytest.mark.parametrize("archive", sorted({p.name for p in RECORDS.glob("*.zip")} - {*NOW}))
def test_records_of_before_keep_their_keys_and_their_form(archive: str) -> None:
    for stored in find_records(RECORDS / archive):
        record = stored.record
        assert record.identity.terms.earlier
        assert content_key(record.identity) == record.key
        added = {"judged", "threshold_rule", "fit_options"}
        assert not added & {*plain(record.identity), *plain(record.identity.terms)}
        assert checked_record(plain(record)) == record


def test_runs_of_before_verify(here: Path) -> None:
    output = ok("verify", "runs")
    assert "2 ok, 0 differs" in output


def test_a_changed_record_of_before_is_still_found_out(here: Path) -> None:
    path = next(here.glob("runs/shapes/constant/seed0/seg-val-*/record.json"))
    content = json.loads(path.read_text())
    content["identity"]["batch"] = 7
    path.write_text(json.dumps(content))
    done = CliRunner().invoke(main, ["verify", "runs"])
    assert done.exit_code == 1
    assert "protocol key" in done.output


def test_they_are_judged_again_without_training_and_stand_apart_from_what_is_new(here: Path) -> None:
    (fitted,) = here.glob("runs/shapes/steps/*/fitted.json")
    before = fitted.read_bytes(), fitted.stat().st_mtime_ns
    ok("run", *ASKED, "--quiet")
    assert (fitted.read_bytes(), fitted.stat().st_mtime_ns) == before
    assert len(list(here.glob("runs/shapes/steps/*"))) == 1
    earlier, now = by_protocol()
    assert (len(earlier), len(now)) == (2, 1)
    (again,) = now
    (first,) = (s for s in earlier if s.record.identity.terms.stage == "seg")
    assert again.record.scores == first.record.scores
    assert "missing" not in ok("run", *ASKED, "--dry-run")  # stale: the step's code has been edited since
    report = ok("report", "runs")
    assert report.count(f"; {EARLIER}.") == 2
    assert "## shapes: seg on val; protocol current" in report
    assert "## shapes: seg on val; protocol earlier" in report
    assert report.count("| 1 ") == 3  # first of a table of its own
    assert "3 ok, 0 differs" in ok("verify", "runs")
    page = ok("report", "runs", "--format", "csv")
    assert page.count(",True,") >= 2


def test_rows_of_two_protocols_are_not_compared_and_the_reason_is_said(here: Path) -> None:
    ok("run", *ASKED, "--quiet")
    for path in here.glob("runs/shapes/constant/seed0/seg-val-*/record.json"):
        content = json.loads(path.read_text())
        if "judged" in content["identity"]["terms"]:
            path.write_text(json.dumps({**content, "method": "other"}))
    done = CliRunner().invoke(main, ["compare", "constant", "other", "--runs", "runs"])
    assert done.exit_code == 3
    assert "protocol: earlier and current" in done.output
    done = CliRunner().invoke(main, ["errors", *map(str, here.glob("runs/shapes/constant/seed0/seg-*"))])
    assert done.exit_code == 3
    assert "protocol: " in done.output


def test_a_baseline_of_before_says_that_it_is_to_be_made_anew(here: Path) -> None:
    ok("gate", "runs", "--baseline", "base.json", "--write")  # of nothing but rows of before
    assert CliRunner().invoke(main, ["gate", "runs", "--baseline", "base.json"]).exit_code == 0
    ok("run", *ASKED, "--quiet", "--runs", "new")
    done = CliRunner().invoke(main, ["gate", "new", "--baseline", "base.json"])
    assert done.exit_code == 3
    assert "judged by the earlier protocol" in done.output
    ok("run", *ASKED, "--quiet")
    ok("gate", "runs", "--baseline", "base.json", "--write")  # now what is new alone
    (row,) = json.loads(Path("base.json").read_text())["rows"]
    assert row["under"]["judged"] == "seg"


def test_rows_of_before_are_ranked_among_themselves_alone() -> None:
    stored = find_records(RECORDS / "voc6.zip")
    old: list[Any] = [s.record for s in stored if s.record.identity.terms.stage == "seg"]
    new = [
        dataclasses.replace(
            record,
            identity=(identity := dataclasses.replace(
                record.identity, terms=dataclasses.replace(record.identity.terms, judged="seg")
            )),
            key=content_key(identity),
        )
        for record in old
    ]  # fmt: skip
    rows = rows_of([*old, *new])
    tables = {row.terms_hash: [r for r in rows if r.terms_hash == row.terms_hash] for row in rows}
    assert [table[0].terms.earlier for table in tables.values()] == [False, True]
    first, second = ([(r.method, r.rank) for r in table] for table in tables.values())
    assert first == second
    assert render(rows).count(EARLIER) == 1
