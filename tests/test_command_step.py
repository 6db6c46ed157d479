"""A foreign program as a step: what it is handed, what becomes of its files, and how it may fail."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image as Pil

from wsssbench.cli.main import main
from wsssbench.errors import BadData, UnknownName, WsssError
from wsssbench.identity import Record
from wsssbench.masks import read_labels
from wsssbench.planning.plan import make_plan
from wsssbench.planning.settings import Settings
from wsssbench.plugins.options import build_config, key_options
from wsssbench.plugins.table import Plugins
from wsssbench.records.finding import find_records
from wsssbench.running.context import RunContext
from wsssbench.testing import check_step
from wsssbench.testing.tiny import TinyDataset
from wsssbench.types import Outputs, Sample, View
from wsssbench_methods.command import Command
from wsssbench_methods.program_folder import ProgramFolder
from wsssbench_methods.programs import fill_places, run_program, split_command

DATA: Any = TinyDataset()
ANY: frozenset[Any] = frozenset({"labels"})

# Labels of a picture: 1 where it is red, 2 where it is blue; of tagged classes alone where tags are given.
SEGMENT = """
import csv, pathlib, sys
import numpy as np
from PIL import Image
images, tags, out = map(pathlib.Path, sys.argv[1:4])
print("files:", sorted(str(p.relative_to(out.parent)) for p in out.parent.rglob("*") if p.is_file()))
given = {row["id"]: row for row in csv.DictReader(tags.open())} if tags.exists() else {}
for path in sorted(images.iterdir()):
    pixels = np.asarray(Image.open(path)).astype(int)
    labels = np.zeros(pixels.shape[:2], np.uint8)
    labels[pixels[..., 0] - pixels[..., 2] > 100] = 1
    labels[pixels[..., 2] - pixels[..., 0] > 100] = 2
    for k, name in enumerate(("red", "blue"), 1):
        if given and given[path.stem][name] == "0":
            labels[labels == k] = 0
    Image.fromarray(labels).save(out / path.name)
"""
# Probabilities of K classes and background, at half of the image's size: of each pixel's brightest channel.
PROBS = """
import pathlib, sys
import numpy as np
from PIL import Image
tree, count = pathlib.Path(sys.argv[1]).parent, int(sys.argv[2])
for id in (tree / "list.txt").read_text().split():
    pixels = np.asarray(Image.open(tree / "images" / f"{id}.png")).astype(int)[::2, ::2]
    planes = np.full((count + 1, *pixels.shape[:2]), 0.1 / count, np.float32)
    best = pixels.argmax(2) % (count + 1)
    np.put_along_axis(planes, best[None], 0.9, 0)
    np.save(tree / "out" / f"{id}.npy", planes)
