"""`--isolate`: what a cheating step cannot reach, what stays the same, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from click.testing import CliRunner, Result

import wsssbench
from wsssbench.cli.main import main
from wsssbench.errors import BadData, WsssError
from wsssbench.plugins.options import describe_options
from wsssbench.plugins.table import Plugins
from wsssbench.records.finding import find_records
from wsssbench.running.isolation import sandbox
from wsssbench.running.isolation.box import ask
from wsssbench.running.isolation.boxed import refuse_links
from wsssbench.running.isolation.planning import check_hidden
from wsssbench.running.isolation.sandbox import Inside, check_sandbox
from wsssbench.running.isolation.staging import StagedData, stage_images
from wsssbench.running.isolation.strangers import IsolatedPlugins, kind_of, kind_told
from wsssbench.testing.tiny import TinyDataset
from wsssbench.types import View

CHEAT = Path(__file__).with_name("cheating_step.py")
WAYS = [  # that lead to the masks where there is no sandbox
    "absolute path", "path relative to the working folder", "path relative to the step's folder", "search",
    "link", "process", "open file", "network", "socket file",
]  # fmt: skip


def _why_not() -> str:
    try:
        check_sandbox()
    except WsssError as error:
        return str(error)
    return ""


needs_sandbox = pytest.mark.skipif(bool(_why_not()), reason=f"no sandbox here: {_why_not()}")


def run(runs: Path, *words: str | Path) -> Result:
    """`wsssbench run` on the CPU."""
    return CliRunner().invoke(main, ["run", "--runs", str(runs), "--device", "cpu", *map(str, words)])


def files(runs: Path) -> dict[str, str]:
    """sha256 of all that was learned, predicted and judged."""
    wanted = [*runs.rglob("*.npz"), *runs.rglob("*.png"), *runs.glob("*/steps/cam-*/ckpt/*")]
    return {str(p.relative_to(runs)): hashlib.sha256(p.read_bytes()).hexdigest() for p in wanted}


# ------------------------------------------------------------------------------------------------ a cheat


@pytest.fixture
def cheat(tmp_path: Path) -> Path:
    """A copy of the cheating step in a folder where it may write."""
    return Path(shutil.copy(CHEAT, tmp_path / "cheat.py"))


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Sockets that accept: a port of this machine, and the file `socket`."""
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(socket.AF_UNIX) as file:
        monkeypatch.chdir(tmp_path)  # a socket's path is short
        file.bind("socket")
        file.listen(16)
        yield port.getsockname()[1]


@pytest.fixture
def words(voc_tree: Any, cheat: Path, listener: int, tmp_path: Path) -> list[str]:
    """The cheat on a VOC tree, told where the masks are."""
    secret = voc_tree.mask(voc_tree.splits["train"][0])
    options = [f"cheat.secret={secret}", f"cheat.top={tmp_path}", f"cheat.port={listener}"]
    asked = ["--plugin", str(cheat), "--method", "cheat", "--dataset", "voc12", "--stages", "pseudo"]
    return [*asked, *(w for o in (f"voc12.root={voc_tree.root}", *options) for w in ("-o", o))]


@needs_sandbox
def test_a_cheat_finds_the_masks_in_a_plain_run_and_nothing_in_a_sandbox(
    words: list[str], cheat: Path, tmp_path: Path
) -> None:
    isolated = run(tmp_path / "isolated", *words, "--isolate")
    assert isolated.exit_code == 0, isolated.output
    assert not cheat.with_suffix(".imported").exists()  # this process has not run a line of it
    (folder,) = (tmp_path / "isolated").glob("voc12/steps/cheat-*")
    assert {when: json.loads((folder / f"{when}.json").read_text()) for when in ("fit", "predict")} == {
        "fit": [],
        "predict": [],
    }
    assert "the cheat is at work" in isolated.stderr
    assert "cheat [isolated]" in isolated.stdout
    (one,) = find_records(tmp_path / "isolated")
    assert one.record.provenance["isolation"]["sandbox"].startswith("bubblewrap")
    assert not list((tmp_path / "isolated").rglob(".staged-*"))

    plain = run(tmp_path / "plain", *words)
    assert plain.exit_code == 0, plain.output
    (folder,) = (tmp_path / "plain").glob("voc12/steps/cheat-*")
    assert set(WAYS) <= set(json.loads((folder / "predict.json").read_text()))
    assert {*WAYS, "view"} <= set(json.loads((folder / "fit.json").read_text()))
    assert "[isolated]" not in plain.stdout
    (other,) = find_records(tmp_path / "plain")
    assert other.record.key == one.record.key  # a sandbox changes no key
    assert "isolation" not in other.record.provenance
    assert other.record.provenance["code"] == one.record.provenance["code"]


