"""The judge on a small data set: streaming equals counting at once, and bad files are named."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest

from wsssbench.errors import BadData, WsssError
from wsssbench.judging import in_order
from wsssbench.judging.judge import score_folder, score_split
from wsssbench.masks import write_labels
from wsssbench.metrics import Iou, add_counts, confusion_counts
from wsssbench.scores.counts_table import CountsTable
from wsssbench.types import DatasetCard, Metric

K = 3
CARD = DatasetCard(
    "tiny", "1", ("a", "b", "c"), ("val",), "val", "val", "val", "generated", "none", "this test", 8
)


@dataclass
class Tiny:
    """Random masks of random sizes; counts how often a mask is read."""

    seed: int = 0
    card: DatasetCard = CARD
    reads: list[str] = field(default_factory=list)

    def ids(self, split: str) -> tuple[str, ...]:
        return tuple(f"img{i}" for i in range(9))

    def mask(self, id: str) -> np.ndarray:
        self.reads.append(id)
        rng = np.random.default_rng([self.seed, *id.encode()])
        return rng.choice(np.array([0, 1, 3, 255], np.uint8), tuple(rng.integers(3, 9, 2)))

    def labels(self, id: str) -> np.ndarray:
        gold = self.mask(id)
        rng = np.random.default_rng([self.seed + 1, *id.encode()])
        return rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), gold.shape)


@pytest.fixture
def eager(monkeypatch):
    """Threads begin after the first image, however little it takes."""
    monkeypatch.setattr(in_order, "WORTH_SECONDS", -1)
    monkeypatch.setattr(in_order, "SLOW_IN_A_ROW", 1)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("threads", [1, 3])
def test_scores_are_those_of_all_images_counted_at_once(threads):
    data = Tiny()
    ids = data.ids("val")
    scores, table = score_split(data, ids, data.labels, threads=threads)
    counts = [confusion_counts(data.mask(id), data.labels(id), K) for id in ids]
    assert scores["iou"] == {**Iou().score(add_counts(counts), K), "n_images": 9}
    assert scores["iou"]["left_out"] == [2]
    for i, one in enumerate(counts):  # the table keeps each image apart, in order
        assert table.ids[i] == ids[i]
        assert np.array_equal(table.pixels[table.image == i], one["pixels"])
        assert np.array_equal(table.gold[table.image == i], one["gold"])


def test_counts_survive_the_disk_and_need_no_pickle(tmp_path):
    data = Tiny()
    _, table = score_split(data, data.ids("val"), data.labels)
    table.save(tmp_path / "counts.npz")
    again = CountsTable.load(tmp_path / "counts.npz")
    assert again.ids == table.ids
    assert again.image.dtype == np.int32
    for name in ("image", "gold", "predicted", "pixels"):
        assert np.array_equal(getattr(again, name), getattr(table, name))
    assert Iou().score(again.total(), K) == Iou().score(table.total(), K)


def test_damaged_counts_are_refused_by_name(tmp_path):
    data = Tiny()
    score_split(data, data.ids("val"), data.labels)[1].save(tmp_path / "counts.npz")
    whole = (tmp_path / "counts.npz").read_bytes()
    np.savez(tmp_path / "foreign.npz", ids=np.array([{}], dtype=object))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name, content in (("cut.npz", whole[: len(whole) // 2]), ("empty.npz", b""), ("text.npz", b"hello")):
        (tmp_path / name).write_bytes(content)
    for name in ("cut.npz", "empty.npz", "text.npz", "foreign.npz", "other.npz", "none.npz"):
        with pytest.raises(BadData, match=name):
            CountsTable.load(tmp_path / name)


def test_images_are_read_one_after_the_other_and_only_once():
    data = Tiny()
    score_split(data, data.ids("val"), lambda id: np.zeros_like(Tiny().mask(id)))
    assert data.reads == list(data.ids("val"))


def fill(folder, data) -> None:
    for id in data.ids("val"):
        write_labels(folder / f"{id}.png", data.labels(id))


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_folder_scores_like_the_labels_in_it(tmp_path, threads):
    data = Tiny()
    fill(tmp_path, data)
    scores, table = score_folder(data, "val", tmp_path, threads=threads)
    assert scores == score_split(data, data.ids("val"), data.labels)[0]
    assert score_folder(data, "val", tmp_path, limit=2)[1].ids == table.ids[:2]


def test_missing_files_are_counted_and_the_first_are_named(tmp_path):
    data = Tiny()
    fill(tmp_path, data)
    for i in range(2, 9):
        (tmp_path / f"img{i}.png").unlink()
    with pytest.raises(BadData, match=r"7 of 9 .*img2\.png.*img6\.png \.\.\."):
        score_folder(data, "val", tmp_path)
    with pytest.raises(BadData, match="the folder of labels does not exist"):
        score_folder(data, "val", tmp_path / "nowhere")


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "bad", [np.full((2, 2), 1, np.uint8), None, np.full((99, 1), 4, np.uint8)], ids=["size", "cut", "range"]
)
def test_a_bad_file_is_named(tmp_path, bad, threads):
    data = Tiny()
    fill(tmp_path, data)
    file = tmp_path / "img4.png"
    if bad is None:
        file.write_bytes(file.read_bytes()[:50])
    else:
        write_labels(file, bad if len(bad) < 99 else np.full_like(data.mask("img4"), 4))
    with pytest.raises(BadData, match=r"img4\.png"):
        score_folder(data, "val", tmp_path, threads=threads)


def test_a_bad_truth_is_blamed_on_the_data_set():
    data = Tiny()
    data.card = DatasetCard("tiny", "1", ("a",), ("val",), "val", "val", "val", "generated", "", "", 8)
    with pytest.raises(BadData, match=r"truth has label 3.*tiny mask img"):
        score_split(data, data.ids("val"), lambda id: np.zeros_like(data.mask(id)))


class Hits(Metric):
    """A stranger's metric: dense counts of right pixels."""

    name, needs, better, unit = "hits", "labels", "higher", "px"

    def count(self, output, gold, classes):
        return {"hits": np.array([(output == gold).sum()])}

    def score(self, counts, classes):
        return {"hits": int(counts["hits"][0])}


