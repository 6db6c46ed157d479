"""How thresholds are chosen: what each policy may see, whom a row is compared with, what stays unjudged."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsssbench.errors import BadData
from wsssbench.masks import read_labels, threshold_labels
from wsssbench.metrics import Iou, add_counts
from wsssbench.planning.cells import Cell
from wsssbench.planning.thresholds import HELD_OUT, held_out_ids, judged_ids
from wsssbench.plugins.table import Plugins
from wsssbench.records.store import read_record
from wsssbench.reporting.rows import rows_of
from wsssbench.reporting.tables import render
from wsssbench.scores.counts_table import COUNTS, CountsTable
from wsssbench.types import Maps

_LOADER = Plugins()
_LOADER.add_file(Path(__file__).with_name("fake_run.py"))
fake: Any = sys.modules[_LOADER.load("steps", "first").__module__]


class Many:
    """A data set of 1,000 images that are never read."""

    card = fake.Toy.card

    def ids(self, split: str) -> tuple[str, ...]:
        return tuple(f"{split}{n}" for n in range(1000))


MANY: Any = Many()


@pytest.fixture(autouse=True)
def _no_events() -> None:
    fake.EVENTS.clear()


def run(folder: Path, policy: str, *methods: str, **changes: Any) -> list[Cell]:
    failed, cells = fake.run(folder, *methods, threshold_policy=policy, **changes)
    assert failed == 0
    return cells


def test_held_out_images_are_few_fixed_and_never_judged() -> None:
    chosen = held_out_ids(MANY, None)
    assert len(chosen) == HELD_OUT
    assert chosen == held_out_ids(MANY, None)
    assert list(chosen) == [id for id in MANY.ids("train") if id in chosen]  # in the split's order
    assert chosen != MANY.ids("train")[:HELD_OUT]
    assert len(held_out_ids(MANY, 50)) == 10
    judged = judged_ids(MANY, "train", None, chosen)
    assert sorted([*judged, *chosen]) == sorted(MANY.ids("train"))
    with pytest.raises(BadData, match="too few"):
        held_out_ids(MANY, 4)


def test_held_out_images_are_those_whose_ids_have_the_lowest_sha256() -> None:
    numbers = [0, 5, 22, 26, 27, 30, 34, 38, 42, 48]  # of 50, sorted by sha256sum of "train0" and so on
    assert held_out_ids(MANY, 50) == tuple(f"train{n}" for n in numbers)
    digests = {id: hashlib.sha256(id.encode()).hexdigest() for id in MANY.ids("train")}
    assert set(held_out_ids(MANY, None)) == set(sorted(digests, key=digests.__getitem__)[:HELD_OUT])
    with_numpy = held_out_ids(MANY, None, "")  # of rows of before
    assert list(with_numpy) == sorted(with_numpy, key=MANY.ids("train").index)
    assert len(set(with_numpy) & set(held_out_ids(MANY, None))) < HELD_OUT / 2


@pytest.mark.parametrize("stage", ["pseudo", "seg"])
def test_a_held_out_threshold_is_the_best_on_images_that_are_not_judged(stage: str, tmp_path: Path) -> None:
    (cell,) = run(tmp_path, "held-out", stages=(stage,))
    data = cell.trial.dataset
    assert cell.tuned_on == held_out_ids(data, None)
    assert not set(cell.ids) & set(cell.tuned_on)
    record = read_record(cell.folder)
    table = CountsTable.load(cell.folder / COUNTS)
    assert table.ids == cell.ids
    assert record.identity.threshold is not None
    assert "value" not in record.identity.threshold
    assert record.identity.threshold["images"] == len(cell.tuned_on) == 1
    chosen = record.scores["threshold"]["value"]
    best = max(miou(data, cell.tuned_on, value / 100, tagged=stage == "pseudo") for value in range(100))
    assert miou(data, cell.tuned_on, chosen, tagged=stage == "pseudo") == best


def test_an_oracle_threshold_is_the_best_on_the_judged_images_and_flagged(tmp_path: Path) -> None:
    (cell,) = run(tmp_path, "oracle")
    record = read_record(cell.folder)
    scores = [miou(cell.trial.dataset, cell.ids, value / 100, tagged=False) for value in range(100)]
    assert record.scores["iou"]["miou"] == pytest.approx(max(scores))
    assert "oracle threshold" in render(rows_of([record]))


def test_a_fixed_threshold_says_what_it_was_tuned_on(tmp_path: Path) -> None:
    from wsssbench.planning.thresholds import planned_threshold
    from wsssbench_methods.localizer import Cam, CamConfig

    cam = planned_threshold(Cam(CamConfig()), "cam", "fixed", ())
    assert cam == {"value": 0.3, "tuned_on": "shapes, generator seed 1000"}
    own = planned_threshold(Cam(CamConfig(threshold=0.4)), "cam", "fixed", ())
    assert own == {"value": 0.4, "tuned_on": "not known: an option"}


def test_a_label_free_threshold_reads_no_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wsssbench.judging import cell_judging

    def blind(policy: str, dataset: Any, ids: Any, maps_of: Any) -> Any:
        with monkeypatch.context() as patch:
            image = {id: dataset.image(id) for id in ids}
            patch.setattr(fake.Toy, "image", lambda self, id: image[id])
            patch.setattr(fake.Toy, "mask", lambda self, id: pytest.fail("a mask was read"))
            return chosen(policy, dataset, ids, maps_of)

    chosen = cell_judging.chosen_threshold
    monkeypatch.setattr(cell_judging, "chosen_threshold", blind)
    (cell,) = run(tmp_path, "label-free")
    value = read_record(cell.folder).scores["threshold"]["value"]
    assert 40 / 255 < value < 200 / 255  # between the two brightnesses of the pictures
    labels = [read_labels(cell.folder / "masks" / f"{id}.png") for id in cell.ids]
    assert all((found > 0).any() for found in labels)


def test_rows_of_different_policies_are_never_in_one_table(tmp_path: Path) -> None:
    records = [
        read_record(cell.folder)
        for policy in ("fixed", "held-out", "oracle")
        for cell in run(tmp_path, policy, "first", "other")
    ]
    assert len({record.key for record in records}) == 6
    text = render(rows_of(records))
    assert text.count("## toy: seg") == 3
    assert "threshold_policy held-out" in text
    assert text.count("[oracle threshold]") == 1  # the method without a threshold is not an oracle


def test_a_method_without_a_threshold_is_judged_on_the_same_images(tmp_path: Path) -> None:
    first, other = run(tmp_path, "held-out", "first", "other", stages=("pseudo",))
    assert first.ids == other.ids
    assert first.identity.terms == other.identity.terms
    assert read_record(other.folder).identity.threshold is None
    assert "threshold" not in read_record(other.folder).scores


def test_another_policy_fits_and_predicts_nothing_again(tmp_path: Path) -> None:
    run(tmp_path, "fixed")
    fake.EVENTS.clear()
    run(tmp_path, "oracle")
    run(tmp_path, "label-free")
    assert fake.EVENTS == []


def miou(data: Any, ids: Any, threshold: float, *, tagged: bool) -> float:
    """Of the maps of the step `first`, made here once more."""
    metric, counts = Iou(), []
    for id in ids:
        planes = (data.image(id).transpose(2, 0, 1)[:2, ::2, ::2] / 255).astype(np.float16).astype(np.float32)
        chosen = np.flatnonzero(data.tags(id)) if tagged else np.arange(2)
        labels = threshold_labels(Maps(chosen, planes[chosen]), threshold, data.mask(id).shape)
        counts.append(metric.count(labels, data.mask(id), 2))
    return float(metric.score(add_counts(counts), 2)["miou"])
