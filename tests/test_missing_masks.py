"""Masks that only learning from masks needs: what runs without them, what says so, and what is refused."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil
from scipy.io import savemat

from wsssbench.cli.main import main
from wsssbench.errors import BadData
from wsssbench.records.finding import find_records
from wsssbench.testing import check_dataset
from wsssbench_datasets.coco14.dataset import Coco14, Coco14Config
from wsssbench_datasets.sbd_masks import read_sbd_mask
from wsssbench_datasets.voc12.dataset import Voc12, Voc12Config

LEARNED = ("2008_000002", "2008_000003")  # of train_aug alone
SUMMARY = "2 images of voc12:train_aug have no mask"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def opened(voc: Any) -> Voc12:
    return Voc12(Voc12Config(root=str(voc.root)), 0)


@pytest.fixture
def bare(voc_tree: Any) -> Any:
    """A VOC tree as its site has it, with train_aug.txt: no SegmentationClassAug."""
    shutil.rmtree(voc_tree.tree / "SegmentationClassAug")
    return voc_tree


def run(voc: Any, to: Path, *more: object) -> Result:
    return call("run", "--dataset", "voc12", "-o", f"voc12.root={voc.root}", "--runs", to, *more)


def test_a_method_of_tags_runs_and_the_row_says_what_is_missing(bare: Any, tmp_path: Path) -> None:
    result = run(bare, tmp_path / "runs", "--method", "constant", "--stages", "pseudo,seg")
    assert result.exit_code == 0, result.output
    assert "2 images of train_aug have no mask" in result.output
    [seg] = [r for r in find_records(tmp_path / "runs") if r.record.identity.terms.stage == "seg"]
    assert seg.record.provenance["dataset"]["without_masks"] == {"train_aug": 2}


def test_prepare_notes_masks_that_methods_of_tags_do_not_need(bare: Any) -> None:
    result = call("prepare", "voc12", "-o", f"voc12.root={bare.root}")
    assert result.exit_code == 0, result.output
    assert "images without a mask: train_aug 2" in result.output
    assert f"only methods that learn from masks need: 2 images, e.g. {', '.join(LEARNED)}" in result.output


def test_a_method_that_learns_from_masks_is_refused_when_planning(bare: Any, tmp_path: Path) -> None:
    small = ("-o", "full.backbone=small", "-o", "full.output_stride=8")
    small = ("--method", "constant", "--method", "full", *small)
    result = run(bare, tmp_path / "runs", *small, "--stages", "seg")
    assert result.exit_code == 2, result.output
    assert f"{SUMMARY}, and full learns from them" in result.output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["run", "score"])
def test_a_stage_that_is_judged_by_missing_masks_is_refused_when_planning(
    bare: Any, tmp_path: Path, command: str
) -> None:
    bare.list_file("train").unlink()  # then train_aug is the label split, too
    if command == "run":
        result = run(bare, tmp_path / "runs", "--method", "constant", "--stages", "pseudo")
    else:
        root = ("-o", f"voc12.root={bare.root}", "--runs", tmp_path / "runs", "--stage", "pseudo")
        result = call("score", tmp_path, "--dataset", "voc12", "--as", "x", *root)
    assert result.exit_code == 2, result.output
    assert f"{SUMMARY}, and the stage pseudo is judged by them" in result.output


def test_a_threshold_is_not_tuned_on_missing_masks(bare: Any, tmp_path: Path) -> None:
    bare.list_file("train").unlink()
    held_out = ("--method", "constant", "--stages", "seg", "--threshold-policy", "held-out")
    result = run(bare, tmp_path / "runs", *held_out)
    assert result.exit_code == 2, result.output
    assert f"{SUMMARY}, and thresholds are tuned on some of them" in result.output


def test_a_data_set_without_these_masks_keeps_its_contract(bare: Any) -> None:
    check_dataset(Voc12, {"root": str(bare.root)}, "voc12")


def test_missing_masks_of_the_judged_split_stay_faults(bare: Any, tmp_path: Path) -> None:
    id = bare.splits["val"][0]
    bare.mask(id).unlink()
    result = call("prepare", "voc12", "-o", f"voc12.root={bare.root}")
    assert result.exit_code == 1, result.output
    assert (
        f"missing mask: 1 images, e.g. this mask is missing, or no plain file [{bare.mask(id)}"
        in result.output
    )
    result = run(bare, tmp_path / "runs", "--method", "constant", "--stages", "seg")
    assert result.exit_code == 2, result.output
    assert "1 image of voc12:val has no mask, and the stage seg is judged by them" in result.output


def test_the_fingerprint_tells_missing_masks_from_those_that_are_there(voc_tree: Any) -> None:
    whole = {split: opened(voc_tree).fingerprint(split) for split in ("train_aug", "val")}
    shutil.rmtree(voc_tree.tree / "SegmentationClassAug")
    assert opened(voc_tree).fingerprint("train_aug") != whole["train_aug"]
    assert opened(voc_tree).fingerprint("val") == whole["val"]


# ------------------------------------------------------------------------------------------------ SBD's .mat


def sbd(path: Path, mask: Any, **options: Any) -> Path:
    """A file as SBD's dataset/cls has them."""
    cells = np.empty((20, 1), object)
    cells[:] = [[np.zeros((2, 2))]] * 20
    content = {"Boundaries": cells, "Segmentation": mask, "CategoriesPresent": np.array([[8]], np.uint8)}
    savemat(path, {"GTcls": content}, **options)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_masks_of_sbd_are_read_where_they_lie_in_the_augmented_folder(
    voc_tree: Any, compressed: bool
) -> None:
    drawn = opened(voc_tree).mask(LEARNED[0])
    for id in LEARNED:
        path = voc_tree.mask(id, "SegmentationClassAug")
        sbd(path.with_suffix(".mat"), np.array(Pil.open(path)), do_compression=compressed)
        path.unlink()
    data = opened(voc_tree)
    assert np.array_equal(data.mask(LEARNED[0]), drawn)
    assert data.mask(LEARNED[0]).dtype == np.uint8
    assert data.card.without_masks == {}
    report = data.prepare()
    assert report.ok
    assert report.splits[1].masks == {"SegmentationClass": 2, "SegmentationClassAug": 2}
    assert data.fingerprint("train_aug")


