"""The commands that work on a run: report, gate, score, list, show, prepare, clean, doctor, predict."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil

from wsssbench.cli.main import main
from wsssbench.files.locks import hold
from wsssbench.identity import Record
from wsssbench.masks import read_labels, threshold_labels, write_labels
from wsssbench.records.finding import find_records
from wsssbench.records.store import read_record, write_record
from wsssbench.reporting.rows import rows_of
from wsssbench.types import Maps

TINY = ("-o", "shapes.preset=tiny")
SCORE = ("--dataset", "shapes", "--as", "foreign", *TINY)
PLUGIN = Path(__file__).with_name("bright_step.py")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def ok(*arguments: object) -> str:
    """stdout of a command that ends well."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: `constant`, and the local plugin `bright` with a CRF stage."""
    runs = tmp_path_factory.mktemp("made") / "runs"
    run = ("run", "--dataset", "shapes", *TINY, "--runs", runs, "--device", "cpu", "-q")
    ok(*run, "--method", "constant", "--stages", "pseudo,seg")
    bright = ("--plugin", PLUGIN, "--method", "bright", "--stages", "seg,seg+crf")
    ok(*run, *bright)
    return runs


@pytest.fixture
def runs(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that may be spoilt; the working folder holds nothing else."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(made, Path("runs")))


def cell(runs: Path, method: str, stage: str) -> Path:
    """The one cell of a method in a stage."""
    (folder,) = (runs / "shapes" / method / "seed0").glob(f"{stage}-*-????????")
    return folder


def header(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode and (width, height) of a picture."""
    with Pil.open(path) as picture:
        return picture.mode, picture.size


def changed(folder: Path, **fields: object) -> Record:
    """The record of `folder` with other fields, written back."""
    record = dataclasses.replace(read_record(folder), **fields)
    write_record(folder, record)
    return record


def shapes(seed: int = 0):
    from wsssbench_datasets.shapes.dataset import PRESETS, Shapes, ShapesConfig

    return Shapes(ShapesConfig(**PRESETS["tiny"]), seed)


def truth(folder: Path, split: str = "val", seed: int = 0) -> Path:
    """The true masks of a split as grey PNGs."""
    folder.mkdir()
    data = shapes(seed)
    for id in data.ids(split):
        Pil.fromarray(data.mask(id)).save(folder / f"{id}.png")
    return folder


# -------------------------------------------------------------------------------------------------- report


def test_report_prints_a_table_per_stage_and_its_formats_agree(runs: Path) -> None:
    text = ok("report")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## shapes: pseudo on train",
        "## shapes: seg on val",
        "## shapes: seg+crf on val",
    ]
    tables = json.loads(ok("report", "--format", "json", runs))
    assert [table["stage"] for table in tables] == ["pseudo", "seg", "seg+crf"]
    assert len(ok("report", "--format", "csv").splitlines()) == 1 + sum(len(t["rows"]) for t in tables)


def test_report_writes_to_a_file_and_leaves_stdout_empty(runs: Path) -> None:
    assert ok("report", "--out", "tables/report.md") == ""
    assert Path("tables/report.md").read_text() == ok("report")


@pytest.mark.parametrize(
    ("part", "name"),
    [("code", "constant"), ("judged_by", "judge"), ("judged_by", "data set"), ("judged_by", "metric iou")],
)
def test_rows_whose_code_has_changed_are_stale_and_others_are_not(runs: Path, part: str, name: str) -> None:
    assert "stale" not in ok("report")
    folder = cell(runs, "constant", "seg")
    seen = read_record(folder).provenance
    changed(folder, provenance={**seen, part: {**seen[part], name: "2:" + "0" * 64}})
    stale = [line for line in ok("report").splitlines() if "[stale]" in line]
    assert len(stale) == 1
    assert "constant" in stale[0]


def test_a_damaged_record_is_named(runs: Path) -> None:
    file = cell(runs, "constant", "seg") / "record.json"
    file.write_text(file.read_text()[:100])
    result = call("report")
    assert result.exit_code == 2
    assert str(file) in result.output


# ---------------------------------------------------------------------------------------------------- gate


def baseline(runs: Path, **changes: object) -> Path:
    """A baseline of `runs` with its first row changed."""
    ok("gate", "--baseline", "baseline.json", "--write", "--tolerance", "0.5", runs)
    content = json.loads(Path("baseline.json").read_text())
    content["rows"][0] |= changes
    Path("baseline.json").write_text(json.dumps(content))
    return Path("baseline.json")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"mean": 20.0}, 0),
        ({"mean": 99.0}, 1),
        ({"mean": "99"}, 2),
        ({"terms": "0" * 64}, 3),
        ({"method": "gone"}, 3),
    ],
)
def test_the_gate_ends_with_the_exit_code_of_its_worst_row(
    runs: Path, changes: dict[str, object], code: int
) -> None:
    result = call("gate", "--baseline", baseline(runs, **changes))
    assert result.exit_code == code, result.output


def test_a_failed_cell_fails_the_gate_and_cannot_become_a_baseline(runs: Path) -> None:
    file = baseline(runs)
    changed(cell(runs, "constant", "pseudo"), status="failed", reason="it broke", scores={})
    assert call("gate", "--baseline", file).exit_code == 1
    assert call("gate", "--baseline", "other.json", "--write").exit_code == 3


@pytest.mark.parametrize("tolerance", ["-1", "nan", "100"])
def test_a_baseline_with_a_senseless_tolerance_is_refused(runs: Path, tolerance: str) -> None:
    assert call("gate", "--baseline", "b.json", "--write", "--tolerance", tolerance).exit_code == 2
    assert not Path("b.json").exists()


def test_no_records_make_no_baseline(runs: Path) -> None:
    Path("empty").mkdir()
    assert call("gate", "--baseline", "b.json", "--write", "empty").exit_code == 3


# --------------------------------------------------------------------------------------------------- score


def test_true_masks_score_100_and_become_a_cell(runs: Path) -> None:
    found = json.loads(ok("score", truth(Path("masks")), *SCORE, "--json"))
    assert found["scores"]["iou"]["miou"] == 100
    folder = Path(found["record"]).parent
    assert (folder / "counts.npz").is_file()
    assert len(list((folder / "masks").glob("*.png"))) == 24
    assert header(folder / "masks" / "val_00000.png") == ("P", (48, 48))


def test_a_scored_folder_gets_the_number_and_the_terms_of_the_run_that_made_it(runs: Path) -> None:
    own = read_record(cell(runs, "bright", "seg"))
    found = json.loads(ok("score", cell(runs, "bright", "seg") / "masks", *SCORE, "--json"))
    record = read_record(Path(found["record"]))
    assert record.scores == own.scores
    assert record.identity.terms == own.identity.terms
    assert record.identity.supervision == ("unknown",)
    ranks = {
        row.method: row.rank
        for row in rows_of(s.record for s in find_records(runs))
        if row.terms == own.identity.terms
    }
    assert ranks["foreign"] == ranks["bright"]


def test_seeds_of_a_foreign_method_are_one_row(runs: Path) -> None:
    for seed in (0, 1):
        ok("score", truth(Path(f"masks{seed}"), seed=seed), *SCORE, "--seed", seed)
    (row,) = (row for row in rows_of(s.record for s in find_records(runs)) if row.method == "foreign")
    assert (row.seeds, row.numbers["miou"].mean) == ((0, 1), 100)


def test_scoring_again_replaces_the_row_and_its_masks(runs: Path) -> None:
    first = json.loads(ok("score", truth(Path("masks")), *SCORE, "--json"))
    path = Path("masks/val_00000.png")
    write_labels(path, np.zeros_like(read_labels(path)))
    second = json.loads(ok("score", "masks", *SCORE, "--json"))
    assert second["record"] == first["record"]
    assert second["scores"]["iou"]["miou"] < 100
    assert read_labels(Path(second["record"]).parent / "masks" / path.name).max() == 0


def test_a_method_that_learned_from_masks_is_not_ranked_with_weak_ones(runs: Path) -> None:
    text = ok("score", truth(Path("masks")), *SCORE, "--supervision", "tags,masks")
    assert "ceiling" in text
    result = call("score", "masks", *SCORE, "--supervision", "mask")
    assert result.exit_code == 2
    assert "did you mean masks" in result.output


def maps_of_truth(folder: Path) -> Path:
    """PSA's dicts, one a class with 1 on its pixels, of the truth of `val`."""
    for path in list(truth(folder).glob("*.png")):
        labels = read_labels(path)
        classes = np.unique(labels[labels > 0]) - 1
        maps = {int(c): (labels == c + 1).astype(np.float32) for c in classes}
        np.save(path.with_suffix(".npy"), np.array(maps, object), allow_pickle=True)
        path.unlink()
    return folder


def test_maps_of_another_repository_become_labels_by_the_threshold_that_is_said(runs: Path) -> None:
    folder = maps_of_truth(Path("maps"))
    refused = call("score", folder, *SCORE)
    assert refused.exit_code == 2
    assert "class maps (psa)" in refused.output
    assert "--threshold" in refused.output
    found = json.loads(ok("score", folder, *SCORE, "--json", "--threshold", "0.5"))
    record = read_record(Path(found["record"]))
    assert found["scores"]["iou"]["miou"] == 100
    assert record.identity.threshold["value"] == 0.5
    assert record.provenance["labels"]["folder"] == "maps"
    assert header(Path(found["record"]).parent / "masks" / "val_00000.png") == ("P", (48, 48))


@pytest.mark.parametrize(
    ("flag", "value", "allowed"),
    [("--threshold", "3", "0 to 1"), ("--threshold", "nan", "0 to 1"), ("--class-index", "-1", "at least 0")],
)
def test_a_threshold_or_class_out_of_its_range_is_refused_and_nothing_is_recorded(
    runs: Path, flag: str, value: str, allowed: str
) -> None:
    result = call("score", maps_of_truth(Path("wild")), *SCORE, flag, value)
    assert result.exit_code == 2
    assert f"is out of range [{flag}]\n  next: allowed: {allowed}" in result.output
    assert not list(runs.rglob("foreign*"))


def test_probabilities_and_logits_are_judged_without_a_threshold(runs: Path) -> None:
    for path in list(truth(Path("logits")).glob("*.png")):
        planes = 9.0 * (read_labels(path) == np.arange(4)[:, None, None])
        np.save(path.with_suffix(".npy"), planes.astype(np.float32))
        path.unlink()
    found = json.loads(ok("score", "logits", *SCORE, "--json", "--format", "deeplab"))
    assert found["scores"]["iou"]["miou"] == 100
    assert "a threshold is for maps" in call("score", "logits", *SCORE, "--threshold", "0.5").output


def test_any_metric_judges_foreign_files_those_of_maps_the_maps_themselves(runs: Path) -> None:
    asked = ["--metrics", "boundary_iou,compatible,pxap,threshold_curve", "--json"]
    found = json.loads(ok("score", maps_of_truth(Path("maps")), *SCORE, *asked, "--threshold", "0.5"))
    scores = found["scores"]
    assert list(scores) == ["iou", "boundary_iou", "compatible", "pxap", "threshold_curve"]
    assert scores["boundary_iou"]["boundary_iou"] == scores["pxap"]["pxap"] == 100
    assert scores["threshold_curve"]["best_miou"] == 100
    refused = call("score", truth(Path("labels")), *SCORE, "--metrics", "pxap")
    assert refused.exit_code == 2
    assert "needs maps" in refused.output
    assert call("score", "labels", *SCORE, "--metrics", "boundary").exit_code == 2


def test_report_says_what_other_evaluators_would_print_from_the_counts_alone(runs: Path) -> None:
    folder = truth(Path("labels"))
    for path in sorted(folder.glob("*.png")):
        labels = read_labels(path)
        labels[:9] = 255
        write_labels(path, labels)
    ok("score", folder, *SCORE)
    for masks in runs.rglob("masks"):
        shutil.rmtree(masks)
    text = ok("report", runs, "--compatible")
    assert "## shapes: seg on val, as others count" in text
    (line,) = (line for line in text.splitlines() if line.startswith("| foreign"))
    ours, *theirs = [cell.strip() for cell in line.split("|")[2:-1]]
    record = next(s.record for s in find_records(runs) if s.record.method == "foreign")
    assert ours == f"{record.scores['iou']['miou']:.2f}"
    *_, silence_is_free, devkit, mmseg = theirs
    assert silence_is_free == f"100.00 (+{100 - record.scores['iou']['miou']:.2f})"
    assert devkit == "-"
    assert mmseg == f"{record.scores['iou']['miou']:.2f} (+0.00)"
    assert "- irn: 255 is background (foreign)" in text
    assert "- voc-devkit: VOCevalseg stops: out of range value 255 in " in text


def test_score_and_report_print_what_other_evaluators_would_say(runs: Path) -> None:
    folder = truth(Path("labels"))
    labels = read_labels(folder / "val_00000.png")
    labels[:9] = 255
    write_labels(folder / "val_00000.png", labels)
    text = ok("score", folder, *SCORE, "--metrics", "compatible")
    (line,) = (line for line in text.partition("As others count")[2].splitlines() if "| foreign" in line)
    scores = next(s.record for s in find_records(runs) if s.record.method == "foreign").scores
    shown = [cell.strip() for cell in line.split("|")[2:-1]]
    assert shown[0] == f"{scores['compatible']['ours']:.2f}"
    assert shown[1].startswith(f"{scores['compatible']['chainercv_miou']:.2f} (")
    assert shown[-2] == "-"
    assert "- voc-devkit: VOCevalseg stops" in text
    printed = ok("report", runs)
    assert line in printed
    assert "- voc-devkit: VOCevalseg stops" in printed
    (table,) = (t for t in json.loads(ok("report", runs, "--format", "json")) if t.get("stage") == "seg")
    (row,) = (row for row in table["rows"] if row["method"] == "foreign")
    assert row["numbers"]["compatible.mmseg_miou"]["mean"] == scores["compatible"]["mmseg_miou"]
    assert "compatible.voc-devkit_miou" not in row["numbers"]
    assert "stops" in row["notes"]["compatible.voc-devkit_note"][0]
    flat = next(
        r
        for r in csv.DictReader(io.StringIO(ok("report", runs, "--format", "csv")))
        if r["method"] == "foreign"
    )
    assert "stops" in flat["compatible.voc-devkit_note"]


def test_score_prints_every_number_of_a_metric_that_it_is_asked_for(runs: Path) -> None:
    asked = "accuracy,confusion_pairs,error_ladder,per_image,activation"
    text = ok("score", truth(Path("labels")), *SCORE, "--metrics", asked).partition("Other metrics")[2]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    shown = {(metric, number): value for metric, number, value in lines[2:]}
    assert {metric for metric, _ in shown} == set(asked.split(","))
    assert shown["confusion_pairs", "pairs"] == "none"
    assert shown["error_ladder", "alone.boundary"] == "0.00"
    assert shown["error_ladder", "ladder: boundary"] == "100.00"
    assert shown["accuracy", "mean_class_accuracy"] == "100.00"
    assert shown["activation", "under_activation"] == "0.00"
    wrong = truth(Path("wrong"))
    for path in wrong.glob("*.png"):
        write_labels(path, (read_labels(path) > 0).astype(np.uint8))
    text = ok("score", wrong, *SCORE, "--metrics", "confusion_pairs")
    assert "| confusion_pairs | pairs: 2, 1 " in text
    rows = json.loads(ok("score", wrong, *SCORE, "--metrics", "error_ladder", "--json"))["scores"]
    (table,) = (t for t in json.loads(ok("report", runs, "--format", "json")) if t.get("stage") == "seg")
    (row,) = (row for row in table["rows"] if row["method"] == "foreign")
    gained = rows["error_ladder"]["alone"]["wrong_tag"]
    assert row["numbers"]["error_ladder.alone.wrong_tag"]["mean"] == gained > 0


def test_a_row_names_the_filter_of_a_crf_that_was_run_on_foreign_maps(runs: Path) -> None:
    folder, crf = maps_of_truth(Path("maps")), [*SCORE, "--stage", "seg+crf", "--json"]
    found = json.loads(ok("score", folder, *crf, "--threshold", "0.5"))
    assert read_record(Path(found["record"])).identity.filter_backend == "lattice"
    labels = json.loads(ok("score", truth(Path("labels")), *crf))  # no CRF is run on labels
    assert read_record(Path(labels["record"])).identity.filter_backend == ""


def test_a_folder_of_two_formats_is_refused_by_the_file_and_leaves_nothing(runs: Path) -> None:
    folder = maps_of_truth(Path("maps"))
    (folder / "val_00003.npy").unlink()
    write_labels(folder / "val_00003.png", np.zeros((48, 48), np.uint8))
    result = call("score", folder, *SCORE, "--threshold", "0.5")
    assert result.exit_code == 2
    assert "this file is index, val_00000.npy is psa" in result.output
    assert "val_00003.png" in result.output
    assert not (runs / "shapes" / "foreign").exists()


def test_a_pickle_that_would_run_a_program_is_refused_and_does_not_run(runs: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (Path("pwned"),))

    folder = maps_of_truth(Path("maps"))
    np.save(folder / "val_00003.npy", np.array({0: Evil()}, object), allow_pickle=True)
    result = call("score", folder, *SCORE, "--threshold", "0.5")
    assert result.exit_code == 2
    assert "refused" in result.output
    assert "val_00003.npy" in result.output
    assert not Path("pwned").exists()


def spoil(path: Path, how: str) -> None:
    labels = read_labels(path)
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:40])
    elif how == "size":
        write_labels(path, labels[:, 1:])
    elif how == "value":
        write_labels(path, labels + 77)
    else:
        Pil.fromarray(np.zeros((48, 48, 3), np.uint8)).save(path)


