"""Files made to harm: bombs, tables without end, fields of the wrong type, and plugins that hide others."""

from __future__ import annotations

import io
import json
import runpy
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from wsssbench.artifacts import ArtifactFolder
from wsssbench.cli.main import main
from wsssbench.dumps import read_dump
from wsssbench.errors import BadData, WsssError
from wsssbench.files.atomic import read_json
from wsssbench.nets.weights import read_safetensors, read_state_dict
from wsssbench.planning.recipe_loading import resolve_recipe
from wsssbench.planning.settings import Settings, load_settings
from wsssbench.plugins.table import Entry, Plugins
from wsssbench.records.finding import find_records
from wsssbench.records.store import read_record
from wsssbench.scores.counts_table import CountsTable
from wsssbench_datasets.coco14.instances import outlines
from wsssbench_datasets.folder.toml import read_description
from wsssbench_datasets.tag_files import read_xml_tags

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
stored = FAKE["stored_content"]
FILES = runpy.run_path(str(Path(__file__).parent / "fuzz" / "real_files.py"))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


# ----------------------------------------------------------------------------------------- tables without end

LONG_KEY = "a" + ".a" * 30_000 + " = 1\n"  # Python's own reader takes half a minute and gigabytes for it
TOMLS = {
    "a key of thirty thousand parts": LONG_KEY,
    "a table of thirty thousand parts": "[a" + ".a" * 30_000 + "]\n",
    "a key in an inline table": "a = {b" + " . b" * 200 + " = 1}\n",
    "a quoted key": "a" + '."b c"' * 200 + " = 1\n",
    "lists in lists": "a = " + "[" * 100_000,
    "tables in tables": "a = " + "{a = " * 20_000,
    "a giant": "# comment\n" * 200_000,
    "a number of a million digits": "a = " + "9" * 1_000_000,
}


@pytest.mark.parametrize("kind", TOMLS)
def test_toml_without_end_is_refused_in_bounded_time(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "dataset.toml"
    path.write_text(TOMLS[kind])
    for read in (lambda: load_settings(path, {}), lambda: read_description(tmp_path)):
        with pytest.raises(BadData) as caught:
            read()
        assert str(path) in caught.value.where
        assert len(str(caught.value)) < 1000


def test_a_long_sentence_and_a_few_dots_are_no_long_key(tmp_path: Path) -> None:
    path = tmp_path / "wsssbench.toml"
    path.write_text("# a.b.c " * 50 + '\n[methods.x]\nsteps = ["cam"]\noptions.cam.backbone = "small..."\n')
    assert load_settings(path, {}).recipes == {"x": ("cam",)}


JSONS = {
    "lists in lists": "[" * 200_000,
    "tables in tables": '{"a":' * 200_000,
    "not a number": '{"a": NaN}',
    "bytes": b"\xff\xfe\x00",
    "a number of thousands of digits": "1" * 10_000,
}


@pytest.mark.parametrize("kind", JSONS)
def test_json_without_end_is_refused(tmp_path: Path, kind: str) -> None:
    path, content = tmp_path / "record.json", JSONS[kind]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for read in (lambda: read_json(path, "baseline"), lambda: find_records(tmp_path)):
        with pytest.raises(BadData) as caught:
            read()
        assert caught.value.where == str(path)


def test_a_giant_record_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsssbench.files.atomic.MOST_JSON_BYTES", 1000)
    with pytest.raises(BadData, match="MiB"):
        read_record(stored(tmp_path))


WRONG: dict[str, Any] = {
    "identity/seed": "0",
    "identity/batch": None,
    "identity/supervision": "tags",
    "identity/recipe": {"name": "cam"},
    "identity/threshold": {"ids": []},
    "identity/terms/classes": [1, 2],
    "identity/terms/scales": ["1"],
    "identity/terms/limit": True,
    "identity/terms/crf": {"gauss_xy": "3"},
    "provenance/cards": {"cam": "small"},
    "provenance/dataset": [],
    "scores/iou": 60,
    "scores/iou/left_out": [99],
    "scores/iou/n_images": "40",
    "scores/iou/miou": 1e999,
    "timing": [],
    "key": 3,
}


@pytest.mark.parametrize("place", WRONG)
def test_a_field_of_another_type_is_refused_before_a_table_trusts_it(tmp_path: Path, place: str) -> None:
    path = stored(tmp_path, **{place: WRONG[place]})
    with pytest.raises(BadData, match="record is damaged") as caught:
        find_records(tmp_path)
    assert caught.value.where == str(path)


def test_coco_outlines_without_end_are_refused(tmp_path: Path) -> None:
    content = json.loads(FILES["instances"]()[0])
    path = tmp_path / "instances_val2014.json"
    for outline in ([0.0, 0.0, 9e4, 0.0] * 400, [1.0, 1.0, 1e9, 1.0, 4.0, 4.0], [1.0, 1.0, float("nan")] * 2):
        content["annotations"][0]["segmentation"] = [outline]
        path.write_text(json.dumps(content))
        with pytest.raises(BadData, match="annotation 1: its outline is damaged"):
            outlines(path)
    content["images"][0] |= {"height": 20_000, "width": 20_000}
    path.write_text(json.dumps(content))
    with pytest.raises(BadData, match="20000 x 20000 pixels: at most"):
        outlines(path)


def test_a_giant_annotation_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(b"<annotation>" + b"<object/>" * 500_000)
    with pytest.raises(BadData, match="too large"):
        read_xml_tags(path, ("cat",))


# ------------------------------------------------------------------------------------------------- bombs


def claiming(data: bytes, size: int) -> bytes:
    """A zip whose first member is said to unpack to `size` bytes."""
    entry = data.index(b"PK\x01\x02")
    return data[: entry + 24] + struct.pack("<I", size) + data[entry + 28 :]


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def huge_header() -> bytes:
    """An .npz of one array that is said to be (10**12,)."""
    header = io.BytesIO()
    about = {"descr": "<i8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(header, about)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("ids", "image", "gold", "predicted", "pixels", "classes", "values"):
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(1000))
    return buffer.getvalue()


NPZ_READERS: dict[str, Callable[[Path], Any]] = {
    "counts": CountsTable.load,
    "artifact": lambda path: ArtifactFolder(path.parent.parent).read("a", ["maps"]),
    "dump": lambda path: read_dump(path, 20),
}


@pytest.mark.parametrize("reader", NPZ_READERS)
@pytest.mark.parametrize("bomb", ["claims two gigabytes", "a header of a trillion", "objects"])
def test_an_npz_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, reader: str, bomb: str) -> None:
    path = tmp_path / "maps" / "a.npz"
    path.parent.mkdir()
    bombs = {
        "claims two gigabytes": lambda: claiming(npz(ids=np.zeros(9)), 2**31),
        "a header of a trillion": huge_header,
        "objects": lambda: npz(ids=np.array([{}], dtype=object)),
    }
    path.write_bytes(bombs[bomb]())
    with pytest.raises(BadData) as caught:
        NPZ_READERS[reader](path)
    assert caught.value.where == str(path)


