"""Pickles from strangers: real payloads are refused by name and never run, damage is one clear error."""

from __future__ import annotations

import builtins
import contextlib
import copyreg
import io
import os
import pickle
import pickletools
import random
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsssbench.dumps import read_dump
from wsssbench.dumps.numpy_pickles import NUMPY_NAMES
from wsssbench.dumps.safe_pickle import Stored, load_pickle
from wsssbench.dumps.torch_pickles import torch_names
from wsssbench.errors import BadData

CLASSES = 20
MAP = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)


def npy(payload: bytes) -> bytes:
    """An .npy file of an object array without axes whose pickle is `payload`."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
    return buffer.getvalue() + payload


def pickled_array(item: object, protocol: int) -> bytes:
    return npy(pickle.dumps(np.array(item, dtype=object), protocol=protocol))


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def stack_global(module: str, name: str) -> bytes:
    return short(module) + short(name) + b"\x93"


class Call:
    """Unpickled the ordinary way, it calls `function` with `arguments`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "made-by-the-payload"


def assert_refused(path: Path, data: bytes, marker: Path, name: str = "") -> None:
    path.write_bytes(data)
    with pytest.raises(BadData, match=rf"refused.*{name}") as caught:
        read_dump(path, CLASSES)
    assert caught.value.where == str(path)
    assert caught.value.hint
    assert not marker.exists()


# ------------------------------------------------------------------------------------- payloads that call

WRITES: dict[str, Callable[[Path], Call]] = {
    "system": lambda marker: Call(os.system, f"touch {marker}"),
    "mkdir": lambda marker: Call(os.mkdir, str(marker)),
    "eval": lambda marker: Call(builtins.eval, f"open({str(marker)!r}, 'w').close()"),
    "exec": lambda marker: Call(builtins.exec, f"open({str(marker)!r}, 'w').close()"),
    "open": lambda marker: Call(builtins.open, str(marker), "w"),
    "tofile": lambda marker: Call(np.ndarray.tofile, MAP, str(marker)),
    "getattr": lambda marker: Call(builtins.getattr, "text", "encode"),
    "fromfile": lambda marker: Call(np.fromfile, str(marker)),
    "torch.load": lambda marker: Call(torch.load, str(marker)),
}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("case", WRITES)
@pytest.mark.parametrize("place", ["value", "key", "alone", "in a list"])
def test_a_payload_is_refused_and_never_run(
    tmp_path: Path, marker: Path, case: str, protocol: int, place: str
) -> None:
    evil = WRITES[case](marker)
    item = {"value": {0: MAP, 1: evil}, "key": {evil: MAP}, "alone": evil, "in a list": {0: [[evil]]}}[place]
    assert_refused(tmp_path / "a.npy", pickled_array(item, protocol), marker)


@pytest.mark.parametrize("case", ["system", "mkdir", "exec"])
def test_the_payloads_work_where_a_file_is_read_the_usual_way(
    tmp_path: Path, marker: Path, case: str
) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(pickled_array({0: WRITES[case](marker)}, 4))
    handle = np.load(path, allow_pickle=True)
    assert handle is not None
    assert marker.exists(), "the control: otherwise the tests above would prove nothing"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "ndarray.__reduce__"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy._core.multiarray", "fromfile"),
        ("numpy.f2py.crackfortran", "getlincoef"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy", "f2py.capi_maps.os.system"),
        ("collections", "OrderedDict.__init_subclass__"),
        ("collections", "namedtuple"),
        ("torch.storage", "_load_from_bytes.__globals__"),
        ("torch.storage", "torch.load"),
        ("torch._utils", "_rebuild_qtensor"),
        ("torch.jit", "load"),
        ("torch", "load"),
        ("_codecs", "decode"),
        ("functools", "partial"),
        ("operator", "attrgetter"),
        ("wsssbench.dumps.safe_pickle", "load_pickle"),
    ],
)
@pytest.mark.parametrize("opcode", ["GLOBAL", "STACK_GLOBAL", "INST"])
def test_a_name_that_is_not_in_the_table_is_refused_by_its_name(
    tmp_path: Path, marker: Path, module: str, name: str, opcode: str
) -> None:
    payload = {
        "GLOBAL": f"c{module}\n{name}\n(X\x04\x00\x00\x00echotR.".encode(),
        "STACK_GLOBAL": b"\x80\x04" + stack_global(module, name) + short("echo") + b"\x85R.",
        "INST": f"(X\x04\x00\x00\x00echoi{module}\n{name}\n.".encode(),
    }[opcode]
    assert_refused(tmp_path / "a.npy", npy(payload), marker, f"{module}.{name}".replace(".", r"\."))