@pytest.mark.parametrize("how", ["missing", "truncated", "size", "value", "colours"])
def test_a_bad_label_file_is_named_and_leaves_no_cell(runs: Path, how: str) -> None:
    spoil(truth(Path("masks")) / "val_00003.png", how)
    result = call("score", "masks", *SCORE)
    assert result.exit_code == 2
    assert "val_00003" in result.output
    assert not (runs / "shapes" / "foreign").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nowhere", *SCORE), "nowhere"),
        (("masks", *SCORE, "--stage", "sag"), "seg"),
        (("masks", "--dataset", "shape", "--as", "x"), "did you mean shapes"),
        (("masks", "--dataset", "shapes", *TINY, "--as", " "), "--as"),
    ],
)
def test_a_wrong_score_is_one_clear_error(runs: Path, arguments: tuple[str, ...], word: str) -> None:
    truth(Path("masks"))
    result = call("score", *arguments)
    assert result.exit_code == 2
    assert word in result.output


@pytest.mark.parametrize("command", ["report", "gate --baseline b.json", "score masks " + " ".join(SCORE)])
def test_the_judges_path_imports_no_torch(runs: Path, command: str) -> None:
    ok("gate", "--baseline", "b.json", "--write")
    truth(Path("masks"))
    code = (
        "import sys\nfrom wsssbench.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert 'wsssbench.reporting.rows' in sys.modules\n"
        "heavy = {'torch', 'pandas', 'scipy', 'numba'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *command.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------------- list, show, prepare


def test_list_names_every_plugin_with_its_recipe_and_its_distribution() -> None:
    text = ok("list")
    assert re.search(r"\| cam\+crf +\| cam > crf +\| wsssbench [\d.]+ +\|", text)
    for name in ("constant", "rrm", "shapes", "voc12", "iou", "seg+ms+crf"):
        assert f"| {name} " in text


def test_list_shows_recipes_and_stages_of_the_settings_and_steps_of_local_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    toml = '[methods.mine]\nsteps = ["cam", "crf"]\n[stages."seg+flip"]\nflip = true\n'
    Path("wsssbench.toml").write_text(toml)
    text = ok("list", "--plugin", PLUGIN)
    assert re.search(r"\| mine +\| cam > crf +\| wsssbench.toml", text)
    assert "| seg+flip " in text
    assert f"file {PLUGIN}" in text
    assert "custom" in ok("show", "seg+flip")
    assert "cam > crf" in ok("show", "mine")


def test_show_gives_options_with_default_and_origin_presets_and_published_numbers() -> None:
    text = ok("show", "bright", "--plugin", PLUGIN)
    assert re.search(r"\| threshold +\| float +\| 0.6 +\| map value .* \| made up +\|", text)
    assert "preset dim: threshold=0.3" in text
    assert "supervision: tags" in text
    assert "published, not measured here: nowhere=1.5" in text


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("cam+crf", "cam > crf"),
        ("shapes", "image_px"),
        ("voc12", "root"),
        ("iou", "better: higher"),
        ("seg+crf", "bilateral_xy=83"),
    ],
)
def test_show_knows_methods_data_sets_metrics_and_stages(name: str, word: str) -> None:
    assert word in ok("show", name)


