"""`wsssbench paper`: a bundle that states its protocol, shows images chosen by rule, and can be checked."""

from __future__ import annotations

import dataclasses
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from wsssbench.cli.main import main
from wsssbench.commands.qualitative import chosen_images
from wsssbench.identity import StepIdentity, plain
from wsssbench.judging.judge import score_folder
from wsssbench.masks import write_labels
from wsssbench.planning.stages import STAGE_CRF
from wsssbench.records.finding import find_records
from wsssbench.records.store import cell_folder, write_record
from wsssbench.reporting.figures.mask_sheet import masks_figure
from wsssbench.reporting.protocol_text import protocol_text
from wsssbench.reporting.reviewers import built_command, commands_text, hashes_text, without_folders
from wsssbench.reporting.rows import rows_of
from wsssbench.reporting.sections import sections_of
from wsssbench.scores.counts_table import COUNTS
from wsssbench_datasets.shapes.dataset import PRESETS, Shapes, ShapesConfig

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
fake_record, fake_terms = FAKE["fake_record"], FAKE["fake_terms"]
FIGURE = {"figure.pdf", "figure.png", "figure.tex"}
TEXTS = {"README.md", "commands.txt", "hashes.txt", "paper.tex", "protocol.tex", "rows.tex", "tables.tex"}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paper(*words: object) -> Result:
    return CliRunner().invoke(main, ["paper", "runs", "--out", "bundle", *map(str, words)])


def cell(method: str = "cam", seed: int = 0, grown: int = 1, masks: bool = True, **terms: Any) -> Path:
    """A finished cell on tiny `shapes`: the truth, grown to the left by some pixels of class 1."""
    data = Shapes(ShapesConfig(**PRESETS["tiny"]), seed)
    card = data.card
    fields = {"dataset_options": plain(card.options_of("val")), "classes": card.class_names}
    record = fake_record(
        method, seed, terms=fake_terms(**{**fields, "dataset_version": card.version, **terms})
    )
    folder = cell_folder("runs", "shapes", method, seed, record.identity.terms.stage, "val", record.key)
    for number, id in enumerate(data.ids("val")):
        labels = data.mask(id)
        for _ in range(grown * number):
            labels = np.where((labels == 0) & (np.roll(labels, -1, 1) > 0), 1, labels).astype(np.uint8)
        write_labels(folder / "masks" / f"{id}.png", labels)
    scores, counts = score_folder(data, "val", folder / "masks")
    if not masks:
        shutil.rmtree(folder / "masks")
    counts.save(folder / COUNTS)
    write_record(folder, dataclasses.replace(record, scores=scores))
    return folder


def test_the_bundle_is_whole_and_compiles() -> None:
    for method in ("cam", "r_m"):
        cell(method)
    done = paper()
    assert done.exit_code == 0, done.output
    assert {path.name for path in Path("bundle").iterdir()} == FIGURE | TEXTS
    readme = Path("bundle/README.md").read_text()
    assert [name for name in FIGURE | TEXTS - {"README.md"} if f"`{name}`" not in readme] == []
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
        built = subprocess.run(command, cwd="bundle", capture_output=True, text=True, errors="replace")
        assert built.returncode == 0, built.stdout[-2000:]


def test_the_bundle_is_the_same_each_time() -> None:
    cell()
    contents = []
    for _ in range(2):
        assert paper("--count", 1).exit_code == 0
        contents.append({path.name: path.read_bytes() for path in Path("bundle").iterdir()})
    assert contents[0] == contents[1]


def test_images_are_those_nearest_the_median_of_the_first_method() -> None:
    cell("cam", grown=1)
    cell("other", grown=0)
    stored = find_records("runs")
    choice = chosen_images(sections_of(stored, methods=["cam", "other"]), 3, "median", 0)
    assert choice is not None
    assert [title for title, _ in choice.cells] == ["cam", "other"]
    numbers = sorted(int(id.rpartition("_")[2]) for id in choice.ids)
    last = len(Shapes(ShapesConfig(**PRESETS["tiny"]), 0).ids("val")) - 1
    assert len(numbers) == 3
    assert 0 not in numbers  # the best image, and the worst
    assert last not in numbers
    assert "nearest its median" in choice.rule


def test_random_images_follow_the_seed() -> None:
    cell()
    sections = sections_of(find_records("runs"))

    def drawn(seed: int) -> tuple[str, ...]:
        choice = chosen_images(sections, 3, "random", seed)
        assert choice is not None
        assert f"seed {seed}" in choice.rule
        return choice.ids

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(6)}) > 1


def test_masks_of_one_seed_are_compared_as_seeds_draw_other_images() -> None:
    cell("cam", 0)
    for method in ("cam", "rrm"):
        cell(method, 1)
    choice = chosen_images(sections_of(find_records("runs")), 2, "median", 0)
    assert choice is not None
    assert {c.record.identity.seed for _, c in choice.cells} == {1}
    assert len(choice.cells) == 2


def test_without_masks_the_rest_is_written_and_the_lack_is_said() -> None:
    cell(masks=False)
    done = paper()
    assert done.exit_code == 0, done.output
    assert {path.name for path in Path("bundle").iterdir()} == TEXTS
    assert "no figure: no cell has its masks" in done.stderr
    assert "There is no figure" in Path("bundle/README.md").read_text()
    assert "figure" not in Path("bundle/paper.tex").read_text()


