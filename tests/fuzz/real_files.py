"""Small real files for every reader of strangers' files, and how to damage them: where fuzzing begins."""

from __future__ import annotations

import io
import json
import pickle
import random
import runpy
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pil

TESTS = Path(__file__).resolve().parents[1]
CLASSES = 20
IDS = ("2007_000032", "2007_000039")
MASK = (np.arange(12, dtype=np.uint8) % 4).reshape(3, 4)
MAP = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)


def fake() -> dict[str, Any]:
    """The made-up records of tests/fake_records.py."""
    return runpy.run_path(str(TESTS / "fake_records.py"))


def _written(write: Callable[[Path], Any], name: str = "file") -> bytes:
    """The bytes that `write` puts into a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def _packed(save: Callable[..., Any], *items: Any, **named: Any) -> bytes:
    """The bytes that one of numpy's functions writes."""
    buffer = io.BytesIO()
    save(buffer, *items, **named)
    return buffer.getvalue()


def _saved(pixels: Any, form: str, mode: str = "", **more: Any) -> bytes:
    buffer = io.BytesIO()
    picture = Pil.fromarray(pixels)
    picture = picture.convert("L") if mode.startswith("I") else picture  # an older Pillow knows no other way
    (picture.convert(mode) if mode else picture).save(buffer, form, **more)
    return buffer.getvalue()


def images() -> list[bytes]:
    """Photographs in every format that is read, one with EXIF data."""
    pixels = np.random.default_rng(1).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    turned = Pil.Exif()
    turned[0x0112] = 6
    found = [_saved(pixels, form) for form in ("JPEG", "PNG", "BMP", "WEBP", "TIFF")]
    found += [_saved(pixels, "JPEG", mode) for mode in ("L", "CMYK")]
    found += [_saved(pixels, "PNG", mode) for mode in ("L", "P", "RGBA", "1", "I;16")]
    found += [_saved(pixels, "TIFF", compression=how) for how in ("tiff_lzw", "tiff_deflate", "packbits")]
    return [
        *found,
        _saved(pixels, "JPEG", exif=turned.tobytes()),
        _saved(pixels, "PNG", exif=turned.tobytes()),
    ]


def masks() -> list[bytes]:
    """Label maps."""
    from wsssbench.masks import voc_palette, write_labels

    grey = [_saved(MASK, form) for form in ("PNG", "BMP", "TIFF")]
    deep = _saved(MASK.astype(np.uint16), "PNG")
    return [_written(lambda path: write_labels(path, MASK)), *grey, deep, _saved(voc_palette()[MASK], "PNG")]


def array_files() -> list[bytes]:
    """What other repositories write with numpy and torch."""
    import torch

    maps = {0: MAP, 7: MAP}
    objects = [maps, {"keys": np.array([0, 7]), "high_res": np.stack([MAP, MAP])}]
    found = [_packed(np.save, np.array(one, object)) for one in objects]
    found += [_packed(np.save, MAP), pickle.dumps(maps)]
    arrays = {"classes": np.array([0, 7]), "values": np.stack([MAP, MAP])}
    found += [_packed(save, **arrays) for save in (np.savez, np.savez_compressed)]
    tensors = {"msc_seg": torch.zeros(1, CLASSES + 1, 2, 2), "other": torch.ones(2, dtype=torch.bfloat16)}
    for new in (True, False):
        found.append(_torch(tensors, new))
    return found


def _torch(value: Any, new: bool = True) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


def weight_files() -> list[bytes]:
    """State dicts as torch, safetensors and MXNet write them."""
    import torch

    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 2), torch.nn.BatchNorm2d(2))
    state = net.state_dict()
    return [_torch(state), _torch({"state_dict": dict(state)}, False), *safetensors_files(), *mxnet_files()]


def safetensors_files() -> list[bytes]:
    tensor = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    flags = {"dtype": "BOOL", "shape": [4], "data_offsets": [24, 28]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "a.weight": tensor, "b": flags}).encode()
    return [len(header).to_bytes(8, "little") + header + bytes(range(28))]


def mxnet_files() -> list[bytes]:
    known = runpy.run_path(str(TESTS / "test_mxnet_params.py"))
    arrays = [known["array_bytes"](form, np.ones((2, 3), np.float32)) for form in known["FORMS"]]
    return [known["list_bytes"](arrays, [f"arg:w{k}" for k in range(len(arrays))])]


def tag_pickles() -> list[bytes]:
    table = {id: np.eye(CLASSES, dtype=np.float32)[k] for k, id in enumerate(IDS)}
    numbers = {2007000032: np.ones(CLASSES, np.int64)}
    return [_packed(np.save, np.array(one, object)) for one in (table, numbers)]


def records() -> list[bytes]:
    from wsssbench.identity import plain

    made = fake()
    crf = {"gauss_xy": 3, "gauss_compat": 3, "bilateral_xy": 64, "bilateral_rgb": 5, "bilateral_compat": 10}
    found = [
        made["fake_record"](),
        made["fake_record"]("rrm", 1, reason="out of memory"),
        made["fake_record"](terms=made["fake_terms"](crf={**crf, "iterations": 10}, stage="seg+crf")),
    ]
    return [json.dumps(plain(record)).encode() for record in found]


def archives() -> list[bytes]:
    """Records as `wsssbench export records` packs them."""
    found = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", kind) as archive:
            archive.writestr("shapes/cam/seed0/seg-val-12345678/record.json", records()[0])
            archive.writestr("shapes/cam/seed0/seg-val-12345678/counts.npz", counts()[0])
        found.append(buffer.getvalue())
    return found