def test_prepare_says_what_a_generated_set_would_draw() -> None:
    text = ok("prepare", "shapes", *TINY)
    assert "train 48, val 24" in text
    assert "nothing is downloaded" in text


def test_prepare_checks_the_files_of_a_tree(voc_tree) -> None:
    option = ("-o", f"voc12.root={voc_tree.root}")
    assert "all files are usable" in ok("prepare", "voc12", *option)
    voc_tree.image("2007_000033").unlink()
    result = call("prepare", "voc12", *option)
    assert result.exit_code == 1
    assert "2007_000033" in result.output


# --------------------------------------------------------------------------------------------------- clean


def steps_of(runs: Path, name: str) -> list[str]:
    return sorted(str(path.relative_to(runs)) for path in runs.rglob(name))


def test_clean_without_yes_removes_nothing(runs: Path) -> None:
    before = sorted(runs.rglob("*"))
    text = ok("clean", "--artifacts", "--checkpoints", "--failed")
    assert re.search(r"\| shapes +\| artifacts +\| +\d+ +\| [\d.]+ kB +\| goes", text)
    assert "| cells " in text
    assert sorted(runs.rglob("*")) == before


def test_clean_artifacts_keeps_masks_records_counts_and_checkpoints(runs: Path) -> None:
    report, kept = (
        ok("report"),
        {n: steps_of(runs, n) for n in ("record.json", "counts.npz", "fitted.json", "gain.txt")},
    )
    masks = len(list(runs.glob("shapes/*/seed0/*/masks/*.png")))
    ok("clean", "--artifacts", "--yes")
    assert list(runs.glob("shapes/steps/*/artifacts/*/labels")) == []
    assert {name: steps_of(runs, name) for name in kept} == kept
    assert len(list(runs.glob("shapes/*/seed0/*/masks/*.png"))) == masks
    assert ok("report") == report


