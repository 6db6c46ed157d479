"""Ranges of options: what is out of them is refused when planning, everywhere, and nothing is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wsssbench.cli.main import main
from wsssbench.errors import WsssError
from wsssbench.option_fields import Range, option
from wsssbench.plugins.options import build_config, describe_options
from wsssbench.plugins.table import Plugins
from wsssbench.running.executors.slurm_options import Slurm

PLUGINS = {
    **{name: Plugins().load("steps", name) for name in Plugins().names("steps")},
    **{name: Plugins().load("datasets", name) for name in Plugins().names("datasets")},
    "slurm": Slurm,
}


# ------------------------------------------------------------------------------------------------ a range


@pytest.mark.parametrize(
    ("allowed", "good", "bad", "text"),
    [
        (Range(low=1), (1, 10**40), (0, -3), "at least 1"),
        (Range(above=0), (1e-300, 3), (0, 0.0, -1e-300), "above 0"),
        (Range(low=0, high=1), (0, 1, 0.5), (-0.001, 1.001), "0 to 1"),
        (Range(above=0, high=1), (1, 1e-9), (0, 1.0001), "above 0, at most 1"),
        (Range(low=0, below=1), (0, 0.999), (1, 7), "at least 0, below 1"),
        (Range(above=0, below=1), (0.5,), (0, 1), "above 0, below 1"),
        (Range(above=0, filled=True), ((1.0,), (2.0, 0.5)), ((), (1.0, 0.0), (-1.0,)), "not empty, above 0"),
        (Range(filled=True), ("a", ("a",)), ("", ()), "not empty"),
        (Range(low=1), (None, "8:00:00", True, ()), (0,), "at least 1"),
        (Range(), (0, -5, "", (), None), (), ""),
    ],
)
def test_a_range_holds_what_it_says(allowed: Range, good: Any, bad: Any, text: str) -> None:
    assert all(map(allowed.holds, good))
    assert not any(map(allowed.holds, bad))
    assert str(allowed) == text


@pytest.mark.parametrize(
    "bounds",
    [
        {"low": 1, "above": 0}, {"high": 1, "below": 2}, {"low": 2, "high": 1}, {"above": 1, "high": 1},
        {"low": 1, "below": 1}, {"above": 1, "below": 1}, {"low": "a"}, {"high": True},
    ],
)  # fmt: skip
def test_bounds_that_leave_nothing_or_are_none_are_a_mistake_of_the_author(bounds: Any) -> None:
    with pytest.raises(ValueError, match=r"bounds|not both|no value lies between"):
        Range(**bounds)


# -------------------------------------------------------------------------------------------- all plugins


@pytest.mark.parametrize("name", PLUGINS)
def test_defaults_and_presets_lie_in_their_ranges(name: str) -> None:
    cls = PLUGINS[name]
    assert [o.name for o in describe_options(cls) if not o.range.holds(o.default)] == []
    for preset in getattr(cls, "presets", {}):
        build_config(name, cls, {"preset": preset})


@pytest.mark.parametrize("name", PLUGINS)
def test_every_number_of_a_built_in_plugin_has_a_range(name: str) -> None:
    numbers = [o for o in describe_options(PLUGINS[name]) if re.search(r"\b(int|float)\b", o.type)]
    assert [o.name for o in numbers if not str(o.range)] == []


@pytest.mark.parametrize("name", PLUGINS)
def test_what_lies_beyond_each_bound_is_refused_with_option_value_range_and_default(name: str) -> None:
    for o in describe_options(PLUGINS[name]):
        outside = [b for b in (o.range.above, o.range.below) if b is not None]
        outside += [o.range.low - 1] if o.range.low is not None else []
        outside += [o.range.high + 1] if o.range.high is not None else []
        for value in outside:
            given = [value] * len(o.default or (1,)) if isinstance(o.default, tuple) else value
            with pytest.raises(WsssError, match="is out of range") as caught:
                build_config(name, PLUGINS[name], {o.name: given})
            assert caught.value.where == f"{name}.{o.name}"
            assert caught.value.hint.startswith(f"allowed: {o.range}, default ")
            assert caught.value.code == 2


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("cam.steps=-3", "-3 is out of range [cam.steps]"),
        ("cam.batch=0", "0 is out of range [cam.batch]"),
        ("cam.crop=0", "0 is out of range [cam.crop]"),
        ("cam.dropout=7", "7.0 is out of range [cam.dropout]"),
        ("cam.lr=0", "0.0 is out of range [cam.lr]"),
        ("cam.scales=[]", "this is empty [cam.scales]"),
        ("cam.scales=1,0", "[1.0, 0.0] is out of range [cam.scales]"),
        ("cam.scale_low=1.5", "scale_low = 1.5 is above scale_high = 1.25 [cam]"),
        ("rrm.fraction=0", "0.0 is out of range [rrm.fraction]"),
        ("rrm.jitter=0,0,0,0.6", "the jitter of hue is 0.6; 0.5 reaches every hue [rrm]"),
        ("rrm.crop=1", "energy_scale = 0.5 leaves no pixel of a crop of 1 [rrm]"),
        ("shapes.val=0", "0 is out of range [shapes.val]"),
    ],
)
def test_wrong_numbers_are_told_before_anything_is_written(option: str, said: str, tmp_path: Path) -> None:
    words = [
        "run",
        "--method",
        "cam",
        "--method",
        "rrm",
        "--dataset",
        "shapes",
        "--runs",
        str(tmp_path / "r"),
    ]
    done = CliRunner().invoke(main, [*words, "-o", option])
    assert done.exit_code == 2
    assert said in done.output
    assert list(tmp_path.iterdir()) == []


def test_show_has_the_ranges_and_no_column_where_there_are_none() -> None:
    shown = CliRunner().invoke(main, ["show", "cam"]).output
    assert re.search(r"\| batch +\| int +\| 16 +\| at least 1 +\| images per step", shown)
    assert re.search(r"\| option +\| type +\| default +\| range +\| what", shown)
    assert "| range" not in CliRunner().invoke(main, ["show", "voc12"]).output


# ------------------------------------------------------------------------------------------- a stranger's

STEP = """
from dataclasses import dataclass
from wsssbench.types import Outputs, StepCard, option
import numpy as np

