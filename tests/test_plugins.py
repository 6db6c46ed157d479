"""The plugin table: lazy, isolated, no two owners of one name. Fake distributions lie in tmp_path."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from wsssbench.cli.main import main
from wsssbench.errors import BadData, UnknownName, WsssError
from wsssbench.plugins.table import Plugins
from wsssbench.records.finding import find_records

STEP = """
from wsssbench.types import StepCard
class {cls}:
    card = StepCard(name="{name}", version="1", role="localizer", supervision=("tags",), gives=("maps",))
    def fit(self, train, given, ctx): ...
    def restore(self, ctx): ...
"""


def install(folder: Path, name: str, entry_points: str, version: str = "1.0") -> None:
    """A distribution as pip leaves it: a .dist-info folder with its entry points."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder at the front of sys.path with a good package, a broken one, and modules for both."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "zz_good_mod.py").write_text("class Good: ...\n")
    (folder / "zz_bad_mod.py").write_text("import module_that_nobody_has\n")
    (folder / "zz_exit_mod.py").write_text("import sys\nsys.exit(3)\n")
    install(folder, "zz-good", "[wsssbench.steps]\nzzgood = zz_good_mod:Good\n", "2.5")
    bad = "[wsssbench.steps]\nzzbad = zz_bad_mod:Bad\nzzexit = zz_exit_mod:X\nzznone = zz_good_mod:Missing\n"
    install(folder, "zz-bad", bad)
    monkeypatch.syspath_prepend(folder)
    yield folder
    for module in [m for m in sys.modules if m.startswith("zz_")]:
        del sys.modules[module]


def test_listing_names_the_distribution_and_imports_nothing(site: Path) -> None:
    plugins = Plugins()
    entry = next(e for e in plugins.entries("steps") if e.name == "zzgood")
    assert (entry.value, entry.distribution, entry.version) == ("zz_good_mod:Good", "zz-good", "2.5")
    assert {"zzgood", "zzbad", "zzexit"} <= set(plugins.names("steps"))
    assert not [m for m in sys.modules if m.startswith("zz_")]


def test_a_plugin_is_imported_when_its_name_is_used(site: Path) -> None:
    assert Plugins().load("steps", "zzgood").__name__ == "Good"


def test_an_unknown_name_brings_the_nearest_ones(site: Path) -> None:
    with pytest.raises(UnknownName, match="unknown step 'zzgod'") as caught:
        Plugins().load("steps", "zzgod")
    assert "did you mean zzgood" in caught.value.hint
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("zzbad", "No module named 'module_that_nobody_has'"),
        ("zzexit", "SystemExit: 3"),
        ("zznone", "has no attribute 'Missing'"),
    ],
)
def test_a_broken_plugin_is_named_with_its_distribution_module_and_reason(
    site: Path, name: str, reason: str
) -> None:
    plugins = Plugins()
    with pytest.raises(WsssError, match=f"'{name}' of zz-bad 1.0 cannot be imported") as caught:
        plugins.load("steps", name)
    assert reason in caught.value.what
    assert caught.value.where == next(e.value for e in plugins.entries("steps") if e.name == name)
    assert caught.value.code == 2
    assert plugins.load("steps", "zzgood").__name__ == "Good"


def test_damaged_entry_points_of_one_distribution_do_not_hide_the_others(site: Path) -> None:
    install(site, "zz-damaged", "[wsssbench.steps]\nthis line has no equals sign\n")
    plugins = Plugins()
    assert list(plugins.broken) == ["zz-damaged"]
    assert "zzgood" in plugins.names("steps")


def test_a_name_of_two_distributions_is_an_error_that_names_both(site: Path) -> None:
    install(site, "zz-rival", "[wsssbench.steps]\nzzgood = zz_rival:Other\n", "0.3")
    plugins = Plugins()
    with pytest.raises(WsssError, match="zzgood") as caught:
        plugins.load("steps", "zzgood")
    assert "zz-good 2.5" in caught.value.what
    assert "zz-rival 0.3" in caught.value.what
    assert plugins.names("steps").count("zzgood") == 1


def test_shadowing_a_built_in_is_a_collision(site: Path) -> None:
    install(site, "wsssbench", "[wsssbench.datasets]\nzzshapes = zz_good_mod:Good\n", "9.9")
    install(site, "zz-rival", "[wsssbench.datasets]\nzzshapes = zz_good_mod:Good\n")
    with pytest.raises(WsssError, match=r"defined twice: by .*wsssbench 9.9"):
        Plugins().load("datasets", "zzshapes")