@needs_sandbox
def test_a_link_that_a_step_leaves_behind_fails_it_and_is_removed(
    words: list[str], voc_tree: Any, tmp_path: Path
) -> None:
    leave = voc_tree.mask("x").parent
    done = run(tmp_path / "runs", *words, "--isolate", "-o", f"cheat.leave={leave}", "-q")
    assert done.exit_code == 1
    (found,) = find_records(tmp_path / "runs")
    assert (
        found.record.reason
        == "a step left something that is not a plain file in its folder: innocent ["
        + str(next((tmp_path / "runs").glob("voc12/steps/cheat-*/ckpt")).resolve())
        + "]"
    )
    assert not [p for p in (tmp_path / "runs").rglob("*") if p.is_symlink()]


def test_a_link_in_the_folder_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "step").symlink_to(tmp_path / "target")
    with pytest.raises(BadData, match="not a plain file"):
        refuse_links(tmp_path / "step")
    os.mkfifo(tmp_path / "target" / "pipe")
    with pytest.raises(BadData, match="pipe"):
        refuse_links(tmp_path / "target")
    refuse_links(tmp_path / "target")  # what was found is gone


# ----------------------------------------------------------------------------------------- the same results


@needs_sandbox
def test_a_sandbox_gives_the_same_bytes_and_what_was_made_without_is_made_anew(tmp_path: Path) -> None:
    asked = ["--method", "cam", "--dataset", "shapes", "--stages", "seed", "-q"]
    asked += ["-o", "shapes.preset=tiny", "-o", "cam.preset=tiny"]
    assert run(tmp_path, *asked).exit_code == 0
    before = files(tmp_path)
    assert len(before) > 90
    assert "missing" in run(tmp_path, *asked, "--isolate", "--dry-run").stdout
    isolated = run(tmp_path, *asked, "--isolate")
    assert isolated.exit_code == 0, isolated.output
    assert "cam [isolated; its data can be drawn from the seed]" in isolated.stdout
    assert files(tmp_path) == before
    for flags in ([], ["--isolate"]):
        assert "done" in run(tmp_path, *asked, "--dry-run", *flags).stdout


# -------------------------------------------------------------------------------------------------- refusals


@pytest.fixture
def other_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder as the only one in which programs are found."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    sandbox._program.cache_clear()
    yield folder
    sandbox._program.cache_clear()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the message is another one")
def test_without_bubblewrap_the_run_is_refused_before_anything_is_written(
    other_path: Path, tmp_path: Path
) -> None:
    done = run(tmp_path / "runs", "--method", "constant", "--dataset", "shapes", "--isolate")
    assert done.exit_code == 2
    assert "bubblewrap (the program bwrap) is not installed [--isolate]" in done.stderr
    assert "next: install it" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the message is another one")
def test_where_namespaces_are_forbidden_the_run_is_refused_with_what_bubblewrap_said(
    other_path: Path, tmp_path: Path
) -> None:
    program = other_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    done = run(tmp_path / "runs", "--method", "constant", "--dataset", "shapes", "--isolate")
    assert done.exit_code == 2
    assert "cannot make a sandbox here (bwrap: No permissions to create new namespace)" in done.stderr
    assert "next: allow unprivileged user namespaces" in done.stderr


def test_data_that_every_sandbox_would_show_is_refused() -> None:
    with pytest.raises(WsssError, match="would show this data") as error:
        check_hidden({"voc12": {"root": sys.prefix, "preset": "tiny"}})
    assert error.value.where.startswith("voc12.root")
    check_hidden({"voc12": {"root": str(Path(__file__).parent)}})


