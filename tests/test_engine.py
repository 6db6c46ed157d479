"""The engine on fakes: what is shared, what a failure harms, what is resumed, and what lies on disk."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pil

from wsssbench.errors import BadData, WsssError
from wsssbench.files.locks import hold
from wsssbench.identity import Record
from wsssbench.judging.judge import score_folder
from wsssbench.machine.hardware import resolve_hardware
from wsssbench.masks import read_labels, threshold_labels, voc_palette
from wsssbench.planning.cells import Cell
from wsssbench.planning.made_by import code_hash
from wsssbench.plugins.code_hash import SCHEME
from wsssbench.plugins.table import Plugins
from wsssbench.records.store import read_record, write_record
from wsssbench.running.context import RunContext
from wsssbench.running.engine import Engine
from wsssbench.running.screen.progress import Progress
from wsssbench.running.step_runner import StepRunner
from wsssbench.scores.counts_table import CountsTable
from wsssbench.types import Outputs

_LOADER = Plugins()
_LOADER.add_file(Path(__file__).with_name("fake_run.py"))
fake: Any = sys.modules[_LOADER.load("steps", "first").__module__]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """No events and no faults at the beginning."""
    fake.EVENTS.clear()
    fake.FAULTS.clear()
    yield
    fake.FAULTS.clear()


def record(cell: Cell) -> Record:
    return read_record(cell.folder)


def failing(error: BaseException, at: int = 1) -> Callable[[], None]:
    """A fault that raises at the `at`-th call, once."""
    calls = []

    def fault() -> None:
        calls.append(1)
        if len(calls) == at:
            raise error

    return fault


def files(root: Path) -> dict[str, int]:
    """Every file below `root` with its time of change, without locks."""
    found = [p for p in root.rglob("*") if p.is_file() and p.name not in (".lock", ".holder")]
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in found}


# ---------------------------------------------------------------------------------------- what is shared


def test_recipes_share_the_fit_and_the_outputs_of_their_first_step(tmp_path: Path) -> None:
    failed, cells = fake.run(tmp_path, "first", "first > second", stages=("seed", "pseudo", "seg"))
    assert failed == 0
    assert [record(cell).status for cell in cells] == ["ok"] * 6
    assert fake.count("first.fit") == fake.count("second.fit") == 1
    assert fake.count("first.image") == 5 + 3  # each image of train (with tags) and val once
    assert fake.count("second.image") == 5 + 3


def test_one_pass_of_a_predictor_gives_all_that_the_stages_want(tmp_path: Path) -> None:
    fake.run(tmp_path, "first > second", stages=("pseudo", "seg", "seg+crf"))
    wants = [want for event, want in fake.EVENTS if event == "second.image"]
    assert wants == [["labels"]] * 5 + [["labels", "probs"]] * 3


def test_a_second_run_does_nothing_and_changes_no_file(tmp_path: Path) -> None:
    fake.run(tmp_path, "first > second", stages=("pseudo", "seg"))
    before = files(tmp_path)
    fake.EVENTS.clear()
    failed, cells = fake.run(tmp_path, "first > second", stages=("pseudo", "seg"))
    assert (failed, [cell.state for cell in cells], fake.EVENTS) == (0, ["done"] * 2, [])
    assert files(tmp_path) == before


def test_a_new_stage_restores_the_fitted_step(tmp_path: Path) -> None:
    fake.run(tmp_path, "first", stages=("seed",))
    fake.EVENTS.clear()
    fake.run(tmp_path, "first", stages=("seed", "seg"))
    assert fake.count("first.fit") == 0
    assert ("first.restore", "5 images, 0 given") in fake.EVENTS
    assert fake.count("first.image") == 3  # of val; those of train lie on disk


def test_a_segmenter_learns_from_the_outputs_of_the_step_before_on_the_fit_split(tmp_path: Path) -> None:
    failed, (cell,) = fake.run(tmp_path, "first > second > third")
    assert failed == 0
    assert (cell.trial.steps[2].folder / "learned.txt").read_text() == "5 images, 5 given"
    assert fake.count("second.image") == 5  # the segmenter takes nothing when it predicts
    labels = read_labels(cell.folder / "masks" / "val0.png")
    assert set(np.unique(labels)) == {0, 1}  # argmax of its probabilities


def test_a_step_is_handed_the_kinds_that_it_declares_and_of_alternatives_the_first(tmp_path: Path) -> None:
    for before, kind in (("first", "maps"), ("first > second", "probs")):
        fake.EVENTS.clear()
        stages = ("seed", "pseudo", "seg", "seg+crf")  # so that other kinds lie there too
        failed, _ = fake.run(tmp_path, before, f"{before} > either", stages=stages)
        assert failed == 0
        given = [what for event, what in fake.EVENTS if event == "either.given"]
        assert given == [[kind]] * (5 + 3)


def test_seeds_share_nothing(tmp_path: Path) -> None:
    fake.run(tmp_path, "first", seeds=(0, 1))
    assert fake.count("first.fit") == 2


def test_the_limit_holds_for_fitting_and_judging(tmp_path: Path) -> None:
    _, (cell,) = fake.run(tmp_path, "first", limit=2)
    assert len(dict(fake.EVENTS)["first.fit"]) == 2
    assert sorted(p.name for p in (cell.folder / "masks").iterdir()) == ["val0.png", "val1.png"]
    assert record(cell).scores["iou"]["n_images"] == 2


# ---------------------------------------------------------------------------------------------- the view


def test_the_view_of_a_step_holds_what_its_supervision_names_and_no_masks(tmp_path: Path) -> None:
    fake.run(tmp_path, "first", "other")
    views = {event: view for event, view in fake.EVENTS if event.endswith(".fit")}
    assert [s.mask for s in views["first.fit"]] == [None] * 5
    assert all(s.tags is not None and s.class_names is None for s in views["first.fit"])
    assert all(s.tags is None and s.mask is None for s in views["other.fit"])
    public = [name for name in vars(views["first.fit"]) if not name.startswith("_")]
    assert not any(isinstance(getattr(views["first.fit"], name), fake.Toy) for name in public)


def test_tags_reach_a_predictor_only_where_the_stage_gives_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(fake.Toy, "tags", lambda self, id: asked.append(id) or np.array([True, False]))
    fake.run(tmp_path, "other", stages=("seg",))
    assert asked == []
    fake.run(tmp_path, "other", stages=("pseudo",))
    assert sorted(set(asked)) == [f"train{n}" for n in range(5)]


# ---------------------------------------------------------------------------------------------- failures


def test_a_failing_step_gives_failed_records_and_the_other_cells_go_on(tmp_path: Path) -> None:
    fake.FAULTS["first.fit"] = failing(ZeroDivisionError("by nothing\nand more"))
    out = io.StringIO()
    failed, cells = fake.run(tmp_path, "first", "first > second", "other", stages=("pseudo", "seg"), out=out)
    assert failed == 4
    assert fake.count("first.fit") == 1  # its other cells fail without another try
    assert [record(cell).status for cell in cells] == ["failed"] * 4 + ["ok"] * 2
    trace = cells[0].folder / "traceback.txt"
    assert record(cells[0]).reason == f"ZeroDivisionError: by nothing (see {trace})"
    assert "ZeroDivisionError: by nothing\nand more" in trace.read_text()
    assert record(cells[0]).scores == {}
    assert "FAILED first seed 0 pseudo on train: ZeroDivisionError" in out.getvalue()


def test_a_failure_is_retried_by_the_next_run_and_leaves_no_trace_then(tmp_path: Path) -> None:
    fake.FAULTS["first.fit"] = failing(OSError("no luck"))
    assert fake.run(tmp_path, "first")[0] == 1
    failed, (cell,) = fake.run(tmp_path, "first")
    assert (failed, cell.state, record(cell).status) == (0, "failed", "ok")
    assert fake.count("first.fit") == 2
    assert not (cell.folder / "traceback.txt").exists()
    assert fake.plan(tmp_path, "first")[1][0].state == "done"


def test_an_error_of_the_user_is_told_in_its_own_words(tmp_path: Path) -> None:
    fake.FAULTS["first.predict"] = failing(BadData("image cut off", where="a.jpg", hint="copy it again"))
    _, (cell,) = fake.run(tmp_path, "first")
    assert record(cell).reason == "image cut off [a.jpg]"


def test_a_plugin_that_exits_fails_its_cell_alone(tmp_path: Path) -> None:
    fake.FAULTS["first.fit"] = failing(SystemExit(3))
    failed, cells = fake.run(tmp_path, "first", "other")
    assert failed == 1
    assert [record(cell).status for cell in cells] == ["failed", "ok"]
    assert record(cells[0]).reason.startswith("SystemExit: 3")


def test_outputs_that_a_card_promised_and_the_step_left_out_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.Other, "outputs", lambda *arguments: Outputs())
    _, (cell,) = fake.run(tmp_path, "other")
    assert "asked for labels and returned none" in record(cell).reason


def test_labels_of_another_size_fail_the_cell_and_name_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.Other, "outputs", lambda *_: Outputs(labels=np.zeros((3, 3), np.uint8)))
    _, (cell,) = fake.run(tmp_path, "other")
    assert "shape (3, 3)" in record(cell).reason
    assert "val0.png" in record(cell).reason


def test_a_loss_that_is_no_number_fails_the_cell_with_the_step_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsssbench.train import Schedule, make_optimizer, train
    from wsssbench.training.crops import CropBatches, CropRule

    def fit(self: Any, view: Any, given: Any, ctx: Any) -> None:
        net = torch.nn.Conv2d(3, 1, 1)
        plan, batches = Schedule(5, 1e-3), CropBatches(view, CropRule(8), 2, 0)

        def losses(batch: Any) -> dict[str, torch.Tensor]:
            return {"total": net(batch.images.float()).mean() * float("nan")}

        train(ctx, "net", net, make_optimizer(net, [], plan), batches, losses, plan)

    monkeypatch.setattr(fake.First, "fit", fit)
    failed, (cell,) = fake.run(tmp_path, "first")
    assert failed == 1
    assert record(cell).reason == "not finite: total, gradient [net, step 0]"
    assert "lower the learning rate" in (cell.folder / "traceback.txt").read_text()


def test_a_folder_that_cannot_be_written_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file in the way")
    with pytest.raises(WsssError, match="cannot write to this folder") as caught:
        fake.run(tmp_path / "runs", "first")
    assert "--runs" in caught.value.hint


def test_a_split_without_any_truth_is_scored_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.Toy, "mask", lambda self, id: np.full((10, 14), 255, np.uint8))
    out = io.StringIO()
    failed, (cell,) = fake.run(tmp_path, "other", out=out)
    assert (failed, record(cell).scores["iou"]["miou"]) == (0, None)
    assert "mIoU undefined" in out.getvalue()


# ----------------------------------------------------------------------------------------------- resuming


def test_an_interrupted_prediction_keeps_the_images_that_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsssbench.types.Predictor.images_per_call", 2)
    fake.FAULTS["first.image"] = failing(KeyboardInterrupt(), at=4)
    with pytest.raises(KeyboardInterrupt):
        fake.run(tmp_path, "first", stages=("seed",))
    (cell,) = fake.plan(tmp_path, "first", stages=("seed",))[1]
    assert cell.state == "missing"
    maps = cell.trial.steps[0].folder / "artifacts" / "train-tags" / "maps"
    assert sorted(p.name for p in maps.iterdir()) == ["train0.npz", "train1.npz"]
    fake.EVENTS.clear()
    assert fake.run(tmp_path, "first", stages=("seed",))[0] == 0
    assert (fake.count("first.fit"), fake.count("first.image")) == (0, 3)


def test_an_interrupted_fit_goes_on_and_its_time_and_images_are_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(self: Any, view: Any, given: Any, ctx: Any) -> Any:
        with ctx.phase("work"):
            time.sleep(0.02)
        ctx.progress(1, 2, images=10)
        fake.note("fit", None)
        return self._predictor(ctx)

    monkeypatch.setattr(fake.Other, "fit", fit)
    fake.FAULTS["fit"] = failing(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fake.run(tmp_path, "other")
    _, (cell,) = fake.run(tmp_path, "other")
    timing = record(cell).timing
    assert timing["fit_images"] == 20
    assert timing["fit_seconds"] >= 0.04
    assert timing["fit_phases"]["other"]["work"] >= 0.04


def shared_fit(self: Any, view: Any, given: Any, ctx: Any) -> Any:
    """A fit of 100 images, of which 90 are work that another step may have done."""
    with ctx.shared("classifier", {"lr": 1}) as own:
        if not (own.workdir / "done").exists():
            with own.phase("work"):
                time.sleep(0.02)
            own.progress(1, 1, images=90)
            (own.workdir / "done").touch()
            fake.note("classifier", None)
    ctx.progress(1, 1, images=10)
    return self._predictor(ctx)


def test_shared_work_is_done_once_and_costs_every_step_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.Other, "fit", shared_fit)
    monkeypatch.setattr(fake.First, "fit", shared_fit)
    _, cells = fake.run(tmp_path, "first", "other")
    assert fake.count("classifier") == 1
    for cell in cells:
        timing = record(cell).timing
        assert timing["fit_images"] == 100
        assert timing["fit_phases"][cell.trial.method]["work"] >= 0.02
        assert timing["fit_seconds"] >= 0.02


def test_shared_work_differs_by_seed_and_by_what_it_is_asked_for(tmp_path: Path) -> None:
    cells = fake.plan(tmp_path, "first", seeds=(0, 1))[1]
    runner = StepRunner(resolve_hardware(fake.settings(tmp_path)), None, Progress(quiet=True))
    first, second = (runner.context(cell.trial, cell.trial.steps[0]) for cell in cells)

    def folder(ctx: RunContext, identity: Any) -> Path:
        with ctx.shared("classifier", identity) as own:
            return own.workdir

    assert folder(first, {"lr": 1}) == folder(first, {"lr": 1})
    assert folder(first, {"lr": 1}) != folder(first, {"lr": 2})
    assert folder(first, {"lr": 1}) != folder(second, {"lr": 1})


def test_seeds_of_a_context_follow_from_run_step_and_purpose(tmp_path: Path) -> None:
    cells = fake.plan(tmp_path, "first > second", seeds=(0, 1))[1]
    runner = StepRunner(resolve_hardware(fake.settings(tmp_path)), None, Progress(quiet=True))
    contexts = [runner.context(cell.trial, step) for cell in cells for step in cell.trial.steps]
    seeds = [ctx.seed(purpose) for ctx in contexts for purpose in ("init", "crops")]
    assert len(set(seeds)) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds[0] == contexts[0].seed("init")


# ------------------------------------------------------------------------------------- code that changes

PLUGIN = Path(__file__).with_name("bright_step.py").read_text()


def with_plugin(folder: Path, text: str) -> Plugins:
    """The fakes and the plugin file `bright` with this source."""
    plugins = fake.FakePlugins()
    (folder / "bright.py").write_text(text)
    plugins.add_file(folder / "bright.py")
    return plugins


def test_a_stale_cell_stays_until_asked_for_and_then_is_fitted_anew(tmp_path: Path) -> None:
    methods = (tmp_path / "runs", "bright > second")
    _, (cell,) = fake.run(*methods, plugins=with_plugin(tmp_path, PLUGIN))
    before, learned = record(cell), cell.trial.steps[0].folder / "gain.txt"
    changed = PLUGIN.replace("gain = 1.0 /", "gain = 0.1 /")
    plugins = with_plugin(tmp_path, changed)
    failed, (stale,) = fake.run(*methods, plugins=plugins)
    assert (failed, stale.state, record(cell)) == (0, "stale", before)
    old = learned.read_text()
    assert fake.run(*methods, plugins=plugins, rerun="stale")[0] == 0
    assert float(learned.read_text()) == pytest.approx(float(old) / 10)
    assert record(cell).scores != before.scores  # the refiner after it was made again as well
    assert fake.plan(*methods, plugins=plugins)[1][0].state == "done"


def test_a_new_stage_of_a_step_fitted_by_older_code_says_so(tmp_path: Path) -> None:
    fake.run(tmp_path / "runs", "bright", plugins=with_plugin(tmp_path, PLUGIN))
    plugins = with_plugin(tmp_path, PLUGIN + "\nANOTHER = 1\n")
    asked: dict[str, Any] = {"plugins": plugins, "stages": ("pseudo",)}
    fake.run(tmp_path / "runs", "bright", **asked)
    assert fake.plan(tmp_path / "runs", "bright", **asked)[1][0].state == "stale"


def test_rerun_stale_leaves_steps_of_todays_code_alone(tmp_path: Path) -> None:
    fake.run(tmp_path / "runs", "first", "bright", plugins=with_plugin(tmp_path, PLUGIN))
    fake.run(
        tmp_path / "runs", "first", "bright",
        plugins=with_plugin(tmp_path, PLUGIN + "\nNEW = 1\n"), rerun="stale",
    )  # fmt: skip
    assert fake.count("first.fit") == 1


def test_a_comment_makes_nothing_stale(tmp_path: Path) -> None:
    fake.run(tmp_path / "runs", "bright", plugins=with_plugin(tmp_path, PLUGIN))
    plugins = with_plugin(tmp_path, PLUGIN + "\n# only said\n")
    assert fake.plan(tmp_path / "runs", "bright", plugins=plugins)[1][0].state == "done"


def judged_by(cell: Cell, name: str) -> None:
    """The cell's record says that other code than today's has judged it."""
    seen = record(cell).provenance
    codes = {**seen["judged_by"], name: "2:" + "0" * 64}
    changed = {**seen, "judged_by": codes}
    write_record(cell.folder, dataclasses.replace(record(cell), provenance=changed))


@pytest.mark.parametrize(
    ("name", "predicted"), [("judge", True), ("data set", False), ("metric accuracy", False)]
)
def test_what_other_code_has_judged_is_stale_and_judged_again_without_training(
    tmp_path: Path, name: str, predicted: bool
) -> None:
    asked: dict[str, Any] = {"metrics": ("accuracy",)}
    _, (cell,) = fake.run(tmp_path, "first", **asked)
    assert set(record(cell).provenance["judged_by"]) == {
        "judge", "data set", "metric iou", "metric accuracy"
    }  # fmt: skip
    judged_by(cell, name)
    assert fake.plan(tmp_path, "first", **asked)[1][0].state == "stale"
    fake.EVENTS.clear()
    fake.run(tmp_path, "first", rerun="stale", **asked)
    assert fake.count("first.fit") == 0
    assert bool(fake.count("first.predict")) == predicted  # outputs are kept by the judge's code
    assert fake.plan(tmp_path, "first", **asked)[1][0].state == "done"


def test_what_one_stage_has_made_again_stays_for_the_record_while_the_next_is_judged_again(
    tmp_path: Path,
) -> None:
    asked: dict[str, Any] = {"stages": ("seg", "pseudo")}
    _, cells = fake.run(tmp_path / "runs", "bright", plugins=with_plugin(tmp_path, PLUGIN), **asked)
    for cell in cells:
        judged_by(cell, "judge")
    plugins = with_plugin(tmp_path, PLUGIN + "\nNEW = 1\n")  # so step and judge are of older code
    fake.run(tmp_path / "runs", "bright", plugins=plugins, rerun="stale", **asked)
    kept = cells[0].trial.steps[0].folder / "artifacts"
    assert sorted(place.name for place in kept.iterdir()) == ["train-tags", "val"]
    assert all(list(place.glob("maps/*.npz")) for place in kept.iterdir())


def test_rerun_all_fits_each_step_once_more_and_shared_work_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.Other, "fit", shared_fit)
    asked: dict[str, Any] = {"stages": ("pseudo", "seg")}
    methods = (tmp_path, "first", "first > second", "other")
    fake.run(*methods, **asked)
    fake.EVENTS.clear()
    failed, cells = fake.run(*methods, **asked, rerun="all")
    assert (failed, [cell.state for cell in cells]) == (0, ["missing"] * 6)
    assert [fake.count(f"{name}.fit") for name in ("first", "second")] == [1, 1]
    assert fake.count("classifier") == 1
    assert fake.count("first.image") == 8


# ------------------------------------------------------------------------------------------- what is left


def test_a_record_holds_identity_scores_timing_and_where_it_came_from(tmp_path: Path) -> None:
    _, (cell,) = fake.run(tmp_path, "first > second")
    found = record(cell)
    assert (found.key, found.identity, found.method) == (cell.key, cell.identity, "first > second")
    assert set(found.provenance) >= {"versions", "hardware", "command", "code", "cards", "dataset"}
    assert set(found.provenance["code"]) == {"first", "second"}
    assert found.timing["fit_images"] == 10  # both steps
    assert found.timing["predict_images"] == 3
    assert found.timing["predict_images_per_s"] > 0


def test_predicting_costs_what_all_steps_of_the_recipe_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.FAULTS["first.predict"] = lambda: time.sleep(0.03)
    _, cells = fake.run(tmp_path, "first", "first > second")
    alone, both = (record(cell).timing for cell in cells)
    assert both["predict_seconds"] > alone["predict_seconds"] >= 0.03
    assert both["predict_images"] == alone["predict_images"] == 3


def test_the_cost_of_a_cell_ends_at_the_step_that_it_judges(tmp_path: Path) -> None:
    _, cells = fake.run(tmp_path, "first > second > third", stages=("seg", "seed"))
    assert [record(cell).timing["fit_images"] for cell in cells] == [15, 5]


@pytest.mark.parametrize(("table", "calls"), [({"scales": [0.5]}, 2), ({"flip": True}, 2), ({}, 1)])
def test_a_stage_of_one_other_scale_or_of_mirror_images_looks_at_them(
    tmp_path: Path, table: dict[str, Any], calls: int
) -> None:
    failed, (cell,) = fake.run(tmp_path, "first > second", stages=("mine",), custom_stages={"mine": table})
    assert not failed
    assert fake.count("second.predict") == calls
    names = {path.name for path in cell.trial.steps[-1].folder.glob("artifacts/*")}
    assert names == {{1: "val", 2: f"val@{cell.stage.scales[0]}{'+flip' * cell.stage.flip}-v2"}[calls]}


def test_files_appear_whole_and_nothing_temporary_is_left(tmp_path: Path) -> None:
    fake.run(tmp_path, "first > second", stages=("seed", "pseudo", "seg", "seg+crf", "seg+ms"))
    names = [path.name for path in tmp_path.rglob("*")]
    assert [name for name in names if name.endswith((".tmp", ".part"))] == []


def test_an_interruption_while_a_record_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (cell,) = fake.run(tmp_path, "other")
    before = (cell.folder / "record.json").read_bytes()

    def interrupted(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fake.run(tmp_path, "other", rerun="all")
    assert (cell.folder / "record.json").read_bytes() == before


def test_masks_are_palette_pngs_of_the_images_size(tmp_path: Path) -> None:
    _, cells = fake.run(tmp_path, "first", "first > second", "other", stages=("seg",))
    for cell in cells:
        with Pil.open(cell.folder / "masks" / "val1.png") as picture:
            assert (picture.mode, picture.size) == ("P", (14, 10))
            assert picture.getpalette() == voc_palette().ravel().tolist()


@pytest.mark.parametrize("stage", ["seed", "pseudo", "seg", "seg+crf", "seg+ms+crf"])
def test_scoring_the_files_again_gives_the_records_numbers(stage: str, tmp_path: Path) -> None:
    _, (cell,) = fake.run(tmp_path, "first > second", stages=(stage,))
    data = cell.trial.dataset
    scores, counts = score_folder(data, cell.split, cell.folder / "masks")
    assert scores == record(cell).scores
    kept = CountsTable.load(cell.folder / "counts.npz")
    assert kept.ids == counts.ids
    assert (kept.pixels == counts.pixels).all()


def test_maps_become_labels_by_the_records_threshold(tmp_path: Path) -> None:
    _, (cell,) = fake.run(tmp_path, "first", options={"first": {"threshold": 0.7}})
    assert cell.identity.threshold == {"value": 0.7, "tuned_on": "not known: an option"}
    data, step = cell.trial.dataset, fake.First(fake.FirstConfig())
    maps = step.outputs(data.image("val0").transpose(2, 0, 1), np.ones(2, bool), None).maps
    expected = threshold_labels(maps, 0.7, data.mask("val0").shape)
    assert (read_labels(cell.folder / "masks" / "val0.png") == expected).all()


def test_a_crf_on_probabilities_gives_no_class_that_the_tags_exclude(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outputs(self: Any, image: Any, tags: Any, before: Any) -> Outputs:
        planes = np.full((3, *image.shape[1:]), 0.1, np.float32)
        planes[2] = 0.8  # green everywhere, whatever the tags say
        return Outputs(probs=planes, labels=np.zeros(image.shape[1:], np.uint8))

    monkeypatch.setattr(fake.Second, "outputs", outputs)
    stages = {"pseudo+crf": {"base": "pseudo", "crf": {**CRF}}, "pseudo+ms": {"base": "pseudo", "flip": True}}
    _, cells = fake.run(tmp_path, "first > second", stages=tuple(stages), custom_stages=stages)
    for cell in cells:
        assert 2 not in read_labels(cell.folder / "masks" / "train0.png")  # its tag is red alone
        assert 2 in read_labels(cell.folder / "masks" / "train1.png")


CRF = {"gauss_xy": 3, "gauss_compat": 3, "bilateral_xy": 80, "bilateral_rgb": 13, "bilateral_compat": 10}


def test_talk_goes_to_the_stream_and_nothing_to_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = io.StringIO()
    fake.run(tmp_path, "first", out=out)
    assert capsys.readouterr().out == ""
    assert "first seed 0: fit: 1/1" in out.getvalue()
    assert "first seed 0 seg on val: mIoU" in out.getvalue()


# ---------------------------------------------------------------------------------------- two at one time

HOLD = """
import sys, time
from pathlib import Path
from wsssbench.files.locks import hold
with hold(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_process_waits_and_says_for_whom(tmp_path: Path) -> None:
    said: list[str] = []
    command = [sys.executable, "-c", HOLD, str(tmp_path), "--method", "cam"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        threading.Timer(0.2, other.stdin.close).start()
        with hold(tmp_path, said.append):
            assert other.wait(10) == 0
        other.stdin = None
    (line,) = said
    assert f"waiting for process {other.pid} on " in line
    assert "--method cam" in line
    assert str(tmp_path) in line


def test_two_runs_of_one_folder_share_the_work_and_the_second_finds_it_done(tmp_path: Path) -> None:
    outs, failed = (io.StringIO(), io.StringIO()), []

    def until_the_other_waits() -> None:
        end = time.perf_counter() + 20
        while "waiting" not in "".join(out.getvalue() for out in outs) and time.perf_counter() < end:
            time.sleep(0.01)

    fake.FAULTS["first.fit"] = until_the_other_waits
    asked = fake.plan(tmp_path, "first", stages=("pseudo", "seg"))
    plans = [asked, fake.plan(tmp_path, "first", stages=("pseudo", "seg"))]

    def work(settings: Any, cells: list[Cell], out: io.StringIO) -> None:
        failed.append(Engine(StepRunner(resolve_hardware(settings), None, Progress(out))).run(cells))

    threads = [threading.Thread(target=work, args=(*p, o)) for p, o in zip(plans, outs, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)  # a machine that does much else
    talk = outs[0].getvalue() + outs[1].getvalue()
    assert failed == [0, 0], talk
    assert (fake.count("first.fit"), fake.count("first.image")) == (1, 8)
    assert "waiting for process" in talk
    assert "done by another process meanwhile" in talk


def test_runs_of_two_methods_fit_their_common_step_once(tmp_path: Path) -> None:
    fake.FAULTS["first.fit"] = lambda: time.sleep(0.1)
    failed: list[int] = []
    plans = [fake.plan(tmp_path, "first"), fake.plan(tmp_path, "first > second")]

    def work(settings: Any, cells: list[Cell]) -> None:
        failed.append(Engine(StepRunner(resolve_hardware(settings), None, Progress(quiet=True))).run(cells))

    threads = [threading.Thread(target=work, args=p) for p in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failed == [0, 0]
    assert (fake.count("first.fit"), fake.count("first.image")) == (1, 3)


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path, print):
        raise ZeroDivisionError
    said: list[str] = []
    with hold(tmp_path, said.append):
        assert said == []


def test_what_fitting_cost_is_kept_with_the_step(tmp_path: Path) -> None:
    _, (cell,) = fake.run(tmp_path, "first")
    fit = json.loads((cell.trial.steps[0].folder / "fitted.json").read_text())
    assert (fit["key"], fit["step"]["name"], fit["images"]) == (cell.trial.steps[0].key, "first", 5)
    assert set(fit["code"]) == {"first"}


def test_a_step_whose_mark_is_damaged_is_fitted_again(tmp_path: Path) -> None:
    _, (cell,) = fake.run(tmp_path, "first")
    (cell.trial.steps[0].folder / "fitted.json").write_text('{"key": ')
    failed, _ = fake.run(tmp_path, "first", stages=("pseudo",))
    assert (failed, fake.count("first.fit")) == (0, 2)


def test_provenance_needs_neither_git_nor_a_source_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from wsssbench.machine import env

    def absent(*arguments: Any, **options: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory: 'git'")

    monkeypatch.setattr("subprocess.run", absent)
    env.commit.cache_clear()
    assert env.commit() == ""
    env.commit.cache_clear()
    made = type("Made", (), {"__module__": "nowhere"})  # as typed into an interpreter
    assert code_hash(made()) == ""
    assert code_hash(fake.Other(None)).startswith(SCHEME)


# ------------------------------------------------------------------------------------------------- metrics


def test_a_metric_that_is_asked_for_later_is_judged_without_fitting_or_predicting_again(
    tmp_path: Path,
) -> None:
    failed, (cell,) = fake.run(tmp_path)
    assert set(read_record(cell.folder).scores) == {"iou"}
    fake.EVENTS.clear()
    failed, (again,) = fake.run(tmp_path, metrics=("accuracy",))
    assert failed == 0
    assert again.key == cell.key
    assert fake.EVENTS == []
    scores = read_record(cell.folder).scores
    assert scores["accuracy"]["mean_class_accuracy"] == scores["iou"]["recall"]


def test_a_metric_that_is_not_asked_for_again_is_kept(tmp_path: Path) -> None:
    fake.run(tmp_path, metrics=("accuracy",))
    _, (cell,) = fake.run(tmp_path)
    assert cell.state == "done"
    fake.run(tmp_path, rerun="all")
    assert set(read_record(cell.folder).scores) == {"iou", "accuracy"}


def test_a_metric_of_maps_judges_the_rows_that_have_them(tmp_path: Path) -> None:
    failed, (maps, labels) = fake.run(tmp_path, "first", "other", metrics=("map_metric",))
    assert failed == 0
    assert read_record(maps.folder).scores["map_metric"] == {"maps": 2.0, "n_images": 3}
    assert set(read_record(labels.folder).scores) == {"iou"}
    _, again = fake.plan(tmp_path, "first", "other", metrics=("map_metric",))
    assert [cell.state for cell in again] == ["done", "done"]


@pytest.mark.parametrize(("name", "said"), [("acuracy", "accuracy"), ("map_metric", "needs maps")])
def test_a_metric_that_cannot_be_is_refused_before_anything_is_written(
    name: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(WsssError) as error:
        fake.run(tmp_path, "other", metrics=(name,))
    assert said in f"{error.value}"
    assert not list(tmp_path.iterdir())