def test_one_name_may_be_a_step_and_a_method(site: Path) -> None:
    install(site, "zz-recipes", "[wsssbench.methods]\nzzgood = zz_good_mod:Good\n")
    assert Plugins().load("methods", "zzgood") is Plugins().load("steps", "zzgood")


def test_a_distribution_found_twice_on_the_path_counts_once(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    install(other, "Zz_Good", "[wsssbench.steps]\nzzgood = zz_good_mod:Good\n", "0.1")
    monkeypatch.setattr(sys, "path", [*sys.path, str(other)])
    assert [e.version for e in Plugins().entries("steps") if e.name == "zzgood"] == ["2.5"]


def test_check_all_imports_each_plugin_in_a_process_of_its_own(site: Path) -> None:
    (site / "zz_crash_mod.py").write_text("import os\nos._exit(7)\n")
    install(site, "zz-crash", "[wsssbench.metrics]\nzzcrash = zz_crash_mod:X\n")
    install(site, "zz-damaged", "[wsssbench.steps]\nno equals sign\n")
    plugins = Plugins()
    plugins._entries = [
        e for e in plugins._entries if e.name.startswith("zz")
    ]  # built-ins have their own test
    checks = {c.name: c for c in plugins.check_all()}
    assert checks["zzgood"].ok
    assert not checks["zzbad"].ok
    assert checks["zzbad"].error.endswith("No module named 'module_that_nobody_has'")
    assert "7" in checks["zzcrash"].error
    assert not checks["zz-damaged"].ok
    assert not [m for m in sys.modules if m.startswith("zz_")]


# ------------------------------------------------------------------------------------------- local files


def test_a_local_file_registers_its_steps_and_recipes(tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    path.write_text(STEP.format(cls="My", name="zzmy") + 'RECIPES = {"zzmy+crf": ("zzmy", "crf")}\n')
    plugins = Plugins()
    assert plugins.add_file(path) == ("zzmy", "zzmy+crf")
    assert plugins.load("steps", "zzmy").card.name == "zzmy"
    assert plugins.load("methods", "zzmy+crf") == ("zzmy", "crf")
    assert plugins.add_file(path) == ()
    assert Plugins().find("steps", "zzmy") is None


def test_the_stem_of_a_file_with_one_step_stands_for_that_step(tmp_path: Path) -> None:
    path = tmp_path / "zzstem.py"
    path.write_text(STEP.format(cls="My", name="zzcard"))
    plugins = Plugins()
    plugins.add_file(path)
    entry = plugins.find("steps", "zzstem")
    assert entry is not None
    assert entry.name == "zzcard"
    assert "zzstem" not in plugins.names("steps")


METRIC = """
class Wrong:
    name, needs, better, unit = "zzwrong", "labels", "lower", "px"
    def count(self, output, gold, classes):
        return {"wrong": ((gold != output) & (gold != 255)).sum(keepdims=True).ravel().astype("int64")}
    def score(self, counts, classes):
        return {"wrong": int(counts["wrong"][0])}
"""
DATA = """
import dataclasses
import numpy as np
from wsssbench.types import DatasetCard, NoConfig
class Squares:
    Config, presets = NoConfig, {}
    card = DatasetCard("zzsquares", "1", ("square",), ("train", "val"), "train", "train", "val", "generated",
                       "none", "made up", 16, generated=True)
    def __init__(self, config, seed):
        self.seed = seed
    def ids(self, split):
        return tuple(f"{split}{n}" for n in range(3))
    def mask(self, id):
        mask = np.zeros((16, 20), np.uint8)
        mask[int(id[-1]) : int(id[-1]) + 8, 4:12] = 1
        return mask
    def image(self, id):
        return np.repeat(self.mask(id)[..., None] * np.uint8(200), 3, 2)
    def tags(self, id):
        return np.array([True])
    def fingerprint(self, split):
        return "0" * 64
"""


def test_a_local_file_registers_its_metrics_and_data_sets_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(METRIC + DATA + STEP.format(cls="My", name="zzmy"))
    plugins = Plugins()
    assert plugins.add_file(path) == ("zzwrong", "zzsquares", "zzmy")
    assert plugins.load("metrics", "zzwrong")().unit == "px"
    assert plugins.load("datasets", "zzsquares").card.name == "zzsquares"
    assert plugins.find("steps", "mine").name == "zzmy"


def test_a_metric_and_a_data_set_of_a_file_judge_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(METRIC + DATA)
    given = ["--plugin", "mine.py"]
    words = ["run", *given, "--method", "constant", "--dataset", "zzsquares", "--metrics", "zzwrong"]
    done = CliRunner().invoke(main, [*words, "--stages", "seg", "--runs", "runs"])
    assert done.exit_code == 0, done.output
    (found,) = find_records(Path("runs"))
    assert found.record.scores["zzwrong"] == {"wrong": 3 * 64, "n_images": 3}
    assert CliRunner().invoke(main, ["check", "zzwrong", *given]).exit_code == 0


def test_the_stem_of_a_file_with_two_steps_stands_for_none(tmp_path: Path) -> None:
    path = tmp_path / "zzstem.py"
    path.write_text(STEP.format(cls="One", name="zz1") + STEP.format(cls="Two", name="zz2"))
    plugins = Plugins()
    plugins.add_file(path)
    assert plugins.find("steps", "zzstem") is None


def test_imported_classes_and_inherited_cards_are_no_steps_of_the_file(site: Path, tmp_path: Path) -> None:
    (site / "zz_base_mod.py").write_text(STEP.format(cls="Base", name="zzbase"))
    path = tmp_path / "my.py"
    path.write_text(
        "from zz_base_mod import Base\nclass Child(Base): ...\n" + STEP.format(cls="My", name="zzmy")
    )
    assert Plugins().add_file(path) == ("zzmy",)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("x = 1\n\nprint(1 / 0)\n", 3, "ZeroDivisionError"),
        ("x = 1\ndef broken(:\n", 2, "SyntaxError"),
        ("\nimport json\n\njson.loads('{')\n", 4, "JSONDecodeError"),
        ("import sys\nsys.exit('bye')\n", 2, "SystemExit"),
    ],
)
def test_a_broken_file_is_reported_with_its_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    before = set(sys.modules)
    with pytest.raises(WsssError, match=reason) as caught:
        Plugins().add_file(path)
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.code == 2
    assert not [m for m in set(sys.modules) - before if m.startswith("_wsssbench_file")]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("x = 1\n", "a step is a class with"),
        ("class My:\n    def fit(self): ...\n", "class My has `fit` but no `card`"),
        (
            STEP.format(cls="My", name="zz").replace("def fit", "def fitt"),
            "class My has a `card` but no `fit`",
        ),
        (METRIC.replace('"labels"', '"pixels"'), "a metric is a class with a `name`, `needs` (one of maps"),
        (DATA.replace("def tags", "def tag"), "a data set is a class with `card = DatasetCard"),
    ],
)
def test_a_file_without_a_step_says_what_is_missing(tmp_path: Path, text: str, hint: str) -> None:
    path = tmp_path / "my.py"
    path.write_text(text)
    with pytest.raises(WsssError, match="defines no step") as caught:
        Plugins().add_file(path)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["missing.py", "notes.txt", "."])
