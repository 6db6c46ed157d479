"""A stranger's method: one file named on the command line, and a package of its own with one entry point."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

STEP = (Path(__file__).with_name("bright_step.py")).read_text()
RUN = ("run", "--dataset", "shapes", "-o", "shapes.preset=tiny", "--stages", "seg", "--json", "-q")


def wsssbench(folder: Path, *arguments: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in `folder`, with `path` before the installed packages."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "wsssbench", *(str(a) for a in arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def one_row(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    (table,) = json.loads(done.stdout)
    (row,) = table["rows"]
    return dict(row)


def write_wheel(folder: Path, name: str, module: str, entry_points: str) -> Path:
    """A wheel of one module, as a build backend would write it."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": module,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": entry_points,
    }
    record = [f"{path},{_digest(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed a good and a broken stranger's package."""
    if find_spec("pip") is None:
        pytest.skip("this environment has no pip")
    folder = tmp_path_factory.mktemp("stranger")
    module = STEP.replace('"bright"', '"stranger"')
    wheels = [
        write_wheel(folder, "zz_stranger", module, "[wsssbench.steps]\nstranger = zz_stranger:Bright\n"),
        write_wheel(
            folder, "zz_broken", "import nobody_has_this\n", "[wsssbench.steps]\nbroken = zz_broken:Step\n"
        ),
    ]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    target = folder / "site"
    command = [*pip, "--no-deps", "--no-index", "--target", str(target), *map(str, wheels)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return target


def test_a_file_named_on_the_command_line_is_a_method(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(STEP)
    assert STEP.count("\n") < 60  # a method is a page
    row = one_row(
        wsssbench(tmp_path, *RUN, "--plugin", "my.py", "--method", "my", "-o", "bright.threshold=0.5")
    )
    assert row["method"] == "my"
    identity = row["identity"]
    assert isinstance(identity, dict)
    (step,) = identity["recipe"]
    assert (step["name"], step["config"]) == ("bright", {"threshold": 0.5, "stride": 2})


def test_an_installed_package_with_one_entry_point_is_a_method_beside_a_broken_one(
    site: Path, tmp_path: Path
) -> None:
    assert one_row(wsssbench(tmp_path, *RUN, "--method", "stranger", path=site))["status"] == "ok"
    shown = wsssbench(tmp_path, "show", "stranger", path=site)
    assert "zz_stranger:Bright, zz_stranger 1.0" in shown.stdout.replace("zz-stranger", "zz_stranger")


def test_a_broken_package_is_told_by_list_check_and_by_its_use_alone(site: Path, tmp_path: Path) -> None:
    listed = wsssbench(tmp_path, "list", path=site)
    assert listed.returncode == 0
    assert {"stranger", "broken", "cam"} <= {
        line.split("|")[1].strip() for line in listed.stdout.splitlines() if line.startswith("|")
    }
    checked = wsssbench(tmp_path, "list", "--check", path=site)
    assert checked.returncode == 1
    broken = [line for line in checked.stdout.splitlines() if "BROKEN" in line]
    assert len(broken) == 1
    assert "nobody_has_this" in broken[0]
    used = wsssbench(tmp_path, *RUN, "--method", "broken", path=site)
    assert used.returncode == 2
    assert "'broken'" in used.stderr
    assert "nobody_has_this" in used.stderr
    assert "Traceback" not in used.stderr
