"""A finished number is never lost: failures stand beside results, and scores of absent metrics stay."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from wsssbench.commands.clean import find_parts
from wsssbench.planning.cells import Cell
from wsssbench.planning.plan import refreshed
from wsssbench.plugins.table import Entry, Plugins
from wsssbench.records import store
from wsssbench.records.store import StoredRecord, read_record
from wsssbench.reporting import report
from wsssbench.running.executors.run_jobs import _cell_lines
from wsssbench.scores.counts_table import COUNTS, CountsTable
from wsssbench.types import Outputs
from wsssbench.verifying.verify import verify_record

HERE = Path(__file__).parent
_LOADER = Plugins()
_LOADER.add_file(HERE / "fake_run.py")
fake: Any = sys.modules[_LOADER.load("steps", "first").__module__]


class Faulty:
    """A metric of labels that fails."""

    name, needs, better, unit = "faulty", "labels", "higher", "%"

    def count(self, output: Any, gold: Any, classes: int) -> dict[str, Any]:
        raise ZeroDivisionError("by nothing")

    def score(self, counts: Any, classes: int) -> dict[str, float]:
        return {}


class Local:
    """A metric of labels from a local file: the share of pixels that are background."""

    name, needs, better, unit = "local", "labels", "higher", "%"

    def count(self, output: Any, gold: Any, classes: int) -> dict[str, Any]:
        return {"hits": np.array([int((output == 0).sum()), output.size])}

    def score(self, counts: Any, classes: int) -> dict[str, float]:
        return {"share": float(100 * counts["hits"][0] / counts["hits"][1])}


class LocalMaps(fake.MapMetric):
    """A metric of maps from a local file."""

    name = "local_maps"


class Here(fake.FakePlugins):
    """The fakes, with metrics from local files."""

    metrics: ClassVar[tuple[type, ...]] = (Faulty, Local, LocalMaps)

    def _installed(self) -> Iterator[Entry]:
        yield from super()._installed()
        for metric in self.metrics:
            yield Entry(
                "metrics", metric.name, f"here:{metric.__name__}", "here", "1", Path(__file__), metric
            )


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    fake.EVENTS.clear()
    fake.FAULTS.clear()
    yield
    fake.FAULTS.clear()


def verdict(cell: Cell) -> str:
    """What `verify` says of the cell's record and files."""
    stored = StoredRecord(read_record(cell.folder), cell.folder / store.RECORD)
    return verify_record(stored, lambda _: cell.trial.dataset, fake.FakePlugins()).verdict


def other_labels(*_: Any) -> Outputs:
    """What `other` may say after its code has changed."""
    return Outputs(labels=np.ones((12, 16), np.uint8))


# ------------------------------------------------------------------------------------ failures beside results


def test_a_metric_that_fails_leaves_the_result_as_it_was_and_is_told(tmp_path: Path) -> None:
    fake.run(tmp_path)
    out = io.StringIO()
    (cell,) = fake.plan(tmp_path)[1]
    before = fake.content(cell.folder)
    failed, (cell,) = fake.run(tmp_path, plugins=Here(), metrics=("faulty",), out=out)
    assert failed == 1
    assert fake.content(cell.folder) == before
    assert read_record(cell.folder).status == "ok"
    assert "ZeroDivisionError: by nothing" in (cell.folder / store.TRACE).read_text()
    assert "FAILED first seed 0 seg on val: ZeroDivisionError" in out.getvalue()
    assert "the result that it had before stays" in out.getvalue()
    assert refreshed([cell])[0].state == "failed"
    text = report([tmp_path])
    assert "[a later attempt failed]" in text
    assert "first: ZeroDivisionError: by nothing, in the metric faulty" in text
    assert "`wsssbench clean --failed` forgets the attempt" in text
    assert json.loads(report([tmp_path], "json"))[0]["rows"][0]["numbers"]["miou"]["mean"] > 0
    assert verdict(cell) == "ok"