def test_a_path_that_is_no_python_file_is_bad_data(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BadData):
        Plugins().add_file(tmp_path / name)


def test_a_file_cannot_take_a_name_that_exists_and_leaves_nothing_behind(site: Path, tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    path.write_text(STEP.format(cls="A", name="zzfree") + STEP.format(cls="B", name="zzgood"))
    plugins = Plugins()
    with pytest.raises(WsssError, match="zzgood") as caught:
        plugins.add_file(path)
    assert "zz-good 2.5" in caught.value.what
    assert str(path) in caught.value.what
    assert plugins.find("steps", "zzfree") is None


def test_recipes_that_are_no_dict_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    path.write_text("RECIPES = ('cam', 'crf')\n")
    with pytest.raises(WsssError, match="RECIPES must be a dict"):
        Plugins().add_file(path)


def test_a_dataclass_config_of_a_local_file_can_be_read(tmp_path: Path) -> None:
    from wsssbench.plugins.options import build_config

    path = tmp_path / "my.py"
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    config = "@dataclass(frozen=True)\nclass C:\n    size: int | None = 3\n"
    path.write_text(head + config + STEP.format(cls="My", name="zzmy") + "    Config = C\n")
    plugins = Plugins()
    plugins.add_file(path)
    assert build_config("zzmy", plugins.load("steps", "zzmy"), {"size": 5}).size == 5


def test_settings_and_plugins_import_nothing_heavy() -> None:
    code = (
        "import sys; from wsssbench.planning import settings, recipe_loading;"
        "from wsssbench.plugins.table import Plugins;"
        "p = Plugins(); p.entries('steps'); settings.load_settings(None, {});"
        "print(sorted({'torch', 'pandas', 'scipy', 'numpy'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
