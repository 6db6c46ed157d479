"""COCO 2014 in the forms that users have: trees, lists, masks read and painted, tags, and what is refused."""

from __future__ import annotations

import builtins
import importlib.util
import json
import runpy
import shutil
import warnings
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil

from wsssbench.cli.main import main
from wsssbench.errors import BadData, WsssError
from wsssbench.testing import check_dataset
from wsssbench_datasets.coco14 import instances as coco_instances
from wsssbench_datasets.coco14 import painting as coco_masks
from wsssbench_datasets.coco14.classes import CATEGORIES, CLASS_NAMES
from wsssbench_datasets.coco14.dataset import RECAM, Coco14, Coco14Config
from wsssbench_datasets.coco14.tree import convention, image_number

SHAPE: Any = runpy.run_path(str(Path(__file__).with_name("coco_tree.py")))
OVERLAPS = SHAPE["OVERLAPS"]
paints = pytest.mark.skipif(
    importlib.util.find_spec("pycocotools") is None, reason="painting masks needs pycocotools"
)


def opened(coco: Any, **options: Any) -> Coco14:
    return Coco14(Coco14Config(**{"root": str(coco.root), **options}), 0)


def spoilt(coco: Any, change: Callable[[dict[str, Any]], object]) -> None:
    change(coco.contents["val"])
    coco.write_instances("val")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


# ------------------------------------------------------------------------------------------------- classes


def test_the_eighty_categories_become_the_labels_1_to_80_in_the_order_of_their_ids() -> None:
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 80
    assert list(CATEGORIES) == sorted(CATEGORIES)
    missing = sorted(set(range(1, 91)) - set(CATEGORIES))
    assert missing == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert [CLASS_NAMES[k] for k in (45, 49, 50)] == [
        "bowl",
        "orange",
        "broccoli",
    ]  # of image 9, as lists say
    assert (CATEGORIES[1], CATEGORIES[18], CATEGORIES[90]) == ("person", "dog", "toothbrush")


# ---------------------------------------------------------------------------------------------- tree, lists


def test_every_class_is_found_in_images_masks_and_tags(coco_tree: Any) -> None:
    data = opened(coco_tree)
    for split in ("train", "val"):
        ids = data.ids(split)
        assert np.logical_or.reduce([data.tags(id) for id in ids]).all()
        labels = np.unique(np.concatenate([data.mask(id).ravel() for id in ids]))
        assert labels.tolist() == list(range(81))
        assert all(data.image(id).shape == (20, 44, 3) for id in ids)


@pytest.mark.parametrize("wrap", ["{}", "MSCOCO/{}", "coco2014/{}", "images/{}", "JPEGImages/{}"])
def test_usual_trees_are_found_below_the_root(coco_tree: Any, tmp_path: Path, wrap: str) -> None:
    expected, root = opened(coco_tree).ids("val"), tmp_path / "other"
    for split in ("train", "val"):
        name = split if "JPEG" in wrap else f"{split}2014"
        place = root / wrap.format(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        (coco_tree.root / f"{split}2014").rename(place)
    shutil.move(coco_tree.root / "annotations", root / "annotations")
    shutil.move(coco_tree.root / "SegmentationClass", root / "SegmentationClass")
    data = opened(coco_tree, root=str(root))
    assert data.ids("val") == expected
    assert data.image(expected[0]).ndim == data.mask(expected[0]).ndim + 1


@pytest.mark.parametrize("place", ["data", "data/my/coco"])
def test_root_may_be_a_folder_at_most_three_above(coco_tree: Any, tmp_path: Path, place: str) -> None:
    expected = opened(coco_tree).fingerprint("val")
    shutil.move(coco_tree.root, tmp_path / "disk" / place)
    for split in ("train", "val"):  # pictures of another data set
        shutil.copytree(tmp_path / "disk" / place / "val2014", tmp_path / "disk" / "birds" / split)
    data = opened(coco_tree, root=str(tmp_path / "disk"))
    assert data.fingerprint("val") == expected
    assert data.card.label_source == "json"


@pytest.mark.parametrize("root", ["", "nowhere", "."])
def test_a_wrong_root_says_how_to_give_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadData, match=r"-o coco14\.root=.*\[datasets\.coco14\]"):
        Coco14(Coco14Config(root=root), 0)


