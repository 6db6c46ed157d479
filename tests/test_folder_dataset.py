"""A data set of one's own: what dataset.toml may say, what is refused with which words, and a run on it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil

from wsssbench.cli.main import main
from wsssbench.errors import BadData, UnknownName, WsssError
from wsssbench.masks import voc_palette, write_labels
from wsssbench.records.finding import find_records
from wsssbench.testing import check_dataset
from wsssbench_datasets import image_names as folder_files
from wsssbench_datasets.folder import toml as folder_toml
from wsssbench_datasets.folder.dataset import Folder, FolderConfig

CLASSES = ("cat", "dog", "traffic light")
SPLITS = {"train": ("a1", "a2", "a3", "a4"), "val": ("b1", "b2")}
TAGS = {"a1": (0,), "a2": (1,), "a3": (0, 2), "a4": (), "b1": (1, 2), "b2": (0,)}
COLOURS = ((0, 0, 0), (200, 0, 0), (0, 200, 0), (9, 9, 200))  # background, then the classes
VOID = (255, 255, 255)


def labels(id: str) -> np.ndarray:
    """(12, 16) uint8: a band per class of the image, a void row at the top."""
    mask = np.zeros((12, 16), np.uint8)
    mask[0] = 255
    for k in TAGS[id]:
        mask[2 + 3 * k : 4 + 3 * k, 3:9] = k + 1
    return mask


@dataclass
class Tree:
    """A small data set at `root`: pictures, index masks, lists, tags.csv and the keys of its dataset.toml."""

    root: Path
    keys: dict[str, Any] = field(
        default_factory=lambda: {
            "name": "pets",
            "classes": list(CLASSES),
            "tags": "tags.csv",
            "splits": {"train": "train.txt", "val": "val.txt"},
        }
    )

    def write(self, **keys: Any) -> Tree:
        """Write dataset.toml with `keys` over those of before; None leaves one out."""
        self.keys = {k: v for k, v in {**self.keys, **keys}.items() if v is not None}
        tables = {k: v for k, v in self.keys.items() if isinstance(v, Mapping)}
        lines = [f"{k} = {inline(v)}" for k, v in self.keys.items() if k not in tables]
        for name, table in tables.items():
            lines += [f"[{name}]", *(f'"{k}" = {inline(v)}' for k, v in table.items())]
        (self.root / "dataset.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return self

    def masks(self, draw: Callable[[np.ndarray], Pil.Image]) -> Tree:
        """Every mask drawn again for its labels."""
        for id in TAGS:
            draw(labels(id)).save(self.root / "masks" / f"{id}.png")
        return self

    def open(self, **options: Any) -> Folder:
        return Folder(FolderConfig(root=str(self.root), **options), 0)


def inline(value: Any) -> str:
    """A TOML value."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f'"{k}" = {inline(v)}' for k, v in value.items()) + "}"
    return json.dumps(value)


def csv_text(separator: str = ",") -> str:
    """Columns in another order than the classes."""
    lines = [separator.join(("image", "dog", "traffic light", "cat"))]
    lines += [separator.join((id, *(str(int(k in own)) for k in (1, 2, 0)))) for id, own in TAGS.items()]
    return "\n".join(lines) + "\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "pets"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(5)
    for id in TAGS:
        pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Pil.fromarray(pixels).save(root / "images" / f"{id}.jpg", quality=95)
    for split, ids in SPLITS.items():
        (root / f"{split}.txt").write_text("\n".join(ids))
    (root / "tags.csv").write_text(csv_text())
    return Tree(root).masks(Pil.fromarray).write()


def refused(tree: Tree, match: str, **keys: Any) -> WsssError:
    """The error at opening with `keys` in dataset.toml; it names the file and has a next step."""
    with pytest.raises(WsssError, match=match) as caught:
        tree.write(**keys).open()
    assert "dataset.toml" in caught.value.where
    assert caught.value.hint
    return caught.value


# ------------------------------------------------------------------------------------------- what is read


def test_card_ids_images_tags_and_masks_are_as_described(tree: Tree) -> None:
    data = tree.write(version="2.1", licence="CC0", source="drawn").open()
    card = data.card
    assert (card.name, card.class_names, card.splits) == ("folder:pets", CLASSES, ("train", "val"))
    assert card.version.startswith("2.1+")
    assert (card.fit_split, card.label_split, card.eval_split) == ("train", "train", "val")
    assert (card.label_source, card.licence, card.source, card.image_px) == ("file", "CC0", "drawn", 16)
    assert card.options == {"masks": {"train": "masks", "val": "masks"}, "tags": "from a file"}
    for split, ids in SPLITS.items():
        assert data.ids(split) == ids
        for id in ids:
            assert data.image(id).shape == (12, 16, 3)
            assert np.array_equal(data.mask(id), labels(id))
            assert np.flatnonzero(data.tags(id)).tolist() == sorted(TAGS[id])


