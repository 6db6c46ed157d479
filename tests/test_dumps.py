"""Foreign dumps, written as their producers write them, become house types with their values as they were."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pil

from wsssbench.artifacts import ArtifactFolder
from wsssbench.dumps import find_dump, list_formats, read_dump, to_psa_dict, write_psa_dict
from wsssbench.dumps.array_files import parse_arrays
from wsssbench.dumps.map_formats import is_class_dict
from wsssbench.dumps.prob_formats import softmax
from wsssbench.errors import BadData, UnknownName
from wsssbench.masks import voc_palette, write_labels
from wsssbench.types import Maps, Outputs

K = 20
SEED = 5
SHAPE = (5, 7)
CLASSES = np.array([14, 3])  # not ascending: readers sort


@pytest.fixture
def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


@pytest.fixture
def maps(rng: np.random.Generator) -> np.ndarray:
    """(2, H, W) float32 in [0, 1], of CLASSES in their order."""
    values = rng.random((2, *SHAPE), np.float32)
    return values / (values.max((1, 2), keepdims=True) + np.float32(1e-5))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "2007_000032.npy"


def saved(path: Path, value: Any) -> Path:
    """`np.save(path, value)`, as all producers call it."""
    np.save(path, value, allow_pickle=True)
    return path


def irn(maps: np.ndarray) -> dict[str, Any]:
    strided = torch.from_numpy(maps[:, ::4, ::4].copy())
    return {"keys": torch.from_numpy(CLASSES), "cam": strided, "high_res": maps}


def puzzlecam(maps: np.ndarray) -> dict[str, Any]:
    keys = np.pad(torch.from_numpy(CLASSES) + 1, (1, 0), mode="constant")
    return {"keys": keys, "cam": torch.from_numpy(maps[:, ::4, ::4].copy()), "hr_cam": maps}


MAP_FILES: dict[str, Callable[[np.ndarray], dict[Any, Any]]] = {
    "psa": lambda maps: dict(zip(CLASSES.tolist(), maps, strict=True)),
    "irn": irn,
    "puzzlecam": puzzlecam,
    "puzzlecam-rw": lambda maps: {"keys": puzzlecam(maps)["keys"], "rw": maps},
    "clip-es": lambda maps: {"keys": CLASSES, "attn_highres": maps.astype(np.float16)},
}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("format", MAP_FILES)
def test_maps_keep_their_values_and_are_sorted_by_class(
    file: Path, maps: np.ndarray, format: str, named: bool
) -> None:
    saved(file, MAP_FILES[format](maps))
    dump = read_dump(file, K, format if named else "auto")
    assert dump.format == format
    assert dump.maps is not None
    assert dump.labels is dump.probs is None
    assert dump.maps.classes.tolist() == [3, 14]
    assert dump.maps.classes.dtype == np.int64
    assert dump.maps.values.dtype == np.float32
    wanted = maps.astype(np.float16).astype(np.float32) if format == "clip-es" else maps
    np.testing.assert_array_equal(dump.maps.values, wanted[::-1])
    assert dump.outputs() == Outputs(maps=dump.maps)


@pytest.mark.parametrize(("format", "write"), [("irn-strided", irn), ("puzzlecam-strided", puzzlecam)])
def test_the_small_maps_beside_the_large_ones_are_read_when_named(
    file: Path, maps: np.ndarray, format: str, write: Callable[[np.ndarray], dict[str, Any]]
) -> None:
    dump = read_dump(saved(file, write(maps)), K, format)
    assert dump.maps is not None
    np.testing.assert_array_equal(dump.maps.values, maps[::-1, ::4, ::4])
    assert dump.maps.classes.tolist() == [3, 14]


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("form", ["npy", "torch", "old torch", "npy of protocol 2"])
def test_tensors_of_any_precision_layout_and_age_are_read(file: Path, form: str, dtype: str) -> None:
    whole = torch.linspace(0, 1, 2 * 6 * 5).reshape(2, 6, 5).to(getattr(torch, dtype))
    view = whole[:, 1:4].transpose(1, 2)  # an offset and strides that are not the usual ones
    item = {"keys": torch.tensor([3, 14], dtype=torch.int32), "high_res": view}
    if form == "npy":
        saved(file, item)
    elif form == "npy of protocol 2":
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write_bytes(head.getvalue() + pickle.dumps(np.array(item, dtype=object), protocol=2))
    else:
        torch.save(item, file, _use_new_zipfile_serialization=form == "torch")
    found = read_dump(file, K).maps
    assert found is not None
    np.testing.assert_array_equal(found.values, view.float().numpy())


@pytest.mark.parametrize("value", [torch.tensor([True, False]), torch.zeros(0, 3), torch.tensor(2.5)])
def test_flags_empty_tensors_and_numbers_are_read(value: torch.Tensor) -> None:
    from wsssbench.dumps.safe_pickle import settled

    buffer = io.BytesIO()
    torch.save({"a": value}, buffer)
    found = parse_arrays(buffer.getvalue(), "here")
    assert isinstance(found, dict)
    np.testing.assert_array_equal(settled(found["a"]), value.numpy())


@pytest.mark.parametrize(
    "value", [torch.zeros(1).expand(4, 5), torch.zeros(2, 3).to_sparse(), torch.nn.Parameter(torch.zeros(2))]
)
def test_tensors_that_are_not_plain_and_whole_are_refused(file: Path, value: torch.Tensor) -> None:
    saved(file, {"keys": [3], "high_res": value})
    with pytest.raises(BadData, match=r"over 1 values|refused: .*torch\._utils"):
        read_dump(file, K)


def test_what_seam_leaves_below_zero_becomes_zero(file: Path, maps: np.ndarray) -> None:
    values = maps.copy()
    values[0, 0] = -1e-3
    dump = read_dump(saved(file, {3: values[0], 5: np.full(SHAPE, -1, np.float32)}), K)
    assert dump.maps is not None
    np.testing.assert_array_equal(dump.maps.values[0], np.maximum(values[0], 0))
    assert not dump.maps.values[1].any()


def test_an_image_without_classes_has_no_maps(file: Path) -> None:
    dump = read_dump(saved(file, {}), K)
    assert dump.maps is not None
    assert dump.maps.values.shape == (0, 1, 1)
    none = {"keys": torch.zeros(0, dtype=torch.int64), "high_res": np.zeros((0, *SHAPE), np.float32)}
    empty = read_dump(saved(file, none), K).maps
    assert empty is not None
    assert empty.values.shape == (0, *SHAPE)


def test_keys_may_be_numpy_numbers(file: Path, maps: np.ndarray) -> None:
    found = read_dump(saved(file, {np.int64(3): maps[0], np.uint8(4): maps[1]}), K).maps
    assert found is not None
    assert found.classes.tolist() == [3, 4]


def test_maps_beyond_one_are_refused_unless_rescaling_is_asked_for(file: Path, maps: np.ndarray) -> None:
    saved(file, {"keys": CLASSES, "high_res": maps * np.array([-3, 7], np.float32)[:, None, None]})
    with pytest.raises(BadData, match=r"beyond 0\.\.1") as caught:
        read_dump(file, K)
    assert "rescal" in caught.value.hint
    found = read_dump(file, K, rescale=True).maps
    assert found is not None
    np.testing.assert_allclose(found.values[0], maps[1] / maps[1].max(), rtol=1e-6)
    assert not found.values[1].any()


def test_a_bare_map_needs_its_class(file: Path, maps: np.ndarray) -> None:
    saved(file, maps[0].astype(np.float64))
    with pytest.raises(BadData, match="one map without a class"):
        read_dump(file, K)
    found = read_dump(file, K, class_index=7)
    assert found.format == "wsol"
    assert found.maps is not None
    assert found.maps.classes.tolist() == [7]
    np.testing.assert_array_equal(found.maps.values[0], maps[0])
    with pytest.raises(BadData, match=r"class 20 is outside 0\.\.19"):
        read_dump(file, K, class_index=20)


# ----------------------------------------------------------------------------------------- probabilities

LOGIT_FILES: dict[str, Callable[[np.ndarray], Any]] = {
    "afa": lambda logits: {"segs": logits[None] * 0, "msc_segs": logits[None]},
    "afa-single": lambda logits: {"segs": logits[None], "msc_segs": logits[None] * 0},
    "weclip": lambda logits: {"msc_seg": logits[None]},
    "deeplab": lambda logits: logits,
}


@pytest.mark.parametrize("format", LOGIT_FILES)
def test_logits_become_probabilities_by_a_softmax_in_float32(
    file: Path, rng: np.random.Generator, format: str
) -> None:
    logits = rng.normal(0, 30, (K + 1, *SHAPE)).astype(np.float32)
    dump = read_dump(saved(file, LOGIT_FILES[format](logits)), K, format)
    assert dump.format == format
    assert dump.probs is not None
    assert dump.probs.dtype == np.float32
    wanted = torch.softmax(torch.from_numpy(logits), 0).numpy()
    np.testing.assert_allclose(dump.probs, wanted, rtol=1e-5, atol=1e-7)
    if format != "afa-single":
        assert read_dump(file, K).format == format


def test_the_marginals_of_a_crf_have_background_first_and_must_be_named(
    file: Path, rng: np.random.Generator
) -> None:
    planes = softmax(rng.normal(size=(3, *SHAPE)).astype(np.float32))
    saved(file, {0: planes[0], 4: planes[1], 20: planes[2]})
    with pytest.raises(BadData, match="psa or psa-crf"):
        read_dump(file, K)
    dump = read_dump(file, K, "psa-crf")
    assert dump.probs is not None
    np.testing.assert_array_equal(dump.probs[[0, 4, 20]], planes)
    assert dump.probs.shape == (K + 1, *SHAPE)
    assert dump.probs.sum() == pytest.approx(planes.sum())


def test_class_zero_alone_is_no_reason_to_doubt(file: Path, maps: np.ndarray) -> None:
    assert read_dump(saved(file, {0: maps[0], 4: maps[1]}), K).format == "psa"


def test_a_bare_array_that_sums_to_one_is_no_logits(file: Path, rng: np.random.Generator) -> None:
    probs = softmax(rng.normal(size=(K + 1, *SHAPE)).astype(np.float32))
    dump = read_dump(saved(file, probs.astype(np.float16)), K)
    assert dump.format == "probs"
    np.testing.assert_allclose(dump.probs, probs, atol=1e-3)
    with pytest.raises(BadData, match="this is not a deeplab file"):
        read_dump(file, K, "deeplab")


def test_artifacts_of_this_project_are_read_back(tmp_path: Path, maps: np.ndarray) -> None:
    probs = softmax(np.zeros((K + 1, *SHAPE), np.float32))
    labels = np.full(SHAPE, 255, np.uint8)
    given = Outputs(maps=Maps(np.array([3, 14]), maps), probs=probs, labels=labels)
    folder = ArtifactFolder(tmp_path, ["a"])
    folder.write("a", given, ("maps", "probs", "labels"))
    found = read_dump(folder.path("a", "maps"), K)
    assert found.format == "wsssbench-maps"
    assert found.maps is not None
    np.testing.assert_array_equal(found.maps.values, folder["a"].maps.values)  # type: ignore[union-attr]
    assert read_dump(folder.path("a", "probs"), K).format == "wsssbench-probs"
    np.testing.assert_array_equal(read_dump(folder.path("a", "labels"), K).labels, labels)


# ---------------------------------------------------------------------------------------------- pictures


@pytest.fixture
def labels(rng: np.random.Generator) -> np.ndarray:
    values = rng.integers(0, K + 1, SHAPE, dtype=np.uint8)
    values[0, 0] = 255
    return values


@pytest.mark.parametrize("mode", ["P", "L", "I;16", "RGB", "RGBA"])
def test_pictures_of_indices_or_voc_colours_give_labels(
    tmp_path: Path, labels: np.ndarray, mode: str
) -> None:
    path = tmp_path / "a.png"
    if mode == "P":
        write_labels(path, labels)
    elif mode in ("L", "I;16"):
        Pil.fromarray(labels if mode == "L" else labels.astype(np.uint16)).save(path)
    else:
        Pil.fromarray(voc_palette()[labels]).convert(mode).save(path)
    dump = read_dump(path, K)
    assert dump.format == ("colours" if "RGB" in mode else "index")
    assert dump.labels is not None
    assert dump.labels.dtype == np.uint8
    np.testing.assert_array_equal(dump.labels, labels)


def test_every_colour_of_the_palette_has_its_index(tmp_path: Path) -> None:
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Pil.fromarray(voc_palette()[indices]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_dump(tmp_path / "a.png", 255).labels, indices)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "int16"])
def test_bare_arrays_of_whole_numbers_are_labels(file: Path, labels: np.ndarray, dtype: str) -> None:
    dump = read_dump(saved(file, labels.astype(dtype)), K)
    assert dump.format == "index-npy"
    np.testing.assert_array_equal(dump.labels, labels)


def test_a_colour_outside_the_palette_is_named_with_its_count(tmp_path: Path, labels: np.ndarray) -> None:
    colours = voc_palette()[labels]
    colours[1:3, 2] = (1, 2, 3)
    colours[4, 4] = (128, 0, 1)
    Pil.fromarray(colours).save(tmp_path / "a.png")
    with pytest.raises(BadData, match=r"\(1, 2, 3\) of 2 pixels .* 1 other") as caught:
        read_dump(tmp_path / "a.png", K)
    assert caught.value.hint


def test_transparent_and_lossy_pictures_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    picture = Pil.fromarray(voc_palette()[labels])
    picture.save(tmp_path / "lossy.png", format="JPEG")
    with pytest.raises(BadData, match="it is a JPEG, which changes label values"):
        read_dump(tmp_path / "lossy.png", K)
    picture.putalpha(7)
    picture.save(tmp_path / "a.png")
    with pytest.raises(BadData, match="transparent"):
        read_dump(tmp_path / "a.png", K)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_picture_that_is_cut_off_or_claims_any_size_is_refused(
    tmp_path: Path, labels: np.ndarray, mode: str
) -> None:
    path = tmp_path / "a.png"
    Pil.fromarray(labels).convert(mode).save(path)
    data = path.read_bytes()
    for damaged in (data[:20], data[:60], data[:16] + b"\x00\x00\xff\xff\x00\x00\xff\xff" + data[24:]):
        path.write_bytes(damaged)
        with pytest.raises(BadData) as caught:
            read_dump(path, K)
        assert caught.value.where == str(path)


# ------------------------------------------------------------------------------------------- what is wrong

ONE = np.full(SHAPE, 0.5, np.float32)
TWO = np.stack([ONE, ONE])
WRONG: dict[str, tuple[Any, str, str]] = {
    "class beyond": ({20: ONE}, "auto", r"class 20 is outside 0\.\.19"),
    "class below": ({-1: ONE}, "auto", r"class -1 is outside"),
    "label beyond": ({0: ONE, 21: ONE}, "psa-crf", r"class 21 is outside 0\.\.20"),
    "key beyond": ({"keys": [3, 20], "high_res": TWO}, "auto", r"class 20 is outside 0\.\.19"),
    "key twice": ({"keys": [3, 3], "high_res": TWO}, "auto", "stands twice"),
    "keys of floats": ({"keys": np.array([1.0, 2.0]), "high_res": TWO}, "auto", "list of classes"),
    "keys of text": ({"keys": np.array(["cat"]), "high_res": TWO}, "auto", "not an array of numbers"),
    "no leading 0": ({"keys": np.array([1, 2]), "hr_cam": TWO}, "auto", "do not begin with 0"),
    "second 0": ({"keys": np.array([0, 0]), "hr_cam": TWO[:1]}, "auto", r"class 0 is outside 1\.\.20"),
    "too few maps": ({"keys": [3, 4, 5], "high_res": TWO}, "auto", "2 maps for 3 classes"),
    "sizes differ": ({3: ONE, 4: ONE[1:]}, "auto", r"differ in size: \(4, 7\), \(5, 7\)"),
    "not finite": ({3: ONE * np.float32(np.nan)}, "auto", "not finite"),
    "infinite": ({"keys": [3], "high_res": ONE[None].astype(np.float64) * 1e300}, "auto", "not finite"),
    "negative": ({"keys": [3], "high_res": -ONE[None]}, "auto", r"from -0\.5 to"),
    "three axes": ({3: TWO}, "auto", r"shape \(2, 5, 7\), not 2 axes"),
    "empty map": ({3: ONE[:0]}, "auto", r"shape \(0, 7\)"),
    "text for a map": ({3: "cat"}, "auto", "holds text"),
    "complex": ({3: ONE.astype(np.complex64)}, "auto", "values of type c8"),
    "too few planes": (np.zeros((20, *SHAPE), np.float32), "auto", "20 planes, not 21"),
    "two images": (np.zeros((2, 21, *SHAPE), np.float32), "auto", "format is not clear"),
    "no sum": ({0: ONE, 3: TWO[0] * 0}, "psa-crf", "do not sum to 1"),
    "no background": ({1: ONE}, "psa-crf", "not a psa-crf file .* but a dict of 1"),
    "unknown keys": ({"camera": ONE}, "auto", "not clear: a dict of 'camera'"),
    "low maps alone": ({"keys": [3], "cam": ONE[None]}, "auto", "format is not clear"),
    "of another format": ({3: ONE}, "irn", "not an irn file"),
    "label beyond K": (np.full(SHAPE, 21), "auto", r"label 21, outside 0\.\.20"),
    "label below 0": (np.full(SHAPE, -1), "auto", r"label -1, outside"),
    "nothing": (None, "auto", "cannot read this file .it holds nothing"),
    "a number": (3.5, "auto", "not clear: an array"),
    "text": ("text", "auto", "format is not clear"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_error_with_the_file_and_a_next_step(file: Path, case: str) -> None:
    value, format, message = WRONG[case]
    saved(file, value)
    with pytest.raises(BadData, match=message) as caught:
        read_dump(file, K, format)
    assert caught.value.where == str(file)
    assert caught.value.hint


def test_a_hint_names_the_formats_that_a_file_could_have(file: Path) -> None:
    saved(file, {"keys": [3], "cam": ONE[None]})
    with pytest.raises(BadData) as caught:
        read_dump(file, K)
    assert "irn-strided, puzzlecam-strided" in caught.value.hint


def test_missing_empty_and_foreign_files_are_one_error(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"No such file.*gone\.npy"):
        read_dump(tmp_path / "gone.npy", K)
    with pytest.raises(BadData, match="cannot be read"):
        read_dump(tmp_path, K)
    for content, message in ((b"", "it is empty"), (b"hello", "begins with"), (b"PK\x03\x04", "zip")):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(BadData, match=message):
            read_dump(tmp_path / "a", K)


def test_an_unknown_format_is_named_with_the_nearest(file: Path) -> None:
    with pytest.raises(UnknownName, match=r"irm") as caught:
        read_dump(file, K, "irm")
    assert "did you mean irn" in caught.value.hint


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_version_of_npy_is_read_and_none_beyond_its_bytes(version: tuple[int, int], order: str) -> None:
    array = np.asarray(np.arange(12, dtype=">f4").reshape(3, 4), order=order)  # type: ignore[call-overload]
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=version)
    data = buffer.getvalue()
    np.testing.assert_array_equal(parse_arrays(data, "a.npy"), array)
    for shape in (b"(4, 4)", b"(3, 9" + b"9" * 17 + b")", b"(-3, -4)"):
        with pytest.raises(BadData, match=r"a\.npy"):
            parse_arrays(data.replace(b"(3, 4)", shape), "a.npy")
    with pytest.raises(BadData, match="ends early"):
        parse_arrays(data[:-1], "a.npy")


def test_objects_in_an_npz_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", classes=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadData, match="holds objects"):
        read_dump(tmp_path / "a.npz", K)


def test_a_file_larger_than_any_dump_is_not_read(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(2**31 + 1)  # sparse: it takes no room
    with pytest.raises(BadData, match="more than 2147483648 bytes"):
        read_dump(file, K)


# -------------------------------------------------------------------------------------- names and exports


def test_formats_have_one_name_each_and_say_what_they_hold() -> None:
    formats = list_formats()
    assert len({known.name for known in formats}) == len(formats)
    assert {known.holds for known in formats} == {"labels", "maps", "probs"}
    assert all(known.keys and known.values and known.producers for known in formats)
    assert "must be named" in str(next(known for known in formats if known.name == "psa-crf"))
    assert not is_class_dict({True: ONE})


def test_the_file_of_an_image_is_found_by_id(tmp_path: Path) -> None:
    (tmp_path / "a.npy").touch()
    assert find_dump(tmp_path, "a") == tmp_path / "a.npy"
    with pytest.raises(BadData, match="no file of b"):
        find_dump(tmp_path, "b")
    (tmp_path / "a.png").touch()
    with pytest.raises(BadData, match=r"more than one file of a: a\.npy, a\.png"):
        find_dump(tmp_path, "a")


def test_a_psa_dict_is_read_by_numpy_alone_of_either_generation(file: Path, maps: np.ndarray) -> None:
    ours = Maps(np.array([3, 14]), maps)
    write_psa_dict(file, ours, (10, 14))
    loaded = np.load(file, allow_pickle=True).item()
    assert list(loaded) == [3, 14]
    assert all(type(key) is int for key in loaded)
    assert all(value.dtype == np.float32 and value.shape == (10, 14) for value in loaded.values())
    data = file.read_bytes()
    assert b"numpy._core" not in data
    assert b"cnumpy.core.multiarray\n_reconstruct" in data
    back = read_dump(file, K).maps
    assert back is not None
    np.testing.assert_array_equal(back.values, list(to_psa_dict(ours, (10, 14)).values()))


def test_a_psa_dict_at_the_size_of_the_maps_comes_back_unchanged(file: Path, maps: np.ndarray) -> None:
    write_psa_dict(file, Maps(np.array([3, 14]), maps), SHAPE)
    back = read_dump(file, K).maps
    assert back is not None
    np.testing.assert_array_equal(back.values, maps)
    write_psa_dict(file, Maps(np.zeros(0, np.int64), np.zeros((0, 1, 1), np.float32)), SHAPE)
    assert np.load(file, allow_pickle=True).item() == {}


def test_reading_needs_no_torch(file: Path, maps: np.ndarray) -> None:
    saved(file, irn(maps))
    program = (
        "import sys; from wsssbench.dumps import read_dump; dump = read_dump(sys.argv[1], 20);"
        "assert dump.format == 'irn' and dump.maps.classes.tolist() == [3, 14];"
        "print([name for name in ('torch', 'pickle', 'pandas', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout, done.stdout
