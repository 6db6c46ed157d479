"""Which files a step's code is: what it imports from its own package, nothing beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsssbench.closure import closure, code_of

FILES = {
    "mine/__init__.py": "",
    "mine/step.py": "from mine.losses import loss\nfrom . import config\nimport torch, mine.deep.far\n",
    "mine/losses.py": "def loss():\n    from .late import value\n    return value\n",
    "mine/late.py": "value = 1\n",
    "mine/config.py": "import other.thing\n",
    "mine/unused.py": "from mine import step\n",
    "mine/deep/__init__.py": "from ..losses import loss\n",
    "mine/deep/far.py": "from .. import late\n",
    "other/__init__.py": "",
    "other/thing.py": "",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(root: Path, file: str) -> set[str]:
    return {str(path.relative_to(root.resolve())) for path in closure(root / file)}


def test_imports_are_followed_within_the_package(package: Path) -> None:
    expected = set(FILES) - {"mine/unused.py", "other/__init__.py", "other/thing.py"}
    assert names(package, "mine/step.py") == expected


def test_relative_imports_of_a_package_itself_are_followed(package: Path) -> None:
    assert "mine/late.py" in names(package, "mine/deep/__init__.py")
    assert "mine/step.py" not in names(package, "mine/deep/__init__.py")


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("mine/late.py", True),
        ("mine/deep/far.py", True),
        ("mine/unused.py", False),
        ("other/thing.py", False),
    ],
)
def test_the_hash_changes_with_every_file_of_the_step_and_with_no_other(
    package: Path, file: str, changes: bool
) -> None:
    before = code_of(package / "mine/step.py")
    (package / file).write_text(FILES[file] + "\n# changed\n")
    assert (code_of(package / "mine/step.py") != before) == changes


def test_the_hash_does_not_depend_on_where_the_package_lies(package: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(package / "mine", tmp_path / "elsewhere" / "mine")
    assert code_of(package / "mine/step.py") == code_of(tmp_path / "elsewhere/mine/step.py")


def test_a_single_file_and_one_that_cannot_be_parsed_are_alone(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text("import json\n")
    (tmp_path / "broken.py").write_text("def (:\n")
    assert closure(tmp_path / "alone.py") == [(tmp_path / "alone.py").resolve()]
    assert len(code_of(tmp_path / "broken.py")) == 64