def colour_picture(mask: np.ndarray, mode: str = "RGB") -> Pil.Image:
    table = np.array([*COLOURS, *[VOID] * 252], np.uint8)
    return Pil.fromarray(table[mask]).convert(mode)


def adaptive_palette(mask: np.ndarray) -> Pil.Image:
    """Right colours, indices that mean nothing: what `convert("P")` of an RGB mask gives."""
    return colour_picture(mask).quantize(8)


def voc_coloured(mask: np.ndarray) -> Pil.Image:
    return Pil.fromarray(voc_palette()[mask])


def with_palette(mask: np.ndarray) -> Pil.Image:
    picture = Pil.fromarray(mask)
    picture.putpalette(voc_palette().tobytes())
    return picture


def cityscapes_like(mask: np.ndarray) -> Pil.Image:
    """Odd 16-bit values, two of them for class 2, one that nobody has listed."""
    table = np.zeros(256, np.uint16)
    table[:4], table[255] = (7, 1000, 26, 40_000), 3
    wide = table[mask]
    wide[5, 12], wide[1, 0] = 27, 333
    return Pil.fromarray(wide)


PALETTE = [list(colour) for colour in COLOURS]
HEXES = dict(zip(("#000000", "200,0,0", "0, 200, 0", "#0909c8"), ("background", *CLASSES), strict=True))
CODES: dict[str, tuple[Callable[[np.ndarray], Pil.Image], dict[str, Any]]] = {
    "grey indices": (Pil.fromarray, {}),
    "palette indices": (with_palette, {}),
    "colours, as a palette": (colour_picture, {"palette": PALETTE, "ignore": list(VOID)}),
    "colours with alpha": (lambda m: colour_picture(m, "RGBA"), {"palette": PALETTE, "ignore": "#ffffff"}),
    "colours, as labels": (colour_picture, {"labels": {**HEXES, "#ffffff": "ignore"}}),
    "colours in a palette of their own": (adaptive_palette, {"palette": PALETTE, "ignore": [list(VOID)]}),
    "colours of VOC": (voc_coloured, {"palette": "voc"}),
    "indices and ignore": (lambda m: Pil.fromarray(np.where(m == 255, 9, m)), {"ignore": [9, 255]}),
}


@pytest.mark.parametrize("name", CODES)
def test_masks_of_every_code_give_the_same_labels_and_tags(tree: Tree, name: str) -> None:
    draw, keys = CODES[name]
    data = tree.masks(draw).write(**keys, tags="masks").open()
    for id in TAGS:
        assert np.array_equal(data.mask(id), labels(id))
        assert np.flatnonzero(data.tags(id)).tolist() == sorted(TAGS[id])


def test_label_ids_can_be_merged_and_the_rest_be_ignored(tree: Tree) -> None:
    meaning = {"7": "background", "1000": "cat", "26": "dog", "27": "dog", "40000": "traffic light"}
    data = tree.masks(cityscapes_like).write(labels={**meaning, "other": "ignore"}).open()
    expected = labels("b1")
    expected[5, 12], expected[1, 0] = 2, 255
    assert np.array_equal(data.mask("b1"), expected)


def as_npy(path: Path, keys: Callable[[str], Any]) -> None:
    table = {keys(id): np.isin(np.arange(3), own).astype(np.float32) for id, own in TAGS.items()}
    np.save(path, np.array(table, dtype=object), allow_pickle=True)


NAMES = {id: [CLASSES[k] for k in own] for id, own in TAGS.items()}
LONG = "".join(f"{id},{name}\n" for id, own in NAMES.items() for name in own)
TAG_FILES: dict[str, tuple[str, str]] = {
    "0 and 1": ("t.csv", csv_text()),
    "tabs": ("t.tsv", csv_text("\t")),
    "semicolons and a byte order mark": ("t.csv", "\ufeff" + csv_text(";")),
    "names": ("t.csv", "id,tags\n" + "".join(f"images/{i}.jpg,{'|'.join(n)}\n" for i, n in NAMES.items())),
    "a line per tag": ("t.csv", "id,tag\na4,\n" + LONG),
    "json of names": ("t.json", json.dumps(NAMES)),
    "json of numbers": ("t.json", json.dumps({i: [int(k in TAGS[i]) for k in range(3)] for i in TAGS})),
}


@pytest.mark.parametrize("name", TAG_FILES)
def test_every_form_of_tag_file_gives_the_same_tags(tree: Tree, name: str) -> None:
    file, text = TAG_FILES[name]
    (tree.root / file).write_text(text, encoding="utf-8")
    data = tree.write(tags=file).open()
    assert {id: tuple(np.flatnonzero(data.tags(id))) for id in TAGS} == TAGS


