"""What enters the terms of a row: all that makes its test another one, and nothing that does not."""

from __future__ import annotations

import dataclasses
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pil

from wsssbench.identity import Terms
from wsssbench.planning.plan import learned_content
from wsssbench.planning.stages import STAGES, custom_stage
from wsssbench.planning.terms import terms_of
from wsssbench.reporting.conditions import ground_truth
from wsssbench.reporting.rows import rows_of
from wsssbench_datasets.coco14.dataset import Coco14, Coco14Config
from wsssbench_datasets.folder.dataset import Folder, FolderConfig
from wsssbench_datasets.shapes.dataset import Shapes
from wsssbench_datasets.shapes.scene_options import ShapesConfig
from wsssbench_datasets.voc12.dataset import Voc12, Voc12Config

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
fake_record = FAKE["fake_record"]


def terms(data: Any, stage: str = "seg", policy: str = "fixed") -> Terms:
    return terms_of(data, STAGES[stage], policy, None)


# ------------------------------------------------------------------------------- what of a data set enters


@pytest.mark.parametrize("options", [{}, {"classes": ("aeroplane", "train"), "others": "void"}])
def test_terms_of_val_know_nothing_of_the_mask_folders_of_other_splits(
    voc_tree: Any, options: dict[str, Any]
) -> None:
    both = Voc12(Voc12Config(root=str(voc_tree.root), **options))
    learned, seg = learned_content(both), terms(both)
    shutil.rmtree(voc_tree.tree / "SegmentationClassAug")
    alone = Voc12(Voc12Config(root=str(voc_tree.root), **options))
    assert terms(alone) == seg
    assert ground_truth(seg) == seg.dataset_options["masks"] == "SegmentationClass"
    assert set(learned["options"]["masks"]) == {"train", "train_aug", "val"}  # trainings keep their keys


def test_terms_of_val_know_nothing_of_the_lists_of_train(
    coco_tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(official_counts(), "all", {"train": 12, "val": 0})
    lists = coco_tree.root / "lists-all"
    before = Coco14(Coco14Config(root=str(coco_tree.root), lists=str(lists)))
    monkeypatch.setitem(official_counts(), "all", {"train": 11, "val": 0})  # the same lists, named otherwise
    after = Coco14(Coco14Config(root=str(coco_tree.root), lists=str(lists)))
    assert before.card.options != after.card.options
    assert terms(before) == terms(after)
    assert terms(before).dataset_options["lists"] == "own"
    assert terms(before, "seed") != terms(after, "seed")


def official_counts() -> dict[str, dict[str, int]]:
    from wsssbench_datasets.coco14 import tree as coco_tree

    return coco_tree.OFFICIAL  # type: ignore[return-value]


def pets(root: Path, stated: int) -> Folder:
    """A data set of one's own, whose images are 40 wide, and which says that they are `stated`."""
    for name in ("t1", "t2", "v1"):
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        Pil.new("RGB", (40, 20), (9, 9, 9)).save(root / "images" / f"{name}.png")
        mask = Pil.new("L", (40, 20), 0)
        mask.paste(1, (0, 0, 5, 5))
        mask.save(root / "masks" / f"{name}.png")
    (root / "train.txt").write_text("t1\nt2\n")
    (root / "val.txt").write_text("v1\n")
    (root / "dataset.toml").write_text(
        f'name = "pets"\nclasses = ["cat"]\ntags = "masks"\nimage_suffix = ".png"\nimage_px = {stated}\n'
        '[splits]\ntrain = "train.txt"\nval = "val.txt"\n'
    )
    return Folder(FolderConfig(root=str(root)))


def test_the_size_that_widths_are_scaled_by_enters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    small, large = pets(tmp_path / "a", 40), pets(tmp_path / "b", 60)
    assert (small.card.image_px, large.card.image_px) == (40, 60)
    for stage in ("seg", "seg+crf"):
        assert terms(small, stage) != terms(large, stage)
    alike = dataclasses.replace(terms(large), image_px=40)
    assert alike == terms(small)  # nothing else differs
    assert learned_content(small)["version"] != learned_content(large)["version"]
    (tmp_path / "b" / "dataset.toml").write_text(
        (tmp_path / "b" / "dataset.toml").read_text().replace('"cat"', '"dog"')
    )
    assert terms(Folder(FolderConfig(root=str(tmp_path / "b")))) != terms(large)


def test_images_of_another_split_are_no_term_of_generated_data_and_still_tell_rows_apart() -> None:
    few, many = (Shapes(ShapesConfig(train=count, val=10), 0) for count in (20, 40))
    assert terms(few) == terms(many)
    assert terms(few, "seed") != terms(many, "seed")
    assert terms(few) != terms(Shapes(ShapesConfig(train=20, val=11), 0))
    learned = [{"train": count} for count in (20, 40)]
    records = [
        fake_record("cam", seed, terms=terms(few), fit_options=options)
        for options in learned
        for seed in (0, 1)
    ]
    badges = {row.method: row.badges for row in rows_of([records[0], fake_record(
        "rrm", terms=terms(few), fit_options=learned[1])])}  # fmt: skip
    assert badges == {"cam": ("data train=20",), "rrm": ("data train=40",)}
    first, second = rows_of(records)
    assert {first.variant, second.variant} == {"data train=20", "data train=40"}
    assert first.seeds == second.seeds == (0, 1)


def test_keys_of_trainings_are_what_they_were() -> None:
    """Networks that were trained before terms changed are found again: keys of the version before."""
    from wsssbench.planning.plan import make_plan
    from wsssbench.planning.settings import Settings
    from wsssbench.plugins.table import Plugins

    asked = ("cam", "cam+crf", "constant", "full")
    options = {"shapes": {"preset": "tiny"}}
    cells = make_plan(
        Settings(asked, ("shapes",), stages=("seg",), dataset_options=options, device="cpu"), Plugins()
    )
    keys = {p.name: p.key[:16] for cell in cells for p in cell.trial.steps}
    assert keys == KEYS


KEYS = {
    "cam": "8eeae5cf1fcb2f2a",
    "crf": "2de9710501f97001",
    "constant": "0900a116b063521a",
    "full": "1b480cb9d0cdd305",
}


# ----------------------------------------------------------------------------------------- what else enters


def test_what_a_custom_stage_judges_is_a_term() -> None:
    data = Shapes(ShapesConfig(train=4, val=4), 0)
    stages = [custom_stage("mine", {"base": base}) for base in ("seed", "pseudo")]
    seed, pseudo = (terms_of(data, stage, "fixed", None) for stage in stages)
    assert (seed.judged, pseudo.judged) == ("maps", "pseudo")
    rows = rows_of([fake_record(name, terms=own) for name, own in (("a", seed), ("b", pseudo))])
    assert [row.rank for row in rows] == [1, 1]  # each in a table of its own
    assert len({row.terms_hash for row in rows}) == 2


def test_each_policy_has_a_version_and_rows_of_another_one_are_apart() -> None:
    data = Shapes(ShapesConfig(train=20, val=4), 0)
    versions = {p: terms(data, "seed", p).threshold_rule for p in ("fixed", "held-out", "oracle")}
    assert versions == {"fixed": "1", "held-out": "2", "oracle": "1"}
