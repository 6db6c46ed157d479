"""Which files a step's code is, and what of them counts: all that makes numbers, no comment, no report."""

from __future__ import annotations

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import wsssbench
import wsssbench_datasets
import wsssbench_methods
from wsssbench.planning.made_by import judge_code
from wsssbench.planning.staleness import stale_keys
from wsssbench.plugins.code_hash import closure, code_of, is_code
from wsssbench.plugins.table import Plugins

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_records.py")))
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
    (package / file).write_text(FILES[file] + "\nchanged = 1\n")
    assert (code_of(package / "mine/step.py") != before) == changes


def test_the_hash_does_not_depend_on_where_the_package_lies(package: Path, tmp_path: Path) -> None:
    shutil.copytree(package / "mine", tmp_path / "elsewhere" / "mine")
    assert code_of(package / "mine/step.py") == code_of(tmp_path / "elsewhere/mine/step.py")


def test_a_single_file_and_one_that_cannot_be_parsed_are_alone(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text("import json\n")
    (tmp_path / "broken.py").write_text("def (:\n")
    assert closure(tmp_path / "alone.py") == [(tmp_path / "alone.py").resolve()]
    broken = code_of(tmp_path / "broken.py")
    (tmp_path / "broken.py").write_text("def (: 1\n# longer, so that its time is not a matter\n")
    assert code_of(tmp_path / "broken.py") != broken


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("x = 1\n", "# why\n\nx = 1  # so\n", True),
        ("def f():\n    return 1\n", 'def f():\n    """Docs."""\n    return (\n        1\n    )\n', True),
        ('class A:\n    """One."""\n', 'class A:\n    """Two, three."""\n', True),
        ("x = 1\n", "x = 2\n", False),
        ("x = 1\n", "y = 1\n", False),
        ("f(a, b)\n", "f(b, a)\n", False),
        ("x = [[1], 2]\n", "x = [[1, 2]]\n", False),
        ('x = "# 1"\n', 'x = "# 2"\n', False),
        ("if a:\n    b()\nc()\n", "if a:\n    b()\n    c()\n", False),
        ("def f(): yield\n", "async def f(): yield\n", False),
        ("x = None\n", "x = 0\n", False),
    ],
)
def test_layout_comments_and_docstrings_do_not_count_and_all_else_does(
    tmp_path: Path, before: str, after: str, same: bool
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "step.py").write_text(before)
    (tmp_path / "b" / "step.py").write_text(after)
    assert (code_of(tmp_path / "a" / "step.py") == code_of(tmp_path / "b" / "step.py")) == same


# ------------------------------------------------------------------------------------------- of the harness

HERE = Path(wsssbench.__file__).resolve().parent
METHODS = Path(wsssbench_methods.__file__).resolve().parent
DATASETS = Path(wsssbench_datasets.__file__).resolve().parent


def counted(*files: Path, **more: Any) -> set[str]:
    found = closure(*files, **more)
    return {path.relative_to(HERE).as_posix() for path in found if path.is_relative_to(HERE)}


def test_a_training_is_made_by_the_loop_crops_networks_and_losses_that_it_imports() -> None:
    made = counted(METHODS / "rrm" / "step.py")
    assert made >= {"train.py", "training/crops.py", "training/optimizers.py", "ops/energy.py"}
    assert made >= {"nets/backbones.py", "nets/heads.py", "masks.py", "distributed/shared_model.py"}
    assert not {name for name in made if name.startswith(("reporting", "commands", "cli"))}
    assert not made & {"planning/plan.py", "running/engine.py", "running/context.py", "types.py", "errors.py"}
    assert counted(METHODS / "constant.py") == set()


def test_a_cell_is_judged_by_masks_counts_and_where_it_has_one_by_the_crf() -> None:
    judge = HERE / "judging" / "cell_judging.py"
    made = counted(judge, without=("ops",))
    assert made >= {"artifacts.py", "masks.py", "metrics.py", "judging/labels.py", "judging/judge.py"}
    assert made >= {"planning/thresholds.py", "scores/threshold_curve.py", "scores/otsu.py"}
    assert not {name for name in made if name.startswith(("ops", "records", "reporting", "nets"))}
    assert "ops/mean_field_cpu.py" in counted(judge)
    hashes = {judge_code(crf=crf, several=several) for crf in (False, True) for several in (False, True)}
    assert len(hashes) == 4


def test_every_metric_and_data_set_brings_the_code_that_it_imports() -> None:
    boundary = HERE / "scores" / "boundary.py"
    assert counted(boundary) == {"scores/boundary.py", "metrics.py"}
    names = {path.name for path in closure(DATASETS / "voc12" / "dataset.py")}
    assert names >= {"dataset.py", "survey.py", "tag_files.py", "image_files.py", "label_palette.py"}


@pytest.mark.parametrize(
    ("file", "stale"),
    [
        ("ops/halving.py", True),
        ("nets/heads.py", True),
        ("training/crops.py", True),
        ("reporting/rows.py", False),
    ],
)
def test_a_change_in_the_harness_makes_what_uses_it_stale(tmp_path: Path, file: str, stale: bool) -> None:
    shutil.copytree(HERE, tmp_path / "wsssbench")
    shutil.copytree(METHODS, tmp_path / "wsssbench_methods")
    code = "from pathlib import Path; from wsssbench.plugins.code_hash import code_of; "
    code += "print(code_of(Path('wsssbench_methods/rrm/step.py')))"
    alone = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def digest() -> str:
        return subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=alone, text=True)

    def add(text: str) -> None:
        with (tmp_path / "wsssbench" / file).open("a") as changed:
            changed.write(text)

    before = digest()
    add("\n# a comment\n")
    assert digest() == before
    add("\nchanged = 1\n")
    assert (digest() != before) == stale


@pytest.mark.parametrize("scales", [(1.0,), (0.5,), (0.5, 1.0)])
def test_a_row_of_todays_judge_is_not_stale_at_any_scales(scales: tuple[float, ...]) -> None:
    record = FAKE["fake_record"](terms=FAKE["fake_terms"](scales=scales))
    used = {"judge": judge_code(crf=False, several=scales != (1.0,))}
    assert stale_keys([replace(record, provenance={"judged_by": used})], Plugins()) == set()
    other = {"judge": judge_code(crf=True, several=scales != (1.0,))}
    assert stale_keys([replace(record, provenance={"judged_by": other})], Plugins()) == {record.key}


def test_hashes_of_before_are_compared_as_they_were_made(package: Path) -> None:
    step, whole = package / "mine" / "step.py", hashlib.sha256()
    for path in closure(step):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.relative_to(package.resolve())}\0{digest}\n".encode())
    assert is_code(whole.hexdigest(), step)
    assert is_code(code_of(step), step)
    (package / "mine/late.py").write_text("value = 1  # a comment\n")
    assert not is_code(whole.hexdigest(), step)