@pytest.mark.parametrize("key", [str, lambda id: f"images/{id}.jpg"])
def test_a_pickled_table_gives_the_same_tags(tree: Tree, key: Callable[[str], str]) -> None:
    as_npy(tree.root / "t.npy", key)
    data = tree.write(tags="t.npy").open()
    assert {id: tuple(np.flatnonzero(data.tags(id))) for id in TAGS} == TAGS


def test_integer_keys_of_a_pickled_table_find_ids_of_ten_digits_in_both_forms(tree: Tree) -> None:
    (tree.root / "train.txt").write_text("2007_000032\n2007000039\n")
    table = {np.int32(2007000032): np.eye(3)[0], np.int32(2007000039): np.eye(3)[1]}
    np.save(tree.root / "t.npy", np.array(table, dtype=object), allow_pickle=True)
    shutil.copy(tree.root / "images" / "a1.jpg", tree.root / "images" / "2007_000032.jpg")
    data = tree.write(tags="t.npy").open()
    assert [data.tags(id).tolist().index(True) for id in data.ids("train")] == [0, 1]


LISTS = {
    "ids": "a1\na2\r\n\n# a comment\na3\na4\n",
    "files": "a1.jpg\na2.jpg\na3.jpg\na4.jpg",
    "paths and masks": "".join(f"/images/a{n}.jpg masks/a{n}.png\n" for n in (1, 2, 3, 4)),
    "csv": "".join(f"a{n}.JPG,masks/a{n}.png\n" for n in (1, 2, 3, 4)),
}


@pytest.mark.parametrize("name", LISTS)
def test_every_form_of_list_gives_the_same_ids(tree: Tree, name: str) -> None:
    (tree.root / "train.txt").write_text(LISTS[name])
    assert tree.open().ids("train") == SPLITS["train"]


def test_a_split_can_be_all_files_of_a_folder_and_have_folders_of_its_own(tree: Tree) -> None:
    for split, ids in SPLITS.items():
        for kind, end in (("images", "jpg"), ("masks", "png")):
            (tree.root / split / kind).mkdir(parents=True)
            for id in ids:
                (tree.root / kind / f"{id}.{end}").rename(tree.root / split / kind / f"{id}.{end}")
    (tree.root / "val" / "images" / "Thumbs.db").write_text("no picture")
    (tree.root / "val" / "images" / ".hidden.jpg").write_text("no picture")
    splits = {s: {"images": f"{s}/images", "masks": f"{s}/masks"} for s in SPLITS}
    data = tree.write(splits=splits).open()
    assert {split: data.ids(split) for split in SPLITS} == SPLITS
    assert np.array_equal(data.mask("b1"), labels("b1"))


def test_images_in_subfolders_get_ids_that_can_name_a_file(tree: Tree) -> None:
    for kind, end in (("images", "jpg"), ("masks", "png")):
        (tree.root / kind / "rome").mkdir()
        (tree.root / kind / f"b1.{end}").rename(tree.root / kind / "rome" / f"b1.{end}")
    (tree.root / "val.txt").write_text("rome/b1.jpg\nb2\n")
    (tree.root / "tags.csv").write_text(csv_text().replace("b1", "rome/b1.jpg"))
    data = tree.open()
    assert data.ids("val") == ("rome__b1", "b2")
    assert np.array_equal(data.mask("rome__b1"), labels("b1"))
    assert tuple(np.flatnonzero(data.tags("rome__b1"))) == TAGS["b1"]


def test_images_and_masks_may_share_a_folder_when_their_names_tell_them_apart(tree: Tree) -> None:
    for id in TAGS:
        (tree.root / "masks" / f"{id}.png").rename(tree.root / "images" / f"{id}_mask.png")
        with Pil.open(tree.root / "images" / f"{id}.jpg") as picture:
            picture.save(tree.root / "images" / f"{id}.png")
        (tree.root / "images" / f"{id}.jpg").unlink()
    keys = {"masks": "images", "splits": {"train": "train.txt", "val": {"list": "val.txt"}}}
    assert "image_suffix" in refused(tree, "share a folder", **keys).hint
    data = tree.write(image_suffix=".png", mask_suffix="_mask.png").open()
    assert np.array_equal(data.mask("a3"), labels("a3"))
    assert data.prepare().ok
    assert not data.prepare().notes[1:]  # a4 has no tag; no mask is taken for a picture


def test_a_split_without_masks_has_images_alone(tree: Tree) -> None:
    (tree.root / "test.txt").write_text("c1\n")
    shutil.copy(tree.root / "images" / "a1.jpg", tree.root / "images" / "c1.jpg")
    splits = {**tree.keys["splits"], "test": {"list": "test.txt", "masks": False}}
    data = tree.write(splits=splits).open()
    assert len(data.fingerprint("test")) == 64
    assert data.bare_splits == ("test",)
    with pytest.raises(BadData, match="c1 has no mask"):
        data.mask("c1")
    assert data.prepare().ok


