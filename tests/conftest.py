"""Fixtures that several test files use: small data on disk, and the way to shared reference data."""

from __future__ import annotations

import copy
import os
import runpy
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil

os.environ.setdefault(
    "GOMP_SPINCOUNT", "20000"
)  # before torch and numba are imported: see wsssbench.cli.main
# A shell's background job begins with Ctrl-C ignored, and so would every process that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
ROOT = Path(__file__).resolve().parents[1]
# `pytest -m core`: what a row means and how it is judged, in about a minute
CORE = (
    "artifacts contract earlier_runs judge kept_results layers masks metrics ops_energy options plan recipes "
    "reliable scores_confusion store terms thresholds view"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == ROOT / "tests" and item.path.stem.removeprefix("test_") in CORE.split():
            item.add_marker(pytest.mark.core)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """`shared("data/voc6")`: a path in the shared reference data; the test is skipped where it is absent."""
    base = Path(os.environ.get("WSSSBENCH_SHARED") or ROOT.parent / "shared")

    def find(name: str) -> Path:
        if not (base / name).exists():
            pytest.skip(f"shared reference data {name!r} is absent (WSSSBENCH_SHARED names its folder)")
        return base / name

    return find


# ------------------------------------------------------------------------------------------- a VOC tree

VOC_SPLITS = {
    "train": ("2007_000032", "2007_000039"),
    "train_aug": ("2007_000032", "2007_000039", "2008_000002", "2008_000003"),
    "val": ("2007_000033", "2007_000042"),
    "test": ("2008_000006",),
}
VOC_TAGS = {  # 0-based classes of the 20
    "2007_000032": (0, 14),
    "2007_000039": (19,),
    "2008_000002": (7,),
    "2008_000003": (11, 14),
    "2007_000033": (0,),
    "2007_000042": (18,),
}
XML = "<annotation><object><name>{}</name><difficult>{}</difficult>{}</object></annotation>"
XML_PART = "<part><name>head</name></part>"  # VOC names body parts too: no classes


@dataclass(frozen=True)
class VocTree:
    """A VOC tree of seven tiny images: `root`/VOCdevkit/VOC2012, tags both as `labels` and as XML."""

    root: Path
    splits: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(VOC_SPLITS))
    classes: dict[str, tuple[int, ...]] = field(default_factory=lambda: dict(VOC_TAGS))

    @property
    def tree(self) -> Path:
        return self.root / "VOCdevkit" / "VOC2012"

    @property
    def labels(self) -> Path:
        return self.root / "cls_labels.npy"

    def image(self, id: str) -> Path:
        return self.tree / "JPEGImages" / f"{id}.jpg"

    def mask(self, id: str, folder: str = "SegmentationClass") -> Path:
        return self.tree / folder / f"{id}.png"

    def list_file(self, split: str) -> Path:
        return self.tree / "ImageSets" / "Segmentation" / f"{split}.txt"

    def table(self) -> dict[str, np.ndarray]:
        """id -> (20,) float32 multi-hot, as in cls_labels.npy."""
        return {id: np.isin(np.arange(20), own).astype(np.float32) for id, own in self.classes.items()}

    def write_labels(self, table: dict[str, np.ndarray]) -> None:
        """`table` as the 0-d object array that cls_labels.npy is."""
        np.save(self.labels, np.array(table, dtype=object), allow_pickle=True)


def _write_voc_mask(path: Path, size: tuple[int, int], classes: tuple[int, ...], void: bool) -> None:
    """Stripes of the classes; the VOC form has a void row and a palette, the augmented form is grey."""
    mask = np.zeros(size, np.uint8)
    for row, k in enumerate(classes):
        mask[2 + 4 * row : 5 + 4 * row] = k + 1
    if void:
        mask[0] = 255
    picture = Pil.fromarray(mask)
    if void:
        picture.putpalette([(7 * i) % 256 for i in range(768)])
    picture.save(path)


def _write_voc_image(voc: VocTree, id: str, index: int, rng: np.random.Generator) -> None:
    size = (16 + index, 20 + 2 * index)
    Pil.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(voc.image(id), quality=90)
    if id not in voc.classes:
        return
    if id in voc.splits["train"] + voc.splits["val"]:
        _write_voc_mask(voc.mask(id), size, voc.classes[id], void=True)
    _write_voc_mask(voc.mask(id, "SegmentationClassAug"), size, voc.classes[id], void=False)


@pytest.fixture
def voc_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VocTree:
    """A fresh VOC tree under `tmp_path`/voc; digests are cached under `tmp_path`, not in the user's home."""
    from wsssbench_datasets.voc12.dataset import CLASS_NAMES

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    voc = VocTree(tmp_path / "voc")
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationClassAug"):
        (voc.tree / folder).mkdir(parents=True)
    (voc.tree / "ImageSets" / "Segmentation").mkdir(parents=True)
    rng = np.random.default_rng(12)
    for index, id in enumerate(dict.fromkeys(id for ids in voc.splits.values() for id in ids)):
        _write_voc_image(voc, id, index, rng)
    for split, ids in voc.splits.items():
        voc.list_file(split).write_text("\n".join(ids) + "\n")
    for id, classes in voc.classes.items():
        objects = "".join(XML.format(CLASS_NAMES[k], n % 2, XML_PART) for n, k in enumerate(classes))
        text = objects.replace("</annotation><annotation>", "")
        (voc.tree / "Annotations" / f"{id}.xml").write_text(text)
    voc.write_labels(voc.table())
    return voc


@pytest.fixture(scope="session")
def coco_template(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tree of COCO's shape as tests/coco_tree.py builds it; nobody writes into it."""
    build = runpy.run_path(str(Path(__file__).with_name("coco_tree.py")))["build"]
    return build(tmp_path_factory.mktemp("template") / "coco")


@pytest.fixture
def coco_tree(coco_template: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fresh tree of COCO's shape under `tmp_path`/coco."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    own = copy.deepcopy(coco_template)
    own.root = Path(shutil.copytree(coco_template.root, tmp_path / "coco"))
    return own


# ------------------------------------------------------------------------------------- how torch computes


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch computes in one thread: sums in a fixed order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fake_cuda() -> None:
    """Skips the test where torch cannot make up tensors on a GPU that is not there."""
    pytest.importorskip("torch", "2.15", reason="fake CUDA tensors of an older torch abort in a convolution")


# ------------------------------------------------------------------------------------------ Triton kernels


@pytest.fixture
def triton_device() -> Iterator[str]:
    """Where Triton's kernels run in this test: "cuda", compiled, or "cpu", in Triton's interpreter."""
    pytest.importorskip("triton", reason="Triton is not installed: its kernels cannot be tried")
    import torch

    if torch.cuda.is_available():
        yield "cuda"
        return
    reason = "the interpreter of an older Triton does not go with today's numpy"
    pytest.importorskip("triton", "3.9", reason=reason)
    with runpy.run_path(str(Path(__file__).with_name("triton_interpreter.py")))["interpreted"]():
        yield "cpu"