"""


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def program(text: str, *arguments: str, name: str = "program.py") -> tuple[str, ...]:
    """A command line that runs the Python source `text`."""
    Path(name).write_text(textwrap.dedent(text))
    return (sys.executable, name, *arguments)


def segmenting() -> tuple[str, ...]:
    return program(SEGMENT, "{images}", "{tags}", "{out}")


def context(place: str = "step") -> RunContext:
    Path(place).mkdir(exist_ok=True)
    return RunContext("cpu", "fp32", "lattice", DATA.card, Path(place), None, 0, "command")


def step(command: Sequence[str] | str, **options: Any) -> Command:
    given = {"command": command if isinstance(command, str) else list(command), **options}
    return Command(build_config("command", Command, given))


def ask(
    made: Command, ctx: RunContext | None = None, *, tags: bool = True, count: int = 2
) -> Sequence[Outputs]:
    """What a step says of the first images of val."""
    ids = DATA.ids("val")[:count]
    images = [torch.from_numpy(DATA.scene(id)[0].transpose(2, 0, 1).copy()) for id in ids]
    given = np.stack([DATA.scene(id)[2] for id in ids]) if tags else None
    return made.restore(ctx or context())(images, given, [Outputs()] * count, ANY)


def logs(place: str = "step") -> list[str]:
    return [path.read_text() for path in sorted(Path(place).rglob("program.log"), key=os.path.getmtime)]


# ------------------------------------------------------------------------------------- what it is handed


def test_labels_of_a_program_are_read_and_its_log_has_command_and_words() -> None:
    found = ask(step(segmenting()))
    for id, outputs in zip(DATA.ids("val"), found, strict=False):
        image, mask, _ = DATA.scene(id)
        assert outputs.labels is not None
        assert outputs.labels.shape == image.shape[:2]
        assert (outputs.labels[1:] == mask[1:]).mean() > 0.95
    (log,) = logs()
    command, words = log.splitlines()
    assert command.startswith(f"$ {shlex.quote(sys.executable)} program.py /")
    staged = ["classes.txt", "images/0000.png", "images/0001.png", "list.txt", "program.log", "tags.csv"]
    assert words == f"files: {staged}"


def test_without_tags_no_tags_are_staged_and_masks_and_ids_never() -> None:
    ask(step(segmenting(), supervision=["tags", "masks"]), tags=False)
    ask(step(segmenting(), supervision=["unknown"]), context("other"), tags=True)
    for log in (*logs(), *logs("other")):
        said = log.splitlines()[1]
        assert "images/0001.png" in said
        assert [word for word in ("tags", "mask", "val_") if word in said] == []


@pytest.mark.parametrize("supervision", [["tags"], ["tags", "masks"], ["class_names"]])
def test_a_training_is_handed_what_the_supervision_names(supervision: list[str]) -> None:
    train = program(
        """
        import json, pathlib, sys
        import numpy as np
        from PIL import Image
        tree = pathlib.Path(sys.argv[1]).parent
        files = sorted(p.name for p in tree.iterdir())
        pixels = {p.stem: int(np.asarray(Image.open(p)).sum()) for p in tree.glob("images/*.png")}
        labels = {p.stem: int(np.asarray(Image.open(p)).sum()) for p in tree.glob("masks/*.png")}
        tags = (tree / "tags.csv").read_text() if (tree / "tags.csv").exists() else ""
        said = {"files": files, "pixels": pixels, "labels": labels, "tags": tags, "seed": int(sys.argv[3])}
        said |= {"list": (tree / "list.txt").read_text(), "classes": (tree / "classes.txt").read_text()}
        pathlib.Path(sys.argv[2], "said.json").write_text(json.dumps(said))
        """,
        "{list}",
        "{model}",
        "{seed}",
        name="train.py",
    )
    made, ctx = step(segmenting(), train=list(train), supervision=supervision), context()
    DATA.forget()
    made.fit(View(DATA, "train", made.card.supervision), {}, ctx)
    said, ids = json.loads(Path("step/model/said.json").read_text()), DATA.ids("train")
    assert said["list"].split() == list(ids)
    assert said["classes"] == "red\nblue\n"
    assert said["pixels"] == {id: int(DATA.scene(id)[0].sum()) for id in ids}
    every = {"classes.txt", "images", "list.txt", "out", "program.log"}
    every |= {"tags.csv"} & {f"{name}.csv" for name in supervision} | {"masks"} & set(supervision)
    assert set(said["files"]) == every
    assert said["seed"] == ctx.seed("program") % 2**31
    tagged = "id,red,blue\n" + "".join(f"{i},{r:d},{b:d}\n" for i in ids for r, b in [DATA.scene(i)[2]])
    assert said["tags"] == (tagged if "tags" in supervision else "")
    seen = {id: int(DATA.scene(id)[1].sum()) for id in ids} if "masks" in supervision else {}
    assert said["labels"] == seen
    assert DATA.reads["mask"] == set(seen)
    assert not list(Path("step/train").rglob("*.png"))  # gone when it is done


def test_a_finished_training_is_not_run_again_and_an_interrupted_one_keeps_its_model_folder() -> None:
    train = program(
        """
        import pathlib, sys
        kept = pathlib.Path(sys.argv[1], "checkpoint")
        kept.write_text(kept.read_text() + "x" if kept.exists() else "x")
        sys.exit(len(kept.read_text()) < 2)
        """,
        "{model}",
        name="train.py",
    )
    made, ctx, view = step(segmenting(), train=list(train)), context(), View(DATA, "train", ("tags",))
    with pytest.raises(WsssError, match="ended with exit status 1, and printed nothing"):
        made.fit(view, {}, ctx)
    made.fit(view, {}, ctx)
    made.fit(view, {}, ctx)
    assert Path("step/model/checkpoint").read_text() == "xx"


def test_a_program_has_no_python_path_of_ours_and_starts_in_the_working_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "ours")
    monkeypatch.setenv("MY_DATA", "theirs")
    text = "import os; print(os.environ.get('PYTHONPATH'), os.environ['MY_DATA'], os.getcwd())"
    run_program([sys.executable, "-c", text], Path("log"))
    assert Path("log").read_text().splitlines()[1] == f"None theirs {Path.cwd()}"


# -------------------------------------------------------------------------------------------- how it fails


def test_a_program_that_fails_is_told_with_its_status_last_words_and_log() -> None:
    failing = program("import sys; print('loading'); sys.exit('no weights')", "{out}")
    with pytest.raises(WsssError, match="ended with exit status 1: no weights") as caught:
        ask(step(failing))
    assert Path(caught.value.where).read_text().splitlines()[1:] == ["loading", "no weights"]
    assert "\n    loading\n    no weights" in caught.value.hint


def test_a_time_limit_kills_the_program_and_its_children() -> None:
    slow = program(
        """
        import pathlib, subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        pathlib.Path("child").write_text(str(child.pid))
        print("started", flush=True)
        time.sleep(60)
        """,
        "{out}",
    )
    start = time.monotonic()
    with pytest.raises(WsssError, match="the program was killed after 2 s: started"):
        ask(step(slow, time_limit=2.0))
    assert time.monotonic() - start < 50  # it did not wait for the end
    assert is_gone(int(Path("child").read_text()))


def is_gone(pid: int) -> bool:
    """Whether a process has ended, or waits only to be reaped, within a few seconds."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_an_interruption_ends_the_program(number: signal.Signals) -> None:
    text = """
    import sys
    from pathlib import Path
    from wsssbench_methods.programs import run_program
    child = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    try:
        run_program([sys.executable, "-c", child], Path("log"))
    except KeyboardInterrupt:
        sys.exit(130)
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ours = subprocess.Popen(program(text, name="ours.py"), env=env)
    for _ in range(300):
        if Path("pid").exists() and Path("pid").read_text():
            break
        time.sleep(0.1)
    ours.send_signal(number)
    assert ours.wait(30) == 130
    assert is_gone(int(Path("pid").read_text()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("(out / '0001.png').unlink()", "no file of 0001"),
        ("Image.fromarray(np.full((32, 32), 3, np.uint8)).save(out / '0001.png')", "label 3, outside 0..2"),
        (
            "Image.fromarray(np.zeros((4, 5), np.uint8)).save(out / '0001.png')",
            "the mask is (4, 5), its image",
        ),
        ("(out / '0001.png').write_bytes(b'x')", "cannot read this file"),
        ("np.save(out / '0000.npy', np.zeros((3, 3)))", "more than one file of 0000"),
        ("(out / '0001.png').unlink(); np.save(out / '0001.npy', np.ones((3, 2, 2)) / 3)", "not labels"),
    ],
)
def test_files_that_are_wrong_are_named(change: str, words: str) -> None:
    wrong = program(SEGMENT + change, "{images}", "{tags}", "{out}")
    with pytest.raises(BadData) as caught:
        ask(step(wrong))
    assert words in caught.value.what
    assert "predicted" in caught.value.where


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, WsssError, "no program is named"),
        ({"command": ["python", "{images}"]}, WsssError, "does not say where its files go"),
        ({"command": ["python", "{image}", "{out}"]}, UnknownName, "there is no place {image}"),
        ({"command": ["python", "{masks}", "{out}"]}, UnknownName, "there is no place {masks}"),
        ({"command": "no-such-program {out}"}, WsssError, "no such program: no-such-program"),
        ({"command": "python '{out}"}, WsssError, "cannot be split (No closing quotation)"),
        ({"command": "env {out}", "train": "env {masks}"}, UnknownName, "there is no place {masks}"),
        (
            {"command": "env {out}", "gives": "maps", "format": "index"},
            WsssError,
            "index holds labels, not maps",
        ),
        ({"command": "env {out}", "format": "irm"}, UnknownName, "unknown format 'irm'"),
        ({"command": "env {out}", "supervision": ["boxes"]}, UnknownName, "unknown supervision 'boxes'"),
    ],
)
def test_what_cannot_run_is_told_while_planning(
    options: dict[str, Any], error: type[WsssError], words: str
) -> None:
    with pytest.raises(error) as caught:
        Command(build_config("command", Command, options)).ready()
    assert words in caught.value.what
    assert caught.value.where.startswith("command.")
    assert caught.value.hint


# --------------------------------------------------------------------------------------- resume and its key


def test_images_that_are_done_are_not_given_to_the_same_command_again() -> None:
    counting = program(SEGMENT + "open('runs', 'a').write('x')", "{images}", "{tags}", "{out}")
    ctx = context()
    first = ask(step(counting), ctx)
    again = ask(step(counting), ctx)
    assert Path("runs").read_text() == "x"
    np.testing.assert_array_equal(np.asarray(first[0].labels), np.asarray(again[0].labels))
    assert not list(Path("step").rglob("images"))  # the copies of images are gone
    ask(step(counting), ctx, tags=False)
    ask(step(counting), ctx, count=1)
    ask(step((*counting, "--other")), ctx)
    ask(step(counting, version="2"), ctx)
    assert Path("runs").read_text() == "x" * 5


def test_a_run_of_the_program_is_handed_as_many_images_as_the_option_says() -> None:
    counting = program(SEGMENT + "open('runs', 'a').write('x')", "{images}", "{tags}", "{out}")
    lines = ["[methods.foreign]", 'steps = ["command"]', "[methods.foreign.options.command]"]
    lines += [f"command = {json.dumps(list(counting))}"]
    Path("wsssbench.toml").write_text("\n".join(lines))
    tiny = ["--dataset", "shapes", "-o", "shapes.preset=tiny"]
    words = ["run", "--method", "foreign", *tiny, "--stages", "seg"]
    done = CliRunner().invoke(main, [*words, "--runs", "whole"])
    assert done.exit_code == 0, done.output
    assert Path("runs").read_text() == "x"  # 24 images at once
    Path("runs").unlink()
    done = CliRunner().invoke(main, [*words, "--runs", "parts", "-o", "command.images_per_run=10"])
    assert done.exit_code == 0, done.output
    assert Path("runs").read_text() == "xxx"
    records = [next(iter(find_records(Path(place)))).record for place in ("whole", "parts")]
    assert records[0].key == records[1].key
    assert records[0].scores == records[1].scores
    with pytest.raises(WsssError, match=r"0 is out of range \[command.images_per_run\]"):
        step(segmenting(), images_per_run=0).ready()


def test_files_with_an_error_are_made_again_once_the_program_is_mended() -> None:
    wrong = program(SEGMENT + "(out / '0001.png').unlink()", "{images}", "{tags}", "{out}")
    with pytest.raises(BadData, match="no file of 0001"):
        ask(step(wrong))
    program(SEGMENT)  # the command line is the same
    assert len(ask(step(wrong))) == 2


def test_a_run_that_was_cut_off_is_done_anew() -> None:
    ctx = context()
    ask(step(segmenting()), ctx)
    (mark,) = Path("step").rglob("done.json")
    mark.write_text(mark.read_text()[:9])
    (mark.parent / "out" / "0000.npy").write_bytes(b"half")
    assert len(ask(step(segmenting()), ctx)) == 2
    assert not (mark.parent / "out" / "0000.npy").exists()


def test_command_and_version_are_in_the_key_and_the_time_limit_is_not() -> None:
    def key(**changes: Any) -> dict[str, Any]:
        return key_options(build_config("command", Command, {"command": "env {out}", **changes}))

    assert key() == key(time_limit=5.0)
    assert len({json.dumps(k) for k in (key(), key(command="env x {out}"), key(version="2"))}) == 3


def test_a_string_is_split_without_a_shell_and_only_places_are_filled_in() -> None:
    words = split_command("run 'a b' --x={out}/y '$HOME' '{\"a\": 1}'", "here")
    assert words == ("run", "a b", "--x={out}/y", "$HOME", '{"a": 1}')
    assert fill_places(words, {"out": "/o"})[2:] == ["--x=/o/y", "$HOME", '{"a": 1}']


def test_a_tree_without_tags_and_masks_has_neither(tmp_path: Path) -> None:
    tree, image = ProgramFolder(tmp_path / "tree"), np.zeros((3, 4, 3), np.uint8)
    tree.stage([Sample("a", image), Sample("b", image)], DATA.card)
    assert sorted(p.name for p in tree.root.iterdir()) == ["classes.txt", "images", "list.txt", "out"]
    tree.stage([Sample("c", image, np.array([True, False]))], DATA.card)
    assert tree.places["tags"].read_text() == "id,red,blue\nc,1,0\n"
    assert [p.name for p in tree.places["images"].iterdir()] == ["c.png"]


# ----------------------------------------------------------------------------------------- with the harness


def test_a_program_keeps_the_contract_of_a_step() -> None:
    options = {"command": list(segmenting()), "supervision": ["tags"]}
    assert len(check_step(Command, options, "command")) > 20


def cli(*arguments: object) -> Result:
    tiny = ("--dataset", "shapes", "-o", "shapes.preset=tiny", "--device", "cpu", "--limit", 4, "-q")
    return CliRunner().invoke(main, [str(a) for a in ("run", *tiny, *arguments)], catch_exceptions=False)


def records() -> dict[tuple[str, str], Record]:
    found = (stored.record for stored in find_records("runs"))
    return {(r.method, r.identity.terms.stage): r for r in found}


def test_a_table_of_the_settings_makes_a_program_a_method_that_a_crf_can_refine() -> None:
    words = json.dumps(program(PROBS, "{out}", "3"))
    Path("wsssbench.toml").write_text(
        f"""
        [methods.theirs]
        steps = ["command"]
        [methods.refined]
        steps = ["command", "crf"]
        [steps.command]
        command = {words}
        gives = "probs"
        supervision = ["tags", "saliency"]
        """
    )
    methods = ("--method", "theirs", "--method", "refined")
    result = cli(*methods, "--stages", "pseudo,seg,seg+crf")
    assert result.exit_code == 0, result.output
    found = records()
    expected = {("theirs", s) for s in ("pseudo", "seg", "seg+crf")} | {
        ("refined", s) for s in ("pseudo", "seg")
    }
    assert set(found) == expected
    assert found["theirs", "seg"].identity.supervision == ("saliency", "tags")
    assert len(logs("runs")) == 2  # train with tags, val without: both methods and all stages share them
    assert cli(*methods, "--stages", "pseudo,seg,seg+crf").exit_code == 0
    assert len(logs("runs")) == 2
    Pil.fromarray(np.full((20, 30, 3), (9, 200, 9), np.uint8)).save("picture.png")  # green: label 1 of PROBS
    (cell,) = (s.path.parent for s in find_records("runs") if found["theirs", "seg"].key == s.record.key)
    done = CliRunner().invoke(main, ["predict", "picture.png", "--run", str(cell), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert set(np.unique(read_labels("predictions/picture.png"))) == {1}


def test_a_program_that_fails_is_a_failed_cell_and_mended_is_run_again() -> None:
    failing = json.dumps(program("raise SystemExit('out of memory')", "{out}"))
    given = ("--method", "command", "--stages", "pseudo", "-o", f"command.command={failing}")
    assert cli(*given).exit_code == 1
    assert "ended with exit status 1: out of memory" in records()["command", "pseudo"].reason
    program(
        """
        import pathlib, sys
        import numpy as np
        from PIL import Image
        out = pathlib.Path(sys.argv[1])
        for path in (out.parent / "images").iterdir():
            Image.fromarray(np.zeros(Image.open(path).size[::-1], np.uint8)).save(out / path.name)
        """
    )
    assert cli(*given).exit_code == 0
    assert records()["command", "pseudo"].status == "ok"


def test_maps_of_a_program_are_judged_by_its_threshold() -> None:
    settings = Settings(
        methods=("command",), datasets=("shapes",), stages=("seed", "seg"), device="cpu",
        dataset_options={"shapes": {"preset": "tiny"}},
        options={"command": {"command": ["env", "{out}"], "gives": "maps", "threshold": 0.4}},
    )  # fmt: skip
    seed, seg = make_plan(settings, Plugins())
    assert seed.identity.threshold == seg.identity.threshold
    assert seed.identity.threshold["value"] == 0.4
    assert seed.trial.steps[0].step.card == replace(
        Command.card, supervision=("tags",), gives=("maps",), needs_threshold=True
    )
