"""What is declared about dependencies is true, and the archives built from the checkout work alone."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
RENDER = runpy.run_path(str(ROOT / "requirements" / "render.py"))
RUNTIME, EXTRAS = RENDER["project"]()


def pins(path: Path) -> dict[str, str]:
    """Name -> version of the lines `name==version`, without the comments."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found = [Requirement(line) for line in lines]
    assert all(str(each.specifier).startswith("==") and not each.url for each in found), "a line is not a pin"
    return {canonicalize_name(each.name): str(each.specifier)[2:] for each in found}


@pytest.mark.parametrize("requirement", [*RUNTIME, *EXTRAS], ids=str)
def test_the_lock_has_every_dependency_within_its_range(requirement: Requirement) -> None:
    locked = pins(RENDER["LOCK"])
    name = canonicalize_name(requirement.name)
    assert name in locked, "run `python requirements/render.py`"
    assert requirement.specifier.contains(locked[name], prereleases=True)


def test_the_lock_names_no_folder_no_host_and_not_the_project_itself() -> None:
    _, *lines = RENDER["LOCK"].read_text(encoding="utf-8").splitlines()
    assert lines
    assert not [line for line in lines if any(word in line for word in ("/", "@", "+", "--", "-e "))]
    assert "wsssbench" not in pins(RENDER["LOCK"])


def test_the_lowest_versions_are_the_bounds_of_the_project() -> None:
    assert RENDER["LOWEST"].read_text(encoding="utf-8") == RENDER["lowest"]()


def test_every_dependency_at_run_time_has_an_allowed_licence_and_is_on_the_page() -> None:
    page = RENDER["PAGE"].read_text(encoding="utf-8")
    needed = [name for name in RENDER["closure"](RUNTIME) if not RENDER["NVIDIA"].match(name)]
    outside = {name: RENDER["outside"](RENDER["licence"](name)) for name in needed}
    assert {name: parts for name, parts in outside.items() if parts} == {}
    direct = {canonicalize_name(each.name) for each in RUNTIME}
    assert [name for name in sorted(direct) if f"\n| {name} | " not in page] == []


def test_a_licence_that_takes_more_than_attribution_is_refused() -> None:
    assert RENDER["outside"]("MIT OR GPL-3.0-only") == ["GPL-3.0-only"]
    assert RENDER["outside"]("(MIT AND Apache-2.0 WITH LLVM-exception)") == []
    assert RENDER["outside"]("not stated") == ["not stated"]


# ---------------------------------------------------------------------------------------------- archives


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheel and sdist of what git knows of the checkout, built without a network."""
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    place = tmp_path_factory.mktemp("release")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(place), "-t", "wheel", "-t", "sdist"]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"})
    (wheel,), (sdist,) = place.glob("*.whl"), place.glob("*.tar.gz")
    return wheel, sdist


@pytest.mark.slow
def test_the_sdist_has_what_testing_and_reading_needs(archives: tuple[Path, Path]) -> None:
    with tarfile.open(archives[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml", "LICENSE", "README.md", "CITATION.cff", "wsssbench.toml", "wsssbench/masks.py",
        "methods/wsssbench_methods/recipes.py", "datasets/wsssbench_datasets/shapes/dataset.py",
        "tests/conftest.py",
        "tests/test_judge.py", "docs/index.md", "docs/conf.py", "reports/shapes.md",
        "reports/records/shapes.zip", "requirements/dev.lock", "requirements/render.py",
    } <= names  # fmt: skip
    assert not [
        name for name in names if "__pycache__" in name or name.startswith((".git/", "runs", ".venv"))
    ]


@pytest.mark.slow
def test_the_wheel_has_the_three_packages_and_nothing_else(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[0]) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    packages = {top for top in tops if not top.endswith(".dist-info")}
    assert packages == {"wsssbench", "wsssbench_methods", "wsssbench_datasets"}


@pytest.mark.slow
def test_the_installed_wheel_works_outside_the_checkout(archives: tuple[Path, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*arguments: object) -> str:
        command = list(map(str, arguments))
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call(python, "-m", "pip", "install", "--no-deps", "--no-index", archives[0])
    installed = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # Its dependencies are those of this environment: their folders come after the wheel's own.
    others = [path for path in sys.path if path.endswith("site-packages")]
    (installed / "dependencies.pth").write_text("\n".join(others) + "\n")
    where = call(python, "-c", "import wsssbench, wsssbench_methods; print(wsssbench.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    assert "FAIL" not in call(python, "-m", "wsssbench", "doctor")
    tiny = ("--dataset", "shapes", "-o", "shapes.preset=tiny", "--method", "constant", "--stages", "seg")
    assert "constant" in call(tmp_path / "venv" / "bin" / "wsssbench", "run", *tiny)
    assert list((tmp_path / "runs").rglob("record.json"))
