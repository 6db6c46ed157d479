"""Typed outputs on disk: what is written is read, within what the format keeps, or the file is named."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from wsssbench.artifacts import ArtifactFolder, as_kept
from wsssbench.errors import BadData
from wsssbench.types import KINDS, Kind, Maps, Outputs


def outputs(seed: int = 0) -> Outputs:
    """Every kind of one image of 8 x 12, K = 3."""
    draw = np.random.default_rng(seed)
    probs = draw.random((4, 4, 6), np.float32)
    mined = np.full((8, 12), 255, np.uint8)
    mined[2, 3] = 3
    return Outputs(
        maps=Maps(np.array([0, 2]), draw.random((2, 4, 6), np.float32)),
        probs=probs / probs.sum(0),
        labels=draw.integers(0, 4, (8, 12), dtype=np.uint8),
        mined=mined,
        tag_scores=draw.random(3, np.float32),
    )


@pytest.fixture
def folder(tmp_path: Path) -> ArtifactFolder:
    return ArtifactFolder(tmp_path / "artifacts", ("a", "b"))


@pytest.mark.parametrize("seed", range(3))
def test_what_is_written_is_read_to_the_precision_of_float16(folder: ArtifactFolder, seed: int) -> None:
    given = outputs(seed)
    folder.write("a", given, KINDS)
    found = folder["a"]
    assert found.maps is not None
    assert given.maps is not None
    assert found.maps.classes.tolist() == [0, 2]
    pairs = [(found.maps.values, given.maps.values), (found.probs, given.probs)]
    for read, written in pairs:
        assert read is not None
        assert written is not None
        assert read.dtype == np.float32
        assert np.abs(read - written).max() <= 2.0**-12, f"seed {seed}"  # half a step of float16 below 1
    assert (found.labels == given.labels).all()
    assert (found.mined == given.mined).all()
    assert (found.tag_scores == given.tag_scores).all()


@pytest.mark.parametrize("seed", range(3))
def test_what_is_kept_is_known_without_a_file(folder: ArtifactFolder, seed: int) -> None:
    given = outputs(seed)
    folder.write("a", given, KINDS)
    read, known = folder["a"], as_kept(given, KINDS, "a")
    assert read.maps is not None
    assert known.maps is not None
    pairs = [(getattr(read, kind), getattr(known, kind)) for kind in KINDS[1:]]
    pairs += [(read.maps.classes, known.maps.classes), (read.maps.values, known.maps.values)]
    for one, other in pairs:
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes(), f"seed {seed}"
    assert as_kept(given, ["labels"], "a").probs is None
    with pytest.raises(BadData, match="not finite"):
        as_kept(Outputs(probs=np.full((2, 3, 3), np.nan, np.float32)), ["probs"], "a")


def test_small_map_values_survive_that_bytes_would_lose(folder: ArtifactFolder) -> None:
    values = np.array([[[0.0, 1e-6, 0.0069, 0.0071, 1.0]]], np.float32)
    folder.write("a", Outputs(maps=Maps(np.array([1]), values)), ["maps"])
    maps = folder["a"].maps
    assert maps is not None
    read = maps.values[0, 0]
    assert read[0] == 0
    assert read[4] == 1
    assert 0 < read[1] < read[2] < 0.007 < read[3]  # the mining rule cuts at 0.007


def test_maps_and_probabilities_lie_on_disk_as_float16(folder: ArtifactFolder) -> None:
    folder.write("a", outputs(), ["maps", "probs"])
    with np.load(folder.path("a", "maps")) as maps, np.load(folder.path("a", "probs")) as probs:
        assert {maps["values"].dtype, probs["probs"].dtype} == {np.dtype(np.float16)}


def test_an_image_without_classes_has_empty_maps(folder: ArtifactFolder) -> None:
    empty = Maps(np.zeros(0, np.int64), np.zeros((0, 4, 6), np.float32))
    folder.write("a", Outputs(maps=empty), ["maps"])
    maps = folder["a"].maps
    assert maps is not None
    assert (maps.classes.shape, maps.values.shape) == ((0,), (0, 4, 6))


def test_only_the_kinds_asked_for_are_kept(folder: ArtifactFolder) -> None:
    folder.write("a", outputs(), ["labels", "maps"])
    found = folder["a"]
    assert found.maps is not None
    assert found.labels is not None
    assert (found.probs, found.mined, found.tag_scores) == (None, None, None)
    assert folder["b"] == Outputs()


def test_an_image_is_missing_until_every_kind_is_there(folder: ArtifactFolder) -> None:
    assert folder.missing(["labels"]) == ["a", "b"]
    folder.write("a", outputs(), ["labels"])
    assert folder.missing(["labels"]) == ["b"]
    assert folder.missing(["labels", "maps"]) == ["a", "b"]
    assert folder.missing([]) == []
    assert len(folder) == 2


def test_files_are_named_by_kind_and_image_and_nothing_else_is_left(folder: ArtifactFolder) -> None:
    folder.write("a", outputs(), KINDS)
    found = sorted(str(p.relative_to(folder.folder)) for p in folder.folder.rglob("*") if p.is_file())
    assert found == ["labels/a.png", "maps/a.npz", "mined/a.png", "probs/a.npz", "tag_scores/a.npz"]


def test_an_id_with_a_folder_in_it_works(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path, ("city/0001",))
    folder.write("city/0001", outputs(), ["labels", "maps"])
    assert folder.missing(["labels", "maps"]) == []
    assert folder["city/0001"].maps is not None


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_a_step_left_out_is_named(folder: ArtifactFolder, kind: Kind) -> None:
    with pytest.raises(BadData, match=f"asked for {kind} and returned none") as caught:
        folder.write("a", Outputs(), [kind])
    assert (caught.value.where, "gives" in caught.value.hint) == ("a", True)
    assert folder.missing([kind]) == ["a", "b"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_named(folder: ArtifactFolder, kind: Kind) -> None:
    with pytest.raises(BadData) as caught:
        folder.read("a", [kind])
    assert caught.value.where == str(folder.path("a", kind))
    assert caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"no such format at all"])
def test_foreign_content_is_named(folder: ArtifactFolder, kind: Kind, content: bytes) -> None:
    path = folder.path("a", kind)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(BadData) as caught:
        folder.read("a", [kind])
    assert caught.value.where == str(path)


def test_arrays_of_another_kind_are_named(folder: ArtifactFolder) -> None:
    folder.write("a", outputs(), ["maps"])
    path = folder.path("a", "probs")
    path.parent.mkdir()
    path.write_bytes(folder.path("a", "maps").read_bytes())
    with pytest.raises(BadData, match="probs"):
        folder.read("a", ["probs"])


def test_pickles_in_an_artifact_are_refused(folder: ArtifactFolder) -> None:
    path = folder.path("a", "maps")
    path.parent.mkdir(parents=True)
    np.savez(path, classes=np.array([{"a": 1}], dtype=object), values=np.zeros((1, 2, 2)))
    with pytest.raises(BadData, match=r"classes.npy holds objects"):
        folder.read("a", ["maps"])


@pytest.mark.parametrize("kind", ["maps", "labels"])
def test_a_garbled_file_is_read_or_named_and_nothing_else(folder: ArtifactFolder, kind: Kind) -> None:
    seed = 21
    draw = random.Random(seed)
    folder.write("a", outputs(), [kind])
    path = folder.path("a", kind)
    whole = path.read_bytes()
    for turn in range(80):
        data = bytearray(whole[: draw.randrange(len(whole))] if turn % 3 == 0 else whole)
        for _ in range(draw.choice([1, 5]) if data else 0):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data)
        try:
            folder.read("a", [kind])
        except BadData:
            continue
        except Exception as error:
            pytest.fail(f"seed {seed}, turn {turn}: {error!r}")


def test_costs_add_up_and_a_damaged_file_counts_as_nothing(folder: ArtifactFolder) -> None:
    assert folder.cost() == {"images": 0, "seconds": 0.0}
    folder.add_cost(3, 1.5)
    folder.add_cost(2, 0.25)
    assert folder.cost() == {"images": 5, "seconds": 1.75}
    (folder.folder / "cost.json").write_text("{")
    assert folder.cost() == {"images": 0, "seconds": 0.0}
