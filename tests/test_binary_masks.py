"""Masks in which no judged pixel shows a class, above all those of one class drawn as 0 and 255."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil

from wsssbench.cli.main import main
from wsssbench.errors import BadData
from wsssbench.records.finding import find_records
from wsssbench_datasets.folder.dataset import Folder, FolderConfig
from wsssbench_datasets.voc12.dataset import Voc12, Voc12Config

IDS = tuple(f"case{k}" for k in range(6))
LABELS = '[labels]\n0 = "background"\n255 = "lesion"\n'


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def describe(root: Path, more: str = "", classes: str = '"lesion"', tags: str = "masks") -> None:
    text = f'name = "lesion"\nclasses = [{classes}]\ntags = "{tags}"\n'
    splits = '[splits]\ntrain = "train.txt"\nval = "val.txt"\n'
    (root / "dataset.toml").write_text(text + splits + more)


@pytest.fixture
def binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One class, masks of 0 and 255; predictions in class indices, a third of each object beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "lesion"
    for name in ("images", "masks", "pred"):
        (root / name).mkdir(parents=True)
    for k, id in enumerate(IDS):
        mask = np.zeros((20, 30), np.uint8)
        mask[5:11, 4 + k : 13 + k] = 1
        Pil.fromarray(np.repeat(mask[..., None] * np.uint8(200), 3, 2)).save(root / "images" / f"{id}.jpg")
        Pil.fromarray(mask * np.uint8(255)).save(root / "masks" / f"{id}.png")
        Pil.fromarray(np.roll(mask, 3, 1)).save(root / "pred" / f"{id}.png")
    for split, ids in (("train", IDS[:3]), ("val", IDS[3:])):
        (root / f"{split}.txt").write_text("\n".join(ids))
    (root / "tags.json").write_text("{" + ", ".join(f'"{id}": ["lesion"]' for id in IDS) + "}")
    describe(root)
    return root


def redraw(root: Path, change: Any) -> None:
    for id in IDS:
        path = root / "masks" / f"{id}.png"
        Pil.fromarray(change(np.array(Pil.open(path)))).save(path)


def opened(root: Path, **options: Any) -> Folder:
    return Folder(FolderConfig(root=str(root), **options), 0)


PROPOSAL = 'under [labels] in dataset.toml write 0 = "background" and 255 = "lesion"'


@pytest.mark.parametrize("tags", ["masks", "tags.json"])
@pytest.mark.parametrize("command", ["run", "score", "prepare"])
def test_masks_of_0_and_255_are_refused_with_what_to_write(
    binary: Path, tmp_path: Path, command: str, tags: str
) -> None:
    describe(binary, tags=tags)
    root = ("-o", f"folder.root={binary}")
    to = ("--dataset", "folder", *root, "--runs", tmp_path / "runs")
    if command == "run":
        result = call("run", "--method", "constant", "--stages", "seg", *to)
    elif command == "score":
        result = call("score", binary / "pred", "--as", "x", *to)
    else:
        result = call("prepare", "folder", *root)
    assert result.exit_code == (1 if command == "prepare" else 2), result.output
    assert "shows a class (lesion): they hold background and void (255) alone" in result.output
    assert PROPOSAL in result.output
    assert not (tmp_path / "runs").exists()


def test_what_the_error_proposes_gives_the_true_scores(binary: Path, tmp_path: Path) -> None:
    describe(binary, LABELS)
    to = ("--dataset", "folder", "-o", f"folder.root={binary}", "--runs", tmp_path / "runs")
    assert call("prepare", "folder", "-o", f"folder.root={binary}").exit_code == 0
    assert call("score", binary / "pred", "--as", "x", *to).exit_code == 0
    [found] = find_records(tmp_path / "runs")
    hit, wrong, rest = 6 * 6, 2 * 6 * 3, 600 - 6 * 12  # of 9 columns, 3 on each side are in one alone
    wanted = [100 * rest / (rest + wrong), 100 * hit / (hit + wrong)]
    assert found.record.scores["iou"]["per_class"] == pytest.approx(wanted)


def test_where_no_mask_can_be_read_the_reason_is_given(binary: Path) -> None:
    describe(binary, '[labels]\n255 = "lesion"\n')
    with pytest.raises(BadData, match=r"a mask with the value 0, not in dataset\.toml"):
        opened(binary).fingerprint("val")


def test_which_of_several_classes_255_is_is_left_to_the_owner(binary: Path) -> None:
    describe(binary, classes='"lesion", "scar"')
    with pytest.raises(BadData, match="255 = NAME, one of lesion, scar"):
        opened(binary).fingerprint("val")


def test_masks_of_one_bit_hold_0_and_1(binary: Path) -> None:
    for id in IDS:
        path = binary / "masks" / f"{id}.png"
        Pil.open(path).convert("1").save(path)
    describe(binary, LABELS)
    with pytest.raises(BadData, match=r"a mask with the value 1, not in dataset\.toml"):
        opened(binary).fingerprint("val")
    describe(binary, '[labels]\n0 = "background"\n1 = "lesion"\n')
    data = opened(binary)
    assert set(np.unique(data.mask("case3"))) == {0, 1}


def test_judged_masks_of_background_alone_are_refused(binary: Path) -> None:
    redraw(binary, np.zeros_like)
    describe(binary, tags="tags.json")
    with pytest.raises(BadData, match=r"no mask of val shows a class \(lesion\): they hold background alone"):
        opened(binary).fingerprint("val")
    assert opened(binary).fingerprint("train")  # methods of tags may learn from it
    assert "no mask of val" in "\n".join(opened(binary).prepare().lines())


def test_void_of_a_code_of_ones_own_is_not_taken_for_a_class(binary: Path) -> None:
    describe(binary, '[labels]\n7 = "lesion"\nother = "ignore"\n')
    with pytest.raises(
        BadData, match=r"no mask of val shows a class[^\n]*\n.*see labels, palette and ignore"
    ):
        opened(binary).fingerprint("val")


def test_a_class_that_no_mask_shows_beside_others_is_said_not_refused(binary: Path, tmp_path: Path) -> None:
    redraw(binary, lambda mask: mask // np.uint8(255))
    describe(binary, classes='"lesion", "scar"')
    assert opened(binary).fingerprint("val")
    prepared = call("prepare", "folder", "-o", f"folder.root={binary}")
    assert prepared.exit_code == 0, prepared.output
    assert prepared.output.count("classes in no mask, which no mean counts: scar") == 2
    to = ("--dataset", "folder", "-o", f"folder.root={binary}", "--runs", tmp_path / "runs")
    scored = call("score", binary / "pred", "--as", "x", *to)
    assert scored.exit_code == 0, scored.output
    listed = call("report", tmp_path / "runs")
    assert "left out: scar" in listed.output


def test_the_first_mask_that_shows_a_class_ends_the_search(
    binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(binary, LABELS, tags="tags.json")
    tags = {id: (["lesion"] if id == "case4" else []) for id in IDS}
    (binary / "tags.json").write_text(str(tags).replace("'", '"'))
    data, read = opened(binary), []
    true = data.whole.mask_of_size
    monkeypatch.setattr(data.whole, "mask_of_size", lambda id, size: (read.append(id), true(id, size))[1])
    data.fingerprint("val")
    assert read == ["case4"]  # of images with tags first


def test_a_damaged_mask_hides_nothing(binary: Path) -> None:
    (binary / "masks" / "case3.png").write_bytes(b"no picture")
    with pytest.raises(BadData, match="no mask of val shows a class"):
        opened(binary).fingerprint("val")
    describe(binary, LABELS)
    assert opened(binary).fingerprint("val")  # the file is named when it is judged


def test_a_voc_tree_of_such_masks_is_refused(voc_tree: Any) -> None:
    for id in voc_tree.splits["val"]:
        path = voc_tree.mask(id)
        Pil.fromarray((np.array(Pil.open(path)) > 0) * np.uint8(255)).save(path)
    data = Voc12(Voc12Config(root=str(voc_tree.root)), 0)
    with pytest.raises(BadData, match=r"no mask of val shows a class \(aeroplane[^\n]*\n.*class indices"):
        data.fingerprint("val")
    assert not data.prepare().ok
