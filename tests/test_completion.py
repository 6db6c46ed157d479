"""What a shell completes, how it asks, and what --help teaches."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from wsssbench.cli.main import main
from wsssbench.cli.shells import VARIABLE, Bash, Zsh
from wsssbench.cli.teaching import SECTIONS, examples_of
from wsssbench.plugins.options import PRESET, option_names
from wsssbench.plugins.sources import choices_of
from wsssbench.plugins.table import Plugins

main.load()

HEAVY = {"torch", "torchvision", "pandas", "scipy", "numba", "matplotlib", "numpy", "PIL"}
SETTINGS = '[methods.mine]\nsteps = ["cam", "crf"]\n[stages.half]\nbase = "seg"\nscales = [0.5]\n'


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with settings and the folders of two methods' results."""
    monkeypatch.chdir(tmp_path)
    Path("wsssbench.toml").write_text(SETTINGS)
    for method in ("cam", "rrm"):
        Path("runs/shapes", method, "seed0").mkdir(parents=True)
    return tmp_path


def completed(line: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What bash is told at the end of `line`: "plain,run", ..."""
    monkeypatch.setenv("COMP_LINE", line)
    return Bash(main, {}, "wsssbench", VARIABLE).complete().splitlines()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("wsssbench ru", ["plain,run"]),
        ("wsssbench weights ins", ["plain,inspect"]),
        ("wsssbench run --method cam-", ["plain,cam-2step"]),
        ("wsssbench run --method mi", ["plain,mine"]),
        ("wsssbench run --dataset sha", ["plain,shapes"]),
        ("wsssbench run --stages pseudo,ha", ["plain,pseudo,half"]),
        (
            "wsssbench run --stages seed,se",
            [f"plain,seed,seg{end}" for end in ("", "+crf", "+ms", "+ms+crf")],
        ),
        ("wsssbench run --metrics acc", ["plain,accuracy"]),
        ("wsssbench run --filter ", ["plain,lattice", "plain,exact", "plain,pydensecrf"]),
        ("wsssbench run -o sha", ["plain,shapes."]),
        ("wsssbench run -o cam.threshold", ["plain,cam.threshold="]),
        ('wsssbench run --method "cam > crf" -o shapes.pre', ["plain,shapes.preset="]),
        ("wsssbench run -o shapes.preset=ti", ["plain,tiny"]),
        ("wsssbench run -o cam.flip=", ["plain,true", "plain,false"]),
        ("wsssbench run -o nothing.", []),
        ("wsssbench run --rerun ", ["plain,stale", "plain,all"]),
        ("wsssbench show lay", ["plain,layercam"]),
        ("wsssbench check pxa", ["plain,pxap"]),
        ("wsssbench prepare voc", ["plain,voc12"]),
        ("wsssbench compare r", ["plain,rrm"]),
        ("wsssbench score masks --supervision ta", ["plain,tags"]),
        ("wsssbench completion f", ["plain,fish"]),
        ("wsssbench report runs", ["file,runs"]),
    ],
)
def test_names_and_keys_are_completed(
    line: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completed(line, monkeypatch) == expected


def test_names_of_the_line_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found = completed('wsssbench run --method "rrm > crf" --dataset voc12 -o ', monkeypatch)
    assert set(found[:3]) == {"plain,voc12.", "plain,rrm.", "plain,crf."}
    assert "plain,cam." in found[3:]


def test_settings_that_cannot_be_read_give_no_suggestion_and_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("wsssbench.toml").write_text("[run\n")
    assert completed("wsssbench run --method ca", monkeypatch) == []


@pytest.mark.parametrize("group", ["steps", "datasets"])
def test_keys_and_presets_read_from_the_source_are_those_of_the_class(group: str) -> None:
    plugins = Plugins()
    own = [e for e in plugins.entries(group) if e.origin.startswith("wsssbench ")]  # type: ignore[arg-type]
    assert own
    for entry in own:
        cls, (preset, *keys) = plugins.load(entry.group, entry.name), choices_of(entry)
        assert preset == PRESET
        assert tuple(keys) == option_names(cls), entry
        assert set(choices_of(entry)[PRESET]) == {*cls.presets, "none"}, entry


@pytest.mark.parametrize("line", ["wsssbench run -o cam.st", "wsssbench run --method ca", "wsssbench show "])
def test_an_answer_imports_nothing_heavy(line: str) -> None:
    code = (
        "import sys\nfrom wsssbench.cli.main import main\ntry: main(prog_name='wsssbench')\n"
        "except SystemExit: pass\nprint('imported', *sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    asked = {**os.environ, "COMP_LINE": line, VARIABLE: "bash_complete"}
    done = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, text=True, check=True)
    *answers, imported = done.stdout.splitlines()
    assert answers
    assert not {*imported.split()} & HEAVY


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed_and_parses(shell: str) -> None:
    script = CliRunner().invoke(main, ["completion", shell]).stdout
    assert f"{VARIABLE}={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("wsssbench sho", "show"),
        ("wsssbench run -o shapes.preset=ti", "tiny"),
        ("wsssbench run -o sha", "nospace: shapes."),
        ("wsssbench run -o cam.threshold", "nospace: cam.threshold="),
        ('wsssbench run --method "cam > crf" --filter lat', "lattice"),
    ],
)
def test_bash_itself_completes(line: str, answer: str, in_a_folder: Path) -> None:
    program = in_a_folder / "wsssbench"
    program.write_text(f"#!{sys.executable}\nfrom wsssbench.cli.main import main\n\nmain()\n")
    program.chmod(0o755)
    script = CliRunner().invoke(main, ["completion", "bash"]).stdout
    ask = f'compopt() {{ echo -n "$2: "; }}\nCOMP_LINE={shlex.quote(line)}; COMP_POINT={len(line)}\n'
    done = subprocess.run(
        ["bash", "-c", f'{script}\n{ask}_wsssbench_completion {program}; echo "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == answer


def test_zsh_puts_no_space_after_what_goes_on() -> None:
    script = Zsh(main, {}, "wsssbench", VARIABLE).source()
    assert 'if [[ "$key" == *[.=] ]]; then' in script
    assert script.count('compadd -U -S "" -V unsorted -- "$key"') == 1


# ------------------------------------------------------------------------------------------------ the lessons


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        words = f"{before} {name}".strip()
        yield words, command
        if isinstance(command, click.Group):
            yield from commands(command, words)


ALL = {"": main, **dict(commands(main))}
EXAMPLES = [e for command in ALL.values() for e in examples_of(command) if e.startswith("wsssbench ")]


@pytest.mark.parametrize("words", ALL)
def test_every_help_has_an_example_and_says_what_comes_next(words: str) -> None:
    assert examples_of(ALL[words]), "the docstring of this command ends without examples"
    shown = CliRunner().invoke(main, [*words.split(), "--help"]).stdout
    assert "Examples:\n" in shown
    assert "Next: " in shown
    for example in examples_of(ALL[words]):
        assert f"    {example}\n" in shown  # in one line that can be copied


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_command_that_the_program_takes(example: str) -> None:
    words = shlex.split(example.partition(" > ")[0] if "completion" in example else example)[1:]
    command: click.Command = main
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)  # click's errors for what it refuses; nothing is run


def test_what_comes_next_names_commands_that_exist() -> None:
    known = {words for words in ALL if words} | {"COMMAND"}
    for words, command in ALL.items():
        for named in re.findall(r"`wsssbench (\w+)", (command.epilog or "").partition("Next: ")[2]):
            assert named in known, words


def test_every_command_stands_in_one_section_of_the_help() -> None:
    placed = [name for names in SECTIONS.values() for name in names]
    assert sorted(placed) == sorted(main.commands)
    shown = CliRunner().invoke(main, ["--help"]).stdout
    assert [t for t in SECTIONS if f"\n{t}:\n" not in shown] == []
