"""How large images of files are: measured once, a term of the row, said by it, and assumed in old rows."""

from __future__ import annotations

import dataclasses
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pil

from wsssbench.errors import BadData
from wsssbench.identity import content_key
from wsssbench.ops.mean_field import mean_field
from wsssbench.planning.plan import learned_content, make_plan
from wsssbench.planning.settings import Settings
from wsssbench.planning.stages import STAGE_CRF, STAGES, sigma_scale
from wsssbench.planning.terms import terms_of
from wsssbench.plugins.table import Plugins
from wsssbench.records.finding import find_records
from wsssbench.records.store import StoredRecord, read_record
from wsssbench.reporting.conditions import unlike_words
from wsssbench.reporting.gate import gate, write_baseline
from wsssbench.reporting.rows import rows_of
from wsssbench.reporting.table_parts import definition
from wsssbench.reporting.tables import render
from wsssbench.verifying.verify import verify_record
from wsssbench_datasets import file_facts
from wsssbench_datasets.coco14.dataset import Coco14, Coco14Config
from wsssbench_datasets.folder.dataset import Folder, FolderConfig
from wsssbench_datasets.voc12.dataset import Voc12, Voc12Config

HERE = Path(__file__).resolve().parent
FAKE = runpy.run_path(str(HERE / "fake_records.py"))
fake_record, fake_terms = FAKE["fake_record"], FAKE["fake_terms"]
_LOADER = Plugins()
_LOADER.add_file(HERE / "fake_run.py")
fake: Any = sys.modules[_LOADER.load("steps", "first").__module__]
FILES = {"split_fingerprint": "ab" * 32}
JUDGED = ("2007_000033", "2007_000042")  # of the tree's val; the first is 28 pixels wide, the second 30


def voc(tree: Any, **options: Any) -> Voc12:
    return Voc12(Voc12Config(root=str(tree.root), **options))


def redraw(path: Path, width: int, height: int = 20) -> None:
    Pil.new("RGB", (width, height), (9, 9, 9)).save(path)


def sized(tree: Any, px: int) -> Voc12:
    """The tree with judged images that are `px` high and less wide."""
    for id in JUDGED:
        redraw(tree.image(id), 20, px)
    return voc(tree)


# --------------------------------------------------------------------------------------------- measuring


def test_the_size_is_the_median_long_side_of_the_judged_images(voc_tree: Any) -> None:
    assert (voc(voc_tree).card.image_px, voc(voc_tree).card.image_px_from) == (29, "measured")
    voc_tree.list_file("val").write_text("\n".join((*JUDGED, "2008_000002")) + "\n")  # 24 wide
    voc_tree.list_file("train_aug").unlink()
    assert voc(voc_tree).card.image_px == 28
    redraw(voc_tree.image(JUDGED[0]), 10, 77)  # upright
    assert voc(voc_tree).card.image_px == 30
    redraw(voc_tree.image("2007_000032"), 900)  # of train
    assert voc(voc_tree).card.image_px == 30


def test_images_that_cannot_be_read_are_left_out_and_without_any_the_reason_is_said(voc_tree: Any) -> None:
    voc_tree.image(JUDGED[0]).write_bytes(b"no picture")
    assert voc(voc_tree).card.image_px == 30
    voc_tree.image(JUDGED[0]).unlink()
    assert voc(voc_tree).card.image_px == 30
    voc_tree.image(JUDGED[1]).unlink()
    with pytest.raises(
        BadData, match=r"none of the images of val can be read.* this image is missing"
    ) as said:
        voc(voc_tree)
    assert said.value.where == str(voc_tree.image(JUDGED[0]))
    assert said.value.hint


def test_a_tree_without_the_judged_list_is_measured_on_another_one(voc_tree: Any) -> None:
    voc_tree.list_file("val").unlink()
    assert voc(voc_tree).card.image_px == 21  # of train: 20 and 22


