"""More images need no more memory, shards give the number of one pass, thousands of cells take seconds.

The large sizes are slow tests; `scale_scoring.py` and `scale_cells.py` beside this file print the growth.
"""

from __future__ import annotations

import dataclasses
import runpy
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsssbench.errors import BadData
from wsssbench.judging.judge import counted_scores
from wsssbench.metrics import Iou
from wsssbench.scores.boundary import BoundaryIou
from wsssbench.scores.compatible import Compatible
from wsssbench.scores.counts_table import CountsTable
from wsssbench.scores.images import PerImage
from wsssbench.types import Metric

SCORING = runpy.run_path(str(Path(__file__).with_name("scale_scoring.py")))
CELLS = runpy.run_path(str(Path(__file__).with_name("scale_cells.py")))
CLASSES, COCO_VAL = SCORING["CLASSES"], SCORING["COCO_VAL"]
KEPT_BYTES = 2000  # of one image: its id and about 24 triples; the image and its mask have 1.2 million
SECONDS, SECONDS_MORE = 20, 60  # of CPU, on a machine that does other things too


def equal(one: CountsTable, two: CountsTable) -> None:
    """Array by array, the other metrics' counts with them."""
    assert one.ids == two.ids
    for name in ("image", "gold", "predicted", "pixels"):
        a, b = getattr(one, name), getattr(two, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    assert one.more.keys() == two.more.keys()
    for metric, parts in one.more.items():
        assert parts.keys() == two.more[metric].keys()
        for name, arrays in parts.items():
            for mine, other in zip(
                dataclasses.astuple(arrays), dataclasses.astuple(two.more[metric][name]), strict=True
            ):
                assert np.array_equal(mine, other)


def most_bytes(images: int) -> int:
    """Most memory of numpy and Python at once, beyond that at the start, of scoring so many images."""
    tracemalloc.start()
    try:
        SCORING["scored"](images)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_more_images_take_no_more_memory_than_their_counts() -> None:
    most_bytes(5)
    few, many = most_bytes(20), most_bytes(120)
    assert (many - few) / 100 < KEPT_BYTES
    assert few > 480 * 640  # the measure sees a mask


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_shards_give_the_counts_and_every_score_of_one_pass(shards: int) -> None:
    metrics: tuple[Metric, ...] = (Iou(), PerImage(), Compatible(), BoundaryIou())
    scores, whole = SCORING["scored"](11, metrics=metrics)
    table = SCORING["merged"](11, shards, metrics)
    equal(table, whole)
    assert counted_scores(table, metrics, CLASSES) == scores
    assert set(scores) == {metric.name for metric in metrics}


def test_shards_survive_the_disk(tmp_path: Path) -> None:
    shards = [SCORING["scored"](7, slice(n, None, 2))[1] for n in range(2)]
    for n, shard in enumerate(shards):
        shard.save(tmp_path / f"{n}.npz")
    read = [CountsTable.load(tmp_path / f"{n}.npz") for n in range(2)]
    equal(CountsTable.concatenate(read), CountsTable.concatenate(shards))


def test_a_shard_that_is_missing_comes_twice_or_is_strange_is_refused() -> None:
    one, two = (SCORING["scored"](6, slice(n, None, 2))[1] for n in range(2))
    ids = SCORING["Generated"](6).ids("val")
    equal(CountsTable.concatenate([two, one], ids), CountsTable.concatenate([one, two], ids))
    with pytest.raises(BadData, match=f"3 images are in no shard, the first is {ids[1]}"):
        CountsTable.concatenate([one], ids)
    with pytest.raises(BadData, match=f"3 images are in two shards, the first is {ids[0]}"):
        CountsTable.concatenate([one, two, one], ids)
    with pytest.raises(BadData, match=f"1 images are of another split, the first is {ids[5]}"):
        CountsTable.concatenate([one, two], ids[:5])
    with pytest.raises(BadData, match="no counts"):
        CountsTable.concatenate([])


def test_counts_that_one_shard_lacks_are_left_out_of_the_whole() -> None:
    one = SCORING["scored"](4, slice(0, 2), (Iou(), BoundaryIou()))[1]
    two = SCORING["scored"](4, slice(2, 4))[1]
    assert set(one.more) == {"boundary_iou"}
    assert not CountsTable.concatenate([one, two]).more
    assert not CountsTable.concatenate([two, one]).more


def test_generated_records_are_planned_and_reported(tmp_path: Path) -> None:
    CELLS["write_records"](60, tmp_path / "runs")
    _, text = CELLS["cpu_seconds"](["report", "runs"], tmp_path)
    assert "cam" in text
    assert len(list((tmp_path / "runs").rglob("record.json"))) == 60


# -------------------------------------------------------------------------------------------- large sizes


@pytest.mark.slow
def test_the_whole_of_coco_streams_in_the_memory_of_a_thousand_images() -> None:
    few: dict[str, Any] = SCORING["measure_apart"](1000)
    many: dict[str, Any] = SCORING["measure_apart"](COCO_VAL)
    assert (many["peak"] - few["peak"]) / (COCO_VAL - 1000) < KEPT_BYTES


@pytest.mark.slow
def test_eight_shards_of_the_whole_of_coco_give_the_number_of_one_pass() -> None:
    scores, whole = SCORING["scored"](COCO_VAL)
    table = SCORING["merged"](COCO_VAL, 8)
    equal(table, whole)
    assert counted_scores(table, (Iou(),), CLASSES) == scores


@pytest.mark.slow
def test_two_thousand_cells_are_planned_and_reported_in_seconds(tmp_path: Path) -> None:
    seconds, planned = CELLS["plan"](2000, tmp_path)
    assert planned >= 2000
    assert seconds < SECONDS
    CELLS["write_records"](2000, tmp_path / "runs")
    assert CELLS["cpu_seconds"](["report", "runs"], tmp_path)[0] < SECONDS
    page = CELLS["cpu_seconds"](["report", "runs", "--html", "page.html"], tmp_path)[0]
    assert page < SECONDS_MORE
