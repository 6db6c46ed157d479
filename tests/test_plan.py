"""From settings to cells: what enters a key and what does not, states, skips, and recipes that do not fit."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from wsssbench.errors import UnknownName, WsssError
from wsssbench.identity import CrfSet, Record, RowIdentity, StepIdentity, Terms, plain
from wsssbench.machine.hardware import Hardware, resolve_hardware
from wsssbench.planning.cells import Cell, artifact_name, chosen_kinds
from wsssbench.planning.made_by import trial_code
from wsssbench.planning.plan import step_key
from wsssbench.planning.settings import Settings
from wsssbench.planning.stages import STAGES, custom_stage, resolve_stages
from wsssbench.plugins.table import Plugins
from wsssbench.records.store import write_record

_LOADER = Plugins()
_LOADER.add_file(Path(__file__).with_name("fake_run.py"))
fake: Any = sys.modules[_LOADER.load("steps", "first").__module__]


def one(runs: Path, *methods: str, **changes: Any) -> Cell:
    """The one cell of a plan."""
    (cell,) = fake.plan(runs, *methods, **changes)[1]
    return cell


def weights(folder: Path, content: str) -> dict[str, dict[str, str]]:
    """Options that give `first` a weight file."""
    folder.mkdir(exist_ok=True)
    (folder / "w.pth").write_text(content)
    return {"first": {"weights": str(folder / "w.pth")}}


# ------------------------------------------------------------------------------------ fields of an identity


@pytest.mark.parametrize("kind", [Terms, RowIdentity])
def test_a_field_that_older_records_lack_enters_the_key_where_it_is_not_its_default(
    kind: Any, tmp_path: Path
) -> None:
    whole = one(tmp_path).identity
    identity = whole.terms if kind is Terms else whole
    added = [f for f in dataclasses.fields(kind) if "added" in f.metadata]
    assert added
    for f in added:
        empty = dataclasses.replace(identity, **{f.name: type(getattr(identity, f.name))()})
        assert f.name not in plain(empty)
        assert plain(dataclasses.replace(identity, **{f.name: "x"}))[f.name] == "x"


# ------------------------------------------------------------------------------- what the user can change


def keys(cell: Cell) -> tuple[str, str]:
    """Of the cell and of its last step."""
    return cell.key, cell.trial.steps[-1].key


BOTH: dict[str, dict[str, Any]] = {  # change the fit, and so the row
    "an option": {"options": {"first": {"batch": 8}}},
    "a threshold": {"options": {"first": {"threshold": 0.7}}},
    "an option of the data set": {"dataset_options": {"toy": {"tint": 201}}},
    "the seed": {"seeds": (1,)},
    "the limit": {"limit": 2},
    "the precision": {"precision": "bf16"},
    "the filter backend": {"filter": "exact"},
}
WIDE = {"gauss_xy": 4, "gauss_compat": 3, "bilateral_xy": 83, "bilateral_rgb": 5, "bilateral_compat": 4}
ROW_ALONE: dict[str, dict[str, Any]] = {  # change what is judged of the same fit
    "the stage": {"stages": ("pseudo",)},
    "a CRF after it": {"stages": ("seg+crf",)},
    "a CRF of one's own": {"stages": ("mine",), "custom_stages": {"mine": {"crf": WIDE}}},
    "a stage of one's own": {"stages": ("mine",), "custom_stages": {"mine": {}}},
}
NEITHER: dict[str, dict[str, Any]] = {
    "the device's name": {"device": "auto"},
    "an option declared with key=False": {"options": {"first": {"workers": 8}}},
    "workers of the data set": {"dataset_options": {"toy": {"workers": 8}}},
    "what to run again": {"rerun": "all"},
    "other methods": {"methods": ("first", "other")},
    "where settings came from": {"source": Path("wsssbench.toml")},
}


@pytest.mark.parametrize("change", BOTH)
def test_what_changes_a_fit_changes_its_key_and_the_rows(change: str, tmp_path: Path) -> None:
    before, after = keys(one(tmp_path)), keys(one(tmp_path, **BOTH[change]))
    assert after[0] != before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize("change", ROW_ALONE)
def test_what_changes_the_judgement_changes_the_rows_key_and_shares_the_fit(
    change: str, tmp_path: Path
) -> None:
    before, after = keys(one(tmp_path)), keys(one(tmp_path, **ROW_ALONE[change]))
    assert after[0] != before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize("change", NEITHER)
def test_what_cannot_change_a_number_changes_no_key(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    changes = dict(NEITHER[change])
    after = fake.plan(tmp_path, *changes.pop("methods", ("first",)), **changes)[1][0]
    assert keys(after) == keys(one(tmp_path))


def test_scales_and_mirror_images_of_a_stage_change_the_rows_key(tmp_path: Path) -> None:
    stages = {"a": {}, "b": {"scales": [0.5, 1.0]}, "c": {"flip": True}}
    cells = fake.plan(tmp_path, "first > second", stages=tuple(stages), custom_stages=stages)[1]
    assert len({cell.key for cell in cells}) == 3


def test_the_bytes_of_a_weight_file_count_and_its_path_does_not(tmp_path: Path) -> None:
    one_file = one(tmp_path, options=weights(tmp_path / "here", "1"))
    moved = one(tmp_path, options=weights(tmp_path / "there", "1"))
    other = one(tmp_path, options=weights(tmp_path / "elsewhere", "2"))
    assert keys(moved) == keys(one_file)
    assert keys(other)[0] != keys(one_file)[0]
    assert keys(other)[1] != keys(one_file)[1]


def test_the_runs_folder_changes_no_key(tmp_path: Path) -> None:
    assert keys(one(tmp_path / "a")) == keys(one(tmp_path / "b"))


def test_the_log_level_changes_no_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = keys(one(tmp_path))
    caplog.set_level("DEBUG")
    assert keys(one(tmp_path)) == before


def test_versions_of_step_data_set_and_stage_change_the_rows_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = one(tmp_path).key
    for owner in (fake.First, fake.Toy):
        with monkeypatch.context() as patch:
            patch.setattr(owner, "card", dataclasses.replace(owner.card, version="2"))
            assert one(tmp_path).key != before
    monkeypatch.setitem(STAGES, "seg", dataclasses.replace(STAGES["seg"], version="2"))
    assert one(tmp_path).key != before


def test_the_content_of_the_data_changes_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = one(tmp_path)
    monkeypatch.setattr(fake.Toy, "fingerprint", lambda self, split: f"others of {split}")
    after = one(tmp_path)
    assert after.identity.terms.split_fingerprint != before.identity.terms.split_fingerprint
    assert after.trial.steps[0].key != before.trial.steps[0].key


def test_the_terms_of_a_generated_set_hold_its_options_and_not_what_was_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.Toy, "card", dataclasses.replace(fake.Toy.card, generated=True))
    first, second = (one(tmp_path, seeds=(seed,)).identity for seed in (0, 1))
    assert first.terms == second.terms
    assert first.terms.split_fingerprint == ""
    assert first.terms.dataset_options == {"tint": 200}


# ----------------------------------------------------------------------------------------- a step's key

BASE: dict[str, Any] = {
    "identity": StepIdentity("a", "1", {"x": 1}), "before": None, "supervision": ("tags",),
    "learns_on": {"dataset": "toy"}, "seed": 0, "hardware": Hardware("cpu", "fp32", "lattice"), "limit": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"identity": StepIdentity("b", "1", {"x": 1})},
        {"identity": StepIdentity("a", "2", {"x": 1})},
        {"identity": StepIdentity("a", "1", {"x": 2})},
        {"supervision": ("masks", "tags")},
        {"learns_on": {"dataset": "toy", "fingerprint": "f"}},
        {"seed": 1},
        {"hardware": Hardware("cpu", "bf16", "lattice")},
        {"hardware": Hardware("cpu", "fp32", "exact")},
        {"limit": 3},
    ],
)
def test_every_part_of_a_steps_key_changes_it(change: dict[str, Any]) -> None:
    assert step_key(**{**BASE, **change}) != step_key(**BASE)


def test_a_steps_key_holds_neither_device_nor_the_order_of_its_supervision() -> None:
    base = {**BASE, "supervision": ("masks", "tags")}
    same = {**base, "supervision": ("tags", "masks"), "hardware": Hardware("cuda:1", "fp32", "lattice")}
    assert step_key(**same) == step_key(**base)


def test_what_a_step_was_given_enters_its_key_and_recipes_share_their_first_step(tmp_path: Path) -> None:
    first, both = fake.plan(tmp_path, "first", "first > second")[1]
    changed = one(tmp_path, "first > second", options={"first": {"threshold": 0.7}})
    assert both.trial.steps[0].key == first.trial.steps[0].key
    assert both.trial.steps[0].folder == first.trial.steps[0].folder
    assert both.trial.steps[1].key != changed.trial.steps[1].key


# ------------------------------------------------------------------------------ what does not fit or apply


def test_a_refiner_without_anything_to_refine_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(WsssError, match="second needs maps") as caught:
        fake.plan(tmp_path, "second")
    assert "put a step that gives maps before second" in caught.value.hint


def test_a_segmenter_after_a_step_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WsssError, match="third needs labels") as caught:
        fake.plan(tmp_path, "first > third")
    assert "first > third" in caught.value.where


def test_of_alternatives_the_first_counts_that_the_step_before_gives() -> None:
    assert chosen_kinds(("probs|maps", "labels"), ("maps", "labels", "probs")) == ("probs", "labels")
    assert chosen_kinds(("maps|probs",), ("maps", "probs")) == ("maps",)
    assert chosen_kinds(("probs|maps",), ("maps", "tag_scores")) == ("maps",)
    assert chosen_kinds(("probs|maps",), ("labels",)) == ()


def test_a_step_that_no_alternative_is_given_to_names_them_all(tmp_path: Path) -> None:
    with pytest.raises(WsssError, match="either needs probs or maps from the step before it") as caught:
        fake.plan(tmp_path, "other > either")
    assert "a step that gives probs or maps" in caught.value.hint


def test_an_unknown_supervision_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake.First, "card", dataclasses.replace(fake.First.card, supervision=("boxes",)))
    with pytest.raises(WsssError, match="unknown supervision 'boxes'"):
        fake.plan(tmp_path)


def test_maps_without_a_threshold_cannot_be_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake.First, "Config", fake.NoConfig)
    with pytest.raises(WsssError, match="threshold") as caught:
        fake.plan(tmp_path)
    assert "add `threshold" in caught.value.hint


def test_a_threshold_that_no_map_reaches_is_refused_whatever_the_step_says_of_its_option(
    tmp_path: Path,
) -> None:
    for value in (7.0, -0.1):
        with pytest.raises(WsssError, match="out of range") as caught:
            fake.plan(tmp_path, options={"first": {"threshold": value}})
        assert caught.value.where == "first.threshold"
        assert caught.value.hint == "allowed: 0 to 1"


@pytest.mark.parametrize(
    ("method", "stage", "reason"),
    [
        ("other", "seed", "other gives no maps"),
        ("other", "seg+crf", "other gives no probabilities or maps"),
        ("other", "seg+ms", "other gives no probabilities"),
        ("first", "seg+ms", "first gives no probabilities"),
        ("first", "seg+crf", ""),
        ("first > second > third", "seg", ""),
        ("first > second > third", "seed", ""),
    ],
)
def test_a_stage_that_does_not_apply_is_skipped_with_its_reason(
    method: str, stage: str, reason: str, tmp_path: Path
) -> None:
    cell = one(tmp_path, method, stages=(stage,))
    assert (cell.state, cell.reason) == ("skip" if reason else "missing", reason)


def test_each_stage_judges_the_step_that_it_asks_for(tmp_path: Path) -> None:
    from wsssbench.planning.plan import judged_kind, judged_step

    cells = fake.plan(tmp_path, "first > second > third", stages=("seed", "pseudo", "seg"))[1]
    judged = [judged_step(cell.trial.steps, cell.stage) for cell in cells]
    assert [step.name for step in judged] == ["first", "second", "third"]
    kinds = [judged_kind(step, cell.stage) for step, cell in zip(judged, cells, strict=True)]
    assert kinds == ["maps", "labels", "probs"]
    assert [cell.split for cell in cells] == ["train", "train", "val"]


# ------------------------------------------------------------------------------------------ names and states


def test_what_is_named_twice_runs_once_and_the_order_stays(tmp_path: Path) -> None:
    cells = fake.plan(
        tmp_path, "other", "first>second", "first > second", "other",
        datasets=("toy", "toy"), stages=("seg", "pseudo", "seg"),
    )[1]  # fmt: skip
    rows = [(cell.trial.method, cell.stage.name) for cell in cells]
    methods = ("other", "first > second")
    assert rows == [(method, stage) for method in methods for stage in ("seg", "pseudo")]


def test_cells_come_by_seed_then_method_then_stage(tmp_path: Path) -> None:
    cells = fake.plan(tmp_path, "first", "other", seeds=(0, 1), stages=("pseudo", "seg"))[1]
    order = [(cell.trial.seed, cell.trial.method, cell.stage.name) for cell in cells]
    methods = [("first", "pseudo"), ("first", "seg"), ("other", "pseudo"), ("other", "seg")]
    assert order == [(seed, *row) for seed in (0, 1) for row in methods]
    assert len({cell.folder for cell in cells}) == 8


def store(cell: Cell, **fields: Any) -> None:
    """A record of the cell, as a run would leave it."""
    seen = {"code": trial_code(cell.trial), "judged_by": cell.judged_by}
    scores = {"iou": {"miou": 50.0}}
    record = Record(cell.key, "ok", cell.trial.method, cell.identity, scores, provenance=seen)
    changed = {**seen, **fields.pop("seen", {})}
    write_record(cell.folder, dataclasses.replace(record, provenance=changed, **fields))


ZEROS = "2:" + "0" * 64
OLD: dict[str, Any] = {"seen": {"code": {"first": ZEROS}}}
OLDER: dict[str, Any] = {"seen": {"code": {"first": "0" * 64}}}
OTHERWISE_JUDGED: dict[str, Any] = {"seen": {"judged_by": {"judge": ZEROS}}}
FAILED: dict[str, Any] = {"status": "failed", "reason": "no luck"}


@pytest.mark.parametrize(
    ("fields", "rerun", "state"),
    [
        (None, "", "missing"),
        ({}, "", "done"),
        ({}, "stale", "done"),
        ({}, "all", "missing"),
        (OLD, "", "stale"),
        (OLD, "stale", "missing"),
        (OLD, "all", "missing"),
        (OLDER, "", "stale"),
        (OTHERWISE_JUDGED, "", "stale"),
        (OTHERWISE_JUDGED, "stale", "missing"),
        (FAILED, "", "failed"),
        (FAILED, "stale", "failed"),
    ],
)
def test_the_state_of_a_cell_follows_its_record(
    fields: dict[str, Any] | None, rerun: str, state: str, tmp_path: Path
) -> None:
    if fields is not None:
        store(one(tmp_path), **dict(fields))
    assert one(tmp_path, rerun=rerun).state == state


def test_a_damaged_record_is_a_missing_one(tmp_path: Path) -> None:
    cell = one(tmp_path)
    store(cell)
    (cell.folder / "record.json").write_text('{"schema": 1, "iden')
    assert one(tmp_path).state == "missing"


# ---------------------------------------------------------------------------------------- hardware, stages


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"device": "cuda"}, "no CUDA device"),
        ({"filter": "pydensecrf"}, "not installed"),
    ],
)
def test_hardware_that_is_not_there_is_refused(
    asked: dict[str, str], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("wsssbench.machine.hardware.find_spec", lambda name: None)
    with pytest.raises(WsssError, match=word) as caught:
        resolve_hardware(Settings(**asked))
    assert caught.value.hint


def test_a_gpu_of_a_number_too_high_is_refused_and_precision_follows_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(WsssError, match="there is no cuda:2"):
        resolve_hardware(Settings(device="cuda:2"))
    assert resolve_hardware(Settings(device="cuda:1")) == Hardware("cuda:1", "bf16", "lattice")
    assert resolve_hardware(Settings()).device == "cuda"
    assert resolve_hardware(Settings(device="cpu")).precision == "fp32"


def test_a_stage_of_ones_own_is_marked_and_keeps_what_it_does_not_change() -> None:
    stage = custom_stage("wide", {"base": "seg+ms", "crf": WIDE, "scales": [1, 2], "flip": False})
    assert (stage.custom, stage.name, stage.split, stage.version) == (True, "wide", "eval", "2")
    assert (stage.crf, stage.scales, stage.flip) == (CrfSet(4.0, 3.0, 83.0, 5.0, 4.0), (1.0, 2.0), False)
    assert custom_stage("plain", {}) == dataclasses.replace(STAGES["seg"], name="plain", custom=True)


@pytest.mark.parametrize("table", [{"scales": [0.5]}, {"flip": True}, {"scales": [0.5, 1.0]}])
def test_a_stage_that_turns_images_has_the_version_of_the_rule_that_turns_them(table: Any) -> None:
    stage = custom_stage("mine", table)
    assert stage.multi_scale
    assert stage.version == STAGES["seg+ms"].version == "2"
    assert artifact_name("val", False, stage).endswith("-v2")
    assert not custom_stage("mine", {"scales": [1.0]}).multi_scale


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"base": "sag"}, "unknown stage 'sag'"),
        ({"base": ["seg"]}, "base"),
        ({"scale": [1.0]}, "no option 'scale'"),
        ({"scales": []}, "not empty, above 0"),
        ({"scales": [1.0, -0.5]}, "not empty, above 0"),
        ({"scales": "big"}, "scales"),
        ({"flip": "no"}, "flip"),
        ({"crf": 3}, "table"),
        ({"crf": {**WIDE, "width": 3}}, "no option 'width'"),
        ({"crf": {**WIDE, "gauss_xy": "3 px"}}, "gauss_xy"),
        ({"crf": {"gauss_xy": 3}}, "must be given [stages.mine.crf.gauss_compat]"),
        ({"crf": {**WIDE, "iterations": 2.5}}, "iterations"),
        ({"crf": {**WIDE, "iterations": 0}}, "allowed: at least 1"),
        ({"crf": {**WIDE, "gauss_xy": 0}}, "allowed: above 0"),
        ({"crf": {**WIDE, "bilateral_compat": -1}}, "allowed: at least 0"),
    ],
)
def test_a_wrong_stage_names_its_key(table: dict[str, Any], word: str) -> None:
    with pytest.raises(WsssError) as caught:
        custom_stage("mine", table)
    assert word in str(caught.value)
    assert "stages.mine" in caught.value.where


def test_a_registered_stage_cannot_be_redefined_and_an_unknown_one_is_named() -> None:
    with pytest.raises(WsssError, match="registered"):
        resolve_stages(("seg",), {"seg": {"flip": True}})
    with pytest.raises(UnknownName, match="unknown stage 'sge'") as caught:
        resolve_stages(("sge",), {})
    assert "did you mean" in caught.value.hint


@pytest.mark.parametrize("change", [{"flip": True}, {"scales": [0.5, 1.0]}])
def test_a_stage_that_would_mirror_or_scale_what_only_maps_have_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(WsssError, match="maps are judged at one scale"):
        custom_stage("mine", {"base": "seed", **change})
    assert custom_stage("mine", {"base": "pseudo", **change}).multi_scale