def test_headers_are_read_once_until_a_file_changes(voc_tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    true_size = file_facts.picture_size
    monkeypatch.setattr(file_facts, "picture_size", lambda path: (read.append(path.stem), true_size(path))[1])
    assert voc(voc_tree).card.image_px == 29
    assert sorted(read) == sorted(JUDGED)
    read.clear()
    assert voc(voc_tree).card.image_px == 29
    assert read == []
    redraw(voc_tree.image(JUDGED[1]), 128)
    os.utime(voc_tree.image(JUDGED[1]), ns=(0, 10**18))
    assert voc(voc_tree).card.image_px == 78
    assert read == [JUDGED[1]]
    assert [path.name for path in voc_tree.root.rglob(f"{file_facts.SIZES}*")] == []  # nothing in the tree


def test_what_could_not_be_read_is_looked_at_again(voc_tree: Any) -> None:
    path = voc_tree.image(JUDGED[0])
    content, state = path.read_bytes(), path.stat()
    path.write_bytes(b"x" * len(content))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert voc(voc_tree).card.image_px == 30
    path.write_bytes(content)  # as a disk that has come back: size and time are the same
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert voc(voc_tree).card.image_px == 29


def test_a_damaged_store_of_sizes_costs_only_time(voc_tree: Any) -> None:
    store = file_facts.cache_file(file_facts.SIZES)
    assert voc(voc_tree).card.image_px == 29
    for damaged in ("{", store.read_text().replace('"28"', '"a"').replace('"30"', '"1.5"')):
        store.write_text(damaged)
        assert voc(voc_tree).card.image_px == 29


def test_a_choice_of_classes_keeps_the_size_of_the_whole(voc_tree: Any) -> None:
    chosen = voc(voc_tree, classes=("aeroplane",))
    assert chosen.ids("val") == JUDGED[:1]
    assert chosen.card.image_px == 29


def test_coco_is_measured_too(coco_tree: Any) -> None:
    data = Coco14(Coco14Config(root=str(coco_tree.root)))
    sides = [max(data.image(id).shape[:2]) for id in data.ids("val")]
    assert (data.card.image_px, data.card.image_px_from) == (round(np.median(sides)), "measured")
    for id in data.ids("val"):
        redraw(data.image_path(id), 64)
    assert Coco14(Coco14Config(root=str(coco_tree.root))).card.image_px == 64


@pytest.mark.parametrize(("line", "expected"), [("", (40, "measured")), ("image_px = 90\n", (90, "stated"))])
def test_a_described_folder_is_measured_where_it_states_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, expected: tuple[int, str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, width in (("t1", 60), ("v1", 40)):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        redraw(tmp_path / "images" / f"{name}.png", width)
        Pil.new("L", (width, 20), 1).save(tmp_path / "masks" / f"{name}.png")
        (tmp_path / ("train.txt" if name == "t1" else "val.txt")).write_text(name)
    (tmp_path / "dataset.toml").write_text(
        f'name = "pets"\nclasses = ["cat"]\ntags = "masks"\nimage_suffix = ".png"\n{line}'
        '[splits]\ntrain = "train.txt"\nval = "val.txt"\n'
    )
    data = Folder(FolderConfig(root=str(tmp_path)))
    assert (data.card.image_px, data.card.image_px_from) == expected
    assert terms_of(data, STAGES["seg"], "fixed", None).image_px == expected[0]


# --------------------------------------------------------------------------------- terms, keys and widths


def test_another_size_than_voc_is_a_term_and_makes_another_training(voc_tree: Any) -> None:
    small, usual = sized(voc_tree, 375), sized(voc_tree, 500)
    assert sigma_scale(small.card) == 0.75
    assert sigma_scale(usual.card) == 1.0
    mine, theirs = (terms_of(data, STAGES["seg"], "fixed", None) for data in (small, usual))
    assert (mine.image_px, theirs.image_px) == (375, 0)
    assert learned_content(small) == {**learned_content(usual), "image_px": 375}
    assert terms_of(small, STAGES["seg+crf"], "fixed", None).crf["xy_scale"] == 0.75  # type: ignore[index]
    assert terms_of(small, STAGES["seg"], "fixed", None, earlier=True).image_px == 0
    usual.card = dataclasses.replace(usual.card, image_px_from="")  # its card when 500 was a constant
    before = terms_of(usual, STAGES["seg"], "fixed", None)
    assert content_key(before) == content_key(theirs) != content_key(mine)
    assert set(learned_content(usual)) == {"dataset", "version", "options", "split", "fingerprint"}


def test_rows_on_generated_data_keep_their_keys() -> None:
    """Keys of the version before sizes were measured."""
    options = {"shapes": {"preset": "tiny"}}
    stages = ("seed", "seg", "seg+crf")
    asked = Settings(("cam",), ("shapes",), stages=stages, dataset_options=options, device="cpu")
    assert {cell.stage.name: cell.key[:16] for cell in make_plan(asked, Plugins())} == KEYS


KEYS = {"seed": "552bf7a5d7864c62", "seg": "d39a50635b7536c8", "seg+crf": "b37f8553aa18b577"}


@pytest.mark.parametrize("backend", ["exact", "lattice"])
@pytest.mark.parametrize("px", [1, 16])
def test_filters_take_the_widths_of_tiny_images(backend: Any, px: int) -> None:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 12, 16, 3), generator=draws, dtype=torch.uint8)
    energies = torch.rand((2, 3, 12, 16), generator=draws)
    found = mean_field(energies, images, STAGE_CRF, backend=backend, scale=px / 500)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.sum(1), torch.ones(2, 12, 16))


