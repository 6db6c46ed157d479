"""Labels from a folder as a step: what the recipe says, what enters the key, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil

from wsssbench.cli.main import main
from wsssbench.dumps import write_psa_dict
from wsssbench.errors import BadData, UnknownName, WsssError
from wsssbench.files.digests import folder_digest
from wsssbench.identity import Record
from wsssbench.judging.judge import score_folder
from wsssbench.masks import read_labels, threshold_labels, voc_palette, write_labels
from wsssbench.planning.plan import make_plan, open_dataset
from wsssbench.planning.recipe_loading import resolve_recipe
from wsssbench.planning.settings import Settings
from wsssbench.plugins.options import build_config, key_options
from wsssbench.plugins.table import Plugins
from wsssbench.records.finding import find_records
from wsssbench.records.store import read_record
from wsssbench.testing import BrokenContract, check_step
from wsssbench.testing.tiny import TinyDataset
from wsssbench.types import Maps
from wsssbench_methods.importer import Import

PLUGINS = Plugins()
TINY = ("--dataset", "shapes", "-o", "shapes.preset=tiny", "-o", "segmenter.preset=tiny", "--device", "cpu")
SHAPES: Any = open_dataset("shapes", PLUGINS, Settings(dataset_options={"shapes": {"preset": "tiny"}}), 0)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_masks(folder: Path, *splits: str, count: int = 8) -> Path:
    """A foreign method's masks: the truth with its right half gone, and an undecided row."""
    for split in splits:
        for id in SHAPES.ids(split)[:count]:
            labels = SHAPES.mask(id).copy()
            labels[:, labels.shape[1] // 2 :] = 0
            labels[0] = 255
            write_labels(folder / f"{id}.png", labels)
    return folder


def classes_of(id: str) -> list[int]:
    return np.flatnonzero(SHAPES.tags(id)).tolist()


def made_maps(id: str) -> Maps:
    """A foreign method's maps at a quarter of the image's size: 0.8 where the class is, 0.2 elsewhere."""
    mask, classes = SHAPES.mask(id)[::4, ::4], classes_of(id)
    planes = [np.where(mask == k + 1, 0.8, 0.2).astype(np.float32) for k in classes]
    return Maps(np.array(classes, np.int64), np.stack(planes))


def write_maps(folder: Path, *splits: str, count: int = 8) -> Path:
    """The same as dicts of PSA; its classes and values are stored as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        for id in SHAPES.ids(split)[:count]:
            maps = made_maps(id)
            write_psa_dict(folder / f"{id}.npy", maps, maps.values.shape[-2:])
    return folder


def write_logits(folder: Path, *splits: str, count: int = 8) -> Path:
    """Bare logits of all classes as deeplab-pytorch leaves them, at half of the image's size."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        for id in SHAPES.ids(split)[:count]:
            mask = SHAPES.mask(id)[::2, ::2]
            planes = [np.where(mask == k, 3.0, -1.0) for k in range(len(SHAPES.card.class_names) + 1)]
            np.save(folder / f"{id}.npy", np.stack(planes).astype(np.float32))
    return folder


def run(*arguments: object, limit: int = 8) -> Result:
    command = ["run", *TINY, "-q", "--limit", limit, *arguments]
    return CliRunner().invoke(main, [str(a) for a in command], catch_exceptions=False)


def records(method: str = "") -> list[Record]:
    return [s.record for s in find_records("runs") if s.record.method.startswith(method)]


def plan(*methods: str, **changes: Any) -> Any:
    asked: dict[str, Any] = {"datasets": ("shapes",), "limit": 8, "device": "cpu", **changes}
    asked["dataset_options"] = {"shapes": {"preset": "tiny"}}
    return make_plan(Settings(methods=methods, **asked), PLUGINS)


# --------------------------------------------------------------------------------------------- the recipe


def test_a_path_after_a_steps_name_is_its_option_and_only_its_last_part_is_shown() -> None:
    spec = resolve_recipe("import: some where/my masks >segmenter", PLUGINS, Settings())
    assert spec.name == "import:my masks > segmenter"
    assert [name for name, _ in spec.steps] == ["import", "segmenter"]
    assert spec.options == ({"folder": "some where/my masks"}, {})


def test_options_of_the_settings_stand_beside_the_path() -> None:
    settings = Settings(options={"import": {"supervision": ["tags"], "folder": "x"}})
    spec = resolve_recipe("import:y", PLUGINS, settings)
    assert spec.options == ({"supervision": ["tags"], "folder": "y"},)


def test_a_table_of_the_settings_may_name_a_path() -> None:
    spec = resolve_recipe("theirs", PLUGINS, Settings(recipes={"theirs": ("import:a/b", "segmenter")}))
    assert (spec.name, spec.options[0]) == ("theirs", {"folder": "a/b"})


def test_a_step_that_reads_no_path_takes_none() -> None:
    with pytest.raises(WsssError, match="'cam' does not take a path"):
        resolve_recipe("cam:x", PLUGINS, Settings())
    with pytest.raises(UnknownName, match="unknown method 'imprt:x'") as caught:
        resolve_recipe("imprt:x", PLUGINS, Settings())
    assert "import" in caught.value.hint


# ------------------------------------------------------------------------------------------------- the key


def test_the_key_follows_the_content_of_the_folder_and_not_its_place(tmp_path: Path) -> None:
    one = write_masks(tmp_path / "one", "train")
    two = Path(shutil.copytree(one, tmp_path / "deep" / "two"))
    first, second = (folder_digest(folder) for folder in (one, two))
    assert first == second
    (id, *_) = SHAPES.ids("train")
    (two / f"{id}.png").rename(two / "other.png")
    assert folder_digest(two) != first
    shutil.copy(two / "other.png", two / f"{id}.png")
    assert folder_digest(two) != first
    (two / "other.png").unlink()
    assert folder_digest(two) == first
    (two / "notes.txt").write_text("no mask")
    assert folder_digest(two) == first
    write_labels(two / f"{id}.png", np.zeros_like(SHAPES.mask(id)))
    assert folder_digest(two) != first


def test_the_path_is_neither_in_the_key_nor_in_the_record(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "secret place" / "masks", "train")
    copy = Path(shutil.copytree(folder, tmp_path / "masks"))
    (one,), (two,) = (plan(f"import:{f}", stages=("pseudo",)) for f in (folder, copy))
    assert one.key == two.key
    assert one.trial.method == "import:masks"
    assert "secret" not in json.dumps(key_options(one.trial.steps[0].step.config))
    assert "secret" not in str(one.folder)
    assert one.folder.parent.parent.name.startswith("import-masks-")  # no colon


def test_two_folders_of_one_name_are_two_rows(tmp_path: Path) -> None:
    one, two = write_masks(tmp_path / "a" / "m", "train"), write_masks(tmp_path / "b" / "m", "train")
    (id, *_) = SHAPES.ids("train")
    write_labels(two / f"{id}.png", SHAPES.mask(id))
    result = run("--method", f"import:{one}", "--method", f"import:{two}", "--stages", "pseudo", "--json")
    (table,) = json.loads(result.stdout)
    assert len(table["rows"]) == 2
    assert len({row["variant"] for row in table["rows"]}) == 2


def test_the_key_of_a_folder_of_pictures_is_that_of_their_names_and_bytes(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "masks", "train")
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        whole.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    assert folder_digest(folder) == whole.hexdigest()


def test_the_key_follows_the_content_of_array_files_too(tmp_path: Path) -> None:
    folder = write_maps(tmp_path / "cams", "train")
    (one,) = plan("import:cams", stages=("seed",))
    (id, *_) = SHAPES.ids("train")
    np.save(folder / f"{id}.npy", np.array({classes_of(id)[0]: np.zeros((4, 4), np.float32)}, dtype=object))
    (two,) = plan("import:cams", stages=("seed",))
    assert one.key != two.key
    (named,) = plan("import:cams", stages=("seed",), options={"import": {"format": "psa"}})
    assert named.key != two.key


# ----------------------------------------------------------------------------------------------- what it is


def test_labels_of_a_folder_are_judged_as_they_are(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "my masks", "train", "val")
    assert run("--method", "import:my masks", "--stages", "pseudo,seg,seg+crf").exit_code == 0
    found = {record.identity.terms.stage: record for record in records()}
    assert set(found) == {"pseudo", "seg"}  # a CRF needs probabilities: skipped
    for stage, split in (("pseudo", "train"), ("seg", "val")):
        expected, _ = score_folder(SHAPES, split, folder, limit=8)
        assert found[stage].scores == expected
        assert found[stage].identity.supervision == ("unknown",)


def test_a_segmenter_learns_from_a_folder_and_segments_alone(tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", "train")
    assert run("--method", "import:masks > segmenter", "--stages", "pseudo,seg").exit_code == 0
    pseudo, seg = sorted(records(), key=lambda record: record.identity.terms.stage)
    assert pseudo.method == seg.method == "import:masks > segmenter"
    assert pseudo.scores == score_folder(SHAPES, "train", tmp_path / "masks", limit=8)[0]
    assert seg.identity.supervision == ("tags", "unknown")  # the preset starts from a classifier
    assert seg.scores["iou"]["n_images"] == 8
    (id, *_) = SHAPES.ids("train")
    (kept,) = Path("runs").rglob(f"artifacts/train-tags/labels/{id}.png")
    np.testing.assert_array_equal(read_labels(kept), read_labels(tmp_path / "masks" / f"{id}.png"))


def test_a_row_says_what_the_user_knows_of_the_supervision(tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", "train")
    known = ("-o", 'import.supervision=["tags", "saliency"]')
    run("--method", "import:masks", "--stages", "pseudo", *known)
    (record,) = records()
    assert record.identity.supervision == ("saliency", "tags")
    with pytest.raises(UnknownName, match="unknown supervision 'boxes'"):
        plan("import:masks", options={"import": {"supervision": ["boxes"]}})


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_masks_may_be_grey_or_have_any_palette(tmp_path: Path, mode: str) -> None:
    folder = write_masks(tmp_path / "masks", "train")
    expected = folder_digest(folder), score_folder(SHAPES, "train", folder, limit=8)[0]
    for path in folder.iterdir():
        labels = read_labels(path)
        picture = Pil.fromarray(labels.astype(np.uint16) if mode == "I;16" else labels)
        if mode == "P":
            picture.putpalette([(7 * i) % 256 for i in range(768)])
        picture.save(path)
        with Pil.open(path) as saved:
            assert saved.mode in (mode, mode.partition(";")[0])  # an older Pillow opens I;16 as I
    assert folder_digest(folder) != expected[0]
    run("--method", "import:masks", "--stages", "pseudo")
    assert records()[0].scores == expected[1]


def test_a_folder_of_maps_gives_maps_and_its_threshold_is_in_the_row(tmp_path: Path) -> None:
    write_maps(tmp_path / "cams", "train")
    (cell,) = plan("import:cams", stages=("seed",))
    card = cell.trial.steps[0].step.card
    assert (card.gives, card.needs_threshold) == (("maps",), True)
    assert set(card.gives) < set(Import.card.gives)
    given = ("-o", "import.threshold=0.55", "--stages", "seed,pseudo")
    assert run("--method", "import:cams", *given).exit_code == 0
    seed, pseudo = sorted(records(), key=lambda record: record.identity.terms.stage, reverse=True)
    assert seed.identity.threshold == pseudo.identity.threshold
    assert seed.identity.threshold["value"] == 0.55
    for id in SHAPES.ids("train")[:8]:
        shape = SHAPES.mask(id).shape
        write_labels(tmp_path / "expected" / f"{id}.png", threshold_labels(made_maps(id), 0.55, shape))
    assert seed.scores == pseudo.scores == score_folder(SHAPES, "train", tmp_path / "expected", limit=8)[0]


def test_foreign_maps_can_be_refined_and_learned_from(tmp_path: Path) -> None:
    write_maps(tmp_path / "cams", "train")
    cells = plan("import:cams > crf > segmenter", stages=("seed", "pseudo", "seg"))
    assert [cell.state for cell in cells] == ["missing", "missing", "missing"]
    with pytest.raises(WsssError, match="step segmenter needs labels"):
        plan("import:cams > segmenter")
    assert run("--method", "import:cams > crf", "--stages", "pseudo").exit_code == 0
    (record,) = records()
    assert record.scores["iou"]["miou"] > 60
    assert record.identity.threshold is None  # the CRF has made labels


def test_a_folder_of_logits_gives_probabilities(tmp_path: Path) -> None:
    write_logits(tmp_path / "logits", "val")
    assert run("--method", "import:logits", "--stages", "seg,seg+crf").exit_code == 0
    found = {record.identity.terms.stage: record for record in records()}
    assert set(found) == {"seg", "seg+crf"}
    assert all(record.scores["iou"]["miou"] > 60 for record in found.values())
    assert {record.provenance["cards"]["import"]["gives"][0] for record in found.values()} == {"probs"}


def test_pictures_in_the_colours_of_voc_are_labels(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "masks", "train")
    expected = score_folder(SHAPES, "train", folder, limit=8)[0]
    for path in folder.iterdir():
        Pil.fromarray(voc_palette()[read_labels(path)]).save(path)
    run("--method", "import:masks", "--stages", "pseudo")
    assert records()[0].scores == expected


def test_a_tag_file_beside_pictures_does_not_make_them_anything_else(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "masks", "train")
    np.save(folder / "cls_labels.npy", np.array({"train_0": np.ones(3)}, dtype=object))
    (cell,) = plan("import:masks", stages=("pseudo",))
    assert cell.trial.steps[0].gives == ("labels",)


def test_a_bare_map_has_the_class_that_is_given_and_can_be_rescaled(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    ids = SHAPES.ids("train")[:8]
    label = int(np.unique(SHAPES.mask(ids[0]))[1])  # of the first image: a map of zeros might be labels
    for id in ids:
        np.save(tmp_path / "bare" / f"{id}.npy", np.where(SHAPES.mask(id) == label, 2.5, 0.0))
    refused = run("--method", "import:bare", "--stages", "pseudo")
    assert (refused.exit_code, "one map without a class" in records()[0].reason) == (1, True)
    given = ("-o", f"import.class_index={label - 1}", "-o", "import.rescale=true")
    assert run("--method", "import:bare", "--stages", "pseudo", *given).exit_code == 0
    (good,) = (record for record in records() if record.status == "ok")
    per_class = good.scores["iou"]["per_class"]
    values = list(per_class.values()) if isinstance(per_class, dict) else per_class
    assert values[label] == 100


# ---------------------------------------------------------------------------------------------- what lacks


def test_a_split_that_the_folder_does_not_hold_is_skipped_with_a_reason(tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", "train")
    pseudo, seg = plan("import:masks", stages=("pseudo", "seg"))
    assert (pseudo.state, seg.state) == ("missing", "skip")
    assert seg.reason == f"masks has no mask of val, such as {SHAPES.ids('val')[0]}.png"
    result = run("--method", "import:masks", "--stages", "pseudo,seg")
    assert result.exit_code == 0
    assert len(records()) == 1


def test_files_that_are_missing_are_counted_and_named_before_anything_runs(tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", "train", count=2)
    for method in ("import:masks", "import:masks > segmenter"):
        result = run("--method", method, "--stages", "pseudo")
        assert result.exit_code == 2
        names = ", ".join(f"{id}.png" for id in SHAPES.ids("train")[2:7])
        assert f"6 of 8 files are missing: {names} ..." in result.output
    assert not Path("runs").exists()


def test_missing_files_have_the_suffix_of_those_that_are_there(tmp_path: Path) -> None:
    write_maps(tmp_path / "cams", "train", count=2)
    result = run("--method", "import:cams", "--stages", "pseudo")
    names = ", ".join(f"{id}.npy" for id in SHAPES.ids("train")[2:7])
    assert (result.exit_code, f"6 of 8 files are missing: {names} ..." in result.output) == (2, True)
    (seg,) = plan("import:cams", stages=("seg",))
    assert seg.reason == f"cams has no maps of val, such as {SHAPES.ids('val')[0]}.npy"


def test_a_file_of_another_kind_than_the_first_fails_the_cell_and_is_named(tmp_path: Path) -> None:
    write_maps(tmp_path / "mixed", "train")
    odd = write_logits(tmp_path / "logits", "train") / f"{SHAPES.ids('train')[5]}.npy"
    shutil.copy(odd, tmp_path / "mixed")
    assert run("--method", "import:mixed", "--stages", "pseudo").exit_code == 1
    (found,) = records()
    assert "this file is deeplab, which holds probs, not maps" in found.reason
    assert odd.name in found.reason


def test_a_format_that_is_not_clear_is_asked_for_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "cams").mkdir()
    for id in SHAPES.ids("train")[:8]:
        maps = made_maps(id)
        np.save(tmp_path / "cams" / f"{id}.npy", np.array({"keys": maps.classes, "cam": maps.values}, object))
    result = run("--method", "import:cams", "--stages", "pseudo")
    assert result.exit_code == 2
    assert "name it by -o import.format=FORMAT; it could be: irn-strided" in result.output
    assert (
        run("--method", "import:cams", "--stages", "pseudo", "-o", "import.format=irn-strided").exit_code == 0
    )
    with pytest.raises(UnknownName, match="unknown format 'irm'"):
        plan("import:cams", options={"import": {"format": "irm"}})
    wrong = run("--method", "import:cams", "--stages", "pseudo", "-o", "import.format=clip-es")
    assert wrong.exit_code == 1
    assert next(r.reason for r in records() if r.status == "failed").startswith("this is not a clip-es file")


def test_a_second_step_without_any_mask_to_learn_from_is_refused(tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", "val")
    result = run("--method", "import:masks > segmenter")
    assert result.exit_code == 2
    assert "masks has no mask of train" in result.output


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("import:nowhere", ("no such folder", "nowhere")),
        ("import", ("import needs a folder of masks", "import:FOLDER")),
        ("import:", ("import needs a folder of masks",)),
        ("import:file", ("is a file, not a folder",)),
    ],
)
def test_a_folder_that_is_none_is_one_clear_error(method: str, words: tuple[str, ...]) -> None:
    Path("file").write_text("x")
    result = run("--method", method)
    assert result.exit_code == 2
    assert [word for word in words if word not in result.output] == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((5, 6), np.uint8), "the mask is (5, 6), its image"),
        (np.full_like(SHAPES.mask(SHAPES.ids("train")[3]), 4), "the mask has label 4, outside 0..3"),
        (None, "truncated or damaged"),
    ],
    ids=["size", "label", "damaged"],
)
def test_a_bad_mask_is_a_failed_cell_that_names_it(tmp_path: Path, bad: Any, words: str) -> None:
    path = write_masks(tmp_path / "masks", "train") / f"{SHAPES.ids('train')[3]}.png"
    path.write_bytes(path.read_bytes()[:40]) if bad is None else write_labels(path, bad)
    result = run("--method", "import:masks > segmenter", "--stages", "seg")
    assert result.exit_code == 1
    (found,) = records()
    assert found.status == "failed"
    assert words in found.reason
    assert path.name in found.reason


# ------------------------------------------------------------------------------------------- beside a run


def test_a_picture_is_segmented_by_the_second_step_and_not_by_a_folder(tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", "train")
    run("--method", "import:masks", "--method", "import:masks > segmenter", "--stages", "pseudo,seg")
    Pil.fromarray(SHAPES.image(SHAPES.ids("val")[0])).save("picture.png")
    shutil.rmtree("masks")
    cells = {(s.record.method, s.record.identity.terms.stage): s.path.parent for s in find_records("runs")}
    trained, alone = cells["import:masks > segmenter", "seg"], cells["import:masks", "pseudo"]
    done = CliRunner().invoke(main, ["predict", "picture.png", "--run", str(trained), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    found = read_labels("predictions/picture.png")
    val = read_record(trained).identity.terms.split
    np.testing.assert_array_equal(found, read_labels(trained / "masks" / f"{SHAPES.ids(val)[0]}.png"))
    result = CliRunner().invoke(main, ["predict", "picture.png", "--run", str(alone), "--device", "cpu"])
    assert result.exit_code == 2
    assert "no model to run" in result.output


def test_import_keeps_its_contract_with_a_folder_of_the_made_up_data(tmp_path: Path) -> None:
    data = TinyDataset()
    for id in (*data.ids("train"), *data.ids("val")):
        write_labels(tmp_path / "tiny" / f"{id}.png", data.scene(id)[1])
    assert len(check_step(Import, {"folder": str(tmp_path / "tiny")}, "import")) > 20
    (tmp_path / "tiny" / "val_1.png").unlink()
    with pytest.raises(BrokenContract, match="it raised BadData: no file of val_1"):
        check_step(Import, {"folder": str(tmp_path / "tiny")}, "import")


def test_labels_are_found_by_ids_alone(tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", "train")
    step = Import(build_config("import", Import, {"folder": "masks"}))
    assert step.skip("train", SHAPES.ids("train")[:8]) == ""
    with pytest.raises(BadData, match="no such folder of labels"):
        Import(build_config("import", Import, {"folder": "none"})).skip("train", ("a",))