def test_clean_checkpoints_makes_the_next_run_fit_again(runs: Path) -> None:
    ok("clean", "--checkpoints", "--yes")
    assert steps_of(runs, "fitted.json") == steps_of(runs, "gain.txt") == []
    assert len(steps_of(runs, "record.json")) == 4
    shutil.rmtree(cell(runs, "bright", "seg"))
    bright = ("--plugin", PLUGIN, "--method", "bright", "--stages", "seg")
    ok("run", "--dataset", "shapes", *TINY, *bright, "-q")
    assert len(steps_of(runs, "gain.txt")) == 1


def test_clean_failed_removes_failed_cells_alone(runs: Path) -> None:
    changed(cell(runs, "constant", "seg"), status="failed", reason="it broke", scores={})
    ok("clean", "--failed", "--yes")
    assert not (cell(runs, "constant", "seg") / "record.json").exists()
    assert len(steps_of(runs, "record.json")) == 3


def test_clean_follows_no_link(runs: Path) -> None:
    outside = Path("outside").absolute()
    (outside / "train").mkdir(parents=True)
    (outside / "train" / "precious.npz").write_text("mine")
    (step,) = runs.glob("shapes/steps/bright-*")
    shutil.rmtree(step / "artifacts")
    (step / "artifacts").symlink_to(outside)
    (step / "ckpt").symlink_to(outside)
    (runs / "linked").symlink_to(runs / "shapes")
    assert "linked" not in ok("clean", "--artifacts", "--checkpoints", "--yes")
    assert (outside / "train" / "precious.npz").read_text() == "mine"


