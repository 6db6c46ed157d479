"""The walls of the house: which room may import which, and what the README promises."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HARNESS = sorted((ROOT / "wsssbench").rglob("*.py"))
BUILT_IN = ("wsssbench_methods", "wsssbench_datasets")


def imported(path: Path) -> set[str]:
    """Top-level names of everything that the file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


def test_the_harness_never_imports_the_built_in_methods_or_data_sets() -> None:
    guilty = [str(path.relative_to(ROOT)) for path in HARNESS if imported(path) & set(BUILT_IN)]
    assert HARNESS
    assert guilty == []


def test_data_sets_import_neither_torch_nor_methods() -> None:
    for path in (ROOT / "datasets").rglob("*.py"):
        assert not imported(path) & {"torch", "torchvision", "wsssbench_methods"}, path


@pytest.mark.parametrize("folder", ["methods", "datasets", "reports", "tests"])
def test_no_top_folder_is_a_package_that_could_shadow_another(folder: str) -> None:
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder / "__init__.py").exists()


def test_every_entry_point_of_the_project_is_installed() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    for group, wanted in groups.items():
        found = {e.name: e.value for e in entry_points(group=group) if e.dist and e.dist.name == "wsssbench"}
        assert found == wanted, f"{group}: install the project again"


def test_dependencies_state_lower_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        assert re.fullmatch(r"[A-Za-z0-9-]+>=[0-9.]+", requirement), requirement


def test_every_command_in_the_readme_exists() -> None:
    from wsssbench.cli.main import main

    main.load()
    named = set(re.findall(r"wsssbench ([a-z]+)\b", " ".join(re.findall(r"`{1,3}[^`]+`{1,3}", README))))
    assert {"run", "report", "gate", "score", "predict", "clean", "doctor", "prepare", "check"} <= named
    assert named <= set(main.commands)


def readme_plugin(folder: Path) -> Path:
    """The README's method, as a file."""
    blocks = [b for b in re.findall(r"```python\n(.*?)```", README, re.S) if b.startswith("# border.py")]
    assert len(blocks) == 1
    path = folder / "border.py"
    path.write_text(blocks[0])
    return path


def test_the_readme_method_is_forty_lines_long_keeps_its_contract_and_enters_a_table(tmp_path: Path) -> None:
    plugin = readme_plugin(tmp_path)
    assert len(plugin.read_text().splitlines()) <= 40
    wsssbench = [sys.executable, "-m", "wsssbench"]
    subprocess.run([*wsssbench, "check", "border", "--plugin", plugin], check=True, cwd=tmp_path)
    tiny = ["--dataset", "shapes", "-o", "shapes.preset=tiny", "--stages", "pseudo"]
    methods = ["--method", "border", "--method", "border > crf"]
    done = subprocess.run(
        [*wsssbench, "run", "--plugin", plugin, *methods, *tiny],
        check=True, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert re.search(r"\| 1 +\| border", done.stdout)
    assert "border > crf" in done.stdout
