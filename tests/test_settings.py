"""Settings: defaults < file < flags; every name is checked, every mistake has its place."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, get_origin, get_type_hints

import pytest

from wsssbench.cli.running import run
from wsssbench.errors import BadData, UnknownName, WsssError
from wsssbench.planning.settings import (
    FIELDS,
    KINDS,
    Settings,
    check_names,
    find_settings,
    key_of,
    load_settings,
    parse_option,
    parse_weights,
    with_options,
    with_weights,
)

STEPS, DATASETS = ("cam", "rrm", "both"), ("shapes", "voc12", "both")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "wsssbench.toml"
    path.write_text(text)
    return path


def test_without_file_and_flags_the_defaults_hold() -> None:
    assert load_settings(None, {}) == Settings()


def test_the_example_at_the_root_holds_the_defaults() -> None:
    path = Path(__file__).resolve().parents[1] / "wsssbench.toml"
    assert dataclasses.replace(load_settings(path, {}), source=None) == Settings()


def test_the_commented_lines_of_the_example_are_valid_too(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[1] / "wsssbench.toml").read_text()
    lines = [line.removeprefix("# ") if "[" in line or " = " in line else line for line in text.splitlines()]
    settings = load_settings(write(tmp_path, "\n".join(lines)), {})
    assert settings.methods == ("cam", "rrm")
    assert settings.dataset_options == {"voc12": {"root": "/data/VOC2012"}}
    assert settings.recipes == {"my-cam-crf": ("cam", "crf")}
    assert settings.recipe_options == {"my-cam-crf": {"crf": {"iterations": 5}}}


def test_flags_go_before_the_file_and_absent_flags_do_not(tmp_path: Path) -> None:
    path = write(tmp_path, '[run]\nseeds = [3]\ndevice = "cpu"\nmethod = "cam"\nlimit = 4\n')
    flags = {"seeds": "0,1,2", "device": None, "methods": (), "runs": "out", "rerun": "stale"}
    settings = load_settings(path, flags)
    assert settings.seeds == (0, 1, 2)
    assert (settings.device, settings.methods, settings.limit) == ("cpu", ("cam",), 4)
    assert (settings.runs, settings.rerun, settings.source) == (Path("out"), "stale", path)


def test_tables_of_plugins_are_kept_raw(tmp_path: Path) -> None:
    text = '[steps.rrm]\ncrop = 448\n[datasets.voc12]\nroot = "/x"\n[methods.two]\nsteps = ["cam", "crf"]\n'
    settings = load_settings(write(tmp_path, text + "[stages.mine]\nscales = [1.0]\n"), {})
    assert settings.options == {"rrm": {"crop": 448}}
    assert settings.dataset_options == {"voc12": {"root": "/x"}}
    assert settings.recipes == {"two": ("cam", "crf")}
    assert settings.custom_stages == {"mine": {"scales": [1.0]}}


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("[runs]\n", "runs", "did you mean run"),
        ("[run]\nseed = 1\n", "run.seed", "did you mean seeds"),
        ('[run]\nrerun = "all"\n', "run.rerun", "known: "),
        ("[methods.a]\nstep = []\n", "methods.a.step", "did you mean steps"),
        ('[methods.a]\nsteps = ["cam"]\noptions.crf.x = 1\n', "methods.a.options.crf", "its steps are cam"),
    ],
)
def test_an_unknown_table_or_key_names_file_path_and_nearest(
    tmp_path: Path, text: str, place: str, hint: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UnknownName) as caught:
        load_settings(path, {})
    assert caught.value.where == f"{path}: {place}"
    assert hint in caught.value.hint
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("run = 5\n", "run"),
        ("[steps]\ncam = 3\n", "steps.cam"),
        ("[methods.a]\n", "methods.a.steps"),
        ("[methods.a]\nsteps = []\n", "methods.a.steps"),
        ("[methods.a]\nsteps = [3]\n", "methods.a.steps"),
        ('[methods.a]\nsteps = ["cam"]\noptions = 3\n', "methods.a.options"),
        ('[methods.a]\nsteps = ["cam"]\noptions.cam = 3\n', "methods.a.options.cam"),
        ('[methods."../a"]\nsteps = ["cam"]\n', "methods.../a"),
        ('[run]\nseeds = "one"\n', "run.seeds"),
        ('[run]\nprecision = "fp64"\n', "run.precision"),
        ('[run]\nfilter = "box"\n', "run.filter"),
    ],
)
def test_a_wrong_value_names_its_place_in_the_file(tmp_path: Path, text: str, place: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(WsssError) as caught:
        load_settings(path, {})
    assert caught.value.where == f"{path}: {place}"
    assert caught.value.hint
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "flags",
    [
        {"device": "gpu"},
        {"seeds": "-1"},
        {"seeds": "1,1"},
        {"seeds": ""},
        {"limit": 0},
        {"precision": "half"},
        {"rerun": "some"},
    ],
)
def test_a_wrong_flag_is_one_clear_error(flags: dict[str, Any]) -> None:
    with pytest.raises(WsssError) as caught:
        load_settings(None, flags)
    assert next(iter(flags)) in caught.value.where
    assert caught.value.code == 2


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1"])
def test_devices_are_asked_for_by_name(device: str) -> None:
    assert load_settings(None, {"device": device}).device == device


def test_a_syntax_error_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, "[run]\nseeds = [0]\ndevice = cpu\n")
    with pytest.raises(BadData, match="not valid TOML") as caught:
        load_settings(path, {})
    assert caught.value.where == f"{path}:3"


def test_a_file_that_cannot_be_read_is_bad_data(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.toml", tmp_path, binary):
        with pytest.raises(BadData) as caught:
            load_settings(path, {})
        assert caught.value.where == str(path)


def test_the_file_in_the_working_folder_is_found_and_config_goes_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_settings(None) is None
    write(tmp_path, "")
    assert find_settings(None) == Path("wsssbench.toml")
    assert find_settings(Path("other.toml")) == Path("other.toml")


def test_a_table_of_a_plugin_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "[steps.rrn]\ncrop = 1\n")
    with pytest.raises(UnknownName, match="unknown step 'rrn'") as caught:
        check_names(load_settings(path, {}), STEPS, DATASETS)
    assert caught.value.where == f"{path}: steps.rrn"
    assert "did you mean rrm" in caught.value.hint
    check_names(load_settings(write(tmp_path, "[datasets.voc12]\n"), {}), STEPS, DATASETS)


# -------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("rrm.crop=448", ("rrm", "crop", 448)),
        ("voc12.root=/data/a=b", ("voc12", "root", "/data/a=b")),
        ("steps.both.x=true", ("steps.both", "x", True)),
        ("rrm.weights=", ("rrm", "weights", "")),
    ],
)
def test_an_option_is_name_key_and_value(text: str, parsed: tuple[str, str, Any]) -> None:
    assert parse_option(text) == parsed


@pytest.mark.parametrize("text", ["crop=448", "rrm.crop", "=3", ".x=3", "rrm.=3", ""])
def test_what_is_no_option_says_how_to_write_one(text: str) -> None:
    with pytest.raises(WsssError, match="not an option") as caught:
        parse_option(text)
    assert "NAME.KEY=VALUE" in caught.value.hint


def test_options_go_to_the_step_or_data_set_of_that_name() -> None:
    start = Settings(options={"rrm": {"crop": 1, "rate": 2}})
    texts = ["rrm.crop=3", "voc12.root=/x", "steps.both.a=1", "datasets.both.a=2", "rrm.crop=4"]
    settings = with_options(start, texts, STEPS, DATASETS)
    assert settings.options == {"rrm": {"crop": 4, "rate": 2}, "both": {"a": 1}}
    assert settings.dataset_options == {"voc12": {"root": "/x"}, "both": {"a": 2}}
    assert start.options == {"rrm": {"crop": 1, "rate": 2}}


def test_a_name_of_both_must_say_which() -> None:
    with pytest.raises(WsssError, match="is a step and a data set") as caught:
        with_options(Settings(), ["both.x=1"], STEPS, DATASETS)
    assert "steps.both.KEY" in caught.value.hint


@pytest.mark.parametrize("text", ["voc21.root=/x", "datasets.voc21.root=/x"])
def test_an_option_of_an_unknown_name_brings_the_nearest(text: str) -> None:
    with pytest.raises(UnknownName) as caught:
        with_options(Settings(), [text], STEPS, DATASETS)
    assert "did you mean voc12" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "candidates", "parsed"),
    [
        ("rrm=a.pth", ("cam", "rrm"), {"rrm": "a.pth"}),
        ("a.pth", ("cam", "cam"), {"cam": "a.pth"}),
        ("a.pth", ("cam", "rrm"), {"cam": "a.pth", "rrm": "a.pth"}),
        ("dir/a=b.pth", ("cam",), {"cam": "dir/a=b.pth"}),
        ("rrm=", ("cam", "rrm"), {"rrm": ""}),
    ],
)
def test_weights_are_of_the_step_that_is_named_or_of_all(
    text: str, candidates: tuple[str, ...], parsed: dict[str, str]
) -> None:
    assert parse_weights(text, candidates) == parsed


@pytest.mark.parametrize(
    ("text", "candidates", "message"),
    [
        ("a.pth", (), "no step of these methods"),
        ("crf=a.pth", ("cam",), "no step 'crf'"),
    ],
)
def test_weights_for_no_one_step_are_an_error(text: str, candidates: tuple[str, ...], message: str) -> None:
    with pytest.raises(WsssError, match=message):
        parse_weights(text, candidates)


def test_weights_become_the_option_of_their_step() -> None:
    settings = with_weights(Settings(options={"rrm": {"crop": 1}}), ["rrm=a.pth"], ("cam", "rrm"))
    assert settings.options == {"rrm": {"crop": 1, "weights": "a.pth"}}


@pytest.mark.parametrize("texts", [["rrm=a.pth", "b.pth"], ["b.pth", "rrm=a.pth"]])
def test_weights_of_a_named_step_go_before_those_of_all(texts: list[str]) -> None:
    settings = with_weights(Settings(), texts, ("cam", "rrm"))
    assert settings.options == {"rrm": {"weights": "a.pth"}, "cam": {"weights": "b.pth"}}


def test_every_setting_is_a_flag_of_run_and_an_argument_of_the_api_and_none_is_there_beside() -> None:
    from wsssbench.api import functions

    arguments = get_type_hints(functions.RunSettings)
    beside = {"options", "weights", "config"}
    assert set(FIELDS) <= {parameter.name for parameter in run.params}
    assert set(arguments) == set(FIELDS) - {"methods", "datasets"} | beside
    choices = {name: kind for name, kind in KINDS.items() if get_origin(kind) is Literal}
    assert choices
    assert {name: arguments[name] for name in choices} == choices


@pytest.mark.parametrize("name", sorted(set(FIELDS) - {"rerun"}))
def test_a_value_means_the_same_as_a_flag_a_key_and_an_argument(name: str, tmp_path: Path) -> None:
    texts = {
        "methods": "cam", "datasets": "shapes", "seeds": "1,2", "stages": "seg", "metrics": "pxap",
        "threshold_policy": "oracle", "runs": "out", "device": "cuda:1", "precision": "fp32",
        "filter": "exact", "limit": "3", "jobs": "2", "executor": "local", "plugins": "my.py",
        "isolate": "true", "offline": "true",
    }  # fmt: skip
    value, key = texts[name], key_of(FIELDS[name])
    flag = next(parameter for parameter in run.params if parameter.name == name).opts[0]
    words = [flag] if value == "true" else [flag, value]
    flags = run.make_context("run", words).params
    typed = load_settings(None, {n: v for n, v in flags.items() if n in FIELDS})
    plain = value if name in ("limit", "jobs", "isolate", "offline") else f'"{value}"'
    read = load_settings(write(tmp_path, f"[run]\n{key} = {plain}\n"), {})
    assert getattr(typed, name) == getattr(read, name) != getattr(Settings(), name)
    assert dataclasses.replace(typed, **{name: getattr(Settings(), name)}) == Settings()
