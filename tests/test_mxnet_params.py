"""The reader of MXNet's NDArray lists, on files that are written here byte by byte."""

from __future__ import annotations

import random
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from wsssbench.errors import BadData
from wsssbench.nets.mxnet_params import read_mxnet_params
from wsssbench.nets.weights import read_state_dict, weight_format

V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
FORMS = ["legacy", "v1", "v2", "v3"]
FLAGS = {"<f4": 0, "<f8": 1, "<f2": 2, "|u1": 3, "<i4": 4, "|i1": 5, "<i8": 6}
CPU = struct.pack("<ii", 1, 0)


def shape_bytes(form: str, shape: tuple[int, ...], storage: int = 0) -> bytes:
    """The mark, the storage type where there is one, and the shape."""
    if form == "legacy":
        return struct.pack(f"<I{len(shape)}I", len(shape), *shape)
    mark = {
        "v1": struct.pack("<I", V1),
        "v2": struct.pack("<Ii", V2, storage),
        "v3": struct.pack("<Ii", V3, storage),
    }
    return mark[form] + struct.pack(f"<i{len(shape)}q", len(shape), *shape)


def array_bytes(form: str, value: np.ndarray, device: bytes = CPU) -> bytes:
    return (
        shape_bytes(form, value.shape) + device + struct.pack("<i", FLAGS[value.dtype.str]) + value.tobytes()
    )


def list_bytes(arrays: list[bytes], names: list[str]) -> bytes:
    coded = b"".join(struct.pack("<Q", len(name)) + name.encode() for name in names)
    head = struct.pack("<QQQ", 0x112, 0, len(arrays))
    return head + b"".join(arrays) + struct.pack("<Q", len(names)) + coded


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "net.params"


def values(dtype: str, shape: tuple[int, ...] = (2, 3)) -> np.ndarray:
    count = int(np.prod(shape))
    return (np.arange(count) * 3 - (0 if dtype == "|u1" else 4)).astype(dtype).reshape(shape)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", FLAGS)
def test_every_type_in_every_version_comes_back_as_it_was(form: str, dtype: str, file: Path) -> None:
    one, two = values(dtype), values(dtype, (4,))
    write(file, list_bytes([array_bytes(form, one), array_bytes(form, two)], ["arg:a_weight", "aux:a_mean"]))
    found = read_mxnet_params(file)
    assert list(found) == ["arg:a_weight", "aux:a_mean"]
    for tensor, wanted in zip(found.values(), (one, two), strict=True):
        assert tensor.dtype == torch.from_numpy(wanted).dtype
        assert np.array_equal(tensor.numpy(), wanted)
    found["arg:a_weight"].add_(1)  # it is memory of its own


def test_arrays_of_several_versions_may_stand_in_one_list(file: Path) -> None:
    arrays = [array_bytes(form, values("<f4")) for form in FORMS]
    found = read_mxnet_params(write(file, list_bytes(arrays, FORMS)))
    assert all(np.array_equal(tensor, values("<f4")) for tensor in found.values())


def test_a_scalar_and_an_empty_array_exist_in_version_3(file: Path) -> None:
    scalar, empty = np.array(7.0, "<f4"), np.zeros((0, 3), "<f4")
    write(file, list_bytes([array_bytes("v3", scalar), array_bytes("v3", empty)], ["s", "e"]))
    found = read_mxnet_params(file)
    assert (found["s"].shape, float(found["s"])) == ((), 7.0)
    assert found["e"].shape == (0, 3)


def test_arrays_saved_from_a_gpu_are_read_too(file: Path) -> None:
    data = list_bytes([array_bytes("v2", values("<f4"), struct.pack("<ii", 2, 3))], ["a"])
    assert read_mxnet_params(write(file, data))["a"].device.type == "cpu"


def test_an_empty_list_is_no_error_and_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = write(tmp_path / "net.pth", list_bytes([], []))
    assert weight_format(path) == "mxnet"
    assert read_state_dict(path) == {}


# ----------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_cut_off_anywhere_is_named_with_the_place(form: str, file: Path) -> None:
    whole = list_bytes([array_bytes(form, values("<f4")), array_bytes(form, values("<i8"))], ["one", "two"])
    for length in range(len(whole)):
        write(file, whole[:length])
        with pytest.raises(BadData, match="the file ends within") as caught:
            read_mxnet_params(file)
        place = int(caught.value.where.rpartition(" byte ")[2])
        assert place <= length
        assert caught.value.where.startswith(str(file))
        assert caught.value.hint