def test_the_failure_goes_with_the_next_success(tmp_path: Path) -> None:
    fake.run(tmp_path)
    fake.run(tmp_path, plugins=Here(), metrics=("faulty",))
    failed, (cell,) = fake.run(tmp_path, metrics=("accuracy",))
    assert failed == 0
    assert set(read_record(cell.folder).scores) == {"iou", "accuracy"}
    assert read_record(cell.folder).reason == ""
    assert not {store.FAILURE, store.TRACE, store.UNFINISHED} & {p.name for p in cell.folder.iterdir()}
    assert "failed" not in report([tmp_path])


@pytest.mark.parametrize("place", ["other.fit", "other.predict", "labels", "scores", "record"])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_run_anew_that_fails_or_is_interrupted_anywhere_changes_nothing(
    place: str, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (cell,) = fake.run(tmp_path, "other")
    before = fake.content(cell.folder)

    def fail(*_: Any, **__: Any) -> Any:
        raise error("here")

    def wrong(*_: Any) -> Outputs:
        return Outputs(labels=np.ones((3, 3), np.uint8))  # of another size: found when they are scored

    with monkeypatch.context() as patch:
        patch.setattr(fake.Other, "outputs", wrong if place == "scores" else other_labels)
        patch.setattr(fake.Toy, "mask", lambda self, id: np.ones((12, 16), np.uint8))
        if place in ("other.fit", "other.predict"):
            fake.FAULTS[place] = fail
        elif place == "labels":
            patch.setattr("wsssbench.artifacts.ArtifactFolder.share", fail)
        elif place == "record":
            patch.setattr("wsssbench.running.engine.write_sums", fail)
        if error is KeyboardInterrupt and place != "scores":
            with pytest.raises(KeyboardInterrupt):
                fake.run(tmp_path, "other", rerun="all")
        else:
            assert fake.run(tmp_path, "other", rerun="all")[0] == 1
    assert fake.content(cell.folder) == before
    assert fake.plan(tmp_path, "other")[1][0].state == "done"


def test_scores_that_cannot_be_written_replace_neither_the_record_nor_its_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (cell,) = fake.run(tmp_path, "other")
    before = fake.content(cell.folder)
    monkeypatch.setattr(fake.Other, "outputs", other_labels)
    monkeypatch.setattr(fake.Toy, "mask", lambda self, id: np.ones((12, 16), np.uint8))
    monkeypatch.setattr("wsssbench.running.engine.cell_timing", lambda *_: {"seconds": float("nan")})
    failed, _ = fake.run(tmp_path, "other", rerun="all")
    assert (failed, fake.content(cell.folder)) == (1, before)


def test_a_first_failure_is_the_cells_record_and_a_second_one_takes_its_place(tmp_path: Path) -> None:
    for reason in ("once", "twice"):
        fake.FAULTS["first.fit"] = lambda reason=reason: (_ for _ in ()).throw(OSError(reason))
        _, (cell,) = fake.run(tmp_path)
        assert read_record(cell.folder).status == "failed"
        assert reason in read_record(cell.folder).reason
        assert not (cell.folder / store.FAILURE).exists()


def test_a_failure_that_is_damaged_or_hostile_hides_no_result(tmp_path: Path) -> None:
    _, (cell,) = fake.run(tmp_path)
    for text in ("{", '{"reason": "\\u001b[31m"}', "[]"):
        (cell.folder / store.FAILURE).write_text(text)
        record = read_record(cell.folder)
        assert record.status == "ok"
        assert store.FAILURE in record.reason
        assert record.reason.isprintable()


def test_a_damaged_record_that_was_set_aside_is_not_overwritten_by_the_next_one(tmp_path: Path) -> None:
    for text in ("{", "["):
        (tmp_path / store.RECORD).write_text(text)
        store.set_aside_damaged(tmp_path)
    assert sorted(p.read_text() for p in tmp_path.iterdir()) == ["[", "{"]


def test_the_lines_of_a_cluster_tell_a_failure_beside_a_result(tmp_path: Path) -> None:
    fake.run(tmp_path, "other")
    fake.FAULTS["other.fit"] = lambda: 1 / 0
    _, (cell,) = fake.run(tmp_path, "other", rerun="all")
    job: Any = SimpleNamespace(title="toy other seed 0", pending=[cell])
    (line,) = _cell_lines(job)
    assert line.startswith("FAILED [toy other seed 0] seg on val: ZeroDivisionError")


def test_clean_counts_what_a_later_failure_left_apart_from_the_result(tmp_path: Path) -> None:
    fake.run(tmp_path)
    fake.run(tmp_path, plugins=Here(), metrics=("faulty",))
    (attempt,) = [part for part in find_parts(tmp_path) if part.kind == "failed attempts"]
    assert {path.name for path in attempt.paths} == {store.FAILURE, store.TRACE, store.UNFINISHED}
    (kept,) = [part for part in find_parts(tmp_path) if part.kind == "cells"]
    assert {path.name for path in kept.paths} >= {store.RECORD, COUNTS, "masks"}


def test_outputs_that_were_judged_are_not_written_again_for_one_more_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.run(tmp_path, "first > second")
    _, (cell,) = fake.plan(tmp_path, "first > second")
    labels = cell.trial.steps[1].folder / "artifacts" / "val" / "labels"
    before = fake.content(labels)
    true = fake.Second.outputs

    def with_other_last_bits(self: Any, *given: Any) -> Outputs:
        return replace(true(self, *given), labels=np.zeros((12, 16), np.uint8))

    monkeypatch.setattr(fake.Second, "outputs", with_other_last_bits)

    class ProbMetric(LocalMaps):
        name, needs = "probs", "probs"

        def count(self, output: Any, gold: Any, classes: int) -> dict[str, Any]:
            return {"maps": np.array([len(output)]), "images": np.array([1])}

    plugins = type("More", (Here,), {"metrics": (ProbMetric,)})()
    failed, (again,) = fake.run(tmp_path, "first > second", plugins=plugins, metrics=("probs",))
    assert (failed, again.key) == (0, cell.key)
    assert fake.content(labels) == before
    assert read_record(cell.folder).scores["probs"]["maps"] == 3.0


# --------------------------------------------------------------------------------------- scores that are kept


def test_scores_of_a_metric_that_is_not_at_hand_stay_with_their_counts(tmp_path: Path) -> None:
    fake.run(tmp_path, plugins=Here(), metrics=("local", "local_maps"))
    (cell,) = fake.plan(tmp_path)[1]
    before, then = read_record(cell.folder).scores, read_record(cell.folder).provenance["judged_by"]
    out = io.StringIO()
    failed, _ = fake.run(tmp_path, metrics=("accuracy",), out=out)
    assert failed == 0
    scores, now = read_record(cell.folder).scores, read_record(cell.folder).provenance["judged_by"]
    assert now["metric local"] == then["metric local"] != ""  # the code that counted, as it was then
    assert "metric accuracy" in now
    assert set(scores) == {"iou", "accuracy", "local", "local_maps"}
    assert {name: scores[name] for name in before} == before
    assert "local" in CountsTable.load(cell.folder / COUNTS).more
    assert "the scores of local, local_maps stay as they were" in out.getvalue()


def test_scores_of_other_labels_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.run(tmp_path, "other", plugins=Here(), metrics=("local",))
    same, _ = fake.run(tmp_path, "other", rerun="all")
    (cell,) = fake.plan(tmp_path, "other")[1]
    assert (same, set(read_record(cell.folder).scores)) == (0, {"iou", "local"})  # judged anew, labels alike
    monkeypatch.setattr(fake.Other, "outputs", lambda self, image, *_: Outputs(labels=image[0] // 200))
    out = io.StringIO()
    failed, _ = fake.run(tmp_path, "other", rerun="all", out=out)
    assert (failed, set(read_record(cell.folder).scores)) == (0, {"iou"})
    assert "the scores of local are dropped" in out.getvalue()
    assert CountsTable.load(cell.folder / COUNTS).more == {}


def test_scores_of_other_maps_do_not_stay_where_the_labels_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.run(tmp_path, plugins=Here(), metrics=("local_maps",))
    true = fake.First.outputs

    def a_little_darker(self: Any, *given: Any) -> Outputs:
        found = true(self, *given)
        assert found.maps is not None
        return replace(found, maps=replace(found.maps, values=found.maps.values * np.float32(0.99)))

    monkeypatch.setattr(fake.First, "outputs", a_little_darker)
    _, (cell,) = fake.run(tmp_path, rerun="all")
    assert set(read_record(cell.folder).scores) == {"iou"}