def test_both_list_conventions_are_kept_apart_in_ids_card_and_fingerprint(coco_tree: Any) -> None:
    objects, every = opened(coco_tree), opened(coco_tree, lists="all")
    assert objects.ids("val") == coco_tree.ids("val", OVERLAPS)
    assert every.ids("val") == coco_tree.ids("val")
    assert (objects.card.options["lists"], every.card.options["lists"]) == ("objects", "all")
    assert objects.fingerprint("val") != every.fingerprint("val")


@pytest.mark.parametrize("name", ["all", "objects"])
def test_list_files_give_the_same_images_as_their_convention_in_any_order(coco_tree: Any, name: str) -> None:
    read = opened(coco_tree, lists=str(coco_tree.root / f"lists-{name}"))
    own = opened(coco_tree, lists=name)
    assert read.ids("train") == own.ids("train")
    assert read.fingerprint("train") == own.fingerprint("train")
    assert read.card.options["lists"] == "own"  # not the published number of images


def test_the_published_numbers_of_images_name_the_convention() -> None:
    assert [convention("train", n) for n in (82_081, 82_783)] == ["objects", "all"]
    assert [convention("val", n) for n in (40_137, 40_504, 4_999)] == ["objects", "all", "own"]


def test_lists_of_two_conventions_are_both_named(coco_tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(coco_tree_official(), "all", {"train": 12, "val": 0})
    data = opened(coco_tree, lists=str(coco_tree.root / "lists-all"))
    assert data.card.options["lists"] == "train all, val own"


def coco_tree_official() -> dict[str, dict[str, int]]:
    from wsssbench_datasets.coco14.tree import OFFICIAL

    return OFFICIAL


def test_without_annotations_the_lists_follow_from_images_and_tags(coco_tree: Any) -> None:
    shutil.rmtree(coco_tree.root / "annotations")
    coco_tree.write_tags(coco_tree.root / "cls_labels_onehot.npy")
    assert opened(coco_tree).ids("val") == coco_tree.ids("val", OVERLAPS)
    assert opened(coco_tree, lists="all").ids("val") == coco_tree.ids("val")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("COCO_val2014_000000000042.jpg", "42"),
        ("val2014/COCO_val2014_000000000042.JPG", "42"),
        ("000000000042.png", "42"),
        ("42", "42"),
        ("COCO_test2014_000000000042", ""),
        ("cat", ""),
        ("", ""),
    ],
)
def test_an_image_has_one_number_under_all_of_its_names(name: str, number: str) -> None:
    assert image_number(name) == number


def test_images_and_masks_named_by_numbers_are_found(coco_tree: Any) -> None:
    id = coco_tree.id("val", 1)
    coco_tree.image(id).rename(coco_tree.image(id).with_name("000000500001.jpg"))
    coco_tree.mask(id).rename(coco_tree.mask(id).with_name("500001.png"))
    data = opened(coco_tree)
    assert np.array_equal(data.mask(id), coco_tree.masks[id])
    assert data.fingerprint("val")


def test_a_tree_with_val_alone_is_a_data_set_of_val(coco_tree: Any) -> None:
    shutil.rmtree(coco_tree.root / "train2014")
    data = opened(coco_tree)
    assert data.card.splits == ("val",)
    with pytest.raises(BadData, match=r"no images of the split 'train'"):
        data.ids("train")


# ---------------------------------------------------------------------------------------------------- masks


@paints
def test_painted_masks_are_those_of_the_files(coco_tree: Any) -> None:
    data, pngs = opened(coco_tree, masks="json", lists="all"), opened(coco_tree, masks="png", lists="all")
    for split in ("train", "val"):
        for id in data.ids(split):
            assert np.array_equal(data.mask(id), coco_tree.masks[id]), id
            assert np.array_equal(pngs.mask(id), coco_tree.masks[id]), id
    assert data.fingerprint("val") != pngs.fingerprint("val")
    assert (data.card.options["masks"], pngs.card.options["masks"]) == ("json", "png")