def test_counts_that_claim_an_endless_shape_or_impossible_labels_are_refused(tmp_path: Path) -> None:
    one = np.zeros(1, np.int64)
    good = {"ids": np.array(["a"]), "image": one, "gold": one, "predicted": one, "pixels": one + 5}
    path = tmp_path / "counts.npz"
    path.write_bytes(npz(**good))
    assert CountsTable.load(path).pixels.tolist() == [5]
    wrong = {"gold": one + 256, "predicted": one - 1, "pixels": one - 5, "image": one + 1}
    for name, column in wrong.items():
        path.write_bytes(npz(**{**good, name: column}))
        with pytest.raises(BadData, match="do not fit each other"):
            CountsTable.load(path)
    endless = {"more/m/a/shape": np.array([10**9, 10**9]), "more/m/a/image": one, "more/m/a/cell": one}
    known = [name for name in np.load(io.BytesIO(FILES["counts"]()[0])).files if "/" in name]
    prefix = known[0].split("/")[0]
    members = {name.replace("more", prefix): value for name, value in endless.items()}
    path.write_bytes(npz(**good, **members, **{f"{prefix}/m/a/value": one}))
    with pytest.raises(BadData, match="has the impossible shape"):
        CountsTable.load(path)


def test_weights_in_a_compressed_zip_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(10**6)}, tmp_path / "good.pt")
    assert read_state_dict(tmp_path / "good.pt")["a"].numel() == 10**6
    packed = zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "good.pt") as good, packed as bomb:
        for name in good.namelist():
            bomb.writestr(name, good.read(name))
    assert (tmp_path / "bomb.pt").stat().st_size < 20_000
    with pytest.raises(BadData, match="compressed members"):
        read_state_dict(tmp_path / "bomb.pt")
    (tmp_path / "claim.pt").write_bytes(claiming((tmp_path / "good.pt").read_bytes(), 2**31))
    with pytest.raises(BadData, match=r"more bytes than it has|cannot read"):
        read_state_dict(tmp_path / "claim.pt")


def test_a_safetensors_header_of_hundreds_of_megabytes_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write((90_000_000).to_bytes(8, "little"))
        file.truncate(100_000_000)  # a hole: no bytes on the disk
    with pytest.raises(BadData, match="its header claims"):
        read_safetensors(path)


# ----------------------------------------------------------------------------------- plugins that hide others


class Step:
    """Stands for a step class."""


class WithStranger(Plugins):
    """One built-in step and a stranger's method of its name."""

    value = "evil:Method"

    def _installed(self) -> Iterator[Entry]:
        file = Path(__file__)
        yield Entry("steps", "crf", "good:Crf", "wsssbench", "1", None, Step)
        yield Entry("steps", "other", "good:Other", "wsssbench", "1", file, Step)
        yield Entry("methods", "other", "good:OTHER", "wsssbench", "1", file, ("other",))
        yield Entry("methods", "crf", self.value, "evil", "6.66", None, ("other",))


def test_a_strangers_method_cannot_hide_a_built_in_step() -> None:
    with pytest.raises(WsssError, match=r"'crf' is a method of evil 6\.66 and a step of wss") as caught:
        resolve_recipe("crf", WithStranger(), Settings())
    assert "evil:Method" in caught.value.where


def test_a_method_may_have_the_name_of_a_step_of_the_same_distribution() -> None:
    assert resolve_recipe("other", WithStranger(), Settings()).steps == (("other", Step),)


def test_a_plugin_file_cannot_hide_a_built_in_step_by_a_method(tmp_path: Path) -> None:
    file = tmp_path / "evil.py"
    file.write_text('RECIPES = {"reliable": ("constant",)}\n')
    run = ("run", "--plugin", file, "--method", "reliable", "--dataset", "shapes", "--dry-run")
    done = call(*run, "--runs", tmp_path / "runs")
    assert done.exit_code == 2
    assert "'reliable' is a method of file" in done.output
    assert "a step of wsssbench" in done.output