def test_judged_images_need_no_tags_but_all_or_none_have_them(tree: Tree) -> None:
    text = csv_text().splitlines()
    (tree.root / "tags.csv").write_text("\n".join(text[:5]))
    data = tree.open()
    assert len(data.fingerprint("val")) == 64
    assert data.prepare().ok
    (tree.root / "tags.csv").write_text("\n".join(text[:6]))
    with pytest.raises(BadData, match="1 of 2 images of val have no tags: b2"):
        tree.open().fingerprint("val")
    (tree.root / "tags.csv").write_text(text[0])
    with pytest.raises(BadData, match="4 of 4 images of train have no tags"):
        tree.open().fingerprint("train")


def test_classes_can_be_chosen_and_merged_on_the_command_line(tree: Tree) -> None:
    data = tree.open(classes=("cat",))
    assert (data.card.class_names, data.ids("train")) == (("cat",), ("a1", "a3"))
    assert set(np.unique(data.mask("a3"))) == {0, 1, 255}
    assert tree.open(merge=("animal:cat+dog",)).card.class_names == ("animal", "traffic light")


# ------------------------------------------------------------------------------------ what is recorded


def prints(tree: Tree, **keys: Any) -> tuple[str, str, str]:
    data = tree.write(**keys).open()
    return data.card.version, data.fingerprint("train"), data.fingerprint("val")


def test_what_changes_a_label_changes_version_and_fingerprints(tree: Tree) -> None:
    before = prints(tree)
    after = prints(tree, ignore=[255, 77])
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert prints(tree, ignore=None, image_px=500)[0] != before[0]


def test_what_changes_no_result_changes_neither_version_nor_fingerprint(tree: Tree) -> None:
    before = prints(tree)
    assert prints(tree, licence="CC0", source="elsewhere", masks="./masks", ignore=255) == before
    same = {"labels": {"0": "background", "1": "cat", "2": "dog", "3": "traffic light"}}
    assert prints(tree, **same) == before
    moved = shutil.copytree(tree.root, tree.root.with_name("moved"))
    assert prints(Tree(moved)) == before


@pytest.mark.parametrize("what", ["image", "mask", "tags", "list"])
def test_what_changes_a_file_changes_the_fingerprint_of_its_split_alone(tree: Tree, what: str) -> None:
    before = prints(tree)
    if what == "image":
        Pil.new("RGB", (16, 12)).save(tree.root / "images" / "a1.jpg")
    elif what == "mask":
        Pil.new("L", (16, 12)).save(tree.root / "masks" / "a1.png")
    elif what == "tags":
        (tree.root / "tags.csv").write_text(csv_text().replace("a4,0,0,0", "a4,1,0,0"))
    else:
        (tree.root / "train.txt").write_text("\n".join(SPLITS["train"][::-1]))
    after = prints(tree)
    assert (before[0] == after[0], before[1] == after[1], before[2] == after[2]) == (True, False, True)


def test_tags_from_masks_are_said_in_the_card_and_set_the_row_apart(tree: Tree) -> None:
    told = tree.open()
    derived = tree.write(tags="masks").open()
    assert derived.card.label_source == "mask"
    assert derived.card.options["tags"] == "from masks"
    assert derived.fingerprint("train") != told.fingerprint("train")