def test_what_only_stands_for_a_type_cannot_be_called(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "a.npy"
    for name in (b"cnumpy\nndarray\n", b"ctorch\nFloatStorage\n"):
        for call in (b"(tR.", b"(t\x81.", b"(o."):
            path.write_bytes(npy(name + call if call != b"(o." else b"(" + name + b"o."))
            with pytest.raises(BadData, match=r"cannot be called|asks for code"):
                read_dump(path, CLASSES)
    assert not marker.exists()


def test_a_name_made_of_something_else_than_text_is_refused(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(npy(b"\x80\x04K\x01K\x02\x93."))
    with pytest.raises(BadData, match="a damaged pickle"):
        read_dump(path, CLASSES)
    assert not marker.exists()


@pytest.fixture
def extension() -> Iterator[int]:
    """A code of the extension registry that stands for os.mkdir."""
    copyreg.add_extension("os", "mkdir", 200)
    try:
        yield 200
    finally:
        copyreg.remove_extension("os", "mkdir", 200)


@pytest.mark.parametrize("opcode", [b"\x82\xc8", b"\x83\xc8\x00", b"\x84\xc8\x00\x00\x00"])
def test_an_extension_code_is_refused(tmp_path: Path, marker: Path, extension: int, opcode: bytes) -> None:
    payload = b"\x80\x02" + opcode + short(str(marker)) + b"\x85R."
    assert_refused(tmp_path / "a.npy", npy(payload), marker, rf"code \(extension {extension}\)")


@pytest.mark.parametrize("payload", [b"Pos.system\n.", b"\x80\x02X\x02\x00\x00\x00osQ.", b"\x80\x02(ooQ."])
def test_a_persistent_id_in_an_npy_file_is_refused(tmp_path: Path, marker: Path, payload: bytes) -> None:
    if b"oo" in payload:
        payload = b"\x80\x02" + short("storage") + b"\x85Q."
    assert_refused(tmp_path / "a.npy", npy(payload), marker, "persistent id")


def test_the_state_of_a_stand_in_stays_inert(tmp_path: Path, marker: Path) -> None:
    state = b"}(X\x0c\x00\x00\x00__setstate__X\x05\x00\x00\x00printX\x09\x00\x00\x00__class__Nu"
    for build in (b"cnumpy.core.multiarray\n_reconstruct\n)R" + state + b"b.", b"}" + state + b"b.", b"]Nb."):
        path = tmp_path / "a.npy"
        path.write_bytes(npy(build))
        with pytest.raises(BadData, match=r"an array of objects|a state for what has none"):
            read_dump(path, CLASSES)
    assert not marker.exists()


# ----------------------------------------------------------------------------------- payloads inside torch


def legacy(item: object, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    torch.save(item, buffer, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    return buffer.getvalue()


def zipped(item: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(item, buffer)
    return buffer.getvalue()


def wrapped(inner: bytes, protocol: int = 4) -> bytes:
    """An .npy dict whose value asks torch to load `inner`."""
    return pickled_array({"keys": Call(torch.storage._load_from_bytes, inner)}, protocol)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("save", [legacy, zipped, pickle.dumps, lambda evil: legacy({"a": [evil]})])
def test_a_payload_inside_a_torch_storage_is_refused(
    tmp_path: Path, marker: Path, save: Callable[[object], bytes], protocol: int
) -> None:
    inner = save(WRITES["mkdir"](marker))
    assert_refused(tmp_path / "a.npy", wrapped(inner, protocol), marker, r"(posix|nt)\.mkdir")


@pytest.mark.parametrize("save", [legacy, zipped])
def test_a_payload_in_a_torch_file_is_refused(
    tmp_path: Path, marker: Path, save: Callable[[object], bytes]
) -> None:
    evil = {"keys": torch.tensor([1]), "cam": WRITES["system"](marker)}
    assert_refused(tmp_path / "a.pt", save(evil), marker, r"(posix|nt)\.system")


def test_torch_files_do_not_nest(tmp_path: Path, marker: Path) -> None:
    inner = legacy(torch.zeros(2).untyped_storage())
    for _ in range(3):
        inner = legacy(Call(torch.storage._load_from_bytes, inner))
    assert_refused(tmp_path / "a.npy", wrapped(inner), marker, r"torch\.storage\._load_from_bytes")


@pytest.mark.parametrize(
    "id",
    [
        "os.system",
        ("module", dict, "a.py", "import os"),
        ("storage", "os", "0", "cpu", 1),
        ("storage", None, "0", "cpu", 1, None),
        ("storage", "FloatStorage", "../../x", "cpu", 1),
        (),
        ("storage",),
    ],
)
def test_a_persistent_id_that_is_no_storage_is_one_clear_error(
    tmp_path: Path, marker: Path, id: object
) -> None:
    class Evil(pickle.Pickler):
        def persistent_id(self, item: object) -> object:
            return id if isinstance(item, Call) else None

    stream = io.BytesIO()
    Evil(stream, protocol=2).dump(Call(print))
    path = tmp_path / "a.pt"
    good = legacy(None)
    path.write_bytes(good[: good.index(b"\x80\x02N.")] + stream.getvalue() + b"\x80\x02]q\x00.")
    with pytest.raises(BadData, match=r"persistent id|refused"):
        read_dump(path, CLASSES)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a/data.pkl", stream.getvalue())
    path.write_bytes(archive.getvalue())
    with pytest.raises(BadData, match=r"persistent id|refused"):
        read_dump(path, CLASSES)


# ------------------------------------------------------------------------------------------------- bombs

BOMBS = {
    "nested lists": b"(" + b"]" * 50_000 + b"a" * 49_999 + b"t.",
    "nested tuples": b")" + b"\x85" * 50_000 + b".",
    "nested dicts": b"N" + b"}NNs" * 3 + b".",
    "many marks": b"(" * 100_000 + b".",
    "a huge memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "a huge text": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b"a.",
    "more than any size": b"\x80\x04\x8e" + struct.pack("<Q", 2**64 - 1) + b"a.",
    "a huge bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**45) + b"a.",
    "a huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",
    "a huge number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"a.",
    "a number of many digits": b"I" + b"9" * 100_000 + b"\n.",
    "bytes by count": b"cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.",
    "a key that hashes for ever": b")" + b"2\x86" * 60 + b"q\x00}h\x00Ns.",
    "the same by memo": b"\x80\x02)" + b"q\x01h\x01\x86" * 60 + b"q\x02}h\x02Ns.",
    "colliding keys": b"}(" + b"".join(f"L{i * (2**61 - 1)}L\nN".encode() for i in range(20_000)) + b"u.",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_one_clear_error(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(npy(BOMBS[bomb]))
    with pytest.raises(BadData, match="cannot read this file") as caught:
        read_dump(path, CLASSES)
    assert caught.value.where == str(path)
    assert len(str(caught.value)) < 1000 + len(str(path))


def test_a_pickle_of_more_steps_than_any_table_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsssbench.dumps.safe_pickle.MOST_STEPS", 100)
    assert load_pickle(io.BytesIO(b"(" + b"N" * 97 + b"t."), "here", {}) == (None,) * 97
    with pytest.raises(ValueError, match="too many opcodes"):
        load_pickle(io.BytesIO(b"(" + b"N" * 98 + b"t."), "here", {})


@pytest.mark.parametrize("parts", [(0, 5), (0, (2,)), (2**50, (1,)), (0, (2**50,)), (-1, (1,)), (0, ())])
def test_a_tensor_whose_places_do_not_fit_is_one_clear_error(tmp_path: Path, parts: tuple[Any, Any]) -> None:
    storage = torch.zeros(4)._typed_storage()
    offset, stride = parts
    tensor = Call(torch._utils._rebuild_tensor_v2, storage, offset, (4,), stride, False, OrderedDict())
    path = tmp_path / "a.npy"
    path.write_bytes(pickled_array({"keys": [1], "high_res": tensor}, 4))
    with pytest.raises(BadData, match=r"high_res is damaged"):
        read_dump(path, CLASSES)


def test_a_list_that_holds_itself_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    item: list[Any] = []
    item.append(item)
    for found in (item, {0: item}, {"keys": item, "high_res": item}):
        path.write_bytes(pickled_array({0: found}, 2))
        with pytest.raises(BadData):
            read_dump(path, CLASSES)


def laughs() -> list[Any]:
    """A list of lists of lists ...: 10**40 items in a kilobyte of pickle."""
    item: list[Any] = [1] * 10
    for _ in range(39):
        item = [item] * 10
    return item


@pytest.mark.parametrize("where", ["classes", "maps", "a map"])
def test_a_list_of_ever_more_lists_is_refused_before_it_grows(tmp_path: Path, where: str) -> None:
    bomb = laughs()
    keys = {"keys": bomb if where == "classes" else [1], "high_res": bomb if where == "maps" else MAP[None]}
    path = tmp_path / "a.npy"
    buffer = io.BytesIO()
    pickle.Pickler(buffer, 2).dump({5: bomb} if where == "a map" else keys)
    array = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01)cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R\x89]"
    path.write_bytes(npy(b"\x80\x02" + array + buffer.getvalue()[2:-1] + b"atb."))
    with pytest.raises(BadData, match="holds a list, not an array"):
        read_dump(path, CLASSES)


@pytest.mark.parametrize("module", ["_codecs", "torch.storage"])
def test_the_same_bytes_are_copied_once_however_often_a_pickle_asks(module: str, tmp_path: Path) -> None:
    long = pickle.dumps("x" * 1_000_000, protocol=2)[2:-1]  # memo 0
    head = b"\x80\x02(" + long + b"X\x06\x00\x00\x00latin1q\x01"
    if module == "_codecs":
        load = b"c_codecs\nencode\nh\x00h\x01\x86R"
    else:
        storage = legacy(torch.zeros(250_000)._typed_storage())
        head = b"\x80\x04(B" + struct.pack("<I", len(storage)) + storage + b"q\x00"
        load = b"ctorch.storage\n_load_from_bytes\nh\x00\x85R"
    tracemalloc.start()
    load_pickle(io.BytesIO(head + load * 1000 + b"t."), "here", torch_names("here"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


# --------------------------------------------------------------------------------------- what is allowed


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_plain_values_come_back_as_python_reads_them(protocol: int) -> None:
    value = {
        "text": ["ä", "", "x" * 300, None, True, False],
        "numbers": (0, -1, 255, 70_000, 2**40, -(2**70), 0.5, float("inf")),
        "bytes": [b"\x00\xff", b"", b"y" * 70_000],
        7: OrderedDict(a=1),
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    }
    payload = pickle.dumps(value, protocol=protocol)
    stream = io.BytesIO(payload + b"after")
    if protocol < 3 and b"_codecs" not in payload:
        pytest.fail("protocols before 3 keep bytes as calls")
    if protocol < 3:  # there they are calls, which would copy the same bytes again and again
        value["bytes"] = ["\x00\xff", b"", "y" * 70_000]
    assert load_pickle(stream, "here", NUMPY_NAMES) == value
    assert stream.read() == b"after"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "i8", "u1", "?", "U5"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_as_numpy_reads_them(protocol: int, dtype: str, order: str) -> None:
    array = np.asarray(np.arange(6).reshape(2, 3).astype(dtype), order=order)  # type: ignore[call-overload]
    found = load_pickle(io.BytesIO(pickle.dumps(array, protocol=protocol)), "here", NUMPY_NAMES)
    assert isinstance(found, Stored)
    np.testing.assert_array_equal(found.value(), array)


@pytest.mark.parametrize("code", ["O8", "V4", "M8", "m8", "c8", "f16", "S5", "U9999", "i3", "f4,f4", 5])
def test_a_forged_dtype_is_never_made(code: object) -> None:
    dtype = b"cnumpy\ndtype\n" + pickle.dumps(code, protocol=2)[2:-1] + b"\x85R"
    array = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x02\x85" + dtype + b"\x89C\x08abcdefghtb."
    found = load_pickle(io.BytesIO(array), "here", NUMPY_NAMES)
    with pytest.raises(ValueError, match="values of type"):
        found.value()


# -------------------------------------------------------------------------------------------------- fuzz


def valid_files() -> list[bytes]:
    irn = {"keys": torch.tensor([3, 7]), "cam": torch.rand(2, 2, 3), "high_res": np.stack([MAP, MAP])}
    saved = io.BytesIO()
    np.savez(saved, classes=np.array([3]), values=MAP[None].astype(np.float16))
    plain = io.BytesIO()
    np.save(plain, np.random.default_rng(0).normal(size=(21, 2, 3)).astype(np.float32))
    objects = [pickled_array(irn, 4), pickled_array({3: MAP}, 2), pickled_array(irn, 2)]
    return [*objects, saved.getvalue(), plain.getvalue(), legacy(irn), zipped(irn)]


FILES = valid_files()


@pytest.mark.parametrize("index", range(len(FILES)))
def test_every_truncation_is_one_clear_error(tmp_path: Path, index: int) -> None:
    path, data = tmp_path / "a.npy", FILES[index]
    path.write_bytes(data)
    assert read_dump(path, CLASSES)
    for end in random.Random(index).sample(range(len(data)), 40):
        path.write_bytes(data[:end])
        with pytest.raises(BadData):
            read_dump(path, CLASSES)


@settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    index=st.integers(0, len(FILES) - 1),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4), st.integers(0, 4)), max_size=4),
)
def test_damage_gives_a_dump_or_one_clear_error(
    tmp_path: Path, index: int, edits: list[tuple[float, bytes, int]]
) -> None:
    data = bytearray(FILES[index])
    for place, new, old in edits:
        at = int(place * len(data))
        data[at : at + old] = new
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    try:
        dump = read_dump(path, CLASSES)
    except BadData as error:
        place = error.where
    else:
        place = str(path) if dump.format else ""
    assert place == str(path)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(pickletools.opcodes), max_size=12), st.binary(max_size=30))
def test_any_sequence_of_opcodes_gives_a_value_or_one_clear_error(opcodes: list[Any], tail: bytes) -> None:
    payload = b"".join(opcode.code.encode("latin1") + tail[:2] for opcode in opcodes) + b"."
    with contextlib.suppress(BadData, ValueError):
        load_pickle(io.BytesIO(payload), "here", NUMPY_NAMES)