def counts() -> list[bytes]:
    from wsssbench.scores.counts_table import CountsTable
    from wsssbench.scores.image_counts import ImageArrays

    triples = {"gold": np.array([0, 1]), "predicted": np.array([0, 255]), "pixels": np.array([9, 3])}
    more = {"boundary": {"hits": ImageArrays((3,), *(np.array([k], np.int64) for k in (0, 2, 5)))}}
    return [_written(CountsTable.of(IDS, [triples, triples], more).save)]


def maps() -> list[bytes]:
    arrays = {"classes": np.array([0, 7]), "values": np.stack([MAP, MAP]).astype(np.float16)}
    return [_packed(np.savez, **arrays)]


def voc_archives() -> list[bytes]:
    from wsssbench.dumps import write_voc_archive

    sizes = dict.fromkeys(IDS, (3, 4))
    return [_written(lambda path: write_voc_archive(lambda id: MASK, IDS, sizes, path, "comp5"))]


def baselines() -> list[bytes]:
    row = {"method": "cam", "dataset": "shapes", "stage": "seg", "terms": "0" * 64, "metric": "miou"}
    row |= {"mean": 60.0, "tolerance": 1.0, "n": 2, "seeds": {"0": 60.0, "1": 60.0}}
    return [json.dumps({"schema": 1, "rows": [row]}).encode()]


def instances() -> list[bytes]:
    """An instances file with a polygon, a run-length crowd and two images."""
    from wsssbench_datasets.coco14.classes import CATEGORIES

    categories = [{"id": k, "name": CATEGORIES[k]} for k in list(CATEGORIES)[:3]]
    pictures = [{"id": k, "height": 6, "width": 8} for k in (1, 2)]
    square = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 9.0}
    runs = {"size": [6, 8], "counts": [6, 12, 30]}
    crowd = {"id": 2, "image_id": 2, "category_id": 2, "iscrowd": 1, "area": 12, "segmentation": runs}
    outline = {**square, "segmentation": [[1.0, 1.0, 4.0, 1.0, 4.0, 4.0, 1.0, 4.0]]}
    content = {"images": pictures, "annotations": [outline, crowd], "categories": categories}
    return [json.dumps(content).encode()]


SETTINGS = b"""
[run]
method = ["cam", "mine"]
seeds = [0, 1]
stages = ["seg"]
limit = 3
[steps.cam]
backbone = "small"
[methods.mine]
steps = ["cam", "crf"]
options.crf.iterations = 3
[stages.fast]
judged = "seg"
"""
DESCRIPTION = b"""
name = "pets"
classes = ["cat", "dog", "traffic light"]
tags = "tags.csv"
ignore = [255, 254]
labels = {0 = "background", 24 = "cat", 25 = "dog", 26 = "traffic light", other = "ignore"}
image_px = 500
splits.train = "train.txt"
[splits.val]
images = "val/images"
masks = "val/masks"
"""
XML = b"<annotation><size><width>4</width></size><object><name>cat</name><difficult>1</difficult></object>\
<object><name>dog</name><part><name>head</name></part></object></annotation>"
LISTS = (b"2007_000032\n2007_000039 1\n", b"/JPEGImages/a.jpg /SegmentationClass/a.png\n# no\nb\r\n")
CSVS = (b"id,cat,dog,traffic light\na,1,0,0\nb,0,1,1\n", b"id,tags\na,cat|dog\nb,\n", b"id;tags\na;cat\n")
JSONS = (b'{"a": ["cat", "dog"], "b": []}', b'{"images/a.jpg": [1, 0, 0], "b": [0, 0.0, 1]}')

WORDS = ('', 'null', '[]', '{}', '""', '-1', '0', '1e999', 'NaN', 'true', "9" * 30, '1.5', "'", '"', '["a"]',
         '{"a": 1}', '"\\u001b[2J"', "\x1b[31m", "\n", "\r", "\0", "..", "/", "../../x", "=1+1", "|", "<b>",
         "[" * 200, '{"a":' * 200, "a." * 60, "]", "}")  # fmt: skip
BYTES = (b"\xff", b"\xff\xff\xff\x7f", b"\xff" * 8, b"\0" * 8, b"\0\0\0\x80", b"PK\x05\x06", b"cos\nsystem\n",
         b"\x80\x04", b"R", b"b", b".", b"\x94")  # fmt: skip
TOKENS = (*(word.encode() for word in WORDS), *BYTES)


def mutated(data: bytes, draw: random.Random) -> bytes:
    """`data` with a few bytes, words or values replaced, removed, doubled, or cut off."""
    result = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        _mutate(result, draw)
    return bytes(result)


def _mutate(data: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(data) + 1)
    kind = draw.randrange(7)
    if kind == 0 and at < len(data):
        data[at] = draw.randrange(256)
    elif kind == 1:
        data[at : at + draw.randrange(4)] = draw.choice(TOKENS)
    elif kind == 2:
        del data[at : at + draw.randrange(8)]
    elif kind == 3:
        start = draw.randrange(len(data) + 1)
        data[at:at] = data[start : start + draw.randrange(60)]
    elif kind == 4 and draw.random() < 0.2:
        del data[at:]
    else:  # one value of a text between its marks
        ends = [i for i in range(at, min(len(data), at + 40)) if data[i : i + 1] in b',:]}\n="']
        if len(ends) > 1:
            data[ends[0] + 1 : ends[1]] = draw.choice(TOKENS)