def test_a_strangers_metric_is_counted_beside_iou():
    data = Tiny()
    scores, _ = score_split(data, data.ids("val"), data.labels, [Iou(), Hits()])
    right = sum(int((data.labels(id) == data.mask(id)).sum()) for id in data.ids("val"))
    assert scores["hits"] == {"hits": right, "n_images": 9}


def test_a_metric_of_maps_and_an_empty_split_are_refused():
    data = Tiny()
    metric = Hits()
    metric.needs = "maps"
    with pytest.raises(WsssError, match="needs maps"):
        score_split(data, data.ids("val"), data.labels, [metric])
    with pytest.raises(BadData, match="no images"):
        score_split(data, (), data.labels)


def test_the_judges_path_imports_neither_torch_nor_pandas_nor_scipy():
    modules = "masks, metrics, judging.judge, records.store, reporting.gate, reporting.rows, reporting.tables"
    lines = [f"import wsssbench.{name.strip()}" for name in modules.split(",")]
    heavy = "[m for m in ('torch', 'pandas', 'scipy', 'matplotlib') if m in sys.modules]"
    code = "\n".join(["import sys", *lines, f"sys.exit(str({heavy}) if {heavy} else 0)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_metric_of_single_images_is_scored_from_all_of_them(threads):
    from wsssbench.scores.images import PerImage, score_images

    data = Tiny()
    scores, table = score_split(data, data.ids("val"), data.mask, [Iou(), PerImage()], threads=threads)
    expected = score_images(table, len(data.card.class_names))
    assert scores["per_image"] == {**expected, "n_images": len(data.ids("val"))}
    assert scores["per_image"]["image_miou"] == 100


class Size(Metric):
    """Counts pixels of each truth."""

    name, needs, better, unit = "size", "labels", "higher", "px"

    def count(self, output, gold, classes):
        pixels = np.bincount(gold[gold <= classes], minlength=classes + 1)
        return {"by/label": np.array([[7]]), "gold": pixels}

    def score(self, counts, classes):
        return {"size": int(counts["gold"].sum())}


@pytest.mark.usefixtures("eager")
def test_what_a_metric_counts_in_each_image_is_kept_and_survives_the_disk(tmp_path):
    data = Tiny()
    scores, table = score_split(data, data.ids("val"), data.labels, (Iou(), Size()), threads=2)
    each = np.stack([Size().count(None, data.mask(id), K)["gold"] for id in data.ids("val")])
    table.save(tmp_path / "counts.npz")
    again = CountsTable.load(tmp_path / "counts.npz")
    assert set(table.more["size"]) == {"gold", "by/label"}
    assert set(again.more["size"]) == {"gold"}  # a name with a slash has no place in the file
    for kept in (table, again):
        assert np.array_equal(kept.more["size"]["gold"].dense(9), each)
        assert kept.more["size"]["gold"].total().sum() == scores["size"]["size"]


def test_counts_that_lie_about_their_images_are_refused(tmp_path):
    data = Tiny()
    score_split(data, data.ids("val"), data.labels, (Iou(), Size()))[1].save(tmp_path / "counts.npz")
    members = dict(np.load(tmp_path / "counts.npz"))
    members["of/size/gold/image"] = members["of/size/gold/image"] + 9
    np.savez(tmp_path / "lying.npz", **members)
    with pytest.raises(BadData, match=r"lying\.npz"):
        CountsTable.load(tmp_path / "lying.npz")