@dataclass(frozen=True)
class Config:
    border: int = option(DEFAULT, "width", low=1, below=50)

class Border:
    Config = Config
    card = StepCard("border", "1", role="control", supervision=(), gives=("labels",))
    def __init__(self, config): self.config = config
    def fit(self, train, given, ctx): return self.restore(ctx)
    def restore(self, ctx):
        return lambda images, tags, given, want: [
            Outputs(labels=np.zeros(tuple(i.shape[1:]), np.uint8)) for i in images]
"""


def plugin(folder: Path, default: int) -> Path:
    path = folder / "border.py"
    path.write_text(STEP.replace("DEFAULT", str(default)))
    return path


def test_a_strangers_option_with_a_range_is_shown_and_checked(tmp_path: Path) -> None:
    path = plugin(tmp_path, 2)
    shown = CliRunner().invoke(main, ["show", "border", "--plugin", str(path)]).output
    assert re.search(r"\| border +\| int +\| 2 +\| at least 1, below 50 +\| width +\|", shown)
    words = ["run", "--method", "border", "--dataset", "shapes", "--plugin", str(path), "--dry-run"]
    assert CliRunner().invoke(main, [*words, "-o", "border.border=49"]).exit_code == 0
    done = CliRunner().invoke(main, [*words, "-o", "border.border=50"])
    assert done.exit_code == 2
    assert (
        "50 is out of range [border.border]\n  next: allowed: at least 1, below 50, default 2" in done.output
    )


def test_the_contract_of_a_step_has_its_defaults_in_their_ranges(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["check", "border", "--plugin", str(plugin(tmp_path, 0))])
    assert done.exit_code == 1
    assert "the defaults of all options lie in their ranges, but ['border'] do not" in done.output


def test_a_range_survives_the_way_out_of_a_sandbox() -> None:
    from wsssbench.running.isolation.strangers import config_class, options_told

    @dataclass(frozen=True)
    class Config:
        border: int = option(2, "width", low=1, below=50)

    told = options_told(Config)

    class Outside:
        Config = config_class("border", told)

    with pytest.raises(WsssError, match="50 is out of range"):
        build_config("border", Outside, {"border": 50})
    told[0]["about"]["low"] = "none"
    with pytest.raises(WsssError, match="cannot make out its options"):
        config_class("border", told)
