"""No image is judged in the `seg` stages that a method has learned from, in no data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil

from wsssbench.cli.main import main
from wsssbench_datasets.coco14.dataset import Coco14, Coco14Config
from wsssbench_datasets.voc12.dataset import Voc12, Voc12Config

SHARED = "2007_000032"  # of train_aug, and here of val
DATA = """
import numpy as np
from wsssbench.types import DatasetCard, NoConfig
class Squares:
    Config, presets = NoConfig, {}
    card = DatasetCard("zzsquares", "1", ("square",), ("train", "val"), "train", "train", "val",
                       "file", "", "", 16)
    def __init__(self, config, seed):
        pass
    def ids(self, split):
        return ("a", "b") if split == "train" else ("b", "c")
    def mask(self, id):
        return np.ones((16, 20), np.uint8)
    def image(self, id):
        return np.zeros((16, 20, 3), np.uint8)
    def tags(self, id):
        return np.array([True])
    def fingerprint(self, split):
        return "0" * 64
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def overlapping(voc_tree: Any) -> Any:
    """A VOC tree with an image of train_aug in val."""
    voc_tree.list_file("val").write_text(f"{voc_tree.splits['val'][0]}\n/JPEGImages/{SHARED}.jpg\n")
    return voc_tree


COMMANDS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "run": lambda to: ("run", "--method", "constant", "--dataset", "voc12", "--runs", str(to)),
    "score": lambda to: ("score", str(to), "--dataset", "voc12", "--as", "x", "--runs", str(to)),
    "prepare": lambda to: ("prepare", "voc12"),
}


@pytest.mark.parametrize(
    "choice", [(), ("-o", "voc12.classes=sheep,tvmonitor"), ("-o", "voc12.merge=a:cow+dog")]
)
@pytest.mark.parametrize("command", COMMANDS)
def test_voc_refuses_judged_images_of_the_fit_list_in_every_command(
    overlapping: Any, tmp_path: Path, command: str, choice: tuple[str, ...]
) -> None:
    root = ("-o", f"voc12.root={overlapping.root}", *choice)
    result = call(*COMMANDS[command](tmp_path / "runs"), *root)
    assert result.exit_code == 2, result.output
    assert f"1 image is in train_aug and in val: {SHARED}" in result.output
    assert "not judged on what they learned from" in result.output


def test_the_label_split_shares_its_images_with_the_fit_split(voc_tree: Any) -> None:
    data = Voc12(Voc12Config(root=str(voc_tree.root)), 0)
    assert set(data.ids(data.card.label_split)) <= set(data.ids(data.card.fit_split))


def test_without_a_fit_list_the_judged_images_can_be_scored(voc_tree: Any) -> None:
    for split in ("train", "train_aug"):
        voc_tree.list_file(split).unlink()
    assert Voc12(Voc12Config(root=str(voc_tree.root)), 0).fingerprint("val")


def test_coco_compares_the_numbers_of_images_not_their_ids(coco_tree: Any) -> None:
    lists = coco_tree.root / "lists-all"
    number = coco_tree.ids("val")[3].rpartition("_")[2]
    with (lists / "train.txt").open("a") as file:
        file.write(f"COCO_train2014_{number}\n")
    assert len(Coco14(Coco14Config(root=str(coco_tree.root)), 0).ids("val")) == 11
    result = call("prepare", "coco14", "-o", f"coco14.root={coco_tree.root}", "-o", f"coco14.lists={lists}")
    assert result.exit_code == 2, result.output
    assert f"1 image is in train and in val: {int(number)}" in result.output


def test_a_folder_within_that_of_the_fit_split_is_no_way_round(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for name in ("images/val", "masks/val"):
        (root / name).mkdir(parents=True)
    for id in ("a", "val/b"):
        Pil.new("RGB", (8, 8)).save(root / "images" / f"{id}.png")
        Pil.fromarray(np.eye(8, dtype=np.uint8)).save(root / "masks" / f"{id}.png")
    (root / "dataset.toml").write_text(
        'name = "pets"\nclasses = ["cat"]\ntags = "masks"\n[splits.train]\nimages = "images"\n'
        '[splits.val]\nimages = "images/val"\nmasks = "masks/val"\n'
    )
    result = call("prepare", "folder", "-o", f"folder.root={root}")
    assert result.exit_code == 2, result.output
    assert "1 image is in train and in val" in result.output
    assert "b.png" in result.output


def test_a_data_set_of_a_plugin_is_refused_when_planning(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(DATA)
    plugin = ("--plugin", tmp_path / "mine.py", "--runs", tmp_path / "runs")
    result = call("run", "--method", "constant", "--dataset", "zzsquares", *plugin)
    assert result.exit_code == 2, result.output
    assert "1 image is in train and in val: b" in result.output
    assert not (tmp_path / "runs").exists()
