"""`score --coding`: predictions that are coded as the masks of a data set are, and what is said where nobody
says how they are coded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil

import wsssbench
from wsssbench.cli.main import main

COLOURS = np.array([(0, 0, 0), (0, 128, 0), (128, 0, 0)], np.uint8)  # VOC's for labels 0, 2 and 1
OTHERS = np.array([(0, 0, 0), (250, 1, 2), (3, 4, 250)], np.uint8)
IDS = ("a1", "a2", "b1", "b2")


def mask(number: int) -> np.ndarray:
    labels = np.zeros((24, 36), np.uint8)
    labels[2:9, 3:15], labels[12:20, 18:30] = 1, 2
    return np.roll(labels, number, 1)


def coloured(table: np.ndarray) -> Callable[[np.ndarray], Pil.Image]:
    return lambda labels: Pil.fromarray(table[labels])


def numbered(*values: int) -> Callable[[np.ndarray], Pil.Image]:
    table = np.array(values, np.uint8)
    return lambda labels: Pil.fromarray(table[labels])


def in_a_palette(table: np.ndarray) -> Callable[[np.ndarray], Pil.Image]:
    """A palette PNG of these colours, numbered by the quantizer."""
    return lambda labels: Pil.fromarray(table[labels]).quantize(8)


LABELS = '[labels]\n0 = "background"\n{} = "cat"\n{} = "dog"\n'
PALETTE = "palette = [[0, 0, 0], [{}, {}, {}], [{}, {}, {}]]\n"
CODES: dict[str, tuple[str, Callable[[np.ndarray], Pil.Image]]] = {
    "colours that VOC's palette has too": (PALETTE.format(*COLOURS[1:].ravel()), coloured(COLOURS)),
    "a palette PNG in these colours": (PALETTE.format(*COLOURS[1:].ravel()), in_a_palette(COLOURS)),
    "colours of its own": (PALETTE.format(*OTHERS[1:].ravel()), coloured(OTHERS)),
    "numbers beyond the classes": (LABELS.format(24, 26), numbered(0, 24, 26)),
}


def write(root: Path, code: str, draw: Callable[[np.ndarray], Pil.Image]) -> None:
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for number, id in enumerate(IDS):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 36, 3), dtype=np.uint8)
        Pil.fromarray(pixels).save(root / "images" / f"{id}.png")
        draw(mask(number)).save(root / "masks" / f"{id}.png")
    for split in "ab":
        (root / f"{split}.txt").write_text(f"{split}1\n{split}2\n")
    keys, _, table = code.partition("[labels]")
    head = f'name = "own"\nclasses = ["cat", "dog"]\ntags = "masks"\n{keys}'
    table = f"[labels]{table}" if table else ""
    (root / "dataset.toml").write_text(f'{head}[splits]\ntrain = "a.txt"\nval = "b.txt"\n{table}')


def score(folder: Path, *arguments: object) -> Result:
    """Of `folder` for the data set at own/."""
    where = ("--dataset", "folder", "-o", "folder.root=own", "--as", "theirs", "--json")
    return CliRunner().invoke(
        main, ["score", str(folder), *where, *map(str, arguments)], catch_exceptions=False
    )


def miou(result: Result) -> float:
    assert result.exit_code == 0, result.output
    return float(json.loads(result.stdout)["scores"]["iou"]["miou"])


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", CODES)
def test_the_files_of_the_truth_score_100_when_they_are_read_as_the_truth(name: str) -> None:
    write(Path("own"), *CODES[name])
    refused = score(Path("own/masks"))
    assert refused.exit_code == 2, refused.output
    assert "--coding truth" in refused.output
    assert not Path("runs").exists()
    found = score(Path("own/masks"), "--coding", "truth")
    assert miou(found) == 100
    kept = Path(json.loads(found.stdout)["record"]).parent / "masks" / "b1.png"
    assert np.array_equal(np.asarray(Pil.open(kept)), mask(2))
    rows = wsssbench.score("own/masks", "folder", "api", coding="truth", options={"folder.root": "own"})
    assert "| 100.0" in str(rows)


@pytest.mark.parametrize("name", CODES)
def test_predictions_in_class_numbers_are_read_as_before(name: str) -> None:
    write(Path("own"), *CODES[name])
    Path("pred").mkdir()
    for number, id in enumerate(IDS):
        Pil.fromarray(mask(number)).save(f"pred/{id}.png")
    assert miou(score(Path("pred"))) == miou(score(Path("pred"), "--coding", "classes")) == 100
    refused = score(Path("pred"), "--coding", "truth")
    assert refused.exit_code == 2
    assert "b1.png" in refused.output


def test_a_palette_that_means_two_things_is_settled_by_the_user() -> None:
    write(Path("own"), PALETTE.format(*OTHERS[1:].ravel()), in_a_palette(OTHERS))
    output = score(Path("own/masks")).output
    assert "this picture means one thing by class numbers, another by the colours" in output
    assert miou(score(Path("own/masks"), "--coding", "classes", "--format", "index")) < 50


def test_where_masks_are_mapped_a_note_says_how_the_files_were_read() -> None:
    write(Path("own"), LABELS.format(2, 1), numbered(0, 2, 1))
    found = score(Path("own/masks"))
    assert miou(found) < 50
    assert "note: these files were read as class numbers 0..2, masks on disk hold others" in found.stderr
    assert "--coding truth" in found.stderr
    assert miou(score(Path("own/masks"), "--coding", "truth")) == 100
    assert "note:" not in score(Path("own/masks"), "--coding", "classes").stderr


def test_a_value_that_is_no_class_alone_beside_0_is_warned_of() -> None:
    code = '[labels]\n0 = "background"\n255 = "cat"\n9 = "dog"\n'
    write(Path("own"), code, numbered(0, 255, 9))
    Path("pred").mkdir()
    for number, id in enumerate(IDS):
        Pil.fromarray(np.where(mask(number) == 1, 255, 0).astype(np.uint8)).save(f"pred/{id}.png")
    found = score(Path("pred"))
    assert found.exit_code == 0
    assert "warning: the only value beside 0 in these files is 255, which says no class" in found.stderr
    assert "--coding truth" in found.stderr
    assert "warning" not in score(Path("pred"), "--coding", "truth").stderr


def test_a_choice_of_classes_maps_predictions_of_all_as_it_maps_the_truth(voc_tree: Any) -> None:
    where = ("--dataset", "voc12", "-o", f"voc12.root={voc_tree.root}", "-o", "voc12.classes=train", "--json")
    arguments = ["score", str(voc_tree.tree / "SegmentationClassAug"), *where, "--as", "theirs"]
    refused = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert refused.exit_code == 2
    assert "--coding truth" in refused.output
    assert miou(CliRunner().invoke(main, [*arguments, "--coding", "truth"], catch_exceptions=False)) == 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dataset", "shapes", "-o", "shapes.preset=tiny"), "does not say how masks on disk are coded"),
        (("--dataset", "folder", "-o", "folder.root=own", "--format", "index"), "have no other format"),
        (("--dataset", "folder", "-o", "folder.root=own", "--threshold", "0.3"), "have no other format"),
    ],
)
def test_what_cannot_be_coded_as_the_truth_is_one_clear_error(arguments: tuple[str, ...], words: str) -> None:
    write(Path("own"), *CODES["numbers beyond the classes"])
    Path("pred").mkdir()
    for id in [*IDS, *(f"val_{n:05}" for n in range(24))]:
        Pil.fromarray(mask(0)).save(f"pred/{id}.png")
    result = CliRunner().invoke(main, ["score", "pred", "--as", "x", "--coding", "truth", *arguments])
    assert result.exit_code == 2, result.output
    assert words in result.output
