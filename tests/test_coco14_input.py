"""What users give to `coco14` beside images: tags in every form; files that are damaged, wrong or missing."""

from __future__ import annotations

import importlib.util
import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil

from wsssbench.errors import BadData, UnknownName
from wsssbench.masks import write_labels
from wsssbench_datasets.coco14 import mask_sources as coco_mask_sources
from wsssbench_datasets.coco14.classes import CLASS_NAMES
from wsssbench_datasets.coco14.dataset import Coco14, Coco14Config

SHAPE: Any = runpy.run_path(str(Path(__file__).with_name("coco_tree.py")))
OVERLAPS = SHAPE["OVERLAPS"]
CATEGORIES: tuple[int, ...] = SHAPE["IDS"]
paints = pytest.mark.skipif(
    importlib.util.find_spec("pycocotools") is None, reason="painting masks needs pycocotools"
)


def opened(coco: Any, **options: Any) -> Coco14:
    return Coco14(Coco14Config(**{"root": str(coco.root), **options}), 0)


# ----------------------------------------------------------------------------------------------------- tags


@pytest.mark.parametrize("source", ["npy", "csv", "json file", "json", "masks", "numbers"])
def test_tags_are_the_same_from_every_source(coco_tree: Any, tmp_path: Path, source: str) -> None:
    data = opened(coco_tree, tags=str(TAG_SOURCES[source](coco_tree, tmp_path)))
    assert data.card.label_source == {"masks": "mask", "json": "json"}.get(source, "file")
    for id in data.ids("val"):
        assert tuple(np.flatnonzero(data.tags(id)) + 1) == coco_tree.labels[id], id


def tag_csv(coco: Any, folder: Path) -> Path:
    path = folder / "tags.csv"
    rows = [f"{id},{'|'.join(CLASS_NAMES[k - 1] for k in own)}\n" for id, own in coco.labels.items()]
    path.write_text("".join(["id,tags\n", *rows]))
    return path


def tag_json(coco: Any, folder: Path) -> Path:
    path = folder / "tags.json"
    named = {f"{id}.jpg": [CLASS_NAMES[k - 1] for k in own] for id, own in coco.labels.items()}
    path.write_text(json.dumps(named))
    return path


def tag_numbers(coco: Any, folder: Path) -> Path:
    """A dict with numbers as keys, as some have made it."""
    path, rows = folder / "numbers.npy", coco.labels.items()
    table = {int(id[-12:]): np.isin(np.arange(1, 81), own).astype(np.uint8) for id, own in rows}
    np.save(path, np.array(table, dtype=object), allow_pickle=True)
    return path


TAG_SOURCES: dict[str, Callable[[Any, Path], object]] = {
    "npy": lambda coco, folder: coco.write_tags(folder / "t.npy"),
    "csv": tag_csv,
    "json file": tag_json,
    "json": lambda coco, folder: "json",
    "masks": lambda coco, folder: "masks",
    "numbers": tag_numbers,
}


def test_a_tag_file_in_the_root_comes_before_annotations_and_these_before_masks(coco_tree: Any) -> None:
    assert str(coco_tree.instances("val")) in "".join(opened(coco_tree).places())
    path = coco_tree.write_tags(coco_tree.root / "cls_labels_onehot.npy")
    assert f"tags: {path}" in opened(coco_tree).places()
    path.unlink()
    shutil.rmtree(coco_tree.root / "annotations")
    assert opened(coco_tree).card.label_source == "mask"


@paints
def test_tags_off_painted_masks_leave_out_what_nobody_sees(coco_tree: Any) -> None:
    data = opened(coco_tree, tags="masks", masks="json", crowd="background")
    assert (np.flatnonzero(data.tags(coco_tree.id("val", OVERLAPS))) + 1).tolist() == [1, 17]
    assert data.card.label_source == "mask"


