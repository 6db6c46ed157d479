"""Tags from strangers' files: every form in circulation is read, nothing in a file is ever executed."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsssbench.errors import BadData
from wsssbench_datasets.tag_files import XmlTags, read_tag_file, read_xml_tags

NAMES = ("cat", "cow", "dog")
TABLE = {"2007_000032": np.array([1, 0, 1], np.float32), "2008_000003": np.array([0, 1, 0], np.float32)}
INT_TABLE = {np.int32(int(id.replace("_", ""))): value for id, value in TABLE.items()}
PLAIN_INT_TABLE = {int(key): value for key, value in INT_TABLE.items()}
TEXT_TABLE = {np.str_(id): value for id, value in TABLE.items()}
GENERATION = re.compile(rb"(\x8c.|c)numpy\._?core\.multiarray")  # SHORT_BINUNICODE length, or GLOBAL


def npy(payload: bytes, **header: Any) -> bytes:
    """An npy file of a 0-d object array whose pickle is `payload`."""
    file = io.BytesIO()
    whole = {"descr": "|O", "fortran_order": False, "shape": ()} | header
    np.lib.format.write_array_header_1_0(file, whole)
    return file.getvalue() + payload


def saved(table: object, protocol: int, module: bytes) -> bytes:
    """`table` as numpy of either generation saves it, without the frame of protocol 4: its length changes."""
    payload = pickle.dumps(np.array(table, dtype=object), protocol=protocol)
    if protocol >= 4:
        payload = payload[:2] + payload[11:]
    head = b"c" if protocol < 4 else b"\x8c" + bytes([len(module)])
    changed, count = GENERATION.subn(head + module, payload)
    assert count, "the module's name must be in the pickle for this test to mean anything"
    return npy(changed)


def written(path: Path, table: object) -> Path:
    np.save(path, np.array(table, dtype=object), allow_pickle=True)
    return path


class Payload:
    """Real malice: unpickled the ordinary way it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def assert_is_table(tags: dict[str, Any]) -> None:
    assert list(tags) == ["2007_000032", "2008_000003"]
    assert all(value.dtype == bool for value in tags.values())
    assert tags["2007_000032"].tolist() == [True, False, True]
    assert tags["2008_000003"].tolist() == [False, True, False]