# --------------------------------------------------------------------------------------- what is refused

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": None}, "key name is missing"),
    "no classes": ({"classes": None}, "key classes is missing"),
    "no splits": ({"splits": None}, "key splits is missing"),
    "no tags": ({"tags": None}, "key tags is missing"),
    "a key": ({"clases": ["cat"]}, "unknown key 'clases'"),
    "a name": ({"name": "../pets"}, "cannot be a name"),
    "a type": ({"image_px": "large"}, "'large' is not int"),
    "a size": ({"image_px": 0}, "0 is not a size"),
    "a long version": ({"version": "1" * 400}, "longer than"),
    "a version of two lines": ({"version": "1\n2"}, "more than a line"),
    "a class twice": ({"classes": ["cat", "cat"]}, "'cat' stands twice"),
    "no class": ({"classes": []}, "0 classes"),
    "too many classes": ({"classes": [f"c{k}" for k in range(255)]}, "255 classes"),
    "the background": ({"classes": ["background", "cat"]}, "not a class of its own"),
    "a class with a bar": ({"classes": ["cat|dog"]}, "cannot be a class"),
    "a path up": ({"images": "../images"}, "leads out of"),
    "a path from above": ({"masks": "/etc"}, "leads out of"),
    "a tag file up": ({"tags": "a/../../tags.csv"}, "leads out of"),
    "a list up": ({"splits": {"train": "../train.txt", "val": "val.txt"}}, "leads out of"),
    "a backslash": ({"images": "data\\images"}, "is not a path"),
    "jpeg masks": ({"mask_suffix": ".jpg"}, "no such ending"),
    "splits that are none": ({"splits": 3}, "splits is not a table"),
    "a split that is none": ({"splits": {"train": 3, "val": "val.txt"}}, "neither a list nor a table"),
    "a key of a split": ({"splits": {"train": {"lst": "t"}, "val": "val.txt"}}, "unknown key 'lst'"),
    "masks that are none": ({"splits": {"train": {"masks": True}, "val": "val.txt"}}, "a folder of masks"),
    "no val": ({"splits": {"train": "train.txt"}}, "no split 'val'"),
    "no such split": ({"label_split": "vall"}, "no split 'vall'"),
    "judged without masks": (
        {"splits": {"train": "train.txt", "val": {"list": "val.txt", "masks": False}}},
        "the split val has no masks",
    ),
    "tags of no masks": (
        {"tags": "masks", "label_split": "val",
         "splits": {"train": {"list": "train.txt", "masks": False}, "val": "val.txt"}},
        "no tags from masks",
    ),
    "a list twice": ({"splits": {"train": "train.txt", "val": "train.txt"}}, "4 images are in train and in"),
    "a folder for all": ({"splits": {"train": {}, "val": "val.txt"}}, "2 images are in train and in val"),
    "two palettes": ({"palette": "voc", "labels": {"0": "background"}}, "both labels and palette"),
    "a short palette": ({"palette": PALETTE[:3]}, "3 colours for 4 labels"),
    "a colour twice": ({"palette": [PALETTE[0], *PALETTE[:3]]}, "stands twice"),
    "no colour": ({"palette": [*PALETTE[:3], [0, 0, 256]]}, "is not a colour"),
    "no palette": ({"palette": "coco"}, "is not a palette"),
    "labels that are none": ({"labels": 3}, "labels is not a table"),
    "no such class": ({"labels": {"0": "background", "1": "catt"}}, "'catt' is not a class"),
    "no value": ({"labels": {"one": "cat"}}, "not a value of a pixel"),
    "a large value": ({"labels": {"65536": "cat"}}, "not a value of a pixel"),
    "one value twice": ({"labels": {"1": "cat", "01": "dog"}}, "the value 01 stands twice"),
    "mixed values": ({"labels": {"1": "cat", "#000000": "dog"}}, "mixed"),
    "a class of no value": ({"labels": {"0": "background", "1": "cat"}}, "no value means dog, traffic light"),
    "a class ignored": ({"ignore": 2}, "2 means a label and is ignored"),
    "a colour ignored": ({"ignore": "#000000"}, "masks hold indices"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named_with_its_file_key_and_next_step(tree: Tree, name: str) -> None:
    keys, message = WRONG[name]
    refused(tree, message, **keys)


def test_an_unknown_key_brings_the_nearest(tree: Tree) -> None:
    with pytest.raises(UnknownName, match="did you mean classes"):
        tree.write(clases=["cat"]).open()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = pets", r"not valid TOML.*dataset\.toml:1"),
        ("x = " + "[" * 100_000, "nested too deep"),
        ("x = " + "9" * 5000, "not valid TOML"),
        ("\xff", "not a text in UTF-8"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(tree: Tree, text: str, message: str) -> None:
    (tree.root / "dataset.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadData, match=message):
        tree.open()


@pytest.mark.parametrize("file", ["dataset.toml", "train.txt", "tags.csv"])
def test_a_giant_file_is_refused_unread(tree: Tree, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_files, "MOST_LIST_BYTES", 2**20)
    monkeypatch.setattr("wsssbench_datasets.tag_tables.MOST_BYTES", 2**20)
    assert folder_toml.MOST_BYTES == 2**20
    os.truncate(tree.root / file, 2**20 + 1)
    with pytest.raises(BadData, match=rf"too large for a .*{file}"):
        tree.open()


@pytest.mark.parametrize("root", ["", "nowhere", "."])
def test_a_wrong_root_says_how_to_give_it(tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadData, match=r"-o folder\.root=DIR|no dataset\.toml"):
        Folder(FolderConfig(root=root), 0)


@pytest.mark.parametrize(
    "what", ["images", "masks", "images/a1.jpg", "train.txt", "tags.csv", "dataset.toml"]
)
def test_a_link_that_leaves_the_root_is_refused(tree: Tree, what: str) -> None:
    outside = (tree.root / what).rename(tree.root.parent / "outside")
    (tree.root / what).symlink_to(outside)
    with pytest.raises(BadData, match="a link that leads out of"):
        tree.open()


def test_a_link_within_the_root_is_followed(tree: Tree) -> None:
    (tree.root / "images" / "a1.jpg").rename(tree.root / "first.jpg")
    (tree.root / "images" / "a1.jpg").symlink_to(tree.root / "first.jpg")
    assert tree.open().image("a1").shape == (12, 16, 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../a1", "leads out of"),
        ("a1\na1.jpg", r"a1 stands twice \(first on line 1\)"),
        ("-a1", "cannot be the id"),
        ("a:1", "cannot be the id"),
        ("cat (1).jpg\ncat (2).jpg", r"'cat \(1\)' cannot be the id[\s\S]*rename it"),
        ("cat (1).jpg,1", r"'cat \(1\)' cannot be the id"),
        ("", "empty"),
    ],
)
def test_a_line_that_names_no_image_is_refused(tree: Tree, line: str, message: str) -> None:
    (tree.root / "train.txt").write_text(line)
    with pytest.raises(BadData, match=message) as caught:
        tree.open()
    assert "train.txt" in caught.value.where


@pytest.mark.parametrize(
    "form", ["{}.jpg", "images/{}.jpg", "{} masks/{}.png", "{},masks/{}_mask.png", "{}.jpg 1 0"]
)
def test_names_with_other_columns_are_read(tree: Tree, form: str) -> None:
    (tree.root / "train.txt").write_text("\n".join(form.format(id, id) for id in SPLITS["train"]))
    assert tree.open().ids("train") == SPLITS["train"]


def test_a_path_with_a_blank_names_its_image(tree: Tree) -> None:
    (tree.root / "images").rename(tree.root / "my images")
    (tree.root / "train.txt").write_text("\n".join(f"./my images/{id}.jpg" for id in SPLITS["train"]))
    assert tree.write(images="my images").open().ids("train") == SPLITS["train"]


def test_a_file_name_that_cannot_be_an_id_and_two_files_of_one_id_are_refused(tree: Tree) -> None:
    tree.write(splits={"train": {"images": "more"}, "val": "val.txt"})
    (tree.root / "more").mkdir()
    (tree.root / "more" / "IMG (2).jpg").write_text("")
    with pytest.raises(BadData, match=r"'IMG \(2\)' cannot be the id[\s\S]*rename it"):
        tree.open()
    shutil.copy(tree.root / "images" / "b1.jpg", tree.root / "images" / "b1.png")
    tree.write(splits={"train": "train.txt", "val": "val.txt"})
    with pytest.raises(BadData, match=r"several files for the image b1: b1\.jpg, b1\.png"):
        tree.open().image("b1")


@pytest.mark.parametrize(
    ("name", "draw", "message"),
    [
        (
            "{}.png",
            lambda p: Pil.fromarray(np.zeros((12, 16), np.uint16)).save(p),
            "more than 8 bits a channel",
        ),
        (
            "{}.gif",
            lambda p: Pil.new("P", (16, 12)).save(p),
            r"b1\.gif is a picture of a kind that is not read",
        ),
        ("{}.jpg", lambda p: Pil.new("P", (16, 12)).save(p, "GIF"), "this image is a GIF, none of JPEG"),
        ("{}.jpg", lambda p: p.write_text("<!DOCTYPE html><p>Sign in"), "this image is a web page"),
        ("{}.jpg", lambda p: p.unlink(missing_ok=True), "this image is missing"),
    ],
)
def test_where_no_image_can_be_read_the_reason_is_said_once(
    tree: Tree, name: str, draw: Callable[[Path], object], message: str
) -> None:
    for id in TAGS:
        (tree.root / "images" / f"{id}.jpg").unlink()
        draw(tree.root / "images" / name.format(id))
    lists = {split: "\n".join(name.format(id) for id in ids) for split, ids in SPLITS.items()}
    for split, text in lists.items():
        (tree.root / f"{split}.txt").write_text(text)
    with pytest.raises(BadData, match=f"none of the images of val can be read[^\n]*{message}") as caught:
        tree.open()
    assert caught.value.hint


def test_a_folder_of_pictures_of_another_kind_is_said_to_be_one(tree: Tree) -> None:
    (tree.root / "more").mkdir()
    Pil.new("P", (16, 12)).save(tree.root / "more" / "x.gif")
    with pytest.raises(BadData, match=r"no picture in this folder that is read, but x\.gif"):
        tree.write(splits={"train": {"images": "more"}, "val": "val.txt"}).open()


def test_one_id_names_one_image(tree: Tree) -> None:
    shutil.copytree(tree.root / "images", tree.root / "more")
    (tree.root / "val.txt").write_text("a1\n")
    with pytest.raises(BadData, match="the id a1 names two images"):
        tree.write(splits={"train": "train.txt", "val": {"list": "val.txt", "images": "more"}}).open()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("t.csv", "id,cat,dog\na1,1,0\n", "no column for traffic light"),
        ("t.csv", "id,cat,dog,bus\n", "column 'bus' is not a class"),
        ("t.csv", "id,tags\na1,cat,dog\n", r"3 cells under 2 columns.*line 2"),
        ("t.csv", "", "no header"),
        ("t.csv", 'id,tags\n"a1,cat\n', "not a csv file"),
        ("t.json", "[]", "a list, not a table"),
        ("t.json", '{"a1": "cat"}', "a str, not a list"),
        ("t.json", '{"a1": [], "a1": []}', "'a1' stands twice"),
        ("t.json", "[" * 100_000, r"not a json file of tags \(its lists are nested too deep\)"),
        ("t.json", '{"a1": [' + "1" * 5000 + "]}", r"not a json file of tags \(a number of too many"),
        ("t.json", '{"a1": ]', r"not a json file of tags \(expecting value in line 1, column 8\)"),
        ("t.npy", "no array", "cannot read this file"),
        ("t.txt", "a1 cat", "end with .csv"),
    ],
)
def test_a_file_that_holds_no_tags_is_refused(tree: Tree, file: str, text: str, message: str) -> None:
    (tree.root / file).write_text(text)
    with pytest.raises(WsssError, match=message) as caught:
        tree.write(tags=file).open()
    assert file in caught.value.where
    assert caught.value.hint


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("t.csv", "id,tags\na1,catt\n", "a1: 'catt' is not a class[^\n]*\n.*did you mean cat"),
        ("t.csv", csv_text().replace("a1,0,0,1", "a1,0,0,2"), "a1: '2' is not 0 or 1"),
        ("t.csv", csv_text() + "a1,0,0,1\n", "a1: it stands twice"),
        ("t.json", '{"a1": [1, 0]}', "a1: 2 numbers for 3 classes"),
        ("t.json", '{"a2": []}', "no tags for a1"),
    ],
)
def test_wrong_tags_of_an_image_are_refused_with_its_name(
    tree: Tree, file: str, text: str, message: str
) -> None:
    (tree.root / file).write_text(text)
    with pytest.raises(BadData, match=message):
        tree.write(tags=file).open().tags("a1")