# ------------------------------------------------------------------------------------------ what rows say


def said_of(card: dict[str, Any], terms: Any) -> Any:
    record = fake_record(terms=terms)
    return dataclasses.replace(record, provenance={**record.provenance, "dataset": card})


def test_a_table_says_how_large_the_images_are() -> None:
    measured = said_of({"image_px": 375, "image_px_from": "measured"}, fake_terms(**FILES, image_px=375))
    rows = rows_of([measured])
    assert "Image size: long side 375 px (median)." in definition(rows)
    assert "image size assumed" not in rows[0].badges
    assert '"image_px": 375' in render(rows, "json")
    stated = said_of({"image_px": 90, "image_px_from": "stated"}, fake_terms(**FILES, image_px=90))
    assert "long side 90 px (stated)" in definition(rows_of([stated]))
    assert "Image size" not in definition(rows_of([said_of({"image_px": 96}, fake_terms())]))


def test_rows_of_before_are_badged() -> None:
    for card in ({"image_px": 500}, {}):
        (row,) = rows_of([said_of(card, fake_terms(**FILES))])
        assert "image size assumed" in row.badges
    (drawn,) = rows_of([said_of({"image_px": 96}, fake_terms())])
    assert "image size assumed" not in drawn.badges
    stored = find_records(HERE.parent / "reports" / "records" / "voc6.zip")
    rows = rows_of([each.record for each in stored])
    assert all("image size assumed" in row.badges for row in rows)
    assert "long side 500 px (assumed)" in definition(rows[:1])


def test_rows_of_two_sizes_are_in_two_tables_and_the_difference_is_named() -> None:
    small, usual = fake_terms(**FILES, image_px=375), fake_terms(**FILES)
    card = {"image_px": 375, "image_px_from": "measured"}
    rows = rows_of([said_of(card, small), said_of({**card, "image_px": 500}, usual)])
    assert [row.rank for row in rows] == [1, 1]
    assert len({row.terms_hash for row in rows}) == 2
    assert unlike_words(small, usual) == "long side of the images: 375 px and 500 px, or assumed"
    assert "long side of the images 375 px" in render(rows)
    result = gate([said_of(card, small)], write_baseline([said_of({**card, "image_px": 500}, usual)], 1.0))
    assert result.code == 3
    assert "other terms: long side of the images" in str(result)


@pytest.mark.parametrize("before", ["", "measured"])
def test_a_row_is_verified_with_the_size_that_it_was_judged_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """A row of before is judged again with the width that was assumed; a new one must have today's."""
    monkeypatch.chdir(tmp_path)
    fake.EVENTS.clear()
    monkeypatch.setattr(fake.Toy, "card", dataclasses.replace(fake.Toy.card, image_px_from=before))
    failed, (cell,) = fake.run(Path("runs"), "first", stages=("seg+crf",))
    assert failed == 0
    now = dataclasses.replace(fake.Toy.card, image_px=375, image_px_from="measured")
    monkeypatch.setattr(fake.Toy, "card", now)
    file = cell.folder / "record.json"
    seen = verify_record(
        StoredRecord(read_record(file), file),
        lambda record: fake.Toy(fake.ToyConfig(), 0),
        fake.FakePlugins(),
    )
    differing = {difference.what for difference in seen.differs}
    assert seen.unknown == []
    assert ("terms.crf" in differing) == bool(before)
    assert differing == set() or before
