"""The documentation is true: output is what the commands print, what it names exists, the site builds."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from wsssbench.cli.main import main
from wsssbench.identity import Record, RowIdentity, StepIdentity, Terms
from wsssbench.planning.recipe_loading import resolve_recipe
from wsssbench.planning.settings import load_settings
from wsssbench.plugins.options import PRESET, build_config, option_names
from wsssbench.plugins.table import Plugins
from wsssbench.running.opening import open_settings

main.load()

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *DOCS, *sorted((ROOT / "reports").glob("*.md"))]
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^(?:\$ )?|/bin/)wsssbench (.*)", re.MULTILINE)
SPAN = re.compile(r"`wsssbench ([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
LEFT_OUT = ("...", "&")  # in a command as it is shown


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def on_each_page(pages: list[Path] = PAGES) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=named)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def without_code(page: Path) -> str:
    return FENCE.sub("", text_of(page))


def renderer() -> Any:
    spec = importlib.util.spec_from_file_location("docs_render", ROOT / "docs" / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --------------------------------------------------------------------------------------------------- output


@on_each_page(
    [page for page in DOCS if re.search(r"^<!-- (output|table|presets|reference): ", text_of(page), re.M)]
)
def test_shown_output_is_what_the_commands_print_today(page: Path) -> None:
    assert renderer().render(text_of(page)) == text_of(page), "out of date: run `python docs/render.py`"


def test_a_marked_part_is_filled_and_the_rest_is_left_alone() -> None:
    mark = "<!-- table: wsssbench list | at: stage | columns: stage, tags given | code: stage -->\n"
    filled = renderer().render(f"before\n\n{mark}old\n<!-- end -->\nafter")
    assert filled.startswith(f"before\n\n{mark}\n| stage | tags given |\n| --- | --- |\n| `seed` | yes |\n")
    assert filled.endswith("| `seg+ms+crf` | no |\n\n<!-- end -->\nafter")


def test_tables_leave_out_plugins_of_other_packages() -> None:
    lines = [["step", "", "origin"], ["cam", "maps", "wsssbench"], ["mine", "mine", "my-package 1.0"]]
    assert renderer().own_plugins(lines) == lines[:2]


def test_a_command_that_fails_and_a_table_that_is_not_there_are_errors() -> None:
    with pytest.raises(RuntimeError, match="exit code 2"):
        renderer().output("wsssbench show nothing-of-this-name")
    with pytest.raises(ValueError, match="no table at 'no such'"):
        renderer().table("wsssbench list | at: no such")


def test_the_references_hold_every_command_step_and_data_set() -> None:
    plugins, installed = Plugins(), tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(main.commands) <= sections("commands", 2)
    assert {"export png", "weights inspect"} <= sections("commands", 2)
    for group in ("steps", "datasets"):
        built_in = set(installed["entry-points"][f"wsssbench.{group}"])
        assert built_in <= sections("options", 3)
        assert built_in <= set(plugins.names(group))


def sections(page: str, depth: int) -> set[str]:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return set(re.findall(rf"^{'#' * depth} (.+)$", text, re.MULTILINE))


# ---------------------------------------------------------------------------------------------------- links


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as repository browsers and the site make them."""
    heads = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@on_each_page()
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(without_code(page)):
        if re.match(r"\w+:", target):
            continue
        place, _, anchor = target.partition("#")
        goal = page.parent / place if place else page
        assert goal.exists(), f"{named(page)}: {target}"
        assert not anchor or anchor in anchors(goal), f"{named(page)}: {target}"


# ------------------------------------------------------------------------------------------- what is named


class Shown(NamedTuple):
    words: list[str]
    whole: bool  # a line of a block; what stands in a sentence may leave out arguments


def shown_commands(page: Path) -> Iterator[Shown]:
    """The wsssbench commands of a page, with continued lines put together and without what is left out."""
    for language, block in FENCE.findall(text_of(page)):
        lines = COMMAND.findall(block.replace("\\\n", " ")) if language not in ("python", "toml") else []
        yield from (Shown(words_of(line), "..." not in line) for line in lines)
    yield from (Shown(words_of(span), False) for span in SPAN.findall(without_code(page)))


