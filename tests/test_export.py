"""`wsssbench export`: the VOC server's archive, PSA's dicts and PNGs, from cells of a tiny VOC tree."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil

from wsssbench.artifacts import ArtifactFolder
from wsssbench.cli.main import main
from wsssbench.commands.export.voc_images import read_ids
from wsssbench.commands.export.voc_test import CLASSES, competition_of, outside_data
from wsssbench.dumps import read_dump, to_psa_dict, verify_voc_archive
from wsssbench.errors import BadData, WsssError
from wsssbench.identity import Record, StepIdentity
from wsssbench.masks import read_labels, voc_palette
from wsssbench.records.store import read_record, write_record
from wsssbench.types import Outputs

PLUGIN, CROWD = (Path(__file__).with_name(f"{name}_step.py") for name in ("bright", "crowd"))
TEST_IDS = ("2008_000006", "2008_000011")
FOLDER = "results/VOC2012/Segmentation/{}_test_cls"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def ok(*arguments: object) -> str:
    """stdout of a command that ends well."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object, code: int = 2) -> str:
    """What a command says that ends with `code`, without a traceback."""
    result = call(*arguments)
    assert result.exit_code == code, result.output
    assert result.stderr.count("error: ") == 1
    return result.stderr


@pytest.fixture
def voc(voc_tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tree with two test images, named by the settings of the working folder, else empty."""
    draw = np.random.default_rng(5)
    for n, id in enumerate(TEST_IDS):
        pixels = draw.integers(0, 256, (24, 30 + n, 3), dtype=np.uint8)
        pixels[4:12, 5:20] = (250, 20, 30)
        Pil.fromarray(pixels).save(voc_tree.image(id), quality=95)
    voc_tree.list_file("test").write_text("".join(f"/JPEGImages/{id}.jpg\n" for id in TEST_IDS))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("wsssbench.toml").write_text(f"[datasets.voc12]\nroot = {json.dumps(str(voc_tree.root))}\n")
    return voc_tree


def run(method: str, stages: str, *more: object) -> Path:
    """Run a method on the tree; the folder of its seed."""
    ok("run", "--method", method, "--dataset", "voc12", "--stages", stages, "--device", "cpu", "-q",
       "--plugin", PLUGIN, "--plugin", CROWD, *more)  # fmt: skip
    (folder,) = Path("runs/voc12").glob("*/seed0")
    return folder


def cell(seed: Path, stage: str) -> Path:
    (folder,) = seed.glob(f"{stage}-*-????????")
    return folder


def changed(folder: Path, **fields: object) -> Record:
    """The record of `folder` with other fields, written back."""
    record = dataclasses.replace(read_record(folder), **fields)  # type: ignore[arg-type]
    write_record(folder, record)
    return record


def voc_test(place: Path, voc: Any, *more: object) -> tuple[object, ...]:
    """The arguments that export the two test images of the tree."""
    return ("export", "voc12-test", place, "--list", voc.list_file("test"), "--plugin", PLUGIN, "-q", *more)


def contents(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as packed:
        return {member.name: packed.extractfile(member).read() for member in packed}  # type: ignore[union-attr]


# ---------------------------------------------------------------------------------------------- voc12-test


def test_the_archive_holds_the_labels_that_predict_gives_as_the_server_wants_them(voc: Any) -> None:
    folder = cell(run("bright", "seg"), "seg")
    result = call(*voc_test(folder, voc, "--out", "made/results.tar.gz"))
    assert result.exit_code == 0, result.output
    assert "2 masks of bright seed 0 seg in made/results.tar.gz, for comp5\n" in result.stdout
    assert "names 2 images; the server wants VOC's 1,456" in result.stderr
    sizes = {TEST_IDS[0]: (24, 30), TEST_IDS[1]: (24, 31)}
    assert verify_voc_archive("made/results.tar.gz", TEST_IDS, sizes) == "comp5"
    ok("predict", *map(voc.image, TEST_IDS), "--run", folder, "--plugin", PLUGIN)
    found = contents(Path("made/results.tar.gz"))
    assert list(found) == [f"{FOLDER.format('comp5')}/{id}.png" for id in TEST_IDS]
    for id, data in zip(TEST_IDS, found.values(), strict=True):
        with Pil.open(io.BytesIO(data)) as picture:
            assert (picture.mode, picture.size[::-1]) == ("P", sizes[id])
            assert picture.getpalette() == voc_palette().ravel().tolist()
            labels = np.asarray(picture)
        assert len(np.unique(labels)) > 1
        np.testing.assert_array_equal(labels, read_labels(f"predictions/{id}.png"))
    assert [path.name for path in Path("made").iterdir()] == ["results.tar.gz"]


def test_the_same_cell_gives_the_same_bytes_and_a_stage_its_own(voc: Any) -> None:
    seed = run("bright", "seg,seg+crf")
    for out in ("one.tar.gz", "two.tar.gz"):
        ok(*voc_test(cell(seed, "seg"), voc, "--out", out))
    assert Path("one.tar.gz").read_bytes() == Path("two.tar.gz").read_bytes()
    ok(*voc_test(cell(seed, "seg+crf"), voc))
    default = contents(Path("bright-seed-0-seg+crf-comp5.tar.gz"))
    assert default.keys() == contents(Path("one.tar.gz")).keys()
    assert default != contents(Path("one.tar.gz"))


def test_the_whole_list_of_the_tree_is_taken_and_a_shorter_one_only_when_it_is_named(voc: Any) -> None:
    seed = run("constant", "seg")
    said = refused("export", "voc12-test", seed)
    assert "the test list has 2 images, VOC's has 1,456" in said
    assert "--list FILE" in said
    ids = [f"2008_{n:06d}" for n in range(1456)]
    Pil.fromarray(np.zeros((6, 8, 3), np.uint8)).save("small.jpg")
    for id in ids:
        voc.image(id).unlink(missing_ok=True)
        voc.image(id).hardlink_to("small.jpg")
    voc.list_file("test").write_text("\n".join(ids))
    ok("export", "voc12-test", seed, "--out", "all.tgz", "-q")
    assert verify_voc_archive("all.tgz", ids, dict.fromkeys(ids, (6, 8))) == "comp5"


def test_images_may_lie_in_a_folder_of_their_own_and_missing_ones_are_counted_and_named(voc: Any) -> None:
    seed = run("constant", "seg")
    apart = Path("test/JPEGImages")
    apart.mkdir(parents=True)
    for id in TEST_IDS:
        voc.image(id).rename(apart / f"{id}.jpg")
    said = refused(*voc_test(seed, voc))
    assert "2 of 2 test images are missing: 2008_000006, 2008_000011" in said
    assert "--images FOLDER" in said
    Path("wsssbench.toml").write_text("")  # neither tree nor tags nor masks are needed now
    for images in (apart, apart.parent):
        ok(*voc_test(seed, voc, "--images", images, "--out", "x.tgz"))
    assert len(contents(Path("x.tgz"))) == 2


def test_a_missing_list_and_a_wrong_one_are_named(voc: Any) -> None:
    seed = run("constant", "seg")
    voc.list_file("test").unlink()
    assert "--list FILE and --images FOLDER" in refused("export", "voc12-test", seed)
    assert "cannot be read" in refused(*voc_test(seed, voc))
    asked = ("export", "voc12-test", seed, "--list", "mine.txt", "--images", voc.tree)
    for text, message in (("a\n/x/a.jpg\n", "ids that stand twice: a"), ("\n", "this list is empty")):
        Path("mine.txt").write_text(text)
        assert message in refused(*asked)


def test_the_first_word_of_a_line_without_folder_and_suffix_is_its_id(tmp_path: Path) -> None:
    path = tmp_path / "test.txt"
    path.write_text(
        "\ufeff2008_000006\n\n/JPEGImages/2008_000011.jpg /x/2008_000011.png\r\n 2008_000012 4 7\n"
    )
    assert read_ids(path) == ("2008_000006", "2008_000011", "2008_000012")


@pytest.mark.parametrize("damage", [b"no picture", None])
def test_a_damaged_image_is_named_and_leaves_no_archive(voc: Any, damage: bytes | None) -> None:
    seed = run("constant", "seg")
    whole = voc.image(TEST_IDS[1]).read_bytes()
    voc.image(TEST_IDS[1]).write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert f"{TEST_IDS[1]}.jpg" in refused(*voc_test(seed, voc, "--out", "x/x.tgz"))
    assert not list(Path().glob("x/*"))


def test_a_folder_with_one_cell_without_tags_means_that_cell_and_two_have_to_be_told_apart(voc: Any) -> None:
    seed = run("bright", "pseudo,seg")
    ok(*voc_test(seed, voc, "--out", "x.tgz"))
    run("bright", "seg+crf")
    said = refused(*voc_test(seed, voc))
    assert "2 cells are here, and each of them could be meant" in said
    assert f"name one: {cell(seed, 'seg+crf').name}, {cell(seed, 'seg').name}\n" in said


def test_cells_that_the_server_cannot_judge_are_refused(voc: Any, tmp_path: Path) -> None:
    seed = run("bright", "pseudo,seg")
    assert "test images have none" in refused(*voc_test(cell(seed, "pseudo"), voc))
    assert "no such folder" in refused(*voc_test(tmp_path / "nowhere", voc))
    (tmp_path / "empty").mkdir()
    assert "no cell of a run here" in refused(*voc_test(tmp_path / "empty", voc))
    assert "only options of voc12" in refused(*voc_test(seed, voc, "-o", "bright.stride=1"))
    assert "this is a folder" in refused(*voc_test(seed, voc, "--out", "."))
    ok("score", cell(seed, "seg") / "masks", "--dataset", "voc12", "--as", "foreign", "--runs", "scored")
    assert "no model to run" in refused(*voc_test(Path("scored"), voc))
    other = ("run", "--method", "constant", "--dataset", "shapes", "-o", "shapes.preset=tiny", "-q")
    ok(*other, "--stages", "seg")
    assert "not the 20 of VOC" in refused(*voc_test(Path("runs/shapes"), voc))
    ok("clean", "--checkpoints", "--yes")
    assert "wsssbench clean" in refused(*voc_test(cell(seed, "seg"), voc))
    changed(cell(seed, "seg"), status="failed", reason="it broke", scores={})
    assert "it broke" in refused(*voc_test(cell(seed, "seg"), voc))


def test_an_archive_that_fails_its_check_ends_with_exit_code_1_and_is_gone(
    voc: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise BadData("the palette is not VOC's")

    seed = run("constant", "seg")
    Path("x.tgz").write_text("an older one")
    monkeypatch.setattr("wsssbench.commands.export.voc_test.verify_voc_archive", fails)
    assert "the palette is not VOC's" in refused(*voc_test(seed, voc, "--out", "x.tgz"), code=1)
    assert Path("x.tgz").read_text() == "an older one"
    assert not list(Path().glob(".x.tgz*"))


def test_the_servers_classes_are_those_of_the_data_set() -> None:
    from wsssbench_datasets.voc12.dataset import CLASS_NAMES

    assert CLASSES == CLASS_NAMES


# ------------------------------------------------------------------------------------------ what was judged


def unlucky_threshold(voc: Any) -> float:
    """A threshold of `bright` between a value of its maps and what float16 keeps of it, at many pixels."""
    gain = 1.0 / max(int(np.asarray(Pil.open(voc.image(id))).max()) for id in voc.splits["train"])
    seen = np.concatenate([np.asarray(Pil.open(voc.image(id))).ravel() for id in voc.splits["val"]])
    values, often = np.unique(seen, return_counts=True)
    exact = (values * np.float32(gain)).astype(np.float64)
    lost = exact - exact.astype(np.float16)
    chosen = np.argmax(np.where(lost > 1e-5, often, 0))
    return float(exact[chosen] - lost[chosen] / 2)


@pytest.mark.parametrize(
    ("method", "stage"),
    [
        ("bright", "seg"),
        ("bright", "seg+crf"),
        ("bright > crowd", "seg"),
        ("bright > crowd", "seg+crf"),
        ("bright > crowd", "mirrored"),
        ("constant", "seg"),
    ],
)
def test_labels_of_judged_images_are_the_judged_ones_byte_for_byte(voc: Any, method: str, stage: str) -> None:
    with Path("wsssbench.toml").open("a") as file:
        file.write("[stages.mirrored]\nscales = [0.5, 1.0]\nflip = true\n")
    more = () if method == "constant" else ("-o", f"bright.threshold={unlucky_threshold(voc)!r}")
    folder = cell(run(method, stage, *more), stage)
    judged = {id: (folder / "masks" / f"{id}.png").read_bytes() for id in voc.splits["val"]}
    asked = ("--plugin", PLUGIN, "--plugin", CROWD)
    ok("export", "voc12-test", folder, "--list", voc.list_file("val"), *asked, "-q", "--out", "x.tgz")
    assert {Path(name).stem: data for name, data in contents(Path("x.tgz")).items()} == judged
    ok("predict", *map(voc.image, judged), "--run", folder, *asked, "--device", "cpu")
    assert {id: Path(f"predictions/{id}.png").read_bytes() for id in judged} == judged
    ok("export", "png", folder, "png")
    assert {path.stem: path.read_bytes() for path in Path("png").iterdir()} == judged


def test_a_cell_of_an_older_rule_for_mirrored_images_is_not_predicted_by_the_new_one(voc: Any) -> None:
    with Path("wsssbench.toml").open("a") as file:
        file.write("[stages.mirrored]\nflip = true\n")
    folder = cell(run("bright > crowd", "mirrored"), "mirrored")
    identity = read_record(folder).identity
    changed(
        folder,
        identity=dataclasses.replace(identity, terms=dataclasses.replace(identity.terms, stage_version="1")),
    )
    said = refused(*voc_test(folder, voc, "--plugin", CROWD))
    assert "judged by version 1" in said
    assert "run the cell again" in said


@pytest.mark.parametrize("stage", ["seed", "pseudo"])
def test_labels_that_were_judged_with_tags_are_exported_as_they_were_judged(voc: Any, stage: str) -> None:
    folder = cell(run("bright > crowd", stage), stage)
    ok("export", "png", folder, "png")
    masks = {path.stem: path.read_bytes() for path in (folder / "masks").iterdir()}
    assert {path.stem: path.read_bytes() for path in Path("png").iterdir()} == masks
    for id in voc.splits["train"]:
        assert set(np.unique(read_labels(f"png/{id}.png"))) <= {0, *(k + 1 for k in voc.classes[id])}


def test_large_pictures_go_through_a_step_in_smaller_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    from wsssbench.commands import fitted

    def grouped(*sides: int, most: int) -> list[int]:
        seen = ((np.zeros((side, side, 3), np.uint8), Outputs()) for side in sides)
        return [len(group) for group in fitted.together(seen, most)]

    assert grouped(5, 5, 5, 5, 5, most=2) == [2, 2, 1]
    assert grouped(most=2) == []
    monkeypatch.setattr(fitted, "MOST_PIXELS", 60)
    assert grouped(5, 5, 9, 5, 5, 5, most=8) == [2, 1, 2, 1]


# --------------------------------------------------------------------------------------------- competition


def with_card(record: Record, **fields: object) -> Record:
    """The record with its only step's card changed."""
    cards = {name: {**card, **fields} for name, card in record.provenance["cards"].items()}
    return dataclasses.replace(record, provenance={**record.provenance, "cards": cards})


def with_identity(record: Record, **fields: Any) -> Record:
    return dataclasses.replace(record, identity=dataclasses.replace(record.identity, **fields))


def of_another_dataset(record: Record) -> Record:
    return with_identity(record, terms=dataclasses.replace(record.identity.terms, dataset="coco14"))


OUTSIDE: dict[str, tuple[Callable[[Record], Record], str]] = {
    "pretraining": (lambda r: with_card(r, pretraining="imagenet"), "constant starts from imagenet"),
    "unknown pretraining": (lambda r: with_card(r, pretraining=""), "weights of unknown origin"),
    "foreign labels": (
        lambda r: with_identity(r, recipe=(StepIdentity("import:x", "1", {}),)),
        "import:x starts from weights of unknown origin",
    ),
    "supervision": (lambda r: with_identity(r, supervision=("saliency", "tags")), "saliency supervision"),
    "nobody says": (lambda r: with_identity(r, supervision=("unknown",)), "unknown supervision"),
    "masks of SBD": (lambda r: with_identity(r, supervision=("masks",)), "SBD's masks"),
    "another data set": (of_another_dataset, "learned from coco14"),
}


def test_a_row_that_has_seen_outside_data_goes_to_comp6_and_may_not_ask_for_comp5(voc: Any) -> None:
    seed = run("constant", "seg")
    folder = cell(seed, "seg")
    record = read_record(folder)
    assert outside_data(record) == []
    assert [competition_of(record, asked)[0] for asked in (None, "comp5", "comp6")] == [
        "comp5",
        "comp5",
        "comp6",
    ]  # type: ignore[arg-type]
    for change, reason in OUTSIDE.values():
        row = change(record)
        assert competition_of(row, None)[0] == competition_of(row, "comp6")[0] == "comp6"
        assert reason in "; ".join(outside_data(row))
        with pytest.raises(WsssError, match=reason):
            competition_of(row, "comp5")
    own = with_card(record, pretraining="voc12")
    assert competition_of(own, "comp5") == ("comp5", [])


def test_the_record_of_a_pretrained_step_decides_the_folder_in_the_archive(voc: Any) -> None:
    folder = cell(run("constant", "seg"), "seg")
    write_record(folder, with_card(read_record(folder), pretraining="imagenet"))
    said = refused(*voc_test(folder, voc, "--competition", "comp5", "--out", "x.tgz"))
    assert "comp5 is for methods that have seen VOC data only, and constant starts from imagenet" in said
    assert not Path("x.tgz").exists()
    assert "for comp6 (constant starts from imagenet)" in ok(*voc_test(folder, voc, "--out", "x.tgz"))
    assert all(name.startswith(FOLDER.format("comp6")) for name in contents(Path("x.tgz")))


# ----------------------------------------------------------------------------------------------- psa and png


def test_maps_survive_the_way_through_psas_dicts_at_the_images_sizes(voc: Any) -> None:
    folder = cell(run("bright > crf", "seed"), "seed")
    assert "2 files of maps of bright" in ok("export", "psa", folder, "out/psa")
    (artifacts,) = Path("runs/voc12/steps").glob("bright-*/artifacts/train-tags")
    ids = voc.splits["train"]
    kept = ArtifactFolder(artifacts, ids)
    assert sorted(path.name for path in Path("out/psa").iterdir()) == [f"{id}.npy" for id in ids]
    for id in ids:
        dump = read_dump(Path(f"out/psa/{id}.npy"), 20)
        with Pil.open(voc.image(id)) as picture:
            shape = (picture.height, picture.width)
        maps = kept.read(id, ["maps"]).maps
        assert maps is not None
        assert dump.maps is not None
        assert tuple(dump.maps.classes) == voc.classes[id] == tuple(to_psa_dict(maps, shape))
        assert dump.maps.values.shape[1:] == shape
        np.testing.assert_array_equal(dump.maps.values, list(to_psa_dict(maps, shape).values()))


def test_a_cell_without_maps_says_which_stage_makes_them(voc: Any) -> None:
    seed = run("bright > crf", "seed,pseudo")
    said = refused("export", "psa", cell(seed, "pseudo"), "psa")
    assert "crf gives no maps" in said
    assert (
        "`wsssbench run --method 'bright > crf' --dataset voc12 --stages seed` makes those of bright" in said
    )
    ok("clean", "--artifacts", "--yes")
    said = refused("export", "psa", cell(seed, "seed"), "psa")
    assert "2 of 2 images have no maps of bright: 2007_000032, 2007_000039" in said
    assert f"remove {cell(seed, 'seed').name} and run again" in said
    shutil.rmtree(cell(seed, "seed"))
    run("bright > crf", "seed")
    ok("export", "psa", cell(seed, "seed"), "psa")


def test_methods_without_any_maps_and_foreign_rows_have_nothing_for_psa(voc: Any) -> None:
    seed = run("constant", "pseudo")
    assert "no step of constant gives maps" in refused("export", "psa", seed, "psa")
    ok("score", cell(seed, "pseudo") / "masks", "--dataset", "voc12", "--stage", "pseudo", "--as", "foreign",
       "--runs", "scored")  # fmt: skip
    assert "came as files" in refused("export", "psa", Path("scored"), "psa")
    assert not Path("psa").exists()
    ok("export", "png", "scored", "png")
    assert len(list(Path("png").iterdir())) == 2


def test_pngs_are_the_judged_labels_with_voc_palette(voc: Any) -> None:
    folder = cell(run("bright", "seg"), "seg")
    Path("out").mkdir()  # an empty folder is as good as none
    assert "2 masks of bright seed 0 seg in out" in ok("export", "png", folder / "record.json", "out")
    assert sorted(path.stem for path in Path("out").iterdir()) == sorted(voc.splits["val"])
    for id in voc.splits["val"]:
        with Pil.open(f"out/{id}.png") as picture:
            assert picture.mode == "P"
            assert picture.getpalette() == voc_palette().ravel().tolist()
        kept = folder / "masks" / f"{id}.png"
        np.testing.assert_array_equal(read_labels(f"out/{id}.png"), read_labels(kept))
        assert not Path(f"out/{id}.png").samefile(kept)


def test_what_is_there_is_never_mixed_with_what_is_exported(voc: Any) -> None:
    seed = run("constant", "seg")
    Path("full").mkdir()
    Path("full/mine.png").write_text("mine")
    assert "not empty" in refused("export", "png", seed, "full")
    assert "not empty" in refused("export", "png", seed, ".")
    assert "a file of this name" in refused("export", "png", seed, "wsssbench.toml")
    assert "cannot write" in refused("export", "png", seed, "wsssbench.toml/below")
    assert [path.name for path in Path("full").iterdir()] == ["mine.png"]


def test_a_damaged_or_missing_mask_leaves_no_folder(voc: Any) -> None:
    seed = run("constant", "seg")
    last = cell(seed, "seg") / "masks" / f"{voc.splits['val'][1]}.png"
    before = sorted(path.name for path in Path().iterdir())
    last.unlink()
    assert "1 of 2 files are missing: 2007_000042.png" in refused("export", "png", seed, "out")
    last.write_bytes(b"damaged")
    assert "2007_000042.png" in refused("export", "png", seed, "out")
    assert sorted(path.name for path in Path().iterdir()) == before


def test_maps_and_pngs_are_exported_without_torch(voc: Any) -> None:
    folder = cell(run("bright", "seed"), "seed")
    for what in ("psa", "png"):
        command = [sys.executable, "-X", "importtime", "-m", "wsssbench", "export", what, str(folder), what]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        imported = {line.rsplit("|", 1)[-1].strip().partition(".")[0] for line in done.stderr.splitlines()}
        assert "wsssbench" in imported
        assert imported & {"torch", "pandas", "scipy"} == set()
