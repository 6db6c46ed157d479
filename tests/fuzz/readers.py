"""Every reader of files that may come from strangers, with real files for it.

`tests/test_fuzz_readers.py` damages these files a little in the ordinary suite, `fuzz_readers.py` for as long
as one likes. The only outcomes that a reader may have are a value and a WsssError.
"""

from __future__ import annotations

import runpy
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FILES = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("real_files.py"))))
NAMES = ("cat", "dog", "traffic light")


@dataclass(frozen=True)
class Reader:
    """One reader: `read(path)` of a file called `file`, and the bytes of files that it can read."""

    name: str
    file: str
    read: Callable[[Path], Any]
    files: Callable[[], Sequence[bytes]]


def _list(path: Path) -> Any:
    from wsssbench_datasets.id_lists import read_list

    return read_list(path)


def _own_list(path: Path) -> Any:
    from wsssbench_datasets.image_names import PICTURES, Naming, read_ids

    return read_ids(path, Naming(PICTURES, ("images",)).id_of)


def _tag_table(path: Path) -> Any:
    from wsssbench.errors import WsssError
    from wsssbench_datasets.image_names import PICTURES, Naming
    from wsssbench_datasets.tag_tables import read_tags

    table = read_tags(path, NAMES, Naming(PICTURES, ("images",)))
    for id in [*table.vectors, *table.faults]:
        try:
            table.of(id)
        except WsssError:
            assert id in table.faults or path.suffix == ".npy"
    return table


def _tag_pickle(path: Path) -> Any:
    from wsssbench_datasets.tag_files import read_tag_file

    return read_tag_file(path, FILES.CLASSES)


def _xml(path: Path) -> Any:
    from wsssbench_datasets.tag_files import read_xml_tags
    from wsssbench_datasets.voc12.dataset import CLASS_NAMES

    return read_xml_tags(path, CLASS_NAMES)


def _dump(path: Path) -> Any:
    from wsssbench.dumps import list_formats, read_dump

    asked = ["auto", *(known.name for known in list_formats())]
    chance = zlib.crc32(path.read_bytes())  # by the file alone, so that a find can be repeated
    chosen = asked[chance % len(asked)] if chance & 1 else "auto"
    return read_dump(path, FILES.CLASSES, chosen, class_index=3, rescale=bool(chance & 2))


def _arrays(path: Path) -> Any:
    from wsssbench.dumps.array_files import parse_arrays

    return parse_arrays(path.read_bytes(), path)


def _mxnet(path: Path) -> Any:
    from wsssbench.nets.mxnet_params import read_mxnet_params

    return read_mxnet_params(path)


def _safetensors(path: Path) -> Any:
    from wsssbench.nets.weights import read_safetensors

    return read_safetensors(path)


def _weights(path: Path) -> Any:
    from wsssbench.nets.weights import read_state_dict

    return read_state_dict(path)


def _record(path: Path) -> Any:
    from wsssbench.records import record_archive
    from wsssbench.records.finding import find_records
    from wsssbench.reporting.rows import rows_of
    from wsssbench.reporting.tables import FORMATS, render

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # archives are unpacked until a process ends
        tempfile.tempdir, before = folder, tempfile.tempdir
        try:
            records = [stored.record for stored in find_records(path)]
        finally:
            tempfile.tempdir = before
            record_archive._unpacked.cache_clear()
    return [render(rows_of(records, limited=True), format) for format in FORMATS]


def _baseline(path: Path) -> Any:
    from wsssbench.reporting.gate import gate, read_baseline

    return gate([FILES.fake()["fake_record"]("cam", seed) for seed in range(2)], read_baseline(path))


def _settings(path: Path) -> Any:
    from wsssbench.planning.settings import load_settings

    return load_settings(path, {})


def _description(path: Path) -> Any:
    from wsssbench_datasets.folder.toml import read_description

    return read_description(path.parent)


def _instances(path: Path) -> Any:
    from wsssbench_datasets.coco14.instances import catalogue, outlines
    from wsssbench_datasets.coco14.painting import painted

    sizes, found = catalogue(path), outlines(path)
    small = [number for number, image in sizes.items() if image.height * image.width < 10**6]
    masks = [painted(found.get(n, ()), sizes[n][:2], "smaller", "void") for n in small]
    return sizes, masks


def _image(path: Path) -> Any:
    from wsssbench.files.image_files import is_turned, picture_size, read_rgb

    turned, size, pixels = is_turned(path), picture_size(path), read_rgb(path)
    assert pixels.shape == (*size, 3)
    return turned, read_rgb(path, upright=True)


def _mask(path: Path) -> Any:
    from wsssbench.masks import read_labels

    return read_labels(path)


def _colour_mask(path: Path) -> Any:
    from wsssbench_datasets.folder.code import read_code

    coloured = zlib.crc32(path.read_bytes()) & 1
    return read_code({"palette": "voc"} if coloured else {}, NAMES, path).read(path)


def _counts(path: Path) -> Any:
    from wsssbench.scores.counts_table import CountsTable

    table = CountsTable.load(path)
    return table.total(), [m.total() for metric in table.more.values() for m in metric.values()]


def _artifact(path: Path) -> Any:
    from wsssbench.artifacts import ArtifactFolder

    return ArtifactFolder(path.parent.parent).read("a", ["maps"])


def _voc_archive(path: Path) -> Any:
    from wsssbench.dumps import verify_voc_archive

    return verify_voc_archive(path, FILES.IDS, dict.fromkeys(FILES.IDS, FILES.MASK.shape))


READERS = tuple(
    Reader(*each)
    for each in (
        ("list", "val.txt", _list, lambda: FILES.LISTS),
        ("own list", "val.txt", _own_list, lambda: FILES.LISTS),
        ("tags csv", "tags.csv", _tag_table, lambda: FILES.CSVS),
        ("tags json", "tags.json", _tag_table, lambda: FILES.JSONS),
        ("tags npy", "cls_labels.npy", _tag_pickle, FILES.tag_pickles),
        ("tags xml", "a.xml", _xml, lambda: (FILES.XML,)),
        ("dumps", "a.npy", _dump, lambda: [*FILES.array_files(), *FILES.masks()]),
        ("arrays and pickles", "a.npy", _arrays, FILES.array_files),
        ("mxnet", "a.params", _mxnet, FILES.mxnet_files),
        ("safetensors", "a.safetensors", _safetensors, FILES.safetensors_files),
        ("weights", "a.pt", _weights, FILES.weight_files),
        ("record", "record.json", _record, FILES.records),
        ("record archive", "runs.zip", _record, FILES.archives),
        ("counts", "counts.npz", _counts, FILES.counts),
        ("artifact", "maps/a.npz", _artifact, FILES.maps),
        ("baseline", "baseline.json", _baseline, FILES.baselines),
        ("settings", "wsssbench.toml", _settings, lambda: (FILES.SETTINGS,)),
        ("dataset.toml", "dataset.toml", _description, lambda: (FILES.DESCRIPTION,)),
        ("coco instances", "instances_val2014.json", _instances, FILES.instances),
        ("image", "a.jpg", _image, FILES.images),
        ("mask", "a.png", _mask, FILES.masks),
        ("coloured mask", "a.png", _colour_mask, FILES.masks),
        ("voc archive", "results.tar.gz", _voc_archive, FILES.voc_archives),
    )
)
