"""The command `wsssbench verify`: a line per record, and exit codes that tell the truth."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from wsssbench.cli.main import main
from wsssbench.files.file_hashes import SUMS
from wsssbench.masks import read_labels, write_labels
from wsssbench.scores.counts_table import COUNTS


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def verify(*words: object) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, words)])


@pytest.fixture
def scored(voc_tree: Any) -> tuple[Any, Path, list[str]]:
    """Labels of two VOC images that were scored: the tree, the cell and what opens the data set."""
    rng = np.random.default_rng(5)
    for id in voc_tree.splits["val"]:
        labels = read_labels(voc_tree.mask(id))
        labels[rng.random(labels.shape) < 0.2] = 0
        labels[labels == 255] = 0
        write_labels(Path("labels") / f"{id}.png", labels)
    root = ["-o", f"voc12.root={voc_tree.root}"]
    done = CliRunner().invoke(main, ["score", "labels", "--dataset", "voc12", "--as", "mine", *root])
    assert done.exit_code == 0, done.output
    (record,) = Path("runs").rglob("record.json")
    return voc_tree, record.parent, root


def test_scored_files_are_ok_and_every_code_tells_the_truth(scored: tuple[Any, Path, list[str]]) -> None:
    voc, cell, root = scored
    done = verify("runs", *root)
    assert (done.exit_code, done.stderr) == (0, "records: 1 ok, 0 differs, 0 cannot be verified\n")
    assert done.stdout.startswith(f"ok: {cell}: 2 images, ")
    assert "4 files" in done.stdout  # two masks, counts and the list
    assert verify("runs").exit_code == 3  # nobody says where the data set is
    assert verify("runs", "-o", "voc12.root=/nowhere").exit_code == 2
    assert verify("nowhere").exit_code == 2
    (found,) = json.loads(verify("runs", *root, "--json").stdout)
    assert (found["verdict"], found["differs"], found["method"]) == ("ok", [], "mine")
    truth = voc.mask(voc.splits["val"][1])
    mask = read_labels(truth)
    mask[3, 3] = 5
    write_labels(truth, mask)
    done = verify("runs", *root)
    assert done.exit_code == 1
    for words in ("differs: ", "fingerprint of val: recorded ", f"{COUNTS}: ", voc.splits["val"][1], "iou."):
        assert words in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_scored_labels_that_were_exchanged_are_named(scored: tuple[Any, Path, list[str]]) -> None:
    voc, cell, root = scored
    content = json.loads((cell / "record.json").read_text())
    del content["provenance"]["hashes"]  # as an older version wrote it
    (cell / "record.json").write_text(json.dumps(content))
    (cell / SUMS).unlink()
    mask = cell / "masks" / f"{voc.splits['val'][0]}.png"
    labels = read_labels(mask)
    labels[0, 0] = 1 if labels[0, 0] == 0 else 0
    write_labels(mask, labels)
    done = verify(cell, *root)
    assert done.exit_code == 1
    assert "labels: recorded " in done.stdout
    assert "(no hashes recorded)" in done.stdout


def test_metrics_of_maps_that_were_scored_elsewhere_cannot_be_verified(
    scored: tuple[Any, Path, list[str]],
) -> None:
    _, cell, root = scored
    content = json.loads((cell / "record.json").read_text())
    content["scores"]["pxap"] = {"pxap": 50.0}
    (cell / "record.json").write_text(json.dumps(content))
    done = verify(cell, *root)
    assert done.exit_code == 3
    assert "pxap: the maps of files that were scored are not kept" in done.stdout


def test_a_difference_outweighs_what_cannot_be_verified(scored: tuple[Any, Path, list[str]]) -> None:
    _, cell, root = scored
    copy = cell.parents[1] / "seed1" / cell.name
    shutil.copytree(cell, copy)
    shutil.rmtree(copy / "masks")
    done = verify("runs", *root)
    assert (done.exit_code, len(done.stdout.splitlines())) == (1, 2)
    assert "seed1" in done.stdout.splitlines()[1]
    assert done.stdout.splitlines()[1].startswith("differs: ")  # it lies in the folder of another seed


def test_weights_of_no_record_and_other_data_sets_are_bad_input_and_not_verified(
    scored: tuple[Any, Path, list[str]],
) -> None:
    _, _, root = scored
    assert verify("runs", *root, "--weights", "nowhere.pth").exit_code == 2
    done = verify("runs", *root, "-o", "voc12.masks=SegmentationClassAug")
    assert done.exit_code == 3
    assert "the data set here is another one" in done.stdout


def test_nothing_is_written_and_torch_is_not_imported_for_scored_files(
    scored: tuple[Any, Path, list[str]],
) -> None:
    files = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if "cache" not in str(path)}
    code = (
        "import sys\nfrom wsssbench.cli.main import main\n"
        "try:\n    main(['verify', *sys.argv[1:]], standalone_mode=False)\n"
        "except SystemExit as done:\n    assert not done.code\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, "runs", *scored[2]], check=True, capture_output=True)
    assert {p: p.stat().st_mtime_ns for p in Path().rglob("*") if "cache" not in str(p)} == files