# At these points (y, x): crowd alone, person on crowd, dog on person on crowd, dog on person, person alone.
POINTS = ((1, 1), (5, 28), (6, 15), (11, 15), (16, 15))
RULES = {
    ("smaller", "class"): (3, 1, 17, 17, 1),
    ("smaller", "background"): (0, 1, 17, 17, 1),
    ("smaller", "void"): (255, 1, 17, 17, 1),
    ("later", "class"): (3, 3, 3, 1, 1),
    ("later", "background"): (0, 1, 1, 1, 1),
    ("later", "void"): (255, 1, 1, 1, 1),
}


@paints
@pytest.mark.parametrize("rule", RULES)
def test_overlaps_and_crowds_are_painted_by_the_rule_and_the_row_says_so(
    coco_tree: Any, rule: tuple[str, str]
) -> None:
    overlap, crowd = rule
    data = opened(coco_tree, masks="json", overlap=overlap, crowd=crowd)
    mask = data.mask(coco_tree.id("val", OVERLAPS))
    assert tuple(int(mask[point]) for point in POINTS) == RULES[rule]
    assert data.card.options == {"lists": "objects", "masks": "json", "overlap": overlap, "crowd": crowd}
    prints = {opened(coco_tree, masks="json", overlap=o, crowd=c).fingerprint("val") for o, c in RULES}
    assert len(prints) == len(RULES)


@paints
def test_the_earlier_of_two_equal_objects_is_on_top(coco_tree: Any) -> None:
    annotations = coco_tree.contents["val"]["annotations"]
    twin = {**annotations[0], "id": 9_000, "category_id": 90}
    annotations.append(twin)
    coco_tree.write_instances("val")
    id = coco_tree.id("val", 1)
    assert opened(coco_tree, masks="json").mask(id)[5, 5] == 1
    assert opened(coco_tree, masks="json", overlap="later").mask(id)[5, 5] == 80


@paints
def test_the_preset_recam_paints_and_lists_as_its_code_does(coco_tree: Any) -> None:
    data = opened(coco_tree, **RECAM)
    assert data.ids("val") == coco_tree.ids("val")
    assert data.card.options == {"lists": "all", "masks": "json", "overlap": "later", "crowd": "background"}


@paints
def test_an_outline_without_area_paints_nothing(coco_tree: Any) -> None:
    annotations = coco_tree.contents["val"]["annotations"]
    annotations[0]["segmentation"] = [[1.0, 1.0, 9.0, 9.0]]  # two points: a line, not a box
    annotations[1]["segmentation"] = []
    coco_tree.write_instances("val")
    mask = opened(coco_tree, masks="json").mask(coco_tree.id("val", 1))
    assert set(np.unique(mask)) == {0, *range(3, 9)}


