"""The command line: what it says, what it imports, and which exit code it ends with."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from wsssbench.cli.main import main

main.load()

HEAVY = {"torch", "torchvision", "pandas", "scipy", "numba", "matplotlib"}
TINY = ("-o", "shapes.preset=tiny")
HELP = [
    ("--help",),
    ("list",),
    *((name, "--help") for name in ("export", "paper", "plot", "report", "run", "weights")),
]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No wsssbench.toml is found by chance."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def run_plan(*arguments: object) -> Result:
    return call("run", "--dry-run", "--method", "constant", "--dataset", "shapes", *TINY, *arguments)


# ---------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_explains_itself_and_each_of_its_options(name: str) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage:")
    command = main.commands[name]
    assert command.help
    options = [p for p in command.params if isinstance(p, click.Option)]
    silent = [p.name for p in options if not p.help]
    assert silent == []


@pytest.mark.parametrize("arguments", HELP)
def test_help_and_list_import_nothing_heavy(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "wsssbench", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout
    lines = (line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "import time:" in line)
    imported = {line.partition(".")[0] for line in lines}
    assert "wsssbench" in imported
    assert imported & HEAVY == set()
    assert imported & {"wsssbench_methods", "wsssbench_datasets"} == set()


def test_version_is_the_packages_own() -> None:
    from wsssbench import __version__

    assert __version__ in call("--version").stdout


# ------------------------------------------------------------------------------------------ wrong requests


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("run --method camm --dataset shapes", ("unknown method 'camm'", "did you mean cam")),
        ('run --method "cam > crff" --dataset shapes', ("unknown step 'crff'", "did you mean crf")),
        ("run --method cam --dataset shape", ("unknown dataset 'shape'", "did you mean shapes")),
        ("CAM -o cam.stesp=3", ("'stesp'", "did you mean steps")),
        ("CAM -o cam.steps=x", ("cam.steps", "expected int")),
        ("CAM -o came.steps=3", ("'came'", "did you mean cam")),
        ("CAM -o shapes.preset=tny", ("'tny'", "tiny")),
        ("CAM -o steps=3", ("not an option", "NAME.KEY=VALUE")),
        ("CAM --stages sag", ("unknown stage 'sag'", "seg")),
        ("CAM --seeds 0,x", ("'0,x'",)),
        ("CAM --seeds 0,0", ("seeds",)),
        ("CAM --device gpu", ("unknown device 'gpu'", "cuda")),
        ("CAM --filter fast", ("--filter", "lattice")),
        ("run --method crf --dataset shapes", ("crf needs probs or maps", "cam > crf")),
        ("run --method cam", ("no dataset is named", "shapes")),
        ("run --dataset shapes", ("no method is named", "cam")),
        ("run --method cam --dataset voc12 -o voc12.root=/nowhere", ("/nowhere",)),
        ("run --plugin none.py --method x --dataset shapes", ("no such plugin file", "none.py")),
        ("CAM --config none.toml", ("none.toml",)),
        ("report nowhere", ("no such folder of runs", "nowhere")),
        ("clean nowhere", ("no such folder of runs", "nowhere")),
        ("show camm", ("'camm'", "did you mean cam")),
        ("check camm", ("'camm'", "did you mean cam")),
        ("prepare voc21", ("unknown dataset 'voc21'", "did you mean voc12")),
        ("predict x.png --run nowhere", ("x.png",)),
        ("CAM -o cam.preset=none", ("cam.weights", "cannot learn from scratch", "--weights cam=FILE")),
        ("weights inspect nowhere.pth", ("no such weight file", "nowhere.pth")),
        ("rnu", ("rnu",)),
        ("run cam shapes", ("unexpected extra arguments", "as: wsssbench run --method cam")),
        ("score", ("Missing argument 'FOLDER'", "as: wsssbench score masks --dataset voc12")),
        ("new", ("Choose from", "as: wsssbench new step my-method")),
        ("CAM --stages ,", ("this is empty [--stages]", "allowed: not empty")),
        ("CAM --limit 0", ("0 is out of range [--limit]", "at least 1")),
    ],
)
def test_a_wrong_request_is_one_clear_error_with_exit_code_2(command: str, words: tuple[str, ...]) -> None:
    result = call(*shlex.split(command.replace("CAM", "run --method cam --dataset shapes")))
    assert result.exit_code == 2
    assert [word for word in words if word not in result.output] == []
    assert "Traceback" not in result.output
    assert list(Path().iterdir()) == []  # and nothing was written


def test_verbose_adds_the_traceback_and_keeps_the_exit_code() -> None:
    result = call("-v", "report", "nowhere")
    assert result.exit_code == 2
    assert "Traceback" in result.output
    assert "error: no such folder of runs" in result.output


def test_a_missing_baseline_ends_with_exit_code_3() -> None:
    Path("runs").mkdir()
    result = call("gate", "--baseline", "nowhere.json")
    assert result.exit_code == 3
    assert "the baseline file does not exist" in result.output


def test_an_interruption_ends_with_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(flags: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("wsssbench.commands.run.run_command", stopped)
    result = call("run", "--method", "constant", "--dataset", "shapes")
    assert result.exit_code == 130
    assert "interrupted" in result.output


def test_a_run_folder_that_cannot_be_made_is_one_clear_error() -> None:
    Path("file").write_text("in the way")
    result = call("run", "--method", "constant", "--dataset", "shapes", *TINY, "--runs", "file/runs", "-q")
    assert result.exit_code == 2
    assert "cannot write to this folder" in result.output
    assert "Traceback" not in result.output


# ----------------------------------------------------------------------------------------------------- run


def test_a_dry_run_shows_every_cell_with_its_state_and_writes_nothing() -> None:
    result = run_plan("--seeds", "0,1", "--stages", "seg,seg+crf")
    assert result.exit_code == 0
    lines = [line for line in result.stdout.splitlines() if "constant" in line]
    assert [("missing" in line, "skip" in line) for line in lines] == [(True, False), (False, True)] * 2
    assert list(Path().iterdir()) == []


def test_what_is_done_is_not_done_again_and_json_goes_to_stdout() -> None:
    first = call(
        "run", "--method", "constant", "--dataset", "shapes", *TINY, "--stages", "seg", "--json", "-q"
    )
    (table,) = json.loads(first.stdout)
    assert (table["stage"], table["rows"][0]["method"]) == ("seg", "constant")
    assert "done" in run_plan("--stages", "seg").stdout
    (record,) = Path("runs").rglob("record.json")
    before = record.stat().st_mtime_ns
    again = call(
        "run", "--method", "constant", "--dataset", "shapes", *TINY, "--stages", "seg", "--json", "-q"
    )
    assert json.loads(again.stdout) == [table]
    assert record.stat().st_mtime_ns == before


def test_a_run_with_nothing_to_do_and_a_report_of_nothing_say_what_to_do() -> None:
    ask = ("run", "--method", "constant", "--dataset", "shapes", *TINY, "--stages", "seg,seg+crf")
    assert "nothing to run" not in call(*ask).stderr
    assert "nothing to run: 1 done, 1 skip; --rerun all" in call(*ask).stderr
    Path("empty").mkdir()
    result = call("report", "empty")
    assert (result.exit_code, result.stdout) == (0, "No records yet.\n")
    assert "next: `wsssbench run " in result.stderr


@pytest.mark.parametrize("command", ["report", "clean"])
def test_the_default_folder_of_runs_is_that_of_the_settings(command: str, in_an_empty_folder: Path) -> None:
    (in_an_empty_folder / "wsssbench.toml").write_text('[run]\nruns = "elsewhere"\n')
    result = call(command)
    assert result.exit_code == 2
    assert "[elsewhere]" in result.stderr