def test_clean_knows_what_isolated_steps_leave_but_nothing_that_a_run_uses(runs: Path) -> None:
    place = next(runs.glob("*/steps")) / ".isolated"
    shared, left, used = (
        place / "tags" / "classifier-0123abcd",
        place / ".staged-left",
        place / ".staged-used",
    )
    for folder in (shared, left / "images", used / "images"):
        folder.mkdir(parents=True)
    for file in (shared / ".holder", shared / "net.pt", left / "images" / "1.png", used / "images" / "1.png"):
        file.write_bytes(b"0" * 1000)
    with hold(used, print):
        text = ok("clean", "--artifacts", "--yes")
        assert [line.split("|")[3].strip() for line in text.splitlines() if "staged images" in line] == ["1"]
        assert (shared / "net.pt").exists()
        assert (not left.exists(), (used / "images" / "1.png").exists()) == (True, True)
        ok("clean", "--checkpoints", "--yes")
        assert (not (shared / "net.pt").exists(), used.exists()) == (True, True)
    ok("clean", "--artifacts", "--yes")
    assert not used.exists()


def test_clean_refuses_a_folder_that_is_no_run(runs: Path) -> None:
    (Path("home") / "work" / "steps" / "thesis-deadbeef").mkdir(parents=True)
    (Path("home") / "work" / "steps" / "thesis-deadbeef" / "text.tex").write_text("years")
    result = call("clean", "home", "--artifacts", "--checkpoints", "--yes")
    assert result.exit_code == 2
    assert Path("home/work/steps/thesis-deadbeef/text.tex").exists()