def test_tags_off_masks_are_read_once_and_again_where_a_mask_has_changed(
    coco_tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    true = coco_mask_sources._labels_text
    monkeypatch.setattr(
        coco_mask_sources, "_labels_text", lambda path: (read.append(path.name), true(path))[1]
    )
    id = coco_tree.id("val", 1)
    assert opened(coco_tree, tags="masks").tags(id).sum() == 8
    assert len(read) == 11  # those of the list alone
    read.clear()
    write_labels(coco_tree.mask(id), np.zeros(SHAPE["SIZE"], np.uint8))
    assert opened(coco_tree, tags="masks").tags(id).sum() == 0
    assert read == [f"{id}.png"]


def test_images_without_tags_are_named(coco_tree: Any) -> None:
    coco_tree.labels[coco_tree.id("val", 3)] = ()
    path = coco_tree.write_tags(coco_tree.root / "cls_labels.npy")
    data = opened(coco_tree)
    with pytest.raises(BadData, match=rf"no tags for {coco_tree.id('val', 3)}.*{path.name}"):
        data.tags(coco_tree.id("val", 3))
    with pytest.raises(BadData, match=r"1 of 11 images of val have no tags: COCO_val2014_000000500003"):
        data.fingerprint("val")


@pytest.mark.parametrize("which", ["half", "train", "none"])
def test_a_tag_file_that_lacks_images_with_objects_shortens_no_list(coco_tree: Any, which: str) -> None:
    shutil.rmtree(coco_tree.root / "annotations")
    known = {"half": coco_tree.ids("val")[::2], "train": coco_tree.ids("train"), "none": ()}[which]
    coco_tree.labels = {id: own if id in known else () for id, own in coco_tree.labels.items()}
    coco_tree.labels |= {} if known else {"COCO_val2014_000000000001": (1,)}
    path = coco_tree.write_tags(coco_tree.root / "cls_labels_onehot.npy")
    data = opened(coco_tree)
    with pytest.raises(BadData, match=r"of \d\d images of val have no tags: COCO_val2014_\d+, ") as caught:
        data.fingerprint("val")
    assert caught.value.where == str(path)
    faults = [fault for fault in data.prepare().faults if "COCO_val2014" in fault.what]
    assert {fault.kind for fault in faults} == {"missing or wrong tags"}
    assert len(faults) == len(set(data.ids("val")) - set(known))


def test_an_image_without_tag_and_without_object_is_left_out_and_said(coco_tree: Any) -> None:
    shutil.rmtree(coco_tree.root / "annotations")
    coco_tree.write_tags(coco_tree.root / "cls_labels_onehot.npy")
    data = opened(coco_tree)
    assert data.ids("val") == coco_tree.ids("val", OVERLAPS)
    assert data.fingerprint("val")
    assert "left out, without an object or a tag: train 1, val 1" in "; ".join(data.places())


def test_masks_of_images_without_tags_are_read_once(coco_tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(coco_tree.root / "annotations")
    coco_tree.write_tags(coco_tree.root / "cls_labels_onehot.npy")
    read, true = [], coco_mask_sources._labels_text
    monkeypatch.setattr(
        coco_mask_sources, "_labels_text", lambda path: (read.append(path.stem), true(path))[1]
    )
    for _ in range(2):
        opened(coco_tree)
    assert read == [coco_tree.id("train", 12), coco_tree.id("val", 12)]


BAD_TAGS = {
    "t.csv": ("id,tags\nCOCO_val2014_000000500001,unicorn\n", r"'unicorn' is not a class.*t\.csv"),
    "u.csv": ("id,tags\nmy cat,person\n", r"'my cat' names no image of COCO"),
    "t.json": ("{", r"not a json file of tags.*t\.json"),
    "t.txt": ("", r"files of tags end with"),
    "gone.npy": (None, r"does not exist.*gone\.npy"),
}


@pytest.mark.parametrize("name", BAD_TAGS)
def test_an_unusable_tag_file_is_one_clear_error(coco_tree: Any, tmp_path: Path, name: str) -> None:
    text, message = BAD_TAGS[name]
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(BadData, match=message):
        opened(coco_tree, tags=str(tmp_path / name))


# ----------------------------------------------------------------------------------------------- bad input


def spoilt(coco: Any, change: Callable[[dict[str, Any]], object]) -> None:
    change(coco.contents["val"])
    coco.write_instances("val")


BAD_INSTANCES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "category unknown": (
        lambda c: c["annotations"][0].update(category_id=12), r"annotation 1: no category 12"),
    "category of others": (
        lambda c: c["categories"][0].update(name="unicorn"), r"is not COCO's, person"),
    "no list": (lambda c: c.pop("annotations"), r"no list 'annotations'"),
    "no size": (lambda c: c["images"][0].pop("height"), r"without id, height and width"),
    "ids as text": (
        lambda c: c["images"][0].update(id="9"), r"whole numbers from 1 on, without quotes: \{'id': '9'"),
    "huge": (lambda c: c["images"][0].update(height=10**7), r"x 10000000 pixels: at most 64,000,000"),
    "no image": (lambda c: c["annotations"][0].update(image_id=7), r"annotation 1: no image 7"),
    "no reference": (lambda c: c["annotations"][0].pop("image_id"), r"annotation 1: no image or category"),
    "no annotation": (lambda c: c["annotations"].insert(0, [1]), r"annotation \[1\]: no image or category"),
}  # fmt: skip


@pytest.mark.parametrize("how", BAD_INSTANCES)
def test_a_wrong_instances_file_is_one_clear_error(coco_tree: Any, how: str) -> None:
    change, message = BAD_INSTANCES[how]
    spoilt(coco_tree, change)
    with pytest.raises((BadData, UnknownName), match=message) as caught:
        opened(coco_tree)
    assert caught.value.where == str(coco_tree.instances("val"))


@pytest.mark.parametrize("keep", [0, 0.5])
def test_a_damaged_instances_file_is_named(coco_tree: Any, keep: float) -> None:
    path = coco_tree.instances("train")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(BadData, match=r"damaged.*instances_train2014\.json.*\n.*annotations_trainval2014"):
        opened(coco_tree)


BAD_OUTLINES: dict[str, Any] = {
    "odd": [[1, 1, 5, 1, 5, 5, 1]],
    "text": [["1", 1, 5, 1, 5, 5]],
    "far": [[1, 1, 1e9, 1, 5, 5]],
    "not a number": [[1, 1, float("nan"), 1, 5, 5]],
    "none": None,
    "short runs": {"size": [20, 44], "counts": [3, 4]},
    "long runs": {"size": [20, 44], "counts": [3, 2**40]},
    "negative runs": {"size": [20, 44], "counts": [-3, 883]},
    "other size": {"size": [44, 20], "counts": [3, 877]},
    "compressed": {"size": [20, 44], "counts": "abc"},
    "no text of run lengths": {"size": [20, 44], "counts": "12 \u20ac"},
    "endless run lengths": {"size": [20, 44], "counts": "o" * 99},
    "no counts": {"size": [20, 44]},
}
WORDS: dict[str, tuple[Any, str]] = {
    **{
        f"{n} pairs": ([[[1 + n % 3 + k, 1 + k * k] for k in range(n)]], r"pairs \[x, y\]: COCO writes")
        for n in (1, 3, 4, 5, 6, 7)
    },
    "flat": ([1, 1, 5, 1, 5, 5], r"not a list of numbers: COCO writes \[\[x, y, x, y\], \.\.\.\]"),
    "polygons as text": (["1,1,5,1,5,5"], r"not a list of numbers"),
    "text": ("1,1,5,1,5,5", r"neither a list of polygons nor run lengths"),
    "run lengths as text": ({"size": [20, 44], "counts": [3, "877"]}, r"not numbers of pixels"),
}


@paints
@pytest.mark.parametrize("how", BAD_OUTLINES)
def test_a_damaged_outline_is_refused_by_its_annotation(coco_tree: Any, how: str) -> None:
    spoilt(coco_tree, lambda content: content["annotations"][0].update(segmentation=BAD_OUTLINES[how]))
    data = opened(coco_tree, masks="json")
    with pytest.raises(BadData, match=r"annotation 1: its outline is damaged.*instances_val2014\.json"):
        data.mask(coco_tree.id("val", 5))


@paints
@pytest.mark.parametrize("how", WORDS)
def test_an_outline_of_another_form_is_refused_in_words_for_its_owner(coco_tree: Any, how: str) -> None:
    outline, message = WORDS[how]
    spoilt(coco_tree, lambda content: content["annotations"][0].update(segmentation=outline))
    with pytest.raises(BadData, match=rf"annotation 1: its outline is damaged \(.*{message}"):
        opened(coco_tree, masks="json").mask(coco_tree.id("val", 5))


@paints
@pytest.mark.parametrize("area", [None, "many", float("nan")])
def test_an_area_that_is_no_number_is_refused(coco_tree: Any, area: Any) -> None:
    spoilt(coco_tree, lambda content: content["annotations"][0].update(area=area))
    with pytest.raises(BadData, match=r"annotation 1: its area is not a number: "):
        opened(coco_tree, masks="json").mask(coco_tree.id("val", 5))


@paints
def test_compressed_run_lengths_paint_what_they_stand_for(coco_tree: Any) -> None:
    from pycocotools import mask as coco_mask

    random = np.random.default_rng(7)
    for region in (random.random((20, 44)) < 0.5, np.ones((20, 44), bool), np.eye(20, 44, 5, dtype=bool)):
        packed = coco_mask.encode(np.asfortranarray(region.astype(np.uint8)))
        outline = {"size": [20, 44], "counts": packed["counts"].decode()}
        spoilt(
            coco_tree,
            lambda content, outline=outline: content["annotations"][0].update(segmentation=outline, area=1.0),
        )
        [label] = {1 + CATEGORIES.index(coco_tree.contents["val"]["annotations"][0]["category_id"])}
        id = f"COCO_val2014_{coco_tree.contents['val']['annotations'][0]['image_id']:012d}"
        assert np.array_equal(opened(coco_tree, masks="json").mask(id) == label, region)


def test_a_missing_image_is_named_when_asked_for_and_by_the_fingerprint(coco_tree: Any) -> None:
    id = coco_tree.id("val", 4)
    coco_tree.image(id).unlink()
    data = opened(coco_tree)
    with pytest.raises(BadData, match=rf"image is missing.*{id}\.jpg"):
        data.image(id)
    with pytest.raises(BadData, match=rf"missing or unreadable.*{id}\.jpg"):
        data.fingerprint("val")
    with pytest.raises(BadData, match=r"no image 'COCO_val2014_000000000009' in the lists"):
        data.image("COCO_val2014_000000000009")


@paints
def test_an_image_of_another_size_than_annotated_and_a_list_of_strangers_are_refused(coco_tree: Any) -> None:
    id = coco_tree.id("val", 4)
    Pil.new("RGB", (40, 20)).save(coco_tree.image(id))
    with pytest.raises(BadData, match=rf"{id} is 44x20 px here, its image 40x20 px"):
        opened(coco_tree, masks="json").mask(id)
    Pil.new("RGB", (44, 20)).save(coco_tree.image(id).with_name("COCO_val2014_000000000009.jpg"))
    (coco_tree.root / "lists-all" / "val.txt").write_text("COCO_val2014_000000000009\n")
    data = opened(coco_tree, masks="json", lists=str(coco_tree.root / "lists-all"))
    with pytest.raises(BadData, match=r"no image COCO_val2014_000000000009 in this file"):
        data.mask("COCO_val2014_000000000009")


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, r"no list of val here"), ("my_cat\n", r"no image id.*val\.txt, line 1"), ("", r"empty")],
)
def test_an_unusable_list_is_one_clear_error(coco_tree: Any, text: str | None, message: str) -> None:
    path = coco_tree.root / "lists-all" / "val.txt"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadData, match=message):
        opened(coco_tree, lists=str(path.parent))
    with pytest.raises(BadData, match=r"objects, all, or a folder"):
        opened(coco_tree, lists="obects")


def test_annotations_elsewhere_are_found_by_the_option(coco_tree: Any, tmp_path: Path) -> None:
    expected = opened(coco_tree).fingerprint("val")
    (coco_tree.root / "annotations").rename(tmp_path / "apart")
    assert opened(coco_tree, annotations=str(tmp_path / "apart")).fingerprint("val") == expected


def test_a_split_without_images_is_a_fault(coco_tree: Any) -> None:
    path = coco_tree.root / "annotations" / "instances_val2014.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": []}))
    survey = opened(coco_tree).prepare()
    assert not survey.ok
    assert "without an image: 1 split" in "\n".join(survey.lines())