def bomb(path: Path) -> Path:
    """A few kB that unpack to more than a mask can have."""
    packed = zlib.compress(bytes(2**26 + 2**20), 9)
    head = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"
    path.write_bytes(head + (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed)
    return path


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda p: None, "mask is missing"),
    "text": (lambda p: p.write_text("no mask"), "no GTcls.Segmentation"),
    "truncated": (lambda p: p.write_bytes(sbd(p, np.eye(99, dtype=np.uint8)).read_bytes()[:-40]), "damaged"),
    "hdf5": (lambda p: p.write_bytes(b"MATLAB 7.3".ljust(124) + b"\x00\x02IM" + bytes(99)), "no GTcls.Segm"),
    "boundaries": (lambda p: savemat(p, {"GTbnd": {"Segmentation": np.eye(3)}}), "no GTcls.Segmentation"),
    "floats": (lambda p: sbd(p, np.eye(3)), "not .H, W. of 8 bits"),
    "bomb": (bomb, "too large"),
}


@pytest.mark.parametrize("how", FAULTS)
def test_another_file_by_that_name_is_one_clear_error(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a.mat"
    FAULTS[how][0](path)
    with pytest.raises(BadData, match=FAULTS[how][1]) as caught:
        read_sbd_mask(path)
    assert caught.value.where == str(path)


# ------------------------------------------------------------------------------------------- other data sets


def test_coco_with_masks_of_val_alone_serves_methods_of_tags(coco_tree: Any, tmp_path: Path) -> None:
    whole = Coco14(Coco14Config(root=str(coco_tree.root)), 0).fingerprint("val")
    shutil.rmtree(coco_tree.root / "SegmentationClass" / "train2014")
    tags = coco_tree.write_tags(tmp_path / "cls_labels.npy")
    coco_tree.instances("train").unlink()
    options = ("-o", f"coco14.root={coco_tree.root}", "-o", f"coco14.tags={tags}")
    data = Coco14(Coco14Config(root=str(coco_tree.root), tags=str(tags)), 0)
    assert data.card.without_masks == {"train": 11}
    assert data.fingerprint("val") == whole
    sound = call("prepare", "coco14", *options)
    assert sound.exit_code == 0, sound.output
    assert "images without a mask: train 11" in sound.output
    to = ("--dataset", "coco14", "--runs", tmp_path / "runs", *options)
    result = call("run", "--method", "constant", "--stages", "seg", *to)
    assert result.exit_code == 0, result.output
    result = call("run", "--method", "constant", "--stages", "pseudo", *to)
    assert result.exit_code == 2, result.output
    assert "11 images of coco14:train have no mask, and the stage pseudo" in result.output


def test_a_folder_whose_fit_split_has_no_masks_refuses_learning_from_them(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for id in ("a", "b"):
        Pil.new("RGB", (8, 8)).save(root / "images" / f"{id}.png")
    Pil.fromarray(np.eye(8, dtype=np.uint8)).save(root / "masks" / "b.png")
    (root / "tags.json").write_text(json.dumps({"a": ["cat"], "b": ["cat"]}))
    (root / "dataset.toml").write_text(
        'name = "pets"\nclasses = ["cat"]\ntags = "tags.json"\nlabel_split = "val"\n'
        '[splits]\ntrain = { list = "train.txt", masks = false }\nval = "val.txt"\n'
    )
    (root / "train.txt").write_text("a")
    (root / "val.txt").write_text("b")
    to = ("--dataset", "folder", "-o", f"folder.root={root}", "--runs", tmp_path / "runs", "--stages", "seg")
    assert call("run", "--method", "constant", *to).exit_code == 0
    result = call("run", "--method", "full", "-o", "full.backbone=small", "-o", "full.output_stride=8", *to)
    assert result.exit_code == 2, result.output
    assert "1 image of folder:pets:train has no mask, and full learns from them" in result.output