@pytest.mark.parametrize(
    "table", [TABLE, INT_TABLE, PLAIN_INT_TABLE, TEXT_TABLE], ids=["str", "i4", "int", "U"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64", "bool", ">f4"])
def test_every_form_of_key_and_dtype_gives_the_same_tags(
    tmp_path: Path, table: dict[Any, Any], dtype: str
) -> None:
    stored = {key: value.astype(dtype) for key, value in table.items()}
    assert_is_table(read_tag_file(written(tmp_path / "t.npy", stored), 3))


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("table", [TABLE, INT_TABLE], ids=["str", "i4"])
def test_both_numpy_generations_are_read(tmp_path: Path, table: object, protocol: int, module: bytes) -> None:
    path = tmp_path / "t.npy"
    path.write_bytes(saved(table, protocol, module))
    assert_is_table(read_tag_file(path, 3))


def test_a_file_written_by_python_2_is_read(tmp_path: Path) -> None:
    dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    objects = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    vector = array + b"(K\x01K\x03\x85" + dtype + b"\x89U\x0c" + TABLE["2007_000032"].tobytes() + b"tb"
    table = b"}U\x0b2007_000032" + vector + b"s"
    path = tmp_path / "t.npy"
    path.write_bytes(npy(b"\x80\x02" + array + b"(K\x01)" + objects + b"\x89]" + table + b"atb."))
    assert read_tag_file(path, 3)["2007_000032"].tolist() == [True, False, True]


@pytest.mark.parametrize("place", ["value", "key", "inside an array", "beside the array"])
def test_a_payload_is_refused_by_name_and_never_run(tmp_path: Path, place: str) -> None:
    path, target = tmp_path / "t.npy", tmp_path / "made-by-the-payload"
    evil = Payload(target)
    table: Any = {"2007_000032": evil}
    if place == "key":
        table = {evil: TABLE["2007_000032"]}
    elif place == "inside an array":
        table = {"2007_000032": np.array([evil, 0, 0], dtype=object)}
    written(path, table)
    if place == "beside the array":
        path.write_bytes(npy(pickle.dumps((evil, table))))
    with pytest.raises(BadData, match=r"refused.*(posix|nt)\.mkdir") as caught:
        read_tag_file(path, 3)
    assert str(path) in str(caught.value)
    assert not target.exists()
    with contextlib.suppress(AttributeError, ValueError):
        np.load(path, allow_pickle=True)
    assert target.exists(), "the control: read the usual way, the payload works"


@pytest.mark.parametrize(
    "name", ["numpy ndarray.tofile", "numpy load", "builtins eval", "numpy.core.multiarray fromfile"]
)
def test_no_name_but_those_of_plain_arrays_is_known(tmp_path: Path, name: str) -> None:
    module, attribute = name.split()
    path = tmp_path / "t.npy"
    path.write_bytes(npy(f"c{module}\n{attribute}\n.".encode()))
    with pytest.raises(BadData, match=re.escape(f"{module}.{attribute}")):
        read_tag_file(path, 3)


BAD_TABLES = {
    "another length": ({"2007_000032": np.zeros(4, np.float32)}, r"2007_000032.*shape \(4,\), not \(3,\)"),
    "two axes": ({"2007_000032": np.zeros((3, 1), np.float32)}, r"shape \(3, 1\)"),
    "a half": ({"2007_000032": np.array([0, 0.5, 1])}, r"2007_000032.*value 0\.5"),
    "not a number": ({"2007_000032": np.array([0, np.nan, 1])}, r"value nan"),
    "objects": ({"2007_000032": np.array([0, 1, None], object)}, r"values of type O8"),
    "no array": ({"2007_000032": "cat"}, r"a str, not an array"),
    "a key of floats": ({2007.5: TABLE["2007_000032"]}, r"key of type float"),
    "one id twice": (
        {"2007_000032": TABLE["2007_000032"], 2007000032: TABLE["2007_000032"]},
        r"2007_000032 occurs twice",
    ),
    "no dict": (["2007_000032"], r"not one dict"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_table_with_foreign_content_is_one_clear_error(tmp_path: Path, case: str) -> None:
    table, message = BAD_TABLES[case]
    path = written(tmp_path / "t.npy", table)
    with pytest.raises(BadData, match=message) as caught:
        read_tag_file(path, 3)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    "content", [b"", b"not npy", b"\x93NUMPY", npy(b""), npy(b"N."), npy(pickle.dumps(TABLE))]
)
def test_a_file_that_is_no_table_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.npy"
    path.write_bytes(content)
    with pytest.raises(BadData, match="cannot read this file"):
        read_tag_file(path, 3)


def test_a_missing_tag_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"does not exist.*gone\.npy"):
        read_tag_file(tmp_path / "gone.npy", 3)


def test_damaged_bytes_give_tags_or_one_clear_error(tmp_path: Path) -> None:
    seed = 7
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    path = written(tmp_path / "t.npy", TABLE)
    good = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(400):
        bad = good[: rng.integers(1, len(good) + 1)].copy()
        bad[rng.integers(0, len(bad), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(bad.tobytes())
        try:
            tags = read_tag_file(path, 3)
        except BadData:
            continue
        assert all(value.shape == (3,) and value.dtype == bool for value in tags.values())


# --------------------------------------------------------------------------------------------------- XML


def xml(path: Path, body: str, head: str = "") -> Path:
    path.write_text(f"{head}<annotation><folder>VOC2012</folder>{body}</annotation>")
    return path


def test_xml_objects_are_tags_also_when_difficult_and_parts_are_not(tmp_path: Path) -> None:
    body = (
        "<object><name>dog</name><difficult>1</difficult></object>"
        "<object><name>cat</name><part><name>head</name></part></object>"
        "<object><name>cat</name></object>"
    )
    assert read_xml_tags(xml(tmp_path / "a.xml", body), NAMES).tolist() == [True, False, True]


def test_an_unknown_class_in_xml_is_named_with_its_file(tmp_path: Path) -> None:
    path = xml(tmp_path / "a.xml", "<object><name>unicorn</name></object>")
    with pytest.raises(BadData, match=r"'unicorn'.*a\.xml"):
        read_xml_tags(path, NAMES)


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE annotation [<!ENTITY a "dog">]>',
        '<!DOCTYPE annotation SYSTEM "file:///etc/hostname">',
        '<?xml version="1.0" encoding="latin-1"?>\n<!DOCTYPE annotation>',
    ],
)
def test_xml_that_declares_a_document_type_is_refused(tmp_path: Path, head: str) -> None:
    path = xml(tmp_path / "a.xml", "<object><name>dog</name></object>", head)
    with pytest.raises(BadData, match=r"refused.*a\.xml"):
        read_xml_tags(path, NAMES)


@pytest.mark.parametrize("encoding", ["utf-16", "cp037", "utf-7"])
def test_no_encoding_hides_a_document_type(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.xml"
    body = (
        '<!DOCTYPE annotation [<!ENTITY a "dog">]><annotation><object><name>&a;</name></object></annotation>'
    )
    declaration = f'<?xml version="1.0" encoding="{encoding}"?>'
    path.write_bytes(declaration.encode() + body.encode(encoding))
    with pytest.raises(BadData):
        read_xml_tags(path, NAMES)
    path.write_bytes((declaration + body).encode(encoding))
    with pytest.raises(BadData):
        read_xml_tags(path, NAMES)


def test_damaged_xml_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<annotation><object>")
    with pytest.raises(BadData, match=r"damaged.*a\.xml"):
        read_xml_tags(path, NAMES)


def test_xml_tags_are_a_mapping_over_the_folder(tmp_path: Path) -> None:
    xml(tmp_path / "b.xml", "<object><name>cow</name></object>")
    xml(tmp_path / "a.xml", "")
    tags = XmlTags(tmp_path, NAMES)
    assert list(tags) == ["a", "b"]
    assert len(tags) == 2
    assert "b" in tags
    assert "c" not in tags
    assert tags["b"].tolist() == [False, True, False]
    with pytest.raises(KeyError):
        tags["c"]
