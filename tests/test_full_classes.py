"""The data sets on disk from end to end by the command line, with every class of theirs in each split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil

from wsssbench.cli.main import main
from wsssbench.masks import write_labels
from wsssbench.plugins.options import build_config
from wsssbench.plugins.table import Plugins


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def coco(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue("coco_tree").root


def voc(request: pytest.FixtureRequest) -> Path:
    """The tree of VOC's shape, ten of the classes in one image of each split and ten in the other."""
    tree: Any = request.getfixturevalue("voc_tree")
    for split in ("train", "val"):
        for half, id in enumerate(tree.splits[split]):
            with Pil.open(tree.image(id)) as picture:
                mask = np.zeros((picture.height, picture.width), np.uint8)
            tree.classes[id] = tuple(range(10 * half, 10 * half + 10))
            for row, k in enumerate(tree.classes[id]):
                mask[row + 1] = k + 1
            mask[-1] = 255
            Pil.fromarray(mask).save(tree.mask(id))
    tree.write_labels(tree.table())
    return tree.root


@pytest.mark.parametrize(
    ("name", "tree", "classes", "options"),
    [
        ("coco14", coco, 80, {"lists": "objects", "masks": "png"}),
        ("voc12", voc, 20, None),
    ],
)
def test_a_method_runs_and_foreign_labels_are_scored_over_all_classes(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    tree: Any,
    classes: int,
    options: dict[str, str] | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tree(request)
    given = ("--dataset", name, "-o", f"{name}.root={root}", "--runs", "runs")
    run = call("run", *given, "--method", "constant", "--stages", "pseudo,seg", "--device", "cpu", "-q")
    assert run.exit_code == 0, run.output

    cls = Plugins().load("datasets", name)
    data = cls(build_config(name, cls, {"root": str(root)}), 0)
    for id in data.ids("val"):
        mask = data.mask(id)
        write_labels(tmp_path / "labels" / f"{id}.png", np.where(mask == 255, 0, mask))
    scored = call("score", "labels", *given, "--as", "truth", "--stage", "seg", "--json")
    assert scored.exit_code == 0, scored.output
    found = json.loads(scored.stdout)
    assert found["scores"]["iou"]["per_class"] == [100] * (classes + 1)

    record = json.loads(next(Path(f"runs/{name}/constant/seed0").glob("seg-*/record.json")).read_text())
    background, *others = record["scores"]["iou"]["per_class"]
    assert 0 < background < 100
    assert others == [0] * classes
    own = json.loads(Path(found["record"]).read_text())["identity"]["terms"]
    assert own == record["identity"]["terms"]
    assert len(own["classes"]) == classes
    assert options is None or own["dataset_options"] == options
