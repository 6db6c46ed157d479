"""Recipes: which of table, method, step and expression a name is, and which classes stand behind it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsssbench.errors import UnknownName, WsssError
from wsssbench.identity import StepIdentity
from wsssbench.planning.recipe_loading import batches_of, parse_recipe, resolve_recipe
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins

MODULE = """
class Loc: ...
class Ref: ...
class Alone: ...
LOC = ("yyloc",)
LOC_REF = ("yyloc", "yyref")
EMPTY = ()
NUMBER = 7
DANGLING = ("yyloc", "yyreff")
def factory(): ...
"""
ENTRY_POINTS = """
[wsssbench.steps]
yyloc = yy_mod:Loc
yyref = yy_mod:Ref
yyfactory = yy_mod:factory
[wsssbench.methods]
yyloc = yy_mod:LOC
yyloc+ref = yy_mod:LOC_REF
yyalone = yy_mod:Alone
yyempty = yy_mod:EMPTY
yynumber = yy_mod:NUMBER
yydangling = yy_mod:DANGLING
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugins]:
    info = tmp_path / "yy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: yy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "yy_mod.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield Plugins()
    sys.modules.pop("yy_mod", None)


def step_names(text: str, plugins: Plugins, settings: Settings | None = None) -> list[tuple[str, str]]:
    spec = resolve_recipe(text, plugins, settings or Settings())
    return [(name, cls.__name__) for name, cls in spec.steps]


def test_an_expression_is_its_steps_in_order() -> None:
    assert parse_recipe(" cam >crf> deeplab ") == ("cam", "crf", "deeplab")
    assert parse_recipe("cam") == ("cam",)


@pytest.mark.parametrize("text", ["", "cam >", "> cam", "cam > > crf"])
def test_an_empty_step_of_an_expression_is_an_error(text: str) -> None:
    with pytest.raises(WsssError, match="has no name") as caught:
        parse_recipe(text)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yyloc+ref", [("yyloc", "Loc"), ("yyref", "Ref")]),
        ("yyalone", [("yyalone", "Alone")]),
        ("yyref", [("yyref", "Ref")]),
        ("yyloc > yyref > yyref", [("yyloc", "Loc"), ("yyref", "Ref"), ("yyref", "Ref")]),
        ("yyalone > yyref", [("yyalone", "Alone"), ("yyref", "Ref")]),
    ],
)
def test_a_method_is_a_recipe_a_class_a_step_or_an_expression(
    plugins: Plugins, text: str, expected: list[tuple[str, str]]
) -> None:
    assert step_names(text, plugins) == expected


def test_a_table_of_the_settings_goes_first(plugins: Plugins) -> None:
    settings = Settings(recipes={"yyloc": ("yyref", "yyloc")})
    assert step_names("yyloc", plugins, settings) == [("yyref", "Ref"), ("yyloc", "Loc")]


def test_each_step_carries_its_options(plugins: Plugins) -> None:
    spec = resolve_recipe("yyloc>yyref", plugins, Settings(options={"yyref": {"x": 1}}))
    assert spec.options == ({}, {"x": 1})
    assert (spec.name, spec.folder) == ("yyloc > yyref", "yyloc__yyref")


def test_a_methods_own_options_go_before_those_of_all(plugins: Plugins) -> None:
    settings = Settings(
        options={"yyref": {"x": 1, "y": 1}},
        recipes={"mine": ("yyloc", "yyref"), "other": ("yyloc", "yyref")},
        recipe_options={"mine": {"yyref": {"x": 2}}},
    )
    assert resolve_recipe("mine", plugins, settings).options == ({}, {"x": 2, "y": 1})
    assert resolve_recipe("other", plugins, settings).options == ({}, {"x": 1, "y": 1})
    assert resolve_recipe("yyloc > yyref", plugins, settings).options == ({}, {"x": 1, "y": 1})


def test_a_name_found_nowhere_brings_methods_and_steps(plugins: Plugins) -> None:
    with pytest.raises(UnknownName, match="unknown method 'yylco\\+ref'") as caught:
        resolve_recipe("yylco+ref", plugins, Settings(recipes={"yymine": ("yyloc",)}))
    assert "did you mean yyloc+ref" in caught.value.hint
    assert "yymine" in caught.value.hint
    assert "yyref" in caught.value.hint


@pytest.mark.parametrize("text", ["yyloc > yyreff", "yydangling", "mine"])
def test_an_unknown_step_names_the_recipe_and_the_nearest_step(plugins: Plugins, text: str) -> None:
    settings = Settings(recipes={"mine": ("yyloc", "yyreff")})
    with pytest.raises(UnknownName, match="unknown step 'yyreff'") as caught:
        resolve_recipe(text, plugins, settings)
    assert text in caught.value.where
    assert "did you mean yyref" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["yyempty", "yynumber", "yyfactory", "yyloc > yyfactory", "yyloc > yyloc+ref"]
)
def test_what_is_no_recipe_or_step_class_is_refused(plugins: Plugins, text: str) -> None:
    with pytest.raises(WsssError, match=r"is not a (recipe|step class)") as caught:
        resolve_recipe(text, plugins, Settings())
    assert caught.value.hint


def test_the_stem_of_a_local_file_resolves_to_the_name_on_its_card(plugins: Plugins, tmp_path: Path) -> None:
    path = tmp_path / "yymy.py"
    path.write_text(
        "from wsssbench.types import StepCard\n"
        "class My:\n"
        "    card = StepCard('yycard', '1', 'localizer', ('tags',), ('maps',))\n"
        "    def fit(self, train, given, ctx): ...\n"
    )
    plugins.add_file(path)
    assert step_names("yymy", plugins) == [("yycard", "My")]


def test_the_batch_of_every_training_is_named_by_step_and_option() -> None:
    rrm = StepIdentity("rrm", "1", {"batch": 8, "classifier_batch": 16, "crop": 321, "lr": 0.1})
    other = StepIdentity("segmenter", "1", {"batch": 10, "batch_norm": 1, "own_batch": "large"})
    assert batches_of([rrm, StepIdentity("crf", "1", {}), other]) == {
        "rrm.batch": 8, "rrm.classifier_batch": 16, "segmenter.batch": 10
    }  # fmt: skip
    assert batches_of([other, other]) == {"segmenter#1.batch": 10, "segmenter#2.batch": 10}