MASK_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "mask is missing"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-30]), "truncated or damaged"),
    "value": (lambda p: Pil.new("L", (16, 12), 4).save(p), "the value 4, not in dataset"),
    "size": (lambda p: Pil.new("L", (16, 11)).save(p), "16x11 px for an image of 16x12 px"),
    "colours": (lambda p: Pil.new("RGB", (16, 12)).save(p), "mode RGB, not of class indices"),
}


@pytest.mark.parametrize("how", MASK_FAULTS)
def test_prepare_finds_each_mask_fault_and_reading_the_mask_says_the_same(tree: Tree, how: str) -> None:
    spoil, message = MASK_FAULTS[how]
    spoil(tree.root / "masks" / "a2.png")
    data = tree.open()
    with pytest.raises(BadData, match=message):
        data.mask("a2")
    report = data.prepare()
    assert [message in fault.what for fault in report.faults] == [True]
    assert report.lines()[-1] == "1 faults found"


def test_unknown_colours_and_transparent_pixels_are_refused(tree: Tree) -> None:
    data = tree.masks(colour_picture).write(palette=PALETTE, ignore="#ffffff").open()
    Pil.new("RGB", (16, 12), (1, 2, 3)).save(tree.root / "masks" / "a1.png")
    with pytest.raises(BadData, match=r"the colour #010203, not in [\s\S]*known: #000000, #00c800"):
        data.mask("a1")
    Pil.new("RGBA", (16, 12), (0, 0, 0, 9)).save(tree.root / "masks" / "a1.png")
    with pytest.raises(BadData, match="transparent"):
        data.mask("a1")