@needs_sandbox
def test_a_plugin_file_with_a_data_set_is_refused_in_an_isolated_run(tmp_path: Path) -> None:
    file = tmp_path / "mixed.py"
    file.write_text(
        "from wsssbench.testing.tiny import TinyDataset\n"
        "class Mine(TinyDataset):\n    card = TinyDataset.card\n"
    )
    with pytest.raises(WsssError, match="holds steps alone, and this one has the dataset 'tiny'"):
        IsolatedPlugins().add_file(file)


PICKY = """
from dataclasses import dataclass
from wsssbench.errors import WsssError
from wsssbench.types import StepCard, option

@dataclass(frozen=True)
class Config:
    width: int = option(2, "a width", low=1)

class Picky:
    Config = Config
    card = StepCard("picky", "1", role="control", supervision=(), gives=("labels",))
    def __init__(self, config):
        self.config = config
    def ready_on(self, card, filter_backend):
        if filter_backend == "exact":
            raise WsssError(f"not with exact on {card.name}", where="picky", hint="take lattice")
    def fit(self, train, given, ctx): ...
    def restore(self, ctx): ...
"""


@needs_sandbox
def test_what_a_step_in_a_sandbox_cannot_run_with_is_told_when_planning(tmp_path: Path) -> None:
    file = tmp_path / "picky.py"
    file.write_text(PICKY)
    asked = ("--method", "picky", "--dataset", "shapes", "--plugin", str(file), "--isolate", "--dry-run")
    assert run(tmp_path / "runs", *asked).exit_code == 0
    done = run(tmp_path / "runs", *asked, "--filter", "exact")
    assert done.exit_code == 2
    assert "not with exact on shapes [picky]\n  next: take lattice" in done.stderr
    done = run(tmp_path / "runs", *asked, "-o", "picky.width=0")
    assert done.exit_code == 2
    assert "0 is out of range [picky.width]\n  next: allowed: at least 1, default 2" in done.stderr


# ------------------------------------------------------------------------------------- what goes in and out


@needs_sandbox
def test_a_stand_in_has_the_options_and_the_card_of_the_step_that_it_stands_for() -> None:
    real, told = Plugins(), IsolatedPlugins()
    real.add_file(CHEAT)
    told.add_file(CHEAT)
    own, other = real.load("steps", "cheat"), told.load("steps", "cheat")
    assert other.__module__ != own.__module__
    assert describe_options(other) == describe_options(own)
    assert other.card == own.card
    assert other(other.Config(port=3)).card == own.card


@needs_sandbox
def test_an_error_in_a_sandbox_keeps_its_name_and_its_text() -> None:
    asked = {"do": "describe", "source": {"name": "", "file": "/nowhere.py"}}
    with pytest.raises(WsssError, match="no such plugin file"):
        ask(Inside(), asked, {})
    with pytest.raises(Exception, match="nothing") as other:
        ask(Inside(), {"do": "nothing"}, {})
    assert type(other.value).__name__ == "KeyError"


def test_a_staged_tree_holds_what_the_supervision_names_and_no_links(tmp_path: Path) -> None:
    data = TinyDataset()
    for supervision, kinds in ((("class_names",), {"images"}), (("tags",), {"images", "tags"})):
        view = View(data, "train", supervision)
        root = tmp_path / "-".join(sorted(supervision))
        stage_images(root, data, view.ids, sorted(kinds))
        assert {path.name for path in root.iterdir()} == kinds
        assert all(path.is_file() and not path.is_symlink() for path in root.glob("*/*"))
        again = View(StagedData(root, data.card, "train", view.ids), "train", supervision)
        for one, two in zip(view, again, strict=True):
            assert np.array_equal(one.image, two.image)
            assert (one.tags is None) == (two.tags is None) == ("tags" not in supervision)
            assert one.tags is None or np.array_equal(one.tags, two.tags)
        with pytest.raises(BadData, match="no such mask"):
            StagedData(root, data.card, "train", view.ids).mask(view.ids[0])
    assert data.reads["mask"] == set()


