"""Fills the marked parts of the documentation with what the program says today.

A marked part begins with a comment that names its source and ends with `<!-- end -->`; what stands between
is written by `python docs/render.py` and compared by the tests. Commands run in this process, in an empty
folder, 80 columns wide; versions are cut out. Nothing may be shown that depends on the machine or the time.

    <!-- output: wsssbench CMD -->        the command and what it prints
    <!-- table: SOURCE | at: TEXT | columns: a, b | code: a -->   one Markdown table of it, from the line on
                                          that begins with TEXT; SOURCE may be a file of the repository too,
                                          and `b?` is a column that may be absent
    <!-- presets: wsssbench show NAME --> the presets of a step or data set as a list
    <!-- reference: GROUP -->             a section each for all commands, steps or datasets
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
PART = re.compile(r"(<!-- (output|table|presets|reference): (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
VERSION = re.compile(r"\bwsssbench \d[\w.+-]*")
PLAIN = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}


def render(text: str) -> str:
    """`text` with its marked parts filled anew."""
    return PART.sub(lambda m: f"{m[1]}\n{KINDS[m[2]](m[3])}\n\n{m[4]}", text)


def output(command: str) -> str:
    """The command as one would type it, and what it prints."""
    return f"```console\n$ {command}\n{printed(command).strip()}\n```"


def printed(command: str) -> str:
    """What `wsssbench ...` prints to stdout. RuntimeError where it fails."""
    from wsssbench.cli.main import main

    with TemporaryDirectory() as empty, chdir(empty):
        done = CliRunner(env=PLAIN).invoke(main, shlex.split(command)[1:], prog_name="wsssbench")
    if done.exit_code:
        raise RuntimeError(f"{command}: exit code {done.exit_code}\n{done.output}")
    return "\n".join(line.rstrip() for line in VERSION.sub("wsssbench", done.stdout).splitlines())


def presets(command: str) -> str:
    """The lines `preset NAME: ...` of what `show` prints."""
    found = re.findall(r"^  preset (\S+): (.*)$", printed(command), re.MULTILINE)
    return "\n".join(f"- `{name}`: `{values}`" for name, values in found) or "No presets."


# --------------------------------------------------------------------------------------------------- tables

Lines = list[list[str]]


def table(source: str) -> str:
    """One Markdown table of a command's output or of a file, cut to the columns that are asked for."""
    place, *rest = (part.strip() for part in source.split(" | "))
    asked = dict(part.split(": ", 1) for part in rest)
    text = printed(place) if place.startswith("wsssbench ") else (ROOT / place).read_text(encoding="utf-8")
    head, *body = own_plugins(first_table(text, asked.get("at", "")))
    wanted = listed(asked.get("columns")) or [name for name in head if name != "origin"]
    kept = [head.index(name.rstrip("?")) for name in wanted if not name.endswith("?") or name[:-1] in head]
    code = {head.index(name) for name in listed(asked.get("code"))}
    lines = [[shown(line[i], i in code) for i in kept] for line in body]
    return "\n".join(map(row, [[head[i] or "what" for i in kept], ["---"] * len(kept), *lines]))


def listed(names: str | None) -> list[str]:
    return [name.strip() for name in names.split(",")] if names else []


def first_table(text: str, at: str) -> Lines:
    """Head and body of the first table from the line on that begins with `at` (without `#` and `|`)."""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if line.strip("#| ").startswith(at)]
    rows: list[str] = []
    for line in lines[min(starts, default=len(lines)) :]:
        if line.startswith("|"):
            rows.append(line)
        elif rows:
            break
    if not rows:
        raise ValueError(f"there is no table at {at!r}")
    return [cells(line) for n, line in enumerate(rows) if n != 1]  # the second line is the rule


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def own_plugins(lines: Lines) -> Lines:
    """Without the rows of other packages that happen to be installed."""
    head, *body = lines
    if "origin" not in head or head[0] == "option":
        return lines
    return [head, *(line for line in body if line[head.index("origin")].startswith("wsssbench"))]


def shown(cell: str, code: bool) -> str:
    if code:
        return f"`{cell}`" if cell else ""
    return re.sub(r"([*<])", r"\\\1", cell)


def row(line: Sequence[str]) -> str:
    return f"| {' | '.join(line)} |"


# ------------------------------------------------------------------------------------------------ references

OPTIONS = (
    "wsssbench show {} | at: option | columns: option, default, range?, what, origin? | code: option, default"
)


def reference(group: str) -> str:
    """A section with its options for every command, or every built-in step or data set."""
    if group == "commands":
        return "\n\n".join(f"## {name}\n\n{output(f'wsssbench {name} --help')}" for name in command_names())
    return "\n\n".join(f"### {name}\n\n{options(name)}" for name in own_names(group))


def command_names(group: click.Group | None = None, before: str = "") -> Iterator[str]:
    """All commands by the words that call them, as "export png"."""
    from wsssbench.cli.main import main

    main.load()
    for name, command in sorted((group or main).commands.items()):
        yield before + name
        if isinstance(command, click.Group):
            yield from command_names(command, f"{before}{name} ")


def own_names(group: str) -> list[str]:
    from wsssbench.plugins.table import GROUPS, Plugins

    known = next(known for known in GROUPS if known == group)
    return [entry.name for entry in Plugins().entries(known) if VERSION.fullmatch(entry.origin)]


def options(name: str) -> str:
    """The options and presets of a step or data set."""
    command = f"wsssbench show {name}"
    if "\n  options: none" in printed(command):
        return "No options."
    return f"{table(OPTIONS.format(name))}\n\n{presets(command)}"


KINDS: dict[str, Callable[[str], str]] = {
    "output": output,
    "table": table,
    "presets": presets,
    "reference": reference,
}


def main(pages: Sequence[Path] = PAGES) -> int:
    """Write every page anew whose marked parts have changed, and name it."""
    for page in pages:
        old = page.read_text(encoding="utf-8")
        new = render(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(f"written: {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
