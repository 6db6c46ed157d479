"""`wsssbench new`: the packages that it writes work as they are; an unusable name writes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wsssbench.cli.main import main
from wsssbench.cli.new import FILES, KINDS, package_texts

NAMES = {"step": "zz-method", "dataset": "zz_data", "metric": "zz-recall"}
SHAPES = ("--dataset", "shapes", "-o", "shapes.preset=tiny", "--stages", "pseudo", "-q")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which each kind of package was made by the command."""
    folder = tmp_path_factory.mktemp("new")
    for kind, name in NAMES.items():
        made = call("new", kind, name, "--out", folder)
        assert made.exit_code == 0, made.output
    return folder


@pytest.fixture
def installed(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, the packages on the search path as an editable install puts them there."""
    site = tmp_path / "site"
    for name in NAMES.values():
        project = tomllib.loads((packages / name / "pyproject.toml").read_text())["project"]
        info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {project['version']}\n"
        )
        ((group, points),) = project["entry-points"].items()
        lines = [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(packages / name / "src")
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for module in [name for name in sys.modules if name.startswith("zz_")]:  # no other test finds them
        del sys.modules[module]


def test_each_package_passes_its_own_tests(packages: Path) -> None:
    sources = [str(packages / name / "src") for name in NAMES.values()]
    path = os.pathsep.join([*sources, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *NAMES.values()],
        cwd=packages, env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout


def test_what_is_installed_is_listed_checked_and_run(installed: Path) -> None:
    listed = call("list").output
    assert "A pixel belongs to a tagged class where its colour is commoner" in listed
    assert "Cats and dogs from a folder" in listed
    assert "The recall of small objects" in listed
    for kind in ("step", "metric"):
        checked = call("check", NAMES[kind])
        assert (checked.exit_code, "contracts hold" in checked.output) == (0, True), checked.output
    ran = call("run", "--method", NAMES["step"], "--metrics", NAMES["metric"], *SHAPES, "--json")
    assert ran.exit_code == 0, ran.output
    ((row,),) = (table["rows"] for table in json.loads(ran.stdout))
    assert row["method"] == "zz-method"
    assert {"miou", "zz-recall.zz-recall"} <= set(row["numbers"])


def test_a_data_set_without_its_folder_says_what_to_type(installed: Path) -> None:
    told = call("check", NAMES["dataset"])
    assert told.exit_code == 2
    assert "there is no table of tags [zz_data/tags.csv]" in told.output
    assert "next: -o zz_data.root=FOLDER" in told.output


def test_a_build_backend_makes_a_wheel_of_it(packages: Path, tmp_path: Path) -> None:
    if find_spec("pip") is None or find_spec("hatchling") is None:
        pytest.skip("this environment has no pip and hatchling to build without network")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps"]
    command = [*pip, "--no-build-isolation", "-w", str(tmp_path), str(packages / NAMES["step"])]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name for name in names if name.endswith("entry_points.txt"))
        assert "zz-method = zz_method.step:ZzMethod" in archive.read(info).decode()
    assert "zz_method/step.py" in names


def test_the_next_steps_are_said(tmp_path: Path) -> None:
    said = call("new", "metric", "my-recall", "--out", tmp_path).output
    assert f"cd {tmp_path / 'my-recall'}\n" in said
    for command in (
        "pip install -e '.[dev]'",
        "pytest",
        "wsssbench check my-recall",
        "wsssbench run --method",
    ):
        assert f"  {command}" in said
    assert "--metrics my-recall  # then change src/my_recall/metric.py" in said


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_texts_are_whole_and_modules_are_a_page(kind: str) -> None:
    texts = package_texts(kind, "my-own")
    assert len(texts) == len(FILES)
    module = texts[f"src/my_own/{kind}.py"]
    assert "class MyOwn" in module
    assert 30 <= module.count("\n") < 75
    for text in texts.values():
        assert "$" not in text.replace("${{ matrix.python }}", "")
        assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("My Method", "cannot name a package"),
        ("9lives", "cannot name a package"),
        ("../up", "cannot name a package"),
        ("a--b", "cannot name a package"),
        ("class", "a keyword of Python"),
        ("cam", "'cam' is taken by the step of wsssbench"),
        ("voc12", "'voc12' is taken by the dataset of wsssbench"),
        ("iou", "'iou' is taken by the metric of wsssbench"),
        ("json", "'json' is taken by a module of Python's standard library"),
        ("numpy", "'numpy' is taken by the installed module numpy"),
        ("wsssbench-methods", "is taken by the installed module wsssbench_methods"),
        ("step-card", "the class StepCard would hide another one"),
    ],
)
def test_a_name_that_cannot_be_used_is_one_error_and_writes_nothing(
    tmp_path: Path, name: str, sentence: str
) -> None:
    told = call("new", "step", name, "--out", tmp_path / "out")
    assert told.exit_code == 2
    assert sentence in told.output
    assert "next: " in told.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "my-own").mkdir()
    (tmp_path / "my-own" / "notes.txt").write_text("mine")
    told = call("new", "step", "my-own", "--out", tmp_path)
    assert (told.exit_code, "this folder is not empty" in told.output) == (2, True)
    assert [path.name for path in (tmp_path / "my-own").iterdir()] == ["notes.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["my-own"]


def test_a_place_that_cannot_be_written_is_told_and_left_clean(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = call("new", "step", "my-own", "--out", tmp_path / "file")
    assert (told.exit_code, "cannot write" in told.output) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
