"""The reader of safetensors files, on files that are written here."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wsssbench.errors import BadData
from wsssbench.nets.matching import load_backbone_weights
from wsssbench.nets.weights import MOST_HEADER_BYTES, read_safetensors, read_state_dict, weight_format

KINDS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "net.safetensors"


def raw(tensor: Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def file_bytes(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def state_bytes(state: dict[str, Tensor], pad: int = 0) -> bytes:
    """A file with `state`, its header padded by `pad` spaces as real ones are."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in state.items():
        begin = len(data)
        data += raw(tensor)
        header[name] = entry(KINDS[tensor.dtype], list(tensor.shape), begin, len(data))
    return file_bytes(json.dumps(header).encode() + b" " * pad, data)


def entry(kind: object, shape: object, begin: object, end: object) -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("dtype", KINDS)
def test_every_type_comes_back_as_it_was(dtype: torch.dtype, file: Path) -> None:
    state = {"a": (torch.arange(6) - 2).to(dtype).reshape(2, 3), "b.c": torch.ones(2).to(dtype)}
    file.write_bytes(state_bytes(state, pad=7))
    found = read_safetensors(file)
    assert set(found) == {"a", "b.c"}
    for name, wanted in state.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], wanted)


def test_scalars_empty_tensors_and_files_without_tensors_are_fine(file: Path) -> None:
    state = {"scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4), "last": torch.ones(1)}
    file.write_bytes(state_bytes(state))
    found = read_safetensors(file)
    assert {k: tuple(v.shape) for k, v in found.items()} == {"scalar": (), "empty": (0, 4), "last": (1,)}
    file.write_bytes(file_bytes({}))
    assert read_safetensors(file) == {}


def test_the_order_of_the_header_need_not_be_that_of_the_data(file: Path) -> None:
    data = raw(torch.tensor([1.0, 2.0])) + raw(torch.tensor([3.0]))
    file.write_bytes(file_bytes({"late": entry("F32", [1], 8, 12), "early": entry("F32", [2], 0, 8)}, data))
    found = read_safetensors(file)
    assert (found["early"].tolist(), found["late"].tolist()) == ([1.0, 2.0], [3.0])


def test_bytes_other_than_0_and_1_become_sound_bools(file: Path) -> None:
    file.write_bytes(file_bytes({"b": entry("BOOL", [3], 0, 3)}, b"\x00\x01\x40"))
    assert read_safetensors(file)["b"].view(torch.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize("length", [640, 0x4B50, 208])  # 640 begins like a pickle, 0x4b50 like a zip archive
def test_content_decides_what_a_file_is_not_its_suffix(length: int, tmp_path: Path) -> None:
    state, path = {"a": torch.ones(3)}, tmp_path / "net.pth"
    short = int.from_bytes(state_bytes(state)[:8], "little")
    path.write_bytes(state_bytes(state, pad=length - short))
    assert weight_format(path) == "safetensors"
    assert torch.equal(read_state_dict(path)["a"], torch.ones(3))


def test_a_backbone_loads_from_safetensors(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    wanted = {k: torch.rand(v.shape) for k, v in net.state_dict().items() if v.is_floating_point()}
    (tmp_path / "w.bin").write_bytes(state_bytes(wanted))
    load_backbone_weights(net, tmp_path / "w.bin", name="tiny", folded=False)
    assert all(torch.equal(net.state_dict()[k], v) for k, v in wanted.items())


# ----------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": entry("F32", [1], 0, 4)}, b""),
        ({"a": entry("F32", [2], 0, 4)}, b"1234"),
        ({"a": entry("F32", [1], 4, 0)}, b"1234"),
        ({"a": entry("F33", [1], 0, 4)}, b"1234"),
        ({"a": entry(["F32"], [1], 0, 4)}, b"1234"),
        ({"a": entry("F8_E4M3", [4], 0, 4)}, b"1234"),
        ({"a": entry("F4", [8], 0, 4)}, b"1234"),
        ({"a": entry("C64", [1], 0, 8)}, b"12345678"),
        ({"a": entry("F32", [-1], 0, 4)}, b"1234"),
        ({"a": entry("F32", [True], 0, 4)}, b"1234"),
        ({"a": entry("F32", [1.0], 0, 4)}, b"1234"),
        ({"a": entry("F32", 1, 0, 4)}, b"1234"),
        ({"a": entry("F32", [1], "0", 4)}, b"1234"),
        ({"a": {"dtype": "F32", "shape": [1]}}, b"1234"),
        ({"a": {"dtype": "F32", "shape": [], "data_offsets": [0]}}, b""),
        ({"a": 7}, b""),
        ({"a": entry("F32", [2**40], 0, 2**42)}, b"1234"),
        ({"a": entry("F32", [2**40, 2**40], 0, 0)}, b""),
        ({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, b"123456"),
        ({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 3, 5)}, b"12345"),
        ({"a": entry("U8", [2], 0, 2)}, b"12345"),
        (b'{"a": 1, "a": 2}', b""),
        (b'{"a": ', b""),
        (b'{"\xff": 1}', b""),
        (b"[" * 100_000, b""),
        (b"[]", b""),
    ],
)
def test_a_header_that_claims_the_impossible_is_refused(header: object, data: bytes, file: Path) -> None:
    file.write_bytes(file_bytes(header, data))
    with pytest.raises(BadData, match=r"this safetensors file is damaged: \w+") as caught:
        read_safetensors(file)
    assert caught.value.where == str(file)
    assert caught.value.hint
    assert len(caught.value.what) <= 400


@pytest.mark.parametrize("length", [100, MOST_HEADER_BYTES, MOST_HEADER_BYTES + 1, 2**63])
def test_a_header_longer_than_the_file_or_the_limit_is_not_read(length: int, file: Path) -> None:
    file.write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(BadData, match=r"damaged: .*header"):
        read_safetensors(file)


def test_a_file_that_is_cut_off_anywhere_is_named(file: Path) -> None:
    whole = state_bytes({"a": torch.ones(2), "b": torch.ones(3, dtype=torch.int64)})
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(BadData, match="damaged"):
            read_safetensors(file)
        with pytest.raises(BadData):
            read_state_dict(file)


def test_a_garbled_file_is_read_or_named_and_nothing_else(file: Path) -> None:
    seed, draw = 77, random.Random(77)
    whole = state_bytes({"a": torch.ones(2), "b": torch.ones(3, dtype=torch.int64)})
    for turn in range(400):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 2, 6])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        file.write_bytes(data)
        try:
            read_safetensors(file)
        except BadData:
            continue
        except Exception as error:
            pytest.fail(f"seed {seed}, turn {turn}: {error!r}")
