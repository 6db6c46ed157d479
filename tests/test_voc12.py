"""The VOC tree that users have: every list form, both mask folders, both tag sources, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil

from wsssbench.errors import BadData, UnknownName
from wsssbench.identity import content_key
from wsssbench_datasets import file_facts
from wsssbench_datasets.file_facts import cache_file
from wsssbench_datasets.id_lists import read_list, voc_id
from wsssbench_datasets.survey import survey
from wsssbench_datasets.voc12.dataset import CLASS_NAMES, Voc12, Voc12Config

A, B = "2007_000032", "2007_000039"


def opened(voc: Any, **options: Any) -> Voc12:
    return Voc12(Voc12Config(**{"root": str(voc.root), **options}), seed=0)


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_may_be_the_tree_or_a_folder_above_it(voc_tree: Any, below: str) -> None:
    assert opened(voc_tree, root=str(voc_tree.root / below)).ids("val") == voc_tree.splits["val"]


@pytest.mark.parametrize("above", ["data", "data/VOC/train_val", "a/b/VOC2012"])
def test_root_may_be_a_folder_at_most_three_above(voc_tree: Any, tmp_path: Path, above: str) -> None:
    shutil.move(voc_tree.tree, tmp_path / "disk" / above)
    shutil.copytree(voc_tree.root, tmp_path / "disk" / "other")
    (tmp_path / "disk" / "locked").mkdir(mode=0)
    root = str(tmp_path / "disk")
    assert opened(voc_tree, root=root, tags=str(voc_tree.labels)).ids("val") == voc_tree.splits["val"]


def test_folders_that_nobody_may_read_are_passed_over_or_named(
    voc_tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move(voc_tree.root, tmp_path / "disk" / "data")
    (tmp_path / "disk" / "locked").mkdir()
    true = {"is_dir": Path.is_dir, "scandir": os.scandir}

    def refuse(name: str, path: Any) -> Any:
        if "locked" in str(path) or (str(path).endswith("SegmentationClassAug") and name == "scandir"):
            raise PermissionError(13, "Permission denied")
        return true[name](path)

    monkeypatch.setattr(Path, "is_dir", lambda path: refuse("is_dir", path))
    monkeypatch.setattr(os, "scandir", lambda path: refuse("scandir", path))
    with pytest.raises(BadData, match=r"folder cannot be read \(Permission denied\).*SegmentationClassAug"):
        opened(voc_tree, root=str(tmp_path / "disk"))


def test_a_tree_that_lies_deeper_is_not_looked_for(voc_tree: Any, tmp_path: Path) -> None:
    shutil.move(voc_tree.tree, tmp_path / "disk" / "a" / "b" / "c" / "d")
    with pytest.raises(BadData, match="at most 3 folders below"):
        opened(voc_tree, root=str(tmp_path / "disk"))


def test_of_several_trees_the_one_of_2012_is_taken_or_all_are_named(voc_tree: Any, tmp_path: Path) -> None:
    for name in ("sets/VOC2007", "sets/VOC2010"):
        shutil.copytree(voc_tree.tree, tmp_path / "disk" / name)
    with pytest.raises(BadData, match=r"several.*sets/VOC2007, sets/VOC2010.*\n.*-o voc12\.root=FOLDER"):
        opened(voc_tree, root=str(tmp_path / "disk"))
    shutil.copytree(voc_tree.tree, tmp_path / "disk" / "sets" / "VOC2012")
    assert opened(voc_tree, root=str(tmp_path / "disk")).places()[0].endswith("sets/VOC2012")


@pytest.mark.parametrize("root", ["", "nowhere", "."])
def test_a_wrong_root_says_how_to_give_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadData, match=r"-o voc12\.root=.*\[datasets\.voc12\]"):
        Voc12(Voc12Config(root=root), 0)


LINES = {
    "id": "{id}",
    "image and mask": "/JPEGImages/{id}.jpg /SegmentationClassAug/{id}.png",
    "relative paths": "voc/VOCdevkit/VOC2012/JPEGImages/{id}.jpg sbd/dataset/cls_png/{id}.png",
    "image only": "/JPEGImages/{id}.jpg",
    "integer": "{number}",
    "id and classes": "{id} 4 17 3",
    "id and mask": "{id} masks/{id}.png",
    "id and mask of another name": "{id} masks/segmentation-of-it.png",
    "path with blanks": "/content/drive/My Drive/VOC2012/JPEGImages/{id}.jpg",
    "paths with blanks": "/My Drive/JPEGImages/{id}.jpg /My Drive/SegmentationClass/{id}.png",
    "path of Windows": r"C:\My Files\JPEGImages\{id}.JPG",
    "path with blanks and classes": "/My Drive/JPEGImages/{id}.jpg 4 17 3",
}


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("form", LINES)
def test_every_list_form_gives_the_same_ids(tmp_path: Path, form: str, end: str, start: str) -> None:
    lines = [LINES[form].format(id=id, number=id.replace("_", "")) for id in (A, B)]
    path = tmp_path / "val.txt"
    path.write_bytes((start + end.join(lines)).encode())  # no newline at the end
    assert read_list(path) == (A, B)


@pytest.mark.parametrize("name", ["/val(id).txt", "/val_id.txt", "Aug/val.txt"])
def test_lists_are_found_under_their_usual_names(voc_tree: Any, name: str) -> None:
    target = voc_tree.tree / "ImageSets" / f"Segmentation{name}"
    target.parent.mkdir(exist_ok=True)
    voc_tree.list_file("val").rename(target)
    assert opened(voc_tree).ids("val") == voc_tree.splits["val"]


def test_a_name_with_a_blank_is_refused_with_what_to_do(voc_tree: Any) -> None:
    voc_tree.list_file("val").write_text("cat (1).jpg\ncat (2).jpg\n")
    with pytest.raises(BadData, match=r"'cat \(1\)' cannot be the id[^\n]*line 1\]\n.*rename it"):
        opened(voc_tree)


def test_a_list_in_utf_16_is_refused_with_what_to_do(voc_tree: Any) -> None:
    voc_tree.list_file("val").write_text(A, encoding="utf-16")  # as PowerShell writes it
    with pytest.raises(BadData, match=r"this list is not a text in UTF-8[^\n]*\n.*save it as UTF-8"):
        opened(voc_tree)


def test_ids_that_are_not_integers_of_voc_stay_as_they_are() -> None:
    tokens = ("cat.01", "x/cat.01.JPG", "123", r"a\b.png")
    assert [voc_id(token) for token in tokens] == ["cat.01", "cat.01", "123", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{A}\n{B}\n/JPEGImages/{A}.jpg\n", rf"{A} occurs twice \(first on line 1\).*val\.txt, line 3"),
        ("", r"empty.*val\.txt"),
        ("\n \r\n", r"empty.*val\.txt"),
        (f"{A}\n/\n", r"no image id.*val\.txt, line 2"),
    ],
)
def test_a_list_with_an_id_twice_or_without_ids_is_refused(voc_tree: Any, text: str, message: str) -> None:
    voc_tree.list_file("val").write_text(text)
    with pytest.raises(BadData, match=message):
        opened(voc_tree)


def test_a_tree_without_lists_and_an_unknown_split_are_named(voc_tree: Any) -> None:
    with pytest.raises(BadData, match=r"'vall'.*\n.*did you mean val"):
        opened(voc_tree).ids("vall")
    for split in voc_tree.splits:
        voc_tree.list_file(split).unlink()
    with pytest.raises(BadData, match="no list of a split"):
        opened(voc_tree)


def test_card_names_splits_tag_source_and_mask_folders_without_paths(voc_tree: Any) -> None:
    card = opened(voc_tree).card
    assert card.class_names == CLASS_NAMES == tuple(sorted(CLASS_NAMES))
    assert len(card.class_names) == 20
    assert card.splits == ("train", "train_aug", "val", "test")
    assert (card.fit_split, card.label_split, card.eval_split) == ("train_aug", "train", "val")
    own, aug = "SegmentationClass", "SegmentationClassAug"
    assert card.options["masks"] == {"train": own, "train_aug": f"{own}+{aug}", "val": own}
    assert str(voc_tree.root) not in json.dumps(dataclasses.asdict(card))


def test_without_train_aug_methods_train_on_train(voc_tree: Any) -> None:
    voc_tree.list_file("train_aug").unlink()
    assert opened(voc_tree).card.fit_split == "train"


def test_ids_that_are_held_out_are_judged_and_not_learned_from(voc_tree: Any, tmp_path: Path) -> None:
    whole, (first, *rest) = opened(voc_tree), voc_tree.splits["train_aug"]
    (tmp_path / "tune.txt").write_text(f"{first}\n")
    data = opened(voc_tree, held_out=str(tmp_path / "tune.txt"))
    assert data.ids("train_aug") == tuple(rest)
    assert data.ids("held-out") == (first,)
    assert (data.card.fit_split, data.card.label_split, data.card.eval_split) == (
        "train_aug",
        "held-out",
        "held-out",
    )
    assert np.array_equal(data.mask(first), whole.mask(first))
    assert data.ids("val") == whole.ids("val")
    prints = {whole.fingerprint("train_aug"), data.fingerprint("train_aug"), data.fingerprint("held-out")}
    assert len(prints) == 3


@pytest.mark.parametrize("which", ["strange", "all"])
def test_a_list_of_held_out_ids_that_cannot_be_is_refused(voc_tree: Any, tmp_path: Path, which: str) -> None:
    ids = {"strange": ["2012_999999"], "all": voc_tree.splits["train_aug"]}[which]
    (tmp_path / "tune.txt").write_text("\n".join(ids))
    with pytest.raises(BadData, match="2012_999999 not in train_aug" if which == "strange" else "nothing"):
        opened(voc_tree, held_out=str(tmp_path / "tune.txt"))


def test_auto_takes_the_voc_mask_of_train_and_val_and_else_the_augmented_one(voc_tree: Any) -> None:
    data = opened(voc_tree)
    with_void = {id for id in voc_tree.classes if (data.mask(id) == 255).any()}
    assert with_void == {*voc_tree.splits["train"], *voc_tree.splits["val"]}


def test_auto_takes_the_augmented_mask_where_the_voc_one_is_not_there(voc_tree: Any) -> None:
    voc_tree.mask(voc_tree.splits["val"][0]).unlink()
    data = opened(voc_tree)
    assert data.card.options["masks"]["val"] == "SegmentationClass+SegmentationClassAug"
    assert not (data.mask(voc_tree.splits["val"][0]) == 255).any()


def test_the_option_masks_decides_for_all_splits_and_enters_the_identity(voc_tree: Any) -> None:
    data = opened(voc_tree, masks="SegmentationClassAug")
    assert set(data.card.options["masks"].values()) == {"SegmentationClassAug"}
    assert not (data.mask(A) == 255).any()
    assert content_key(data.card.options) != content_key(opened(voc_tree).card.options)


def test_a_mask_folder_that_is_unknown_or_absent_is_named(voc_tree: Any) -> None:
    with pytest.raises(UnknownName, match="did you mean SegmentationClass"):
        opened(voc_tree, masks="SegmentationClas")
    shutil.rmtree(voc_tree.tree / "SegmentationClassAug")
    with pytest.raises(BadData, match=r"does not exist.*SegmentationClassAug"):
        opened(voc_tree, masks="SegmentationClassAug")


def test_masks_are_indices_not_colours(voc_tree: Any) -> None:
    mask = opened(voc_tree).mask(A)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1, 15, 255}
    assert mask.shape == opened(voc_tree).image(A).shape[:2]


def test_a_test_image_has_no_mask(voc_tree: Any) -> None:
    data = opened(voc_tree)
    [id] = data.ids("test")
    assert data.image(id).shape[2] == 3
    with pytest.raises(BadData, match=f"{id} has no mask"):
        data.mask(id)


def damage_mask(voc: Any, how: str) -> None:
    path = voc.mask(A)
    with Pil.open(path) as picture:
        mask = np.array(picture)
    if how == "colours":
        Pil.fromarray(np.stack([mask] * 3, -1)).save(path)
    elif how == "value":
        Pil.fromarray(np.where(mask == 15, 21, mask).astype(np.uint8)).save(path)
    elif how == "size":
        Pil.fromarray(mask[:-1]).save(path)
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        path.unlink()


MASK_FAULTS = {
    "colours": "mode RGB",
    "value": "the value 21,",
    "size": "20x15 px for an image of 20x16 px",
    "truncated": "truncated or damaged",
    "missing": "mask is missing",
}


@pytest.mark.parametrize("how", MASK_FAULTS)
def test_an_unusable_mask_is_refused_by_name(voc_tree: Any, how: str) -> None:
    damage_mask(voc_tree, how)
    data = opened(voc_tree, masks="SegmentationClass")
    with pytest.raises(BadData, match=rf"{MASK_FAULTS[how]}[^\n]*{A}\.png"):
        data.mask(A)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_images_of_any_jpeg_mode_become_rgb(voc_tree: Any, mode: str) -> None:
    Pil.new("RGB", (8, 5), (200, 200, 200)).convert(mode).save(voc_tree.image(A))
    image = opened(voc_tree).image(A)
    assert image.shape == (5, 8, 3)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert np.abs(image.astype(int) - 200).max() <= 2


def test_exif_rotation_is_left_alone(voc_tree: Any) -> None:
    exif = Pil.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to display": masks were drawn on the stored pixels
    Pil.new("RGB", (8, 5)).save(voc_tree.image(A), exif=exif)
    assert opened(voc_tree).image(A).shape == (5, 8, 3)


@pytest.mark.parametrize("keep", [0.6, 0, None])
def test_a_missing_or_truncated_image_is_named(voc_tree: Any, keep: float | None) -> None:
    path = voc_tree.image(A)
    content = path.read_bytes()
    path.unlink()
    if keep is not None:
        path.write_bytes(content[: int(len(content) * keep)])
    message = "missing" if keep is None else "truncated or damaged"
    with pytest.raises(BadData, match=rf"{message}[^\n]*{A}\.jpg"):
        opened(voc_tree).image(A)


def test_tags_come_from_the_file_beside_the_root_before_the_xml(voc_tree: Any) -> None:
    from_file = opened(voc_tree)
    voc_tree.labels.unlink()
    from_xml = opened(voc_tree)
    assert (from_file.card.label_source, from_xml.card.label_source) == ("file", "xml")
    for id, classes in voc_tree.classes.items():
        expected = [k in classes for k in range(20)]
        assert from_file.tags(id).tolist() == from_xml.tags(id).tolist() == expected


@pytest.mark.parametrize("folder", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_a_tag_file_in_or_beside_the_root_is_found(voc_tree: Any, folder: str) -> None:
    voc_tree.labels.rename(voc_tree.root / folder / "cls_labels.npy")
    assert opened(voc_tree, root=str(voc_tree.tree)).card.label_source == "file"


def test_the_option_tags_wins(voc_tree: Any) -> None:
    other = voc_tree.root / "other.npy"
    voc_tree.labels.rename(other)
    assert opened(voc_tree, tags=str(other)).card.label_source == "file"
    with pytest.raises(BadData, match=r"does not exist.*gone\.npy"):
        opened(voc_tree, tags=str(voc_tree.root / "gone.npy"))


def test_a_tree_without_any_tags_is_refused(voc_tree: Any) -> None:
    voc_tree.labels.unlink()
    shutil.rmtree(voc_tree.tree / "Annotations")
    with pytest.raises(BadData, match=r"-o voc12\.tags=FILE"):
        opened(voc_tree)


@pytest.mark.parametrize("source", ["file", "xml"])
def test_images_without_tags_are_named(voc_tree: Any, source: str) -> None:
    if source == "file":
        table = {id: vector for id, vector in voc_tree.table().items() if id != B}
        voc_tree.write_labels(table)
    else:
        voc_tree.labels.unlink()
        (voc_tree.tree / "Annotations" / f"{B}.xml").unlink()
    data = opened(voc_tree)
    with pytest.raises(BadData, match=f"no tags for {B}"):
        data.tags(B)
    with pytest.raises(BadData, match=f"1 of 2 images of train have no tags: {B}"):
        data.fingerprint("train")
    assert data.fingerprint("val")


def test_tags_given_out_cannot_change_the_data_set(voc_tree: Any) -> None:
    data = opened(voc_tree)
    data.tags(A)[:] = True
    assert data.tags(A).sum() == 2


def test_equal_trees_have_equal_fingerprints_wherever_they_lie(voc_tree: Any, tmp_path: Path) -> None:
    shutil.copytree(voc_tree.root, tmp_path / "copy")
    copy = opened(voc_tree, root=str(tmp_path / "copy"))
    prints = {split: opened(voc_tree).fingerprint(split) for split in voc_tree.splits}
    assert prints == {split: copy.fingerprint(split) for split in voc_tree.splits}
    assert len(set(prints.values())) == 4
    assert all(len(digest) == 64 for digest in prints.values())


@pytest.mark.parametrize("what", ["image", "mask", "tags", "order"])
def test_the_fingerprint_changes_with_each_thing_it_stands_for(voc_tree: Any, what: str) -> None:
    before = opened(voc_tree)
    old = {split: before.fingerprint(split) for split in ("train", "val")}
    if what == "image":
        Pil.new("RGB", (20, 16)).save(voc_tree.image(A))
    elif what == "mask":
        Pil.new("L", (20, 16)).save(voc_tree.mask(A))
    elif what == "tags":
        table = voc_tree.table()
        table[A][5] = 1
        voc_tree.write_labels(table)
    else:
        voc_tree.list_file("train").write_text(f"{B}\n{A}\n")
    after = opened(voc_tree)
    assert after.fingerprint("train") != old["train"]
    assert after.fingerprint("val") == old["val"]


def test_a_file_is_hashed_once_until_it_changes(voc_tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    true_sha256 = file_facts.file_sha256
    monkeypatch.setattr(
        file_facts, "file_sha256", lambda path: (read.append(path.name), true_sha256(path))[1]
    )
    first = opened(voc_tree).fingerprint("train")
    assert sorted(read) == sorted(f"{id}.{end}" for id in (A, B) for end in ("jpg", "png"))
    read.clear()
    assert opened(voc_tree).fingerprint("train") == first
    assert read == []
    voc_tree.mask(A).write_bytes(voc_tree.mask(A).read_bytes()[:-1] + b" ")  # of the same size
    os.utime(voc_tree.mask(A), ns=(0, 10**18))
    opened(voc_tree).fingerprint("train")
    assert read == [f"{A}.png"]
    left = sorted(path.name for path in cache_file().parent.iterdir())
    stores = [cache_file().name, file_facts.SIZES]
    assert left == sorted(f"{name}{end}" for name in stores for end in ("", ".lock"))  # and no temporary file


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 3}', None])
def test_a_digest_cache_that_is_damaged_or_not_writable_costs_only_time(
    voc_tree: Any, content: str | None
) -> None:
    expected = opened(voc_tree).fingerprint("train")
    if content is None:
        shutil.rmtree(cache_file().parent)
        cache_file().parent.write_text("a file where the folder should be")
    else:
        cache_file().write_text(content)
    assert opened(voc_tree).fingerprint("train") == expected


def test_the_fingerprint_names_a_missing_file(voc_tree: Any) -> None:
    voc_tree.image(B).unlink()
    with pytest.raises(BadData, match=rf"missing.*{B}\.jpg"):
        opened(voc_tree).fingerprint("train")


def test_prepare_counts_a_sound_tree_and_finds_no_fault(voc_tree: Any) -> None:
    report = opened(voc_tree).prepare()
    text = "\n".join(report.lines())
    assert report.ok
    assert "train_aug: 4 images, 2 masks in SegmentationClass, 2 masks in SegmentationClassAug" in text
    assert "test: 1 images, no masks, 0 tagged" in text
    assert "images per tag: aeroplane 1, person 1, tvmonitor 1" in text
    assert text.endswith("all files are usable")


@pytest.mark.parametrize("how", MASK_FAULTS)
def test_prepare_finds_each_mask_fault(voc_tree: Any, how: str) -> None:
    damage_mask(voc_tree, how)
    report = opened(voc_tree, masks="SegmentationClass").prepare()
    assert not report.ok
    assert any(MASK_FAULTS[how] in fault.what and f"{A}.png" in fault.what for fault in report.faults)


def test_prepare_finds_missing_and_truncated_images_also_of_test(voc_tree: Any) -> None:
    voc_tree.image(A).unlink()
    [bare] = voc_tree.splits["test"]
    for id in (B, bare):
        voc_tree.image(id).write_bytes(voc_tree.image(id).read_bytes()[:-100])
    report = opened(voc_tree).prepare()
    assert sorted(fault.kind for fault in report.faults) == [*["damaged image"] * 2, "missing image"]
    assert report.lines()[-1] == "3 faults found"


def test_prepare_notes_tags_that_disagree_with_masks_without_failing(voc_tree: Any) -> None:
    table = voc_tree.table()
    table[A][:] = 0
    table[A][[0, 3]] = 1  # the mask has classes 0 and 14
    voc_tree.write_labels(table)
    report = opened(voc_tree).prepare()
    assert report.ok
    assert {(note.kind, note.what) for note in report.notes} == {
        ("tag without pixels in the mask", f"{A} (boat)"),
        ("class in the mask without a tag", f"{A} (person)"),
    }


def test_prepare_finds_missing_tags(voc_tree: Any) -> None:
    voc_tree.labels.unlink()
    (voc_tree.tree / "Annotations" / f"{B}.xml").unlink()
    kinds = {fault.kind: fault.what for fault in opened(voc_tree).prepare().faults}
    assert B in kinds["missing or wrong tags"]


def test_a_real_subset_tree_is_sound(
    shared: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = Voc12(Voc12Config(root=str(shared("data/voc6"))), 0)
    assert [len(data.ids(split)) for split in data.card.splits] == [370, 2651, 200]
    assert set(data.card.options["masks"].values()) == {"SegmentationClassAug"}
    seen = np.any([data.tags(id) for id in data.ids("train_aug")], axis=0)
    names = [CLASS_NAMES[k] for k in np.flatnonzero(seen)]
    assert names == ["cat", "cow", "dog", "horse", "person", "sheep"]
    report = survey(data, ("val",))
    assert report.ok, report.lines()
    assert data.fingerprint("val") == data.fingerprint("val")
