"""Dumps as other repositories leave them, scored and imported: logits at a stride, maps of more classes than
the tags, classes that are counted otherwise, planes of another shape, files under other names or forms."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image as Pil

import wsssbench
from wsssbench.cli.main import main
from wsssbench.dumps import read_dump
from wsssbench.errors import BadData, UnknownName
from wsssbench.masks import threshold_labels, write_labels
from wsssbench.planning.plan import open_dataset
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins
from wsssbench.records.finding import find_records
from wsssbench.types import Maps

TINY = ("--dataset", "shapes", "-o", "shapes.preset=tiny", "--limit", 8)
SHAPES: Any = open_dataset("shapes", Plugins(), Settings(dataset_options={"shapes": {"preset": "tiny"}}), 0)
K = len(SHAPES.card.class_names)
SEED = ("--stage", "seed", "--threshold", "0.3")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def score(folder: str, *arguments: object, data: tuple[object, ...] = TINY) -> Result:
    return call("score", folder, *data, "--as", "theirs", "--json", *arguments)


def scores(folder: str, *arguments: object, data: tuple[object, ...] = TINY) -> Any:
    result = score(folder, *arguments, data=data)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["scores"]


def refused(folder: str, *arguments: object, data: tuple[object, ...] = TINY) -> str:
    result = score(folder, *arguments, data=data)
    assert result.exit_code == 2, result.output
    assert not Path("runs").exists()
    return result.output


def imported(
    folder: str,
    stage: str,
    *arguments: object,
    rest: str = "",
    runs: str = "",
    data: tuple[object, ...] = TINY,
) -> Any:
    """The scores of a run on the files, or what it says."""
    place = f"runs-{runs}"
    asked = ("--stages", stage, "--runs", place, "-q", "--device", "cpu", *arguments)
    result = call("run", "--method", f"import:{folder}{rest}", *data, *asked)
    found = [seen.record for seen in find_records(place)]
    return found[0].scores if result.exit_code == 0 else result.output + "".join(r.reason for r in found)


def miou(labels: Mapping[str, np.ndarray]) -> float:
    """Of the labels of images against their masks; written apart from the product."""
    counts = np.zeros((K + 1, 256), np.int64)
    for id, found in labels.items():
        truth = SHAPES.mask(id)
        np.add.at(counts, (truth[truth != 255], found[truth != 255]), 1)
    hit = np.diagonal(counts)
    union = counts.sum(1) + counts[:, : K + 1].sum(0) - hit
    return float(100 * (hit / union)[counts.sum(1) > 0].mean())


# ---------------------------------------------------------------------------------------------------- logits


def made_logits(split: str = "val") -> dict[str, np.ndarray]:
    """Logits (K + 1, h, w) float32 at an eighth of each image, of the truth with noise: sure ones."""
    rng, found = np.random.default_rng(3), {}
    for id in SHAPES.ids(split)[:8]:
        onehot = (SHAPES.mask(id) == np.arange(K + 1)[:, None, None]).astype(np.float32)
        area = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(onehot), 7).numpy()
        found[id] = (area * 24 + rng.normal(0, 3.2, area.shape)).astype(np.float32)
    return found


def enlarged(logits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    tensor = torch.from_numpy(logits)[None]
    return torch.nn.functional.interpolate(tensor, size=shape, mode="bilinear", align_corners=False)[
        0
    ].numpy()


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "deeplab": lambda logits: logits,
    "afa": lambda logits: {"segs": logits[None], "msc_segs": logits[None]},
    "weclip": lambda logits: {"msc_seg": logits[None]},
}


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_enlarged_before_the_softmax(form: str) -> None:
    Path("logits").mkdir()
    labels, softmax_first = {}, {}
    for id, logits in made_logits().items():
        np.save(f"logits/{id}.npy", FORMS[form](logits), allow_pickle=True)
        shape = SHAPES.mask(id).shape
        labels[id] = enlarged(logits, shape).argmax(0)
        powers = np.exp(logits - logits.max(0))
        softmax_first[id] = enlarged(powers / powers.sum(0), shape).argmax(0)
    assert miou(labels) > miou(softmax_first) + 0.5
    found = scores("logits", "--metrics", "calibration")
    assert found["iou"]["miou"] == pytest.approx(miou(labels), abs=0.02)  # float32 ties
    assert imported("logits", "seg", "--metrics", "calibration")["iou"]["miou"] == pytest.approx(
        miou(labels), abs=0.1
    )  # probabilities are kept in float16


def test_without_the_size_of_the_image_the_softmax_is_that_of_the_file() -> None:
    (id, logits), *_ = made_logits().items()
    np.save("a.npy", logits)
    powers = np.exp(logits - logits.max(0))
    assert np.allclose(read_dump("a.npy", K).probs, powers / powers.sum(0), atol=1e-6)
    probs = read_dump("a.npy", K, shape=SHAPES.mask(id).shape).probs
    assert np.array_equal(probs.argmax(0), enlarged(logits, SHAPES.mask(id).shape).argmax(0))


# ------------------------------------------------------------------------------------------------------ maps


def made_maps() -> dict[str, tuple[Maps, np.ndarray]]:
    """id of train -> maps of its tags, and (K, H, W) maps of all classes, the others noise up to 0.9."""
    rng, found = np.random.default_rng(5), {}
    for id in SHAPES.ids("train")[:8]:
        mask, classes = SHAPES.mask(id), np.flatnonzero(SHAPES.tags(id))
        own = np.stack([(np.roll(mask, 3, 0) == k + 1) * 0.8 + rng.random(mask.shape) * 0.2 for k in classes])
        every = rng.random((K, *mask.shape)) * 0.9
        every[classes] = own
        found[id] = Maps(classes.astype(np.int64), own.astype(np.float32)), every.astype(np.float32)
    return found


def write(folder: str, content: Callable[[Maps, np.ndarray], Any]) -> str:
    Path(folder).mkdir()
    for id, (maps, every) in made_maps().items():
        np.save(f"{folder}/{id}.npy", content(maps, every), allow_pickle=True)
    return folder


def good(maps: Maps, every: np.ndarray) -> Any:
    return {"keys": maps.classes, "high_res": maps.values}


def all_classes(maps: Maps, every: np.ndarray) -> Any:
    return {"keys": np.arange(K), "high_res": every}


def padded_keys(maps: Maps, every: np.ndarray) -> Any:
    ground = np.full((1, *maps.values.shape[1:]), 0.3, np.float32)
    return {"keys": np.pad(maps.classes + 1, (1, 0)), "high_res": np.concatenate([ground, maps.values])}


def plus_one(maps: Maps, every: np.ndarray) -> Any:
    return {int(k) + 1: plane for k, plane in zip(maps.classes, maps.values, strict=True)}


def test_given_tags_leave_other_maps_out_of_labels_thresholds_and_metrics() -> None:
    right = miou({id: threshold_labels(m, 0.3, SHAPES.mask(id).shape) for id, (m, _) in made_maps().items()})
    metrics = ("--metrics", "pxap,threshold_curve")
    own, every = (scores(write(f.__name__, f), *SEED, *metrics) for f in (good, all_classes))
    assert own["iou"]["miou"] == pytest.approx(right)
    assert every == own
    asked = ("-o", "import.threshold=0.3", *metrics)
    own, every = (imported(folder, "seed", *asked, runs=folder) for folder in ("good", "all_classes"))
    assert own["iou"]["miou"] == pytest.approx(right, abs=0.1)  # maps are kept in float16
    assert every == own


@pytest.mark.parametrize("policy", ["oracle", "label-free"])
def test_thresholds_are_chosen_on_the_maps_of_tagged_classes_alone(policy: str) -> None:
    asked = ("--threshold-policy", policy, "--metrics", "threshold_curve")
    own, every = (
        imported(write(f.__name__, f), "seed", *asked, runs=f.__name__) for f in (good, all_classes)
    )
    assert "threshold" in own
    assert every == own


def test_the_crf_sees_the_maps_of_tagged_classes_alone() -> None:
    own, every = (
        imported(write(form.__name__, form), "pseudo", rest=" > crf", runs=form.__name__)
        for form in (good, all_classes)
    )
    assert own["iou"]["miou"] > 20
    assert every == own


def test_without_given_tags_all_maps_are_judged() -> None:
    Path("val").mkdir()
    for id in SHAPES.ids("val")[:8]:
        every = np.full((K, *SHAPES.mask(id).shape), 0.1, np.float32)
        every[0] = 0.9
        np.save(f"val/{id}.npy", {"keys": np.arange(K), "high_res": every}, allow_pickle=True)
    wrong = {id: np.ones(SHAPES.mask(id).shape, np.uint8) for id in SHAPES.ids("val")[:8]}
    assert scores("val", "--threshold", "0.3")["iou"]["miou"] == pytest.approx(miou(wrong))


def test_classes_beyond_the_last_are_refused_by_file() -> None:
    for form in (padded_keys, plus_one):
        write(form.__name__, form)
        assert f"class {K} is outside 0..{K - 1}" in refused(form.__name__, *SEED)


@pytest.mark.parametrize("form", [padded_keys, plus_one])
def test_classes_that_are_counted_from_one_are_refused(form: Callable[[Maps, np.ndarray], Any]) -> None:
    options = {"preset": "tiny", "classes": 8}
    for seed in range(40):  # a draw whose first images do not show the last class: all keys exist
        drawn: Any = open_dataset("shapes", Plugins(), Settings(dataset_options={"shapes": options}), seed)
        ids = drawn.ids("train")[:4]
        if not any(drawn.tags(id)[-1] for id in ids):
            break
    Path("maps").mkdir()
    for id in ids:
        planes = np.stack([drawn.mask(id) == k + 1 for k in np.flatnonzero(drawn.tags(id))])
        maps = Maps(np.flatnonzero(drawn.tags(id)), planes.astype(np.float32))
        np.save(f"maps/{id}.npy", form(maps, planes), allow_pickle=True)
    data = (*TINY[:-1], 4, "-o", "shapes.classes=8")
    words = "in 4 of 4 files the classes of the maps, less one, are exactly the tags: they count from 1"
    assert words in refused("maps", *SEED, "--seed", seed, data=data)
    for stage, rest in (("seed", ""), ("pseudo", " > crf")):
        assert words in imported("maps", stage, "--seeds", seed, rest=rest, runs=stage, data=data)


def tag_check(own: list[set[int]], given: list[set[int]], classes: int = 6) -> None:
    from wsssbench.judging.tag_agreement import check_classes

    ids = [str(n) for n in range(len(own))]
    maps = {
        i: Maps(np.array(sorted(k), np.int64), np.ones((len(k), 2, 2), np.float32))
        for i, k in zip(ids, own, strict=True)
    }
    tags = {i: np.isin(np.arange(classes), sorted(k)) for i, k in zip(ids, given, strict=True)}
    check_classes(ids, maps.__getitem__, tags.__getitem__, "folder")


def test_files_that_err_in_some_images_pass() -> None:
    tag_check([{1}, {2}, {3}], [{1}, {2}, {4}])
    tag_check([{1}, {2}, {3, 4}, set()], [{1}, {0}, {4}, {2}])
    tag_check([{5}], [{1}])  # one file proves nothing
    tag_check([{0, 1, 2, 3, 4, 5}] * 4, [{1}, {2}, {3}, {4}])
    tag_check([{0, 1}] * 4, [{0}, {0}, {0}, {1}])  # maps of both of two classes, most images of the first


@pytest.mark.parametrize(
    ("own", "given", "words"),
    [
        ([{3}, {4}, {5}], [{0}, {1}, {0}], "in 3 of 3 files no class of the maps is a tag"),
        ([{2}, {3}, {0}], [{0}, {1}, {0}], "in 2 of 3 files no class"),
        (
            [{0, 1, 3}, {0, 2}, {0, 4}],
            [{0, 2}, {1}, {3}],
            "in 3 of 3 files the classes of the maps, less one",
        ),
        (
            [{1}, {2}, {0, 1}],
            [{0}, {1}, {0}],
            "in 2 of 3 files the classes of the maps, less one, are exactly",
        ),
    ],
)
def test_files_whose_classes_are_no_tags_in_most_images_are_refused(
    own: list[set[int]], given: list[set[int]], words: str
) -> None:
    with pytest.raises(BadData, match=words):
        tag_check(own, given)


# ----------------------------------------------------------------------------------------- ratio of the sides


@pytest.mark.parametrize("shape", [(24, 36), (375, 500), (233, 297), (500, 333)])
@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("rounded", [np.floor, np.ceil, np.round, lambda x: np.floor(x) + 1])
def test_planes_at_any_stride_are_those_of_their_image(
    shape: tuple[int, int], stride: int, rounded: Callable[[Any], Any]
) -> None:
    height, width = (max(1, int(rounded(side / stride))) for side in shape)
    np.save("a.npy", {0: np.zeros((height, width), np.float32)}, allow_pickle=True)
    assert read_dump("a.npy", K, shape=shape).maps.values.shape == (1, height, width)


PLANES: dict[str, Callable[[tuple[int, int]], Any]] = {
    "maps": lambda shape: {0: np.zeros(shape, np.float32)},
    "logits": lambda shape: np.random.default_rng(0).normal(0, 3, (K + 1, *shape)).astype(np.float32),
    "probabilities": lambda shape: np.full((K + 1, *shape), 1 / (K + 1), np.float32),
}


@pytest.mark.parametrize("kind", PLANES)
@pytest.mark.parametrize(
    ("size", "words"),
    [
        (
            (500, 375),
            "planes of 375x500 px for an image of 500x375 px (width x height): its sides are exchanged",
        ),
        ((63, 47), "its sides are exchanged"),
        ((512, 512), "another ratio of the sides"),
        ((376, 512), "another ratio of the sides"),
        ((64, 64), "another ratio of the sides"),
    ],
)
def test_planes_of_another_ratio_are_refused(kind: str, size: tuple[int, int], words: str) -> None:
    np.save("a.npy", PLANES[kind](size), allow_pickle=True)
    with pytest.raises(BadData) as caught:
        read_dump("a.npy", K, shape=(375, 500))
    assert words in caught.value.what
    assert caught.value.hint
    read_dump("a.npy", K)  # nobody knows of which image


def test_square_maps_of_wsolevaluation_and_images_without_maps_pass() -> None:
    np.save("a.npy", np.zeros((28, 28), np.float32))
    assert read_dump("a.npy", K, class_index=0, shape=(375, 500)).maps is not None
    np.save("b.npy", {}, allow_pickle=True)
    assert len(read_dump("b.npy", K, shape=(375, 500)).maps.classes) == 0


def test_exchanged_sides_are_said_by_score_and_import(tmp_path: Path) -> None:
    Path("maps").mkdir()
    for id in SHAPES.ids("train")[:8]:
        height, width = SHAPES.mask(id).shape
        planes = np.zeros((1, height + 9, width), np.float32)
        np.save(
            f"maps/{id}.npy",
            {"keys": np.flatnonzero(SHAPES.tags(id))[:1], "high_res": planes},
            allow_pickle=True,
        )
    assert "another ratio of the sides" in refused("maps", *SEED)
    assert "another ratio of the sides" in imported("maps", "seed")


# -------------------------------------------------------------------------------------------- what lies there

ID = SHAPES.ids("val")[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"{ID}.PNG", f"{ID}.PNG is there; files are named {ID}.png"),
        (f"{ID}_pred.png", f"{ID}_pred.png is there; files are named {ID}.png"),
        (f"{ID}.bmp", f"{ID}.bmp is there; files are named {ID}.png"),
        (f"{ID}.jpg", f"{ID}.jpg is there: a JPEG, which changes label values; save {ID}.png"),
        ("readme.txt", "readme.txt is there; files are named by the ids of val"),
    ],
)
def test_a_file_that_is_not_found_is_looked_for_under_other_names(name: str, words: str) -> None:
    Path("there").mkdir()
    (Path("there") / name).write_bytes(b"x")
    output = refused("there")
    assert f"8 of 8 files are missing: {ID}.png" in output
    assert words in output


def test_an_import_that_has_nothing_to_say_names_what_lies_there() -> None:
    Path("there").mkdir()
    write_labels(f"there/{ID}_pred.png", SHAPES.mask(ID))
    assert f"{ID}_pred.png is there; files are named {ID}.png" in call(
        "run", "--method", "import:there", *TINY, "--stages", "seg", "--dry-run"
    ).output.replace("\n", " ")


BEGINS = {b"GIF89a": "a GIF", b"BM1234": "a BMP", b"II*\0": "a TIFF", b"\x1f\x8b\x08": "compressed by gzip"}


@pytest.mark.parametrize("begin", BEGINS)
def test_files_of_other_kinds_are_called_by_their_names(begin: bytes) -> None:
    Path("a.npy").write_bytes(begin + bytes(40))
    with pytest.raises(BadData, match=f"it is {BEGINS[begin]}"):
        read_dump("a.npy", K)


def test_a_jpeg_under_the_name_of_a_png_and_labels_as_fractions_are_said(tmp_path: Path) -> None:
    Path("jpeg").mkdir()
    Path("floats").mkdir()
    for id in SHAPES.ids("val")[:8]:
        Pil.fromarray(SHAPES.mask(id)).save(f"jpeg/{id}.png", format="JPEG")
        np.save(f"floats/{id}.npy", SHAPES.mask(id).astype(np.float64))
    assert "it is a JPEG, which changes label values" in refused("jpeg")
    output = refused("floats")
    assert f"these look like labels as float64: whole numbers in 0..{K}" in output
    assert "save labels as uint8" in output


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_pickles_are_read_as_the_dict_or_array_in_them(protocol: int) -> None:
    maps = {0: np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), 2: np.zeros((3, 4))}
    Path("a.npy").write_bytes(pickle.dumps(maps, protocol=protocol))
    found = read_dump("a.npy", K).maps
    assert found.classes.tolist() == [0, 2]
    assert np.array_equal(found.values[0], maps[0])
    Path("b.npy").write_bytes(pickle.dumps(np.array([[0, 1]], np.int64), protocol=protocol))
    assert read_dump("b.npy", K).labels.tolist() == [[0, 1]]


class Runs:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def test_a_plain_pickle_that_asks_for_code_is_refused_and_runs_nothing() -> None:
    Path("a.npy").write_bytes(pickle.dumps({0: Runs()}))
    with pytest.raises(BadData, match="refused: this file asks for"):
        read_dump("a.npy", K)
    assert not Path("ran").exists()


# Python's words for its own types; what a person is told has none of them
PYTHON = (
    "object has no",
    "has no len",
    "not subscriptable",
    "unhashable",
    "NoneType",
    "takes",
    "expected at",
)
ODD: tuple[Any, ...] = (
    5,
    None,
    "text",
    [1, 2],
    {"keys": 3, "high_res": 4},
    {"keys": [0], "high_res": None},
    {0: 7},
    {0: "x"},
    {"msc_segs": 1},
    {"probs": "x"},
    {"classes": 1, "values": 2},
    {"keys": {}, "hr_cam": []},
    {None: 1},
)


@pytest.mark.parametrize("content", ODD, ids=repr)
@pytest.mark.parametrize("how", ["npy", "pickle", "torch"])
def test_contents_that_make_no_sense_are_said_in_plain_words(content: Any, how: str) -> None:
    if how == "npy":
        np.save("a.npy", np.array(content, dtype=object), allow_pickle=True)
    elif how == "pickle":
        Path("a.npy").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, "a.npy")
    with pytest.raises(BadData) as caught:
        read_dump("a.npy", K)
    assert not any(word in str(caught.value) for word in PYTHON), str(caught.value)


def said_of(data: bytes) -> str:
    """The error of a file with these bytes; empty where there is none."""
    Path("a.npy").write_bytes(data)
    try:
        read_dump("a.npy", K)
    except BadData as error:
        return str(error)
    return ""


def test_cut_and_changed_pickles_are_said_in_plain_words() -> None:
    whole, said = pickle.dumps({0: np.zeros((3, 4), np.float32)}, protocol=4), set()
    for at in range(2, len(whole), 3):
        changed = (whole[:at] + byte + whole[at + 1 :] for byte in (b"\x00", b"K", b"]"))
        said |= {said_of(data) for data in (whole[:at], *changed)}
    assert len(said) > 5
    assert not [text for text in said if any(word in text for word in PYTHON)]


def test_an_array_of_labels_whose_sides_are_exchanged_is_named_by_its_own_file() -> None:
    Path("turned").mkdir()
    for id in SHAPES.ids("val"):
        np.save(f"turned/{id}.npy", np.zeros((7, 9), np.uint8))
    text = refused("turned")
    assert "turned/" in text
    assert ".npy]" in text


def test_an_array_of_no_known_form_is_told_what_to_save() -> None:
    Path("odd").mkdir()
    for id in SHAPES.ids("val"):
        np.save(f"odd/{id}.npy", np.zeros((1, *SHAPES.mask(id).shape), bool))
    assert "save labels as a PNG or one (H, W) array of uint8" in refused("odd")


def test_a_coding_that_does_not_exist_is_refused_from_python() -> None:
    Path("labels").mkdir()
    with pytest.raises(UnknownName, match="unknown coding 'trut'"):
        wsssbench.score("labels", "shapes", "theirs", coding="trut", options={"shapes.preset": "tiny"})