def test_a_mask_is_what_its_name_says(tree: Tree) -> None:
    Pil.new("L", (16, 12)).save(tree.root / "masks" / "a1.png", format="JPEG")
    with pytest.raises(BadData, match="damaged"):
        tree.open().mask("a1")


def test_prepare_counts_finds_bad_images_and_wrong_tags_and_notes_the_rest(tree: Tree) -> None:
    text = csv_text().replace("a2,1,0,0", "a2,0,0,1").replace("b2,0,0,1", "b2,0,0,7")
    (tree.root / "tags.csv").write_text(text)
    path = tree.root / "images" / "a1.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    (tree.root / "images" / "a3.jpg").unlink()
    shutil.copy(tree.root / "images" / "b1.jpg", tree.root / "images" / "spare.jpg")
    report = tree.open().prepare()
    assert sorted(fault.kind for fault in report.faults) == [
        "damaged image", "missing image", "missing or wrong tags",
    ]  # fmt: skip
    assert {(note.kind, note.what) for note in report.notes} == {
        ("image without a tag", "a4"),
        ("tag without pixels in the mask", "a2 (cat)"),
        ("class in the mask without a tag", "a2 (dog)"),
        ("picture in no split", "spare"),
    }
    text = "\n".join(report.lines())
    assert "train: 4 images, 4 masks in masks, 4 tagged" in text
    assert "val: 2 images, 2 masks in masks, 1 tagged" in text
    assert "images per tag: cat 3, traffic light 1" in text
    assert "masks per class: cat 2, dog 1, traffic light 1" in text
    assert text.endswith("3 faults found")


