"""The tutorial is true: its code is run in order, its commands succeed, stable output is what comes out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from wsssbench.cli.main import main

main.load()

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
TEXT = TUTORIAL.read_text(encoding="utf-8")
BLOCK = re.compile(r"^(<!-- stable -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w.]+)\n")
ANYTHING = "..."  # in shown output: whatever stands there


class Block(NamedTuple):
    stable: bool
    language: str
    text: str


BLOCKS = [Block(bool(mark), language, text) for mark, language, text in BLOCK.findall(TEXT)]


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def looks_like(shown: str) -> re.Pattern[str]:
    """A pattern for output as it is shown: spaces may vary, `...` stands for anything."""
    parts = [r"\s+".join(map(re.escape, piece.split())) for piece in shown.split(ANYTHING)]
    return re.compile(r"\s*" + r"[\s\S]*?".join(rf"\s*{part}\s*" for part in parts) + r"\s*\Z")


def write(block: Block, folder: Path, last: str) -> str:
    """Begin the file that the block's first line names, or go on with the `last` one; the file's name."""
    named = FILE.match(block.text)
    path = folder / (named[1] if named else last)
    before = "" if named else path.read_text(encoding="utf-8") + "\n"
    path.write_text(before + block.text, encoding="utf-8")
    return path.name


def test_every_block_of_the_tutorial_runs_and_stable_output_is_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    last, ran = "", 0
    for block in BLOCKS:
        if block.language in ("python", "toml"):
            last = write(block, tmp_path, last)
        for command, shown in commands(block.text) if block.language == "console" else ():
            program, *arguments = shlex.split(command)
            assert program == "wsssbench", command
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, f"{command}\n{result.output}"
            pattern = looks_like(shown)
            assert not block.stable or pattern.fullmatch(result.stdout), f"{command}\n{result.stdout}"
            ran += 1
    assert ran >= 8
    method = (tmp_path / "contrast.py").read_text().splitlines()
    assert 30 <= sum(bool(line.strip()) for line in method[1:]) <= 40, "forty lines, the title says"
    assert max(map(len, method)) <= 110


def test_shown_output_is_compared_word_by_word() -> None:
    pattern = looks_like("| rank | 89.2... |\n...\nend")
    assert pattern.fullmatch("| rank  | 89.23 ± 1 |\n\nanything\nend\n")
    assert not pattern.fullmatch("| rank  | 88.23 |\n\nend\n")
    assert not pattern.fullmatch("| rank  | 89.23 |\n\nend and more\n")


def test_links_and_names_of_the_tutorial_exist() -> None:
    from wsssbench.types import KINDS, Context

    named = set(re.findall(r"`ctx\.(\w+)", TEXT))
    assert named
    assert named <= {*Context.__annotations__, *vars(Context)}
    kinds = re.search(r"The kinds are (.*?)A step that", TEXT, re.DOTALL)
    assert kinds is not None
    assert tuple(re.findall(r"`(\w+)`", kinds[1])) == KINDS
    assert set(re.findall(r"`wsssbench (\w+)", TEXT)) <= set(main.commands)
    assert not re.search(r"\]\((?!http)([^)#]+)", TEXT), "the page stands alone"
