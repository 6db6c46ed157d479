"""Options: a plugin's own dataclass checks raw values, and says what enters a key."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from wsssbench.errors import BadData, UnknownName, WsssError
from wsssbench.identity import plain
from wsssbench.option_fields import Range
from wsssbench.plugins.options import build_config, describe_options, key_options, option_names, parse_value
from wsssbench.types import NoConfig, option


@dataclass(frozen=True)
class Config:
    crop: int = option(160, "training crop in pixels", origin="paper, section 4.1")
    rate: float = option(1e-3, "learning rate")
    flip: bool = option(True, "flip at random")
    scales: tuple[float, ...] = option((0.5, 1.0), "scales of the map")
    size: tuple[int, int] = option((3, 4), "height and width")
    names: tuple[str, ...] = option((), "names")
    backbone: Literal["small", "resnet18"] = option("small", "network")
    title: str = option("t", "text")
    limit: int | None = option(None, "how many")
    weights: str = option("", "checkpoint", file=True)
    workers: int = option(2, "loader processes", key=False)

    def __post_init__(self) -> None:
        if self.crop <= 0:
            raise ValueError("crop must be positive")


class Plugin:
    Config = Config
    presets = {"voc12": {"crop": 321, "rate": 0.01}, "fast": {"crop": 64}}  # noqa: RUF012


def build(*layers: dict[str, Any], dataset: str = "") -> Config:
    config = build_config("rrm", Plugin, *layers, dataset=dataset)
    assert isinstance(config, Config)
    return config


def test_later_layers_win() -> None:
    assert build({"crop": 1, "rate": 1}, {"crop": 2}) == Config(crop=2, rate=1.0)


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("rate", 1, 1.0),
        ("flip", False, False),
        ("scales", [1, 2.5], (1.0, 2.5)),
        ("scales", "0.5,1, 2", (0.5, 1.0, 2.0)),
        ("scales", 2, (2.0,)),
        ("scales", "", ()),
        ("size", [5, 6], (5, 6)),
        ("names", "a,5", ("a", "5")),
        ("backbone", "resnet18", "resnet18"),
        ("limit", "none", None),
        ("limit", 7, 7),
    ],
)
def test_values_are_read_as_the_annotation_says(key: str, given: Any, expected: Any) -> None:
    value = getattr(build({key: given}), key)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("key", "given", "expected_type"),
    [
        ("crop", 1.5, "int"),
        ("crop", "big", "int"),
        ("crop", True, "int"),
        ("rate", "fast", "float"),
        ("rate", True, "float"),
        ("rate", float("nan"), "float"),
        ("rate", float("inf"), "float"),
        ("flip", 1, "true | false"),
        ("flip", "True", "true | false"),
        ("scales", ["a"], "list of float"),
        ("scales", "1,b", "list of float"),
        ("size", [1, 2, 3], "[int, int]"),
        ("size", 3, "[int, int]"),
        ("limit", "many", "int | none"),
        ("title", 5, "str"),
        ("backbone", "vgg", "small | resnet18"),
    ],
)
def test_a_wrong_type_names_the_option_the_type_and_the_default(
    key: str, given: Any, expected_type: str
) -> None:
    with pytest.raises(WsssError) as caught:
        build({key: given})
    assert caught.value.where == f"rrm.{key}"
    assert f"expected {expected_type}, default " in caught.value.hint
    assert caught.value.code == 2


def test_a_wrong_choice_lists_the_choices() -> None:
    with pytest.raises(WsssError, match=r"'vgg' is none of: small \| resnet18"):
        build({"backbone": "vgg"})


def test_a_number_for_a_text_is_told_to_be_quoted() -> None:
    with pytest.raises(WsssError) as caught:
        build({"title": 5})
    assert 'quote a string: "5"' in caught.value.hint


def test_an_unknown_option_brings_the_nearest() -> None:
    with pytest.raises(UnknownName, match="rrm has no option 'crp'") as caught:
        build({"crp": 3})
    assert caught.value.where == "rrm.crp"
    assert "did you mean crop" in caught.value.hint


def test_a_check_of_the_plugin_itself_is_one_clear_error() -> None:
    with pytest.raises(WsssError, match="crop must be positive") as caught:
        build({"crop": 0})
    assert caught.value.where == "rrm"


def test_the_preset_called_like_the_data_set_lies_under_the_layers() -> None:
    assert build({"rate": 0.5}, dataset="voc12") == Config(crop=321, rate=0.5)
    assert build(dataset="shapes") == Config()


def test_a_preset_is_chosen_by_name_and_none_takes_it_away() -> None:
    assert build({"preset": "fast"}, dataset="voc12") == Config(crop=64)
    assert build({"preset": "fast"}, {"preset": "none"}, dataset="voc12") == Config()


def test_an_unknown_preset_brings_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no preset 'fats'") as caught:
        build({"preset": "fats"})
    assert "did you mean fast" in caught.value.hint


def test_a_required_option_is_asked_for() -> None:
    @dataclass(frozen=True)
    class Required:
        root: str

    class NeedsRoot:
        Config = Required

    with pytest.raises(WsssError, match="must be given") as caught:
        build_config("folder", NeedsRoot)
    assert caught.value.where == "folder.root"


def test_a_plugin_without_config_takes_no_options() -> None:
    class Bare: ...

    assert build_config("bare", Bare) == NoConfig()
    with pytest.raises(UnknownName):
        build_config("bare", Bare, {"x": 1})


def test_key_options_leave_out_what_cannot_change_a_result() -> None:
    key = key_options(build())
    assert "workers" not in key
    assert key["scales"] == [0.5, 1.0]
    assert key["weights"] == ""


def test_a_file_enters_the_key_by_its_bytes_not_by_its_path(tmp_path: Path) -> None:
    one, two = tmp_path / "a.pth", tmp_path / "b.pth"
    one.write_bytes(b"weights")
    two.write_bytes(b"weights")
    key = key_options(build({"weights": str(one)}))
    assert key["weights"] == {"sha256": hashlib.sha256(b"weights").hexdigest()}
    assert key == key_options(build({"weights": str(two)}))
    two.write_bytes(b"Weights")
    os.utime(two, (1, 1))
    assert key != key_options(build({"weights": str(two)}))


@pytest.mark.parametrize("name", ["missing.pth", "."])
def test_a_weights_file_that_is_none_is_bad_data(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadData):
        key_options(build({"weights": str(tmp_path / name)}))


def test_describe_options_tells_type_default_help_and_origin() -> None:
    rows = {row.name: row for row in describe_options(Plugin)}
    assert tuple(rows["crop"]) == (
        "crop",
        "int",
        160,
        Range(),
        "training crop in pixels",
        "paper, section 4.1",
    )
    assert rows["backbone"].type == "small | resnet18"
    assert rows["limit"].type == "int | none"
    assert tuple(rows) == option_names(Plugin)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("448", 448),
        ("1e-7", 1e-7),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"5"', "5"),
        ("resnet18", "resnet18"),
        ("/data/VOC 2012", "/data/VOC 2012"),
        ("", ""),
        ("2012-01-01", "2012-01-01"),
        ("1\nother = 2", "1\nother = 2"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_parse_value_is_toml_or_else_a_string(text: str, value: Any) -> None:
    assert parse_value(text) == value


def test_an_option_that_was_added_enters_the_key_only_where_it_is_not_at_its_default() -> None:
    @dataclass(frozen=True)
    class Config:
        width: int = option(3, "as ever")
        scale: float = option(1.0, "of a later version", added=True)

    assert key_options(Config()) == {"width": 3}
    assert key_options(Config(scale=0.5)) == {"width": 3, "scale": 0.5}


def test_options_that_were_always_there_are_written_at_any_value() -> None:
    @dataclass(frozen=True)
    class Config:
        share: float = option(0.0, "as ever")
        stride: int = option(0, "of a later version", added=True)

    assert plain(Config()) == {"share": 0.0}
    assert plain(Config(stride=8)) == {"share": 0.0, "stride": 8}