@paints
def test_polygons_are_filled_as_pycocotools_fills_them() -> None:
    from pycocotools import mask as coco_mask

    seed = 3
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    for _ in range(100):
        size = (int(rng.integers(1, 90)), int(rng.integers(1, 90)))
        polygons = [rng.uniform(-5, 95, 2 * int(rng.integers(3, 12))).round(2) for _ in range(3)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # numpy 2 tells pycocotools' decode off
            whole = coco_mask.merge(coco_mask.frPyObjects([p.tolist() for p in polygons], *size))
            expected = coco_mask.decode(whole)
        outline = tuple(array("d", polygon) for polygon in polygons)
        assert np.array_equal(coco_masks.region(outline, size), expected)


def test_painting_without_pycocotools_is_one_clear_error(
    coco_tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco_masks, "find_spec", lambda name: None)
    with pytest.raises(WsssError, match=r"pip install 'wsssbench\[coco\]'.*-o coco14\.masks=FOLDER"):
        opened(coco_tree, masks="json")
    assert opened(coco_tree).mask(coco_tree.id("val", 1)).max() == 8


def test_without_masks_the_hint_names_what_is_missing(coco_tree: Any) -> None:
    shutil.rmtree(coco_tree.root / "SegmentationClass")
    with pytest.raises(BadData, match=r"no PNG masks.*\n.*SegmentationClass/train2014"):
        opened(coco_tree, masks="png")
    with pytest.raises(BadData, match=r"does not exist.*gone"):
        opened(coco_tree, masks=str(coco_tree.root / "gone"))
    coco_tree.instances("val").unlink()
    with pytest.raises(BadData, match=r"no masks for val: there is no instances_val2014\.json"):
        opened(coco_tree)


def test_masks_of_colours_and_of_category_ids_are_refused(coco_tree: Any) -> None:
    id, data = coco_tree.id("val", 10), opened(coco_tree)
    Pil.fromarray(np.where(coco_tree.masks[id] == 80, 90, 0).astype(np.uint8)).save(coco_tree.mask(id))
    with pytest.raises(BadData, match=r"the value 90, not in 0\.\.80.*\n.*without gaps"):
        data.mask(id)
    Pil.new("RGBA", (44, 20)).save(coco_tree.mask(id))  # what one download of masks holds
    with pytest.raises(BadData, match=rf"mode RGBA.*{id}\.png"):
        data.mask(id)


# ------------------------------------------------------------------------------------ identity, whole runs


def test_the_instances_file_is_parsed_once_until_it_changes(
    coco_tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    true = coco_instances._parsed
    monkeypatch.setattr(coco_instances, "_parsed", lambda path: (parsed.append(path.name), true(path))[1])
    first = opened(coco_tree).fingerprint("val")
    assert parsed == ["instances_train2014.json", "instances_val2014.json"]
    parsed.clear()
    assert opened(coco_tree).fingerprint("val") == first
    assert parsed == []
    store = coco_instances.cache_file(coco_instances.STORE)
    entries = json.loads(store.read_text())
    store.write_text(json.dumps({key: [*entry[:2], "not ours"] for key, entry in entries.items()}))
    assert opened(coco_tree).fingerprint("val") == first
    spoilt(coco_tree, lambda content: content["annotations"].pop(0))
    assert opened(coco_tree).fingerprint("val") != first


@pytest.mark.parametrize("what", ["image", "mask", "tags"])
def test_the_fingerprint_changes_with_each_thing_it_stands_for(coco_tree: Any, what: str) -> None:
    old, id = opened(coco_tree), coco_tree.id("train", 1)
    before = {split: old.fingerprint(split) for split in ("train", "val")}
    if what == "image":
        Pil.new("RGB", (44, 20)).save(coco_tree.image(id))
    elif what == "mask":
        Pil.new("L", (44, 20)).save(coco_tree.mask(id))
    else:
        coco_tree.labels[id] = (1, 2)
        coco_tree.write_tags(coco_tree.root / "cls_labels.npy")
    new = opened(coco_tree)
    assert new.fingerprint("train") != before["train"]
    assert new.fingerprint("val") == before["val"]


@paints
@pytest.mark.parametrize("options", [{}, {"masks": "json"}, {"preset": "recam"}, {"tags": "masks"}])
def test_it_keeps_the_contract_of_a_data_set(coco_tree: Any, options: dict[str, str]) -> None:
    check_dataset(Coco14, {"root": str(coco_tree.root), **options}, "coco14")


def test_prepare_counts_a_sound_tree_and_finds_faults(coco_tree: Any) -> None:
    root = ("-o", f"coco14.root={coco_tree.root}")
    sound = call("prepare", "coco14", *root)
    assert sound.exit_code == 0, sound.output
    assert (
        "val: 11 images, 11 masks in SegmentationClass/val2014, 11 tagged; in full it has 40,137"
        in sound.output
    )
    assert "images per tag: person 2, bicycle 1, car 2" in sound.output
    assert "all files are usable" in sound.output
    id = coco_tree.id("val", 4)
    coco_tree.image(id).write_bytes(coco_tree.image(id).read_bytes()[:-100])
    coco_tree.mask(coco_tree.id("train", 1)).unlink()
    found = call("prepare", "coco14", *root)
    assert found.exit_code == 1
    assert "damaged image: 1 images" in found.output
    assert "missing mask: 1 images" in found.output


@paints
def test_prepare_notes_crowds_that_no_mask_shows(coco_tree: Any) -> None:
    report = opened(coco_tree, masks="json", crowd="background").prepare()
    assert report.ok
    assert (
        f"tag without pixels in the mask: 2 images, e.g. {coco_tree.id('train', OVERLAPS)} (car)"
        in "\n".join(report.lines())
    )
    assert "11 masks in instances_val2014.json" in "\n".join(report.lines())


def test_opening_it_asks_for_no_pycocotools_where_masks_are_files(
    coco_tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return true(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    data = opened(coco_tree)
    assert data.mask(data.ids("val")[0]).max() > 0
