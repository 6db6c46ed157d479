"""Class subsets and merges: what they do to tags, masks, images, cards and rows, in each data set on disk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from wsssbench.cli.main import main
from wsssbench.errors import BadData, UnknownName, WsssError
from wsssbench.masks import write_labels
from wsssbench.planning.settings import parse_option
from wsssbench.plugins.options import build_config
from wsssbench.testing import check_dataset
from wsssbench.types import DatasetCard
from wsssbench_datasets.class_choice import ClassOptions, class_choice
from wsssbench_datasets.coco14.dataset import Coco14
from wsssbench_datasets.voc12.dataset import Voc12

NAMES = ("bird", "cat", "cow", "dog", "traffic light")
CARD = DatasetCard("zoo", "1", NAMES, ("train", "val"), "train", "train", "val", "file", "", "", 500)
AEROPLANES = ("2007_000032", "2007_000033")  # of the VOC tree: a person is in the first as well


def chosen(**options: Any) -> Any:
    return class_choice(ClassOptions(**options), CARD)


def voc(tree: Any, *texts: str) -> Voc12:
    """The data set with options as on the command line, `classes=cat,dog`."""
    return opened("voc12", Voc12, tree, texts)


def coco(tree: Any, *texts: str) -> Coco14:
    return opened("coco14", Coco14, tree, texts)


def opened(name: str, cls: type, tree: Any, texts: Sequence[str]) -> Any:
    given = {key: value for _, key, value in (parse_option(f"{name}.{text}") for text in texts)}
    return cls(build_config(name, cls, {"root": str(tree.root), **given}), 0)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


# ------------------------------------------------------------------------------------------------ the choice


def test_a_subset_keeps_the_order_of_the_whole_however_it_is_named() -> None:
    one, other = chosen(classes=("dog", "cat")), chosen(classes=("cat", "dog", "cat"))
    assert one == other
    assert one.names == ("cat", "dog")
    assert one.groups == ((1,), (3,))


def test_a_merge_stands_where_its_first_class_stood_and_drops_nothing() -> None:
    choice = chosen(merge=("animal:dog+cat", "light:traffic light"))
    assert choice.names == ("bird", "animal", "cow", "light")
    assert choice.groups == ((0,), (1, 3), (2,), (4,))
    assert not choice.drops
    assert choice.options() == {"merge": "animal:cat+dog,light:traffic light"}


def test_merged_classes_can_be_chosen_and_take_a_name_of_theirs() -> None:
    choice = chosen(merge=("cat:cat+dog",), classes=("cat", "bird"))
    assert choice.names == ("bird", "cat")
    assert choice.options() == {"classes": "bird,cat", "merge": "cat:cat+dog", "others": "background"}


@pytest.mark.parametrize(
    "options", [{}, {"classes": NAMES[::-1]}, {"merge": ("cat:cat",)}, {"others": "void"}]
)
def test_choosing_all_as_it_is_is_no_choice(options: dict[str, Any]) -> None:
    assert chosen(**options) is None


@pytest.mark.parametrize(("others", "label"), [("background", 0), ("void", 255)])
def test_labels_and_tags_go_through_the_groups(others: str, label: int) -> None:
    choice = chosen(merge=("animal:cat+dog",), classes=("animal", "cow"), others=others)
    mask = np.array([[0, 1, 2, 3], [4, 5, 255, 0]], np.uint8)
    expected = [[0, label, 1, 2], [1, label, 255, 0]]
    assert choice.table[mask].tolist() == expected
    assert choice.table.dtype == np.uint8
    assert choice.tags(np.array([1, 0, 0, 1, 1], bool)).tolist() == [True, False]
    assert choice.tags(np.array([1, 0, 1, 0, 1], bool)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("cat", "dgo")}, r"no class 'dgo' \[zoo\.classes\]\n.*did you mean dog"),
        ({"classes": ("cat",), "merge": ("animal:cat+dog",)}, r"no class 'cat'"),
        ({"classes": ("background",)}, r"no class 'background'"),
        ({"merge": ("animal:cat+dgo",)}, r"no class 'dgo' \[zoo\.merge\]\n.*did you mean dog"),
        ({"merge": ("a:cat+dog", "b:dog+cow")}, r"'dog' is merged twice, into 'a' and 'b'"),
        ({"merge": ("a:cat+cat",)}, r"'cat' is merged twice"),
        ({"merge": ("a:cat", "a:dog")}, r"there is a class 'a' already"),
        ({"merge": ("bird:cat+dog",)}, r"there is a class 'bird' already"),
        ({"merge": ("background:cat+dog",)}, r"there is a class 'background' already"),
        ({"merge": ("cat+dog",)}, r"'cat\+dog' is not a merge.*\n.*NEW:OLD\+OLD"),
        ({"merge": ("animal:",)}, r"'animal:' is not a merge"),
        ({"merge": (":cat",)}, r"':cat' is not a merge"),
    ],
)
def test_an_impossible_choice_is_one_clear_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(WsssError, match=message):
        chosen(**options)


# ------------------------------------------------------------------------------------------------------ VOC


def test_voc_restricted_to_a_class_keeps_its_images_in_every_split(voc_tree: Any) -> None:
    data = voc(voc_tree, "classes=aeroplane")
    assert data.card.class_names == ("aeroplane",)
    ids = [data.ids(split) for split in ("train", "train_aug", "val")]
    assert ids == [AEROPLANES[:1], AEROPLANES[:1], AEROPLANES[1:]]
    assert data.ids("test") == voc_tree.splits["test"]  # nobody knows their tags
    assert data.tags(AEROPLANES[0]).tolist() == [True]
    assert np.unique(data.mask(AEROPLANES[0])).tolist() == [0, 1, 255]  # the person has become background
    assert np.array_equal(data.image(AEROPLANES[0]), voc(voc_tree).image(AEROPLANES[0]))


def test_pixels_of_other_classes_can_be_void(voc_tree: Any) -> None:
    whole = voc(voc_tree).mask(AEROPLANES[0])
    mask = voc(voc_tree, "classes=aeroplane", "others=void").mask(AEROPLANES[0])
    assert np.array_equal(mask == 255, (whole == 255) | (whole == 15))


def test_a_merge_in_voc_is_one_class_in_tags_and_masks(voc_tree: Any) -> None:
    data = voc(voc_tree, "merge=living:person+cat+dog")
    assert len(data.card.class_names) == 18
    living = data.card.class_names.index("living")
    assert data.card.class_names[living - 1] == "car"
    assert data.ids("train_aug") == voc_tree.splits["train_aug"]
    assert [id for id in data.ids("train_aug") if data.tags(id)[living]] == [
        "2007_000032", "2008_000002", "2008_000003"
    ]  # fmt: skip
    both = data.mask("2008_000003")  # dog and person
    assert np.unique(both).tolist() == [0, living + 1]


def test_a_split_without_the_classes_is_one_clear_error(voc_tree: Any) -> None:
    data = voc(voc_tree, "classes=cat,dog")
    assert data.ids("train_aug") == ("2008_000002", "2008_000003")
    with pytest.raises(BadData, match=r"no image of val has one of the classes cat, dog \[voc12\.classes\]"):
        data.ids("val")


def test_a_choice_is_in_card_and_fingerprint_and_no_choice_changes_neither(voc_tree: Any) -> None:
    texts = (
        (),
        ("classes=aeroplane,train",),
        ("classes=aeroplane,train", "others=void"),
        ("classes=aeroplane,train,person",),
        ("merge=a:aeroplane+train",),
        ("merge=b:aeroplane+train",),
        ("merge=a:aeroplane+train", "classes=a"),
    )
    opened = [voc(voc_tree, *options) for options in texts]
    assert len({data.fingerprint("val") for data in opened}) == len(texts)
    whole, subset, void, *_ = opened
    assert whole.fingerprint("val") == voc12_fingerprint(voc_tree)
    assert set(whole.card.options) == {"masks"}
    assert subset.card.options == {
        **whole.card.options, "classes": "aeroplane,train", "others": "background"
    }  # fmt: skip
    assert void.card.options["others"] == "void"
    assert voc(voc_tree, "classes=train,aeroplane").fingerprint("val") == subset.fingerprint("val")
    same = {f.name for f in dataclasses.fields(DatasetCard)} - {"class_names", "options", "split_options"}
    assert all(getattr(subset.card, name) == getattr(whole.card, name) for name in same)


def voc12_fingerprint(tree: Any) -> str:
    """The fingerprint of `val` by the rule that rows without a choice have always had."""
    import hashlib

    whole = hashlib.sha256()
    for id in tree.splits["val"]:
        image, mask = (hashlib.sha256(p.read_bytes()).hexdigest() for p in (tree.image(id), tree.mask(id)))
        tags = tree.table()[id].astype(bool).tobytes().hex()
        whole.update(f"{id} {tags} {image} {mask}\n".encode())
    return whole.hexdigest()


def test_prepare_counts_the_chosen_classes_and_says_what_is_left(voc_tree: Any) -> None:
    result = call(
        "prepare", "voc12", "-o", f"voc12.root={voc_tree.root}", "-o", "voc12.classes=aeroplane,person"
    )
    assert result.exit_code == 0, result.output
    assert "tags from: file" in result.output
    assert (
        "classes: aeroplane, person, of 20; pixels of others are background; "
        "train 1 of 2 images, train_aug 2 of 4 images, val 1 of 2 images"
    ) in result.output
    assert "images per tag: aeroplane 1, person 2" in result.output
    assert "in full" not in result.output


# ----------------------------------------------------------------------------------------------------- COCO


def test_coco_at_full_class_count_merges_by_names_with_blanks(coco_tree: Any) -> None:
    data = coco(coco_tree, "merge=sign:traffic light+stop sign,animal:cat+dog+horse", "classes=sign,animal")
    assert data.card.class_names == ("sign", "animal")
    assert data.ids("val") == tuple(
        coco_tree.id("val", k) for k in (2, 3, 11)
    )  # labels 10 and 12; 16; 17, 18
    assert np.unique(data.mask(coco_tree.id("val", 2))).tolist() == [0, 1, 2]
    whole = coco_tree.masks[coco_tree.id("val", 11)]
    assert np.array_equal(data.mask(coco_tree.id("val", 11)) == 2, whole == 17)


@pytest.mark.parametrize("texts", [("classes=person,dog",), ("merge=all:person+dog+toothbrush",)])
def test_a_choice_keeps_the_contract_of_a_data_set(coco_tree: Any, voc_tree: Any, texts: tuple[str]) -> None:
    _, key, value = parse_option(f"coco14.{texts[0]}")
    for tags in ("json", "masks"):
        check_dataset(Coco14, {"root": str(coco_tree.root), "tags": tags, key: value}, "coco14")
    check_dataset(Voc12, {"root": str(voc_tree.root), "classes": ("aeroplane",)}, "voc12")


def test_rows_of_a_choice_are_never_compared_with_rows_of_all_classes(
    coco_tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ("--dataset", "coco14", "-o", f"coco14.root={coco_tree.root}", "--runs", "runs")
    few = ("-o", "coco14.classes=dog,person", "-o", "coco14.others=void")
    run = call("run", *data, "--method", "constant", "--stages", "seg", "--device", "cpu", "-q")
    assert run.exit_code == 0, run.output
    picked = coco(coco_tree, "classes=dog,person", "others=void")
    for id in picked.ids("val"):
        write_labels(tmp_path / "labels" / f"{id}.png", np.where(picked.mask(id) == 255, 0, picked.mask(id)))
    scored = call("score", "labels", *data, *few, "--as", "truth", "--stage", "seg", "--json")
    assert scored.exit_code == 0, scored.output
    found = json.loads(scored.stdout)
    assert found["scores"]["iou"]["miou"] == 100
    terms = json.loads(Path(found["record"]).read_text())["identity"]["terms"]
    assert terms["classes"] == ["person", "dog"]
    assert terms["dataset_options"]["others"] == "void"
    refused = call("compare", "truth", "constant", "--runs", "runs")
    assert refused.exit_code == 3, refused.output
    assert "classes" in refused.output


def test_an_unknown_class_on_the_command_line_ends_with_2_and_suggestions(voc_tree: Any) -> None:
    result = call("prepare", "voc12", "-o", f"voc12.root={voc_tree.root}", "-o", "voc12.classes=cat,dgo")
    assert result.exit_code == 2
    assert "no class 'dgo' [voc12.classes]" in result.output
    assert "did you mean dog" in result.output
    with pytest.raises(UnknownName):
        voc(voc_tree, "classes=sky")