# -------------------------------------------------------------------------------------------------- doctor


def test_doctor_finds_this_installation_fit_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = ok("doctor")
    for word in ("Python", "torch", "numba", "pydensecrf", "run folder", "free"):
        assert word in text


@pytest.mark.parametrize(
    ("missing", "said"), [("", "ok   triton"), ("no compiler", "note filters run on the GPU")]
)
def test_doctor_says_how_a_gpu_filters(monkeypatch: pytest.MonkeyPatch, missing: str, said: str) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "NVIDIA made up")
    monkeypatch.setattr("wsssbench.ops.triton_launch.lacks_triton", lambda: missing)
    text = ok("doctor")
    assert "NVIDIA made up" in text
    assert said in text
    assert missing in text


@pytest.mark.parametrize(
    ("version", "said"), [(None, "backbones timm:NAME will not work"), ("1.0", "no weights are installed")]
)
def test_doctor_says_how_weights_that_need_no_file_are_installed(
    monkeypatch: pytest.MonkeyPatch, version: str | None, said: str
) -> None:
    from wsssbench.commands import doctor

    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor, "_version", lambda name: version)
    (line,) = doctor.pretrained_weights()
    assert (line.state, said in line.text, "wsssbench[weights]" in line.next) == ("note", True, True)


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ((3, 12), "next: pip install 'wsssbench[pydensecrf]'"),
        ((3, 13), "next: pydensecrf2 does not build on Python 3.13; use --filter lattice"),
        ((3, 14), "next: pydensecrf2 does not build on Python 3.14; use --filter lattice"),
    ],
)
def test_doctor_offers_the_reference_crf_where_it_builds(
    python: tuple[int, int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsssbench.commands import doctor

    monkeypatch.setattr("wsssbench.ops.densecrf_package.PYTHON", python)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    text = ok("doctor")
    assert "note pydensecrf is absent" in text
    assert said in text


def test_the_extra_of_the_reference_crf_asks_for_it_where_it_builds() -> None:
    from packaging.requirements import Requirement

    from wsssbench.ops.densecrf_package import DENSECRF_PYTHON

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    (fork,) = map(Requirement, project["optional-dependencies"]["pydensecrf"])
    newest = [
        f"3.{minor}" for minor in range(11, 20) if fork.marker.evaluate({"python_version": f"3.{minor}"})
    ]
    assert newest[-1] == ".".join(map(str, DENSECRF_PYTHON))


def test_doctor_reads_the_torch_that_torchvision_was_built_for() -> None:
    from wsssbench.commands.doctor import wanted_torch

    assert wanted_torch(["numpy", "torch==2.4.1", "pillow>=5"]) == "2.4.1"
    assert wanted_torch(["torch (==2.4.1)"]) == "2.4.1"
    assert wanted_torch(["torch>=2"]) == ""


def test_doctor_fails_where_torch_and_torchvision_do_not_match(monkeypatch: pytest.MonkeyPatch) -> None:
    from wsssbench.commands import doctor

    monkeypatch.setattr(doctor, "requires", lambda name: ["torch==1.0.0"])
    result = call("doctor")
    assert result.exit_code == 1
    assert "built for torch 1.0.0" in result.output


def test_doctor_names_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    from wsssbench.commands.doctor import writable

    (tmp_path / "file").write_text("")
    assert writable("run folder", tmp_path / "runs", "").state == "ok"
    assert writable("run folder", tmp_path / "file", "hint").state == "FAIL"


# ------------------------------------------------------------------------------------------------- predict


def pictures(*sizes: tuple[int, int], seed: int = 7) -> list[Path]:
    """Random JPEG-free pictures of (H, W) in the working folder."""
    draw = np.random.default_rng(seed)
    paths = [Path(f"picture{i}.png") for i in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        Pil.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return paths


def test_predict_writes_a_palette_mask_and_an_overlay_of_the_images_size(runs: Path) -> None:
    images = pictures((40, 56), (33, 21))
    ok("predict", *images, "--run", cell(runs, "constant", "seg"))
    for path in images:
        size = header(path)[1]
        assert header(Path("predictions") / path.name) == ("P", size)
        assert header(Path("predictions") / f"{path.stem}_overlay.png") == ("RGB", size)


def test_a_localizers_maps_become_labels_by_the_records_threshold(runs: Path) -> None:
    (path,) = pictures((40, 56))
    folder = cell(runs, "bright", "seg")
    ok("predict", path, "--run", folder / "record.json", "--plugin", PLUGIN, "--out", "here")
    (step,) = runs.glob("shapes/steps/bright-*")
    gain = np.float32((step / "gain.txt").read_text())
    with Pil.open(path) as picture:
        planes = np.array(picture).transpose(2, 0, 1)[:, ::2, ::2] * gain
    assert read_record(folder).identity.threshold == {"value": 0.6, "tuned_on": ""}
    kept = planes.astype(np.float16).astype(np.float32)  # as the maps that are judged
    wanted = threshold_labels(Maps(np.arange(3), kept), 0.6, (40, 56))
    found = read_labels(Path("here") / path.name)
    assert len(np.unique(found)) == 4
    np.testing.assert_array_equal(found, wanted)


def test_a_run_of_a_crf_stage_predicts_through_its_crf(runs: Path) -> None:
    image = Path("val.png")
    data = shapes()
    Pil.fromarray(data.image("val_00000")).save(image)
    found = {}
    for stage in ("seg", "seg+crf"):
        folder = cell(runs, "bright", stage)
        ok("predict", image, "--run", folder, "--plugin", PLUGIN, "--out", stage)
        found[stage] = read_labels(Path(stage) / "val.png")
        judged = read_labels(folder / "masks" / "val_00000.png")
        np.testing.assert_array_equal(found[stage], judged)
    assert (found["seg"] != found["seg+crf"]).any()


def test_predict_turns_a_photograph_upright(runs: Path) -> None:
    photo = Pil.new("RGB", (30, 20))
    exif = photo.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    photo.save("photo.jpg", exif=exif)
    ok("predict", "photo.jpg", "--run", cell(runs, "constant", "seg"))
    assert header(Path("predictions/photo.png")) == ("P", (20, 30))


@pytest.mark.parametrize("content", [b"no picture", b""])
def test_an_unreadable_image_is_named_before_anything_is_written(runs: Path, content: bytes) -> None:
    (good,) = pictures((20, 20))
    Path("bad.jpg").write_bytes(content)
    result = call("predict", good, "bad.jpg", "--run", cell(runs, "constant", "seg"))
    assert result.exit_code == 2
    assert "bad.jpg" in result.output
    assert not Path("predictions").exists()


def test_predict_overwrites_no_input_and_mixes_up_no_two_images(runs: Path) -> None:
    (path,) = pictures((20, 20))
    before = path.read_bytes()
    run = ("--run", cell(runs, "constant", "seg"))
    assert call("predict", path, *run, "--out", ".").exit_code == 2
    assert path.read_bytes() == before
    Path("other").mkdir()
    other = Path(shutil.copy(path, "other"))
    result = call("predict", path, other, *run)
    assert result.exit_code == 2
    assert "two images would both become" in result.output


def test_predict_says_what_is_missing_from_a_run(runs: Path) -> None:
    (path,) = pictures((20, 20))
    folder = cell(runs, "constant", "seg")
    scored = json.loads(ok("score", truth(Path("masks")), *SCORE, "--json"))
    assert "no model to run" in call("predict", path, "--run", Path(scored["record"])).output
    assert "unknown step 'bright'" in call("predict", path, "--run", cell(runs, "bright", "seg")).output
    ok("clean", "--checkpoints", "--yes")
    result = call("predict", path, "--run", folder)
    assert result.exit_code == 2
    assert "wsssbench clean" in result.output
    changed(folder, status="failed", reason="it broke", scores={})
    assert "it broke" in call("predict", path, "--run", folder).output