def test_another_data_set_gives_no_figure_and_is_an_error_where_it_was_asked_for() -> None:
    cell(dataset_version="0")
    done = paper()
    assert done.exit_code == 0
    assert "not the data set of the cell" in done.stderr
    assert paper("-o", "shapes.classes=3").exit_code != 0


def test_chosen_methods_stand_in_the_order_asked_for() -> None:
    for method, grown in (("cam", 2), ("rrm", 0), ("full", 1)):
        cell(method, grown=grown)
    assert paper("--method", "full", "--method", "cam").exit_code == 0
    rows = [line for line in Path("bundle/rows.tex").read_text().splitlines() if line.endswith(r"\\")]
    assert [line.partition(" &")[0] for line in rows] == ["full", "cam"]


# ----------------------------------------------------------------------------------------------- the words


def text_of(*records: Any) -> str:
    return protocol_text(rows_of(records, limited=True), records)


def test_the_protocol_names_what_its_terms_say() -> None:
    crf = {**plain(STAGE_CRF), "xy_scale": 0.5}
    terms = fake_terms(stage="seg+ms+crf", crf=crf, scales=(0.5, 1.0), flip=True, split_fingerprint="ab" * 32)
    text = text_of(*(fake_record("cam", seed, terms=terms, fit_fingerprint="f") for seed in (0, 3)))
    for words in (
        "shapes 1, 2 classes and background; split val; 40 images",
        "options size 96",
        "sha256 abababababab",
        "image tags not given at evaluation",
        "fixed in advance (cam 0.3)",
        "scales 0.5, 1, flip",
        "xy x0.5; spatial widths in pixels of a VOC image, times xy",
        "of 10 mean-field iterations",
        "Gaussian kernel of width 3 px and weight 3",
        "bilateral kernel of widths 83 px and 5 colour units and weight 4",
        "left out: stripe",
        "means over 2 seeds (0, 3)",
        "Supervision: tags",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"threshold_policy": "oracle"}, "upper bound"),
        ({"threshold_policy": "label-free"}, "Otsu"),
        ({"threshold_policy": "held-out"}, "held-out images"),
        ({"limit": 8}, "the first 8 images alone"),
        ({"tags_at_evaluation": True}, "image tags given at evaluation"),
        ({"custom": True}, "(version 1, custom)"),
        ({}, "one training each (seeds 0)"),
    ],
)
def test_the_protocol_says_what_weakens_a_number(terms: dict[str, Any], words: str) -> None:
    assert words in text_of(fake_record(terms=fake_terms(**terms)))


def test_commands_are_those_of_the_records_without_folders() -> None:
    record = fake_record()
    command = [
        "wsssbench",
        "run",
        "--config",
        "/home/me/a.toml",
        "-o",
        "voc12.root=/data/VOC 2012",
        "--seeds",
        "0,1",
    ]
    record.provenance["command"] = command
    text = commands_text([record, record])
    assert text.count("wsssbench run") == 1
    assert "wsssbench run --config a.toml -o 'voc12.root=VOC 2012' --seeds 0,1" in text
    assert "/home" not in text


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("cam=/a/w.pth", "cam=w.pth"),
        ("a/b", "a/b"),
        ("~/x", "x"),
        (r"C:\d\x", "x"),
        ("a > b", "a > b"),
        ("1/2", "1/2"),
    ],
)
def test_only_absolute_paths_are_cut(word: str, shown: str) -> None:
    assert without_folders(word) == shown


def test_a_command_is_built_where_none_was_kept() -> None:
    built = built_command(fake_record(terms=fake_terms(limit=8, threshold_policy="oracle")))
    words = "--method cam --dataset shapes --seeds 0 --stages seg --threshold-policy oracle"
    assert words in " ".join(built)
    assert {"shapes.size=96", "cam.backbone=small"} <= set(built)
    assert built[-2:] == ["--limit", "8"]
    foreign = fake_record("irn", recipe=(StepIdentity("import:irn", "1", {}),), seed=2)
    assert built_command(foreign)[:3] == ["wsssbench", "score", "FOLDER"]
    assert "no command was kept" in commands_text([foreign])


def test_hashes_name_keys_weights_code_and_versions() -> None:
    record = fake_record(config={"weights": {"sha256": "f" * 64}})
    record.provenance.update({"code": {"cam": "c" * 64}, "versions": {"torch": "2.9"}, "commit": "d" * 40})
    text = hashes_text([record])
    known = {"cam.weights": "f" * 64, "code of cam": "c" * 64, "split learned from": "fit0"}
    for words in (f"record {record.key}", "torch: 2.9", f"commit: {'d' * 40}"):
        assert words in text
    for name, digest in known.items():
        assert f"{name}: sha256 {digest}" in text


def test_the_figure_keeps_the_pixels_of_a_mask(tmp_path: Path) -> None:
    red, blue = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    figure = masks_figure([("image", [red]), ("truth", [blue])], {1: "ring"})
    figure.savefig(tmp_path / "x.png", dpi=100)
    picture = Image.open(tmp_path / "x.png").convert("RGB")
    colours = {colour for _, colour in picture.getcolors(100_000) or ()}
    assert {(255, 0, 0), (0, 0, 255)} <= colours
    with pytest.raises(ValueError, match="same number"):
        masks_figure([("a", [red]), ("b", [])], {})