# ----------------------------------------------------------------------------------------- the whole way


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def test_a_method_runs_and_foreign_labels_are_scored_on_it(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tree.masks(colour_picture).write(palette=PALETTE, ignore="#ffffff", tags="masks", version="3")
    Path("wsssbench.toml").write_text(f"[datasets.folder]\nroot = {json.dumps(str(tree.root))}\n")
    prepared = call("prepare", "folder")
    assert prepared.exit_code == 0, prepared.output
    assert "data set folder:pets\n  version: 3+" in prepared.output
    assert "tags from: mask" in prepared.output
    run = ("run", "--dataset", "folder", "--method", "constant", "--stages", "pseudo,seg", "--device", "cpu")
    done = call(*run, "--runs", "runs", "-q")
    assert done.exit_code == 0, done.output
    assert "folder:pets: seg on val" in done.stdout
    Path("mine").mkdir()
    for id in SPLITS["val"]:
        write_labels(Path("mine") / f"{id}.png", labels(id))
    scored = call("score", "mine", "--dataset", "folder", "--as", "mine", "--runs", "runs", "--json")
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["scores"]["iou"]["miou"] == 100
    records = [stored.record for stored in find_records("runs")]
    assert {(r.method, r.status, r.identity.terms.dataset) for r in records} == {
        ("constant", "ok", "folder:pets"),
        ("mine", "ok", "folder:pets"),
    }
    assert {r.provenance["dataset"]["label_source"] for r in records} == {"mask"}
    assert "folder:pets: seg on val" in call("report", "runs").stdout


def test_it_keeps_the_contract_of_data_sets(tree: Tree) -> None:
    assert len(check_dataset(Folder, {"root": str(tree.root)}, "folder")) > 20


def test_a_row_finds_its_data_set_again_and_no_other_of_the_same_plugin(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = ("-o", f"folder.root={tree.root}")
    run = ("run", "--dataset", "folder", "--method", "constant", "--stages", "seg", "--device", "cpu", "-q")
    assert call(*run, *root).exit_code == 0
    (stored,) = find_records("runs")
    errors = ("errors", stored.path.parent, *root)
    assert "folder:pets: seg on val, errors" in call(*errors).output
    assert (stored.path.parents[3] / "masks.png").exists()
    tree.write(name="zoo")
    assert "dataset: folder:pets and folder:zoo" in call(*errors).output


def pages_blocks() -> list[str]:
    """The toml blocks of the page on own data."""
    page = Path(__file__).resolve().parents[1] / "docs" / "own-data.md"
    return re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def test_the_pages_first_description_is_complete_and_its_keys_are_all_there_are(tree: Tree) -> None:
    first, *_ = pages_blocks()
    (tree.root / "dataset.toml").write_text(first)
    assert tree.open().card.class_names == CLASSES
    page = (Path(__file__).resolve().parents[1] / "docs" / "own-data.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.M))))
    assert set(folder_toml.KEYS) == named


def test_the_pages_other_tables_are_read(tree: Tree) -> None:
    _, splits, meaning, binary = pages_blocks()
    for split, ids in SPLITS.items():
        for kind, end in (("images", "jpg"), ("masks", "png")):
            (tree.root / split / kind).mkdir(parents=True)
            for id in ids:
                shutil.copy(tree.root / kind / f"{id}.{end}", tree.root / split / kind)
    text = f'name = "pets"\nclasses = {inline(CLASSES)}\ntags = "masks"\n'
    (tree.root / "dataset.toml").write_text(text + splits + meaning)
    data = tree.open()
    assert data.ids("val") == SPLITS["val"]
    assert data.whole.described.code.labels == {0: 0, 24: 1, 25: 1, 26: 2, 33: 3, 255: 255}
    (tree.root / "dataset.toml").write_text(text.replace(inline(CLASSES), '["lesion"]') + splits + binary)
    assert tree.open().whole.described.code.labels == {0: 0, 255: 1}


def test_prepare_of_a_damaged_data_set_and_a_wrong_description_end_with_their_codes(tree: Tree) -> None:
    (tree.root / "masks" / "a1.png").unlink()
    found = call("prepare", "folder", "-o", f"folder.root={tree.root}")
    assert (found.exit_code, "missing mask: 1 images" in found.output) == (1, True)
    tree.write(clases=["cat"])
    refused = call("run", "--dataset", "folder", "--method", "constant", "-o", f"folder.root={tree.root}")
    assert (refused.exit_code, "unknown key 'clases'" in refused.output) == (2, True)