def words_of(line: str) -> list[str]:
    return [word for word in shlex.split(line, comments=True) if word not in LEFT_OUT]


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The command's name and its parameters; click's errors for words that it refuses. Nothing is run."""
    while words and words[0].startswith("-"):
        assert any(words[0] in (*p.opts, "-h", "--help") for p in main.params), words
        words = words[1:]
    if not words or words[0].isupper():  # COMMAND: any
        return "", {}
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, words
        command, words = command.commands[words[0]], words[1:]
    context = command.make_context(command.name, list(words), color=False)
    return command.name or "", context.params


@on_each_page()
def test_every_shown_command_is_one_that_the_program_takes(page: Path) -> None:
    for shown in shown_commands(page):
        try:
            parsed(shown.words)
        except click.exceptions.Exit:  # of --help
            continue
        except click.MissingParameter:
            assert not shown.whole, f"{named(page)}: {shown}"
        except click.UsageError as error:
            pytest.fail(f"{named(page)}: wsssbench {shlex.join(shown.words)}: {error.format_message()}")


def test_a_shown_command_with_an_option_that_does_not_exist_is_refused() -> None:
    with pytest.raises(click.NoSuchOption):
        parsed(["run", "--methods", "cam"])
    with pytest.raises(AssertionError):
        parsed(["train", "cam"])


@on_each_page([page for page in (ROOT / "README.md", *DOCS) if page.stem != "tutorial"])  # which is run
def test_methods_data_sets_and_options_of_shown_runs_exist(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = set(re.findall(r"^\[methods\.([\w+.-]+)\]", text_of(page), re.M))
    for shown in shown_commands(page):
        if shown.words[:1] != ["run"] or "--help" in shown.words:
            continue
        flags = parsed(shown.words)[1]
        if not flags["plugins"] and not flags["config"] and not own & set(flags["methods"]):
            resolve(flags)


def resolve(flags: dict[str, Any]) -> None:
    """Look up everything that a run names; WsssError for what is not there. No file is opened."""
    taken = {name: flags[name] for name in ("methods", "datasets", "stages", "metrics")}
    settings, plugins = open_settings(taken, None, flags["options"], flags["weights"])
    for method in settings.methods:
        recipe = resolve_recipe(method, plugins, settings)
        for (name, cls), options in zip(recipe.steps, recipe.options, strict=True):
            build_config(name, cls, options, dataset=next(iter(settings.datasets), ""))
    for name in settings.datasets:
        build_config(name, plugins.load("datasets", name), settings.dataset_options.get(name, {}))
    assert {name for name in settings.metrics if name != "NAME"} <= set(plugins.names("metrics"))


@on_each_page(DOCS)
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    plugins = Plugins()
    known = {name: group for group in ("datasets", "steps") for name in plugins.names(group)}
    for name, key, value in re.findall(r"`(?:-o )?([\w+]+)\.(\w+)(?:=([^`]*))?`", without_code(page)):
        if name in known and name != "wsssbench":
            cls = plugins.load(known[name], name)
            assert key in (*option_names(cls), PRESET), f"{named(page)}: {name}.{key}"
            assert key != PRESET or value in ("none", *cls.presets), f"{named(page)}: {name}.{key}={value}"


@on_each_page([ROOT / "README.md", *DOCS])
def test_shown_settings_files_are_read(page: Path, tmp_path: Path) -> None:
    file = tmp_path / "wsssbench.toml"
    for language, block in FENCE.findall(text_of(page)):
        if language == "toml" and block.startswith("# wsssbench.toml"):
            file.write_text(block, encoding="utf-8")
            load_settings(file, {})


def test_the_protocol_page_explains_every_field_of_a_row_and_no_other() -> None:
    text = text_of(ROOT / "docs" / "protocol.md")
    cells = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    explained = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    policies = {"fixed", "oracle"} | set(re.findall(r"`(label|held)", text))
    terms, identity = {f.name for f in fields(Terms)}, {f.name for f in fields(RowIdentity)}
    assert explained - policies == terms | identity - {"terms"}
    assert all(f"`{f.name}`" in text for f in fields(StepIdentity))
    assert "identity" in {f.name for f in fields(Record)}, "the page names identity.terms"


# ----------------------------------------------------------------------------------------------------- site


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_nothing_of_other_hosts(tmp_path: Path) -> None:
    for module in ("sphinx", "myst_parser", "pydata_sphinx_theme"):
        pytest.importorskip(module, reason="the extra `docs` is not installed")
    build = ["-W", "--keep-going", "-q", "-c", "docs", "-d", tmp_path / "doctrees", ".", tmp_path / "site"]
    done = subprocess.run([sys.executable, "-m", "sphinx", *build], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert {page.stem for page in DOCS} <= {page.stem for page in pages}
    for page in pages:
        loaded = re.findall(r"<(?:script|link|img)\b[^>]*?\b(?:src|href)=\"(\w+:[^\"]+)", text_of(page))
        assert loaded == [], page