@pytest.mark.parametrize(
    "kind",
    [
        int, str, Path, Any, tuple[float, ...], tuple[int, str], Literal["a", 2], int | None,
        str | tuple[str, ...],
    ],
)  # fmt: skip
def test_a_type_of_an_option_survives_being_told(kind: Any) -> None:
    assert kind_of(json.loads(json.dumps(kind_told(kind)))) == kind


def test_a_told_type_is_data_and_never_run() -> None:
    for told in ("__import__('os')", ["tuple"], {"any": 1}, ["choice", []], 3):
        with pytest.raises((ValueError, TypeError)):
            hash(kind_of(told))


def test_the_help_says_that_generated_data_can_be_drawn_again() -> None:
    text = " ".join(CliRunner().invoke(main, ["run", "--help"]).output.split())
    assert "can be drawn again from its seed" in text


@needs_sandbox
def test_a_sandbox_shows_no_accounts_no_home_and_none_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "1")
    asked = ["os.path.exists(p) for p in ('/etc/shadow', '/root', '/home')", "'SECRET_OF_MINE' in os.environ"]
    asked[0] = f"*[{asked[0]}]"
    asked += ["os.access('/usr', os.W_OK)", "len(os.listdir('/proc/self/fd'))"]
    code = f"import os, json; print(json.dumps([{', '.join(asked)}]))"
    done = subprocess.run(
        sandbox.command_line(Inside(), ["-I", "-c", code]), capture_output=True, text=True, check=True
    )
    *shown, open_files = json.loads(done.stdout)
    assert shown == [False, Path.home() == Path("/root") and _in_root(), False, False, False]
    assert open_files <= 5


def _in_root() -> bool:
    """Whether the interpreter itself lies below /root, so that the folder's name has to be there."""
    return any(Path("/root") in path.parents for path in sandbox.visible_folders())


# --------------------------------------------------------------------------------------- by the settings file


@needs_sandbox
def test_the_settings_file_can_ask_for_a_sandbox_and_a_flag_can_take_it_back(
    words: list[str], cheat: Path, tmp_path: Path
) -> None:
    Path("wsssbench.toml").write_text("[run]\nisolate = true\n")
    done = run(tmp_path / "runs", *words, "-q")
    assert done.exit_code == 0, done.output
    assert not cheat.with_suffix(".imported").exists()
    (one,) = find_records(tmp_path / "runs")
    assert one.record.provenance["isolation"]["sandbox"].startswith("bubblewrap")
    plain = run(tmp_path / "plain", *words, "-q", "--no-isolate")
    assert plain.exit_code == 0, plain.output
    assert "isolation" not in find_records(tmp_path / "plain")[0].record.provenance


@needs_sandbox
def test_python_can_ask_for_a_sandbox(words: list[str], cheat: Path, voc_tree: Any, tmp_path: Path) -> None:
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    rows = wsssbench.run(
        "cheat", "voc12", plugins=[cheat], stages="pseudo", runs=tmp_path / "runs", device="cpu", quiet=True,
        isolate=True, options={**pairs, "cheat.port": int(pairs["cheat.port"])},
    )  # fmt: skip
    assert not rows.failures
    assert not cheat.with_suffix(".imported").exists()
    assert find_records(tmp_path / "runs")[0].record.provenance["isolation"]


@needs_sandbox
def test_other_commands_neither_import_nor_run_an_isolated_step(words: list[str], cheat: Path) -> None:
    Path("wsssbench.toml").write_text("[run]\nisolate = true\n")
    done = CliRunner().invoke(main, ["bench", *words[:6], *words[8:], "--device", "cpu", "--runs", "runs"])
    assert done.exit_code == 1, done.output
    assert "runs in a sandbox alone" in done.stderr
    assert not cheat.with_suffix(".imported").exists()


@pytest.mark.parametrize("value", ['"yes"', "1"])
def test_a_switch_of_the_settings_file_is_true_or_false(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wsssbench.toml").write_text(f"[run]\nisolate = {value}\n")
    done = run(tmp_path / "runs", "--method", "constant", "--dataset", "shapes")
    assert done.exit_code == 2
    assert "run.isolate" in done.stderr
