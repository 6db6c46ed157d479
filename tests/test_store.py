"""Records survive the disk unchanged, files appear whole or not at all, damaged ones are named."""

from __future__ import annotations

import json
import os
import runpy
import stat
from pathlib import Path

import pytest

from wsssbench.errors import BadData, WsssError
from wsssbench.files import atomic
from wsssbench.identity import CrfSet, Record, content_key, plain
from wsssbench.records import store
from wsssbench.records.finding import find_records

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
fake_record, fake_terms = FAKE["fake_record"], FAKE["fake_terms"]


def test_a_record_is_read_back_equal_with_an_equal_key(tmp_path):
    terms = fake_terms(crf=plain(CrfSet(3, 3, 80, 13, 10)), limit=8, split_fingerprint="ab")
    record = fake_record("cam > crf", 3, terms=terms)
    path = store.write_record(tmp_path / "cell", record)
    again = store.read_record(path)
    assert isinstance(again, Record)
    assert again == record
    assert content_key(again.identity) == record.key
    assert content_key(again.identity.terms) == content_key(terms)
    assert store.read_record(tmp_path / "cell") == record  # the folder stands for its record


def test_a_record_file_has_the_same_bytes_every_time_and_sorted_keys(tmp_path):
    first = store.write_record(tmp_path / "a", fake_record()).read_bytes()
    assert first == store.write_record(tmp_path / "b", fake_record()).read_bytes()
    keys = list(json.loads(first))
    assert keys == sorted(keys)


def test_a_number_that_is_none_is_not_written(tmp_path):
    with pytest.raises(WsssError, match=r"cam.*record\.json"):
        store.write_record(tmp_path, fake_record(miou=float("nan")))
    assert not list(tmp_path.iterdir())


def damaged() -> dict[str, bytes]:
    whole = json.dumps(plain(fake_record())).encode()
    content = json.loads(whole)
    identity = content["identity"]
    less = {**identity, "terms": {k: v for k, v in identity["terms"].items() if k != "split"}}
    changed = {
        "newer": {**content, "schema": 99},
        "no schema": {k: v for k, v in content.items() if k != "schema"},
        "no identity": {"schema": 1, "key": "x"},
        "terms without split": {**content, "identity": less},
        "terms with more": {**content, "identity": {**identity, "terms": {**identity["terms"], "x": 1}}},
        "no recipe": {**content, "identity": {**identity, "recipe": None}},
        "status": {**content, "status": "great"},
        "scores": {**content, "scores": [1]},
        "no key": {k: v for k, v in content.items() if k != "key"},
        "list": [content],
    }
    files = {name: json.dumps(value).encode() for name, value in changed.items()}
    nan = whole.replace(b'"miou": 60.0', b'"miou": NaN')
    return {**files, "truncated": whole[:-40], "empty": b"", "bytes": b"\xff\xfe\x00", "nan": nan}


@pytest.mark.parametrize("name", list(damaged()))
def test_damaged_and_foreign_records_are_refused_by_name(tmp_path, name):
    (tmp_path / "record.json").write_bytes(damaged()[name])
    with pytest.raises(BadData, match=r"record\.json"):
        store.read_record(tmp_path / "record.json")
    with pytest.raises(BadData, match=r"record\.json"):
        find_records(tmp_path)


def test_a_record_with_an_unknown_extra_key_is_read(tmp_path):
    content = plain(fake_record()) | {"remark": "by hand"}
    (tmp_path / "record.json").write_text(json.dumps(content))
    assert store.read_record(tmp_path / "record.json") == fake_record()


def test_records_are_found_in_order_and_not_among_masks_and_steps(tmp_path):
    for method in ("rrm", "cam"):
        for seed in (1, 0):
            record = fake_record(method, seed)
            store.write_record(
                store.cell_folder(tmp_path, "shapes", method, seed, "seg", "val", record.key), record
            )
    (tmp_path / "shapes" / "steps" / "cam-1").mkdir(parents=True)
    (tmp_path / "shapes" / "steps" / "cam-1" / "record.json").write_text("something else")
    found = find_records(tmp_path)
    assert [(f.record.method, f.record.identity.seed) for f in found] == [
        ("cam", 0), ("cam", 1), ("rrm", 0), ("rrm", 1),
    ]  # fmt: skip
    assert find_records(found[0].path) == found[:1]
    with pytest.raises(BadData, match="nowhere"):
        find_records(tmp_path / "nowhere")


def test_cell_folder_is_readable_and_names_fit_for_a_folder():
    key = "0123456789abcdef"
    folder = store.cell_folder("runs", "shapes", "cam+crf", 2, "seg+crf", "val", key)
    assert folder == Path("runs/shapes/cam+crf/seed2/seg+crf-val-01234567")
    names = [
        "cam > crf",
        "cam-crf",
        "cam / crf",
        "../x",
        "..",
        "steps",
        "a" * 300,
        "ü",
        ".hidden",
        "cam:crf ",
    ]
    safe = [atomic.safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    for name in safe:
        assert len(name) < 100
        assert name not in ("..", ".", "", "steps")
        assert not set(name) & set("/\\:<>|?* ")
        assert not name.startswith(".")
    assert atomic.safe_name("cam > crf").startswith("cam-crf-")


def test_an_atomic_write_replaces_whole_files_and_leaves_no_other(tmp_path):
    atomic.atomic_write_text(tmp_path / "a" / "b.txt", "old")
    atomic.atomic_write_text(tmp_path / "a" / "b.txt", "new ä")
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == "new ä"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    atomic.atomic_write_text(tmp_path / "b.txt", "old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WsssError, match=r"No space left.*b\.txt"):
        atomic.atomic_write_text(tmp_path / "b.txt", "new")
    assert (tmp_path / "b.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_unwritable_folder_is_a_users_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WsssError, match=r"cannot write.*record\.json") as caught:
        store.write_record(tmp_path / "file" / "cell", fake_record())
    assert caught.value.code == 2


def test_a_synced_write_waits_for_the_bytes_before_the_rename_and_for_the_name_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, done = tmp_path / "file", list[tuple[str, bool]]()

    def synced(handle: int) -> None:
        done.append(("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file", target.exists()))

    monkeypatch.setattr(os, "fsync", synced)
    atomic.atomic_write_bytes(target, b"1")
    assert done == [("file", False), ("folder", True)]
    atomic.atomic_write_bytes(target, b"2", sync=False)
    assert len(done) == 2
