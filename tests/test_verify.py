"""`wsssbench verify`: an untouched record is ok, and whatever is touched is named."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wsssbench.artifacts import ArtifactFolder
from wsssbench.errors import BadData
from wsssbench.files.file_hashes import SUMS, read_sums
from wsssbench.identity import CrfSet, Stage, content_key
from wsssbench.masks import read_labels, write_labels
from wsssbench.planning.cells import Cell
from wsssbench.plugins.table import Entry, Plugins
from wsssbench.records.store import StoredRecord, read_record, write_record
from wsssbench.scores.boundary import BoundaryIou
from wsssbench.scores.counts_table import COUNTS, CountsTable
from wsssbench.types import Maps, Outputs
from wsssbench.verifying.verification import Verification
from wsssbench.verifying.verify import verify_record

_LOADER = Plugins()
_LOADER.add_file(Path(__file__).with_name("fake_run.py"))
fake: Any = sys.modules[_LOADER.load("steps", "first").__module__]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.EVENTS.clear()
    monkeypatch.chdir(tmp_path)


def run(*methods: str, **changes: Any) -> list[Cell]:
    failed, cells = fake.run(Path("runs"), *methods, **changes)
    assert failed == 0
    return [cell for cell in cells if cell.state != "skip"]


def toy(record: Any) -> Any:
    return fake.Toy(fake.ToyConfig(**record.identity.terms.dataset_options), record.identity.seed)


def check(folder: Path, open_data: Callable[[Any], Any] = toy, **flags: Any) -> Verification:
    file = folder / "record.json"
    return verify_record(StoredRecord(read_record(file), file), open_data, fake.FakePlugins(), **flags)


def named(seen: Verification) -> set[str]:
    return {difference.what for difference in seen.differs}


def edit(folder: Path, change: Callable[[Any], None]) -> None:
    content = json.loads((folder / "record.json").read_text())
    change(content)
    (folder / "record.json").write_text(json.dumps(content))


def flip(mask: Path) -> None:
    """Another class at the first pixel of the upper edge, which is background."""
    labels = read_labels(mask)
    labels[0, 0] = 1 if labels[0, 0] == 0 else 0
    write_labels(mask, labels)


def without_hashes(folder: Path) -> None:
    """As older versions wrote them."""
    edit(folder, lambda content: content["provenance"].pop("hashes"))
    (folder / SUMS).unlink()


# ---------------------------------------------------------------------------------------- untouched records


@pytest.mark.parametrize("policy", ["fixed", "held-out", "label-free", "oracle"])
def test_every_stage_under_every_policy_is_made_again_as_the_judge_made_it(policy: str) -> None:
    stages = ("seed", "pseudo", "seg", *(("seg+crf", "seg+ms") if policy == "fixed" else ()))
    methods = ("first", "first > second > third")
    cells = run(*methods, stages=stages, threshold_policy=policy, metrics=("accuracy", "map_metric"))
    assert {cell.stage.name for cell in cells} == set(stages)
    fitted = fake.count("first.fit")
    for cell in cells:
        seen = check(cell.folder)
        assert (seen.verdict, seen.differs, seen.unknown) == ("ok", [], []), cell.title
        assert seen.notes == []
        assert seen.checked["files"] > len(cell.ids)
    assert fake.count("first.fit") == fitted
    assert fake.count("first.restore") == 0


def test_a_custom_stage_is_verified_by_its_terms_or_by_its_table() -> None:
    crf = {"gauss_xy": 1, "gauss_compat": 1, "bilateral_xy": 9, "bilateral_rgb": 9, "bilateral_compat": 2}
    tables = {"mine": {"base": "seg", "crf": crf}, "own-seed": {"base": "seed"}}
    cells = run("first", stages=("mine", "own-seed"), custom_stages=tables)
    assert check(cells[0].folder).verdict == "ok"
    assert check(cells[1].folder, custom_stages=tables).verdict == "ok"
    assert check(cells[1].folder).verdict == "ok"  # the terms say that maps are judged


def test_the_list_of_hashes_covers_masks_maps_and_counts_in_the_form_of_sha256sum() -> None:
    (cell,) = run("first")
    sums = read_sums(cell.folder / SUMS)
    assert {f"masks/{id}.png" for id in cell.ids} | {COUNTS} < set(sums)
    assert sum(name.endswith(".npz") and "/maps/" in name for name in sums) == len(cell.ids)
    subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS], cwd=cell.folder, check=True, capture_output=True
    )
    kept = read_record(cell.folder).provenance["hashes"]
    assert set(kept) == {COUNTS, SUMS}
    assert kept[COUNTS] == sums[COUNTS]


def test_a_record_of_an_older_version_is_verified_and_says_that_it_has_no_hashes() -> None:
    (cell,) = run("first")
    without_hashes(cell.folder)
    seen = check(cell.folder)
    assert (seen.verdict, seen.notes) == ("ok", ["no hashes recorded"])


# -------------------------------------------------------------------------------------------- what is touched


def test_one_pixel_of_a_mask_is_named_by_file_counts_labels_and_score() -> None:
    (cell,) = run("first")
    flip(cell.folder / "masks" / f"{cell.ids[1]}.png")
    seen = check(cell.folder)
    assert seen.verdict == "differs"
    assert {
        f"masks/{cell.ids[1]}.png",
        COUNTS,
        "masks against the maps that they come from",
        "iou.miou",
    } <= named(seen)
    counts = next(difference for difference in seen.differs if difference.what == COUNTS)
    assert counts.found == f"not of masks and truth in 1 of 3 images: {cell.ids[1]}"
    miou = next(difference for difference in seen.differs if difference.what == "iou.miou")
    assert miou.recorded == read_record(cell.folder).scores["iou"]["miou"] != miou.found


def test_one_pixel_is_named_without_recorded_hashes_too() -> None:
    (cell,) = run("first")
    without_hashes(cell.folder)
    flip(cell.folder / "masks" / f"{cell.ids[0]}.png")
    assert {COUNTS, "masks against the maps that they come from", "iou.miou"} <= named(check(cell.folder))
    assert f"masks/{cell.ids[0]}.png" not in named(check(cell.folder))


def test_a_pixel_without_truth_changes_no_score_and_is_named_all_the_same() -> None:
    (cell,) = run("first")
    mask = cell.folder / "masks" / f"{cell.ids[0]}.png"
    labels = read_labels(mask)
    labels[-1, 0] = 2  # the toy's last row is void
    write_labels(mask, labels)
    seen = check(cell.folder)
    assert f"masks/{cell.ids[0]}.png" in named(seen)
    assert not any(difference.part == "scores" for difference in seen.differs)


def test_one_value_of_one_map_is_named_by_its_file_and_by_the_labels_it_makes() -> None:
    (cell,) = run("first")
    step = next(path for path in Path("runs/toy/steps").iterdir() if path.name.startswith("first"))
    artifacts = ArtifactFolder(step / "artifacts" / "val", cell.ids)
    maps = artifacts.read(cell.ids[2], ["maps"]).maps
    assert maps is not None
    values = maps.values.copy()
    values[0, 0, 0] = 1 - values[0, 0, 0].round()
    artifacts.write(cell.ids[2], Outputs(maps=Maps(maps.classes, values)), ["maps"])
    seen = check(cell.folder)
    assert any(what.endswith(f"artifacts/val/maps/{cell.ids[2]}.npz") for what in named(seen))
    labels = next(difference for difference in seen.differs if difference.part == "labels")
    assert cell.ids[2] in labels.found
    assert not any(difference.part == "scores" for difference in seen.differs)
    assert not any(d.part == "labels" for d in check(cell.folder, from_masks=True).differs)


@pytest.mark.parametrize(
    ("metric", "number"),
    [("iou", "miou"), ("accuracy", "mean_class_accuracy"), ("map_metric", "maps"), ("threshold", "value")],
)
def test_an_edited_score_is_named_with_both_values(metric: str, number: str) -> None:
    (cell,) = run("first", metrics=("accuracy", "map_metric"), threshold_policy="oracle")
    before = read_record(cell.folder).scores[metric][number]

    def raised(content: Any) -> None:
        content["scores"][metric][number] = before + 0.01

    edit(cell.folder, raised)
    (difference,) = check(cell.folder).differs
    assert (difference.what, difference.recorded) == (f"{metric}.{number}", before + 0.01)
    assert difference.found == pytest.approx(before, abs=1e-12)


def test_an_edited_number_of_one_class_and_an_invented_one_are_named() -> None:
    (cell,) = run("first")

    def change(content: Any) -> None:
        content["scores"]["iou"]["per_class"][1] = 99.0
        content["scores"]["iou"]["invented"] = 1.0

    edit(cell.folder, change)
    assert named(check(cell.folder)) == {"iou.per_class[1]", "iou.invented"}


def test_two_records_that_were_swapped_are_both_named() -> None:
    one, other = run("first", "other")
    first, second = (cell.folder / "record.json" for cell in (one, other))
    texts = first.read_text(), second.read_text()
    first.write_text(texts[1])
    second.write_text(texts[0])
    for cell in (one, other):
        seen = check(cell.folder)
        assert {"folder", "iou.miou", SUMS} <= named(seen)
        says = next(difference for difference in seen.differs if difference.what == "folder")
        assert says.recorded.split("/")[0] != says.found.split("/")[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["identity"].update(supervision=[]),
        lambda content: content["identity"].update(seed=1),
        lambda content: content["identity"]["terms"].update(threshold_policy="label-free"),
        lambda content: content["identity"]["recipe"][0]["config"].update(batch=8),
    ],
)
def test_an_edited_identity_does_not_give_the_key(change: Callable[[Any], None]) -> None:
    (cell,) = run("first")
    edit(cell.folder, change)
    seen = check(cell.folder)
    assert seen.verdict == "differs"
    assert "protocol key" in named(seen)


def test_another_name_of_the_method_is_named_by_the_folder() -> None:
    (cell,) = run("first")
    edit(cell.folder, lambda content: content.update(method="best"))
    assert named(check(cell.folder)) == {"folder"}


class Retouched(fake.Toy):
    """The toy with one pixel of truth changed, and hence another fingerprint."""

    def mask(self, id: str) -> Any:
        mask = super().mask(id)
        if id == "val1":
            mask[2, 2] = 0
        return mask

    def fingerprint(self, split: str) -> str:
        return content_key([super().fingerprint(split), split == "val"])


def test_a_changed_truth_is_named_by_fingerprint_image_and_score() -> None:
    (cell,) = run("first")
    seen = check(cell.folder, lambda record: Retouched(fake.ToyConfig(), 0))
    assert {"fingerprint of val", "fingerprint of train, learned from", COUNTS, "iou.miou"} <= named(seen)
    counts = next(difference for difference in seen.differs if difference.what == COUNTS)
    assert counts.found == "not of masks and truth in 1 of 3 images: val1"


def test_other_held_out_images_and_an_edited_list_of_hashes_are_named() -> None:
    (cell,) = run("first", threshold_policy="held-out")
    sums = cell.folder / SUMS
    sums.write_text(sums.read_text().replace("masks/val0", "masks/val1", 1))
    assert SUMS in named(check(cell.folder))

    def retuned(content: Any) -> None:
        content["identity"]["threshold"]["ids"] = "0" * 64

    edit(cell.folder, retuned)
    assert {"held-out images", "protocol key"} <= named(check(cell.folder))


def test_weights_that_are_given_are_compared() -> None:
    file = Path("weights.pth")
    file.write_bytes(b"numbers")
    (cell,) = run("first", options={"first": {"weights": str(file)}})
    known = read_record(cell.folder).identity.recipe[0].config["weights"]["sha256"]
    assert check(cell.folder).notes == [f"weights of first (sha256 {known[:12]}) were not given"]
    assert check(cell.folder, weights={"first": known}).verdict == "ok"
    assert named(check(cell.folder, weights={"first": "0" * 64})) == {"weights of first"}


# ---------------------------------------------------------------------------------------- what is not there


def test_removed_masks_cannot_be_verified_but_the_counts_still_judge_the_scores() -> None:
    (cell,) = run("first", metrics=("accuracy",))
    (cell.folder / "masks" / f"{cell.ids[0]}.png").unlink()
    seen = check(cell.folder)
    assert seen.verdict == "cannot be verified"
    assert "masks are not there: 1 of 3 images: val0" in seen.unknown
    shutil.rmtree(cell.folder / "masks")
    assert "all 3 images" in check(cell.folder).unknown[0]
    edit(cell.folder, lambda content: content["scores"]["iou"].update(miou=99.0))
    assert named(check(cell.folder)) == {"iou.miou"}


class WithBoundary(fake.FakePlugins):
    """The fakes, and a metric that looks at the labels themselves."""

    def _installed(self) -> Any:
        yield from super()._installed()
        file = Path(__file__)
        yield Entry("metrics", "boundary_iou", "scores:BoundaryIou", "fakes", "1", file, BoundaryIou)


def test_a_metric_that_counts_for_itself_is_compared_with_and_without_masks() -> None:
    (cell,) = run("first", metrics=("boundary_iou",), plugins=WithBoundary())

    def differing(folder: Path) -> set[str]:
        file = folder / "record.json"
        stored = StoredRecord(read_record(file), file)
        return named(verify_record(stored, toy, WithBoundary()))

    assert differing(cell.folder) == set()
    table = CountsTable.load(cell.folder / COUNTS)
    part, arrays = next(
        (name, arrays) for name, arrays in table.more["boundary_iou"].items() if len(arrays.value)
    )
    arrays.value[0] += 1
    table.save(cell.folder / COUNTS)
    assert differing(cell.folder) == {COUNTS, f"{COUNTS}, boundary_iou {part}"}
    shutil.rmtree(cell.folder / "masks")
    edit(cell.folder, lambda content: content["scores"]["boundary_iou"].update(boundary_iou=99.0))
    assert "boundary_iou.boundary_iou" in differing(cell.folder)


def test_cleaned_artifacts_cannot_be_verified_unless_only_the_masks_are_asked_for() -> None:
    maps, labels = run("first", "other", metrics=("map_metric",))
    shutil.rmtree("runs/toy/steps")
    seen = check(maps.folder)
    assert seen.verdict == "cannot be verified"
    assert any(why.startswith("labels cannot be made again: the maps in") for why in seen.unknown)
    assert any(why.startswith("map_metric: the maps in") for why in seen.unknown)
    edit(maps.folder, lambda content: content["scores"].pop("map_metric"))
    assert check(maps.folder, from_masks=True).verdict == "ok"
    copies = check(labels.folder)  # its masks are the step's labels themselves
    assert copies.verdict == "ok"
    assert "masks stand for the labels" in " ".join(copies.notes)


def test_a_chosen_threshold_without_its_maps_cannot_be_verified() -> None:
    (cell,) = run("first", threshold_policy="label-free")
    shutil.rmtree("runs/toy/steps")
    assert "the threshold cannot be chosen again" in " ".join(check(cell.folder, from_masks=True).unknown)


def test_a_data_set_that_is_gone_cannot_be_verified_but_an_edited_score_is_found() -> None:
    def gone(record: Any) -> Any:
        raise BadData("no such folder", where="toy.root")

    (cell,) = run("first")
    seen = check(cell.folder, gone)
    assert seen.verdict == "cannot be verified"
    assert seen.unknown == ["the data set cannot be opened: no such folder [toy.root]"]
    edit(cell.folder, lambda content: content["scores"]["iou"].update(miou=99.0))
    assert named(check(cell.folder, gone)) == {"iou.miou"}


def test_lost_counts_a_lost_list_a_lost_metric_and_a_failed_cell_are_said() -> None:
    (cell,) = run("first", metrics=("accuracy",))
    (cell.folder / COUNTS).unlink()
    (cell.folder / SUMS).unlink()
    edit(cell.folder, lambda content: content["scores"].update(gone={"gone": 1.0}))
    seen = check(cell.folder)
    assert seen.verdict == "cannot be verified"
    said = " ".join(seen.unknown)
    for words in (f"{COUNTS} is not there", f"{SUMS} is gone", "the metric gone is not installed"):
        assert words in said
    write_record(cell.folder, dataclasses.replace(seen.record, status="failed", reason="out of memory"))
    assert check(cell.folder).unknown == ["the cell failed: out of memory"]


def test_a_stage_of_another_version_cannot_be_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    from wsssbench.verifying import recorded

    (cell,) = run("first")
    today = dataclasses.replace(recorded.STAGES["seg"], version="2")
    monkeypatch.setitem(recorded.STAGES, "seg", today)
    seen = check(cell.folder)
    assert seen.verdict == "cannot be verified"
    assert "the stage seg is version 2 now" in " ".join(seen.unknown)


def test_terms_that_are_not_those_of_the_stage_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from wsssbench.verifying import recorded

    (cell,) = run("first", stages=("seg+crf",))
    crf = CrfSet(1, 3, 67, 3, 4, 10)
    stage: Stage = dataclasses.replace(recorded.STAGES["seg+crf"], crf=crf)
    monkeypatch.setitem(recorded.STAGES, "seg+crf", stage)
    assert "terms.crf" in named(check(cell.folder))