@pytest.mark.parametrize(
    ("start", "end", "what"),
    [
        (0, 8, "the file's mark"),
        (8, 16, "the reserved word"),
        (16, 24, "the number of arrays"),
        (24, 28, "the mark of array 1 of 1"),
        (28, 32, "the storage type of array 1 of 1"),
        (32, 36, "the dimensions of array 1 of 1"),
        (36, 52, "the shape of array 1 of 1"),
        (52, 60, "the device of array 1 of 1"),
        (60, 64, "the type of array 1 of 1"),
        (64, 88, "the values of array 1 of 1"),
        (88, 96, "the number of names"),
        (96, 107, "name 1 of 1"),
    ],
)
def test_the_error_says_what_the_cut_went_through(start: int, end: int, what: str, file: Path) -> None:
    whole = list_bytes([array_bytes("v2", values("<f4"))], ["one"])
    assert len(whole) == 107
    for length in {start, end - 1}:
        with pytest.raises(BadData, match=f"the file ends within {what}"):
            read_mxnet_params(write(file, whole[:length]))


def put(data: bytes, place: int, form: str, *numbers: int) -> bytes:
    """`data` with numbers written over it at `place`."""
    new = struct.pack(form, *numbers)
    return data[:place] + new + data[place + len(new) :]


@pytest.mark.parametrize(
    ("place", "form", "number", "what", "byte"),
    [
        (0, "<Q", 0x113, "the file's mark is 275", 0),
        (8, "<Q", 5, "the reserved word is 5", 8),
        (16, "<Q", 2**63, "the file ends within the type of array 2 of", 104),
        (24, "<I", 0xF993FAFF, "array 1 of 1 has 4187224831 dimensions", 24),
        (28, "<i", 1, "storage type 1; only dense", 28),
        (28, "<i", -1, "storage type -1; only dense", 28),
        (32, "<i", -1, "array 1 of 1 has -1 dimensions", 32),
        (32, "<i", 0, "array 1 of 1 holds no array", 32),
        (32, "<i", 33, "array 1 of 1 has 33 dimensions", 32),
        (36, "<q", -2, "impossible shape (-2, 3)", 60),
        (36, "<q", 2**62, "impossible shape (4611686018427387904, 3)", 60),
        (36, "<q", 2**40, "the file ends within the values of array 1 of 1: 13194139533312 bytes", 64),
        (52, "<i", 9, "on a device of the unknown type 9", 52),
        (60, "<i", 7, "the unknown type flag 7", 60),
        (60, "<i", -1, "the unknown type flag -1", 60),
        (88, "<Q", 0, "1 arrays have 0 names", 88),
        (88, "<Q", 2**60, "1 arrays have 1152921504606846976 names", 88),
        (96, "<Q", 2**64 - 1, "the file ends within name 1 of 1", 104),
        (96, "<Q", 2, "1 bytes follow the last name", 104),
        (104, "<B", 0xFF, "name 1 of 1 is not a text", 104),
    ],
)
def test_a_number_that_cannot_be_is_named_with_its_byte(
    place: int, form: str, number: int, what: str, byte: int, file: Path
) -> None:
    whole = list_bytes([array_bytes("v2", values("<f4"))], ["one"])
    with pytest.raises(BadData) as caught:
        read_mxnet_params(write(file, put(whole, place, form, number)))
    assert what in caught.value.what
    assert caught.value.where == f"{file}, byte {byte}"


def test_two_arrays_of_one_name_are_refused(file: Path) -> None:
    one = array_bytes("v2", values("<f4"))
    with pytest.raises(BadData, match="two arrays have the name 'a'"):
        read_mxnet_params(write(file, list_bytes([one, one], ["a", "a"])))


@pytest.mark.parametrize("shape", [(2**31, 2**31), (1 << 20, 1 << 20), (250_000_000,)])
def test_no_memory_is_taken_for_what_the_file_does_not_hold(shape: tuple[int, ...], file: Path) -> None:
    array = shape_bytes("v2", shape) + CPU + struct.pack("<i", 0)
    write(file, struct.pack("<QQQ", 0x112, 0, 2**40) + array + bytes(1000))
    tracemalloc.start()
    with pytest.raises(BadData, match=r"the file ends within the values of array 1|impossible shape"):
        read_mxnet_params(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_garbled_file_is_read_or_named_and_nothing_else(file: Path) -> None:
    seed, draw = 31, random.Random(31)
    whole = list_bytes([array_bytes(form, values("<f4")) for form in FORMS], FORMS)
    for turn in range(400):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 2, 6])):
            data[draw.randrange(len(data))] = draw.choice([0, 1, 255, draw.randrange(256)])
        write(file, bytes(data))
        try:
            read_mxnet_params(file)
        except BadData:
            continue
        except Exception as error:
            pytest.fail(f"seed {seed}, turn {turn}: {error!r}")
