"""Weights that are fetched by name, from a server on the loopback address: once, checked, never offline."""

from __future__ import annotations

import io
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from click.testing import CliRunner, Result
from safetensors.torch import save
from torch import nn

import wsssbench
from wsssbench.cli.main import main
from wsssbench.commands.inspect_weights import fetch_command
from wsssbench.errors import BadData, UnknownName, WsssError
from wsssbench.nets import fetching
from wsssbench.nets.fetching import fetched_file
from wsssbench.nets.weights import read_state_dict
from wsssbench.planning.plan import make_plan
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins
from wsssbench.records.finding import find_records
from wsssbench.running.isolation.sandbox import check_sandbox

timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'wsssbench[timm]'")
LOOPBACK = runpy.run_path(str(Path(__file__).with_name("loopback_server.py")))
COMMIT, Server, sha256 = (LOOPBACK[name] for name in ("COMMIT", "Server", "sha256"))
TIMM, TORCHVISION, NET = "timm:test_resnet.r160_in1k", "torchvision:IMAGENET1K_V1", "mobilenet_v2"


def trained(net: nn.Module) -> nn.Module:
    """`net` with statistics in its BatchNorm as if it were trained: else it counts as folded."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.constant_(layer.running_mean, 0.1)
    return net


@pytest.fixture(scope="module")
def of_torchvision() -> bytes:
    stream = io.BytesIO()
    torch.save(trained(torchvision.models.get_model(NET, weights=None)).state_dict(), stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def of_timm() -> bytes:
    state = trained(timm.create_model("test_resnet", pretrained=False)).state_dict()
    return save({name: tensor.contiguous() for name, tensor in state.items()})


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, with empty caches below tmp_path, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    serving = Server()
    threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
    yield serving
    serving.stop()


@pytest.fixture
def torchvision_file(server: Server, of_torchvision: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its sha256; the server has it where torchvision says that these weights are."""
    digest = sha256(of_torchvision)
    place = f"/models/mobilenet_v2-{digest[:8]}.pth"
    entry = torchvision.models.get_model_weights(NET)["IMAGENET1K_V1"]
    monkeypatch.setattr(entry.value, "url", server.address + place)
    server.files[place] = of_torchvision
    return digest


@pytest.fixture
def timm_file(server: Server, of_timm: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its sha256; the server has it at an address that timm names, and there is no huggingface_hub."""
    digest = sha256(of_timm)
    place = f"/release/test_resnet-{digest[:8]}.safetensors"
    told = SimpleNamespace(url=server.address + place, hf_hub_id="timm/test_resnet.r160_in1k")
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda name: told)
    monkeypatch.setattr(fetching, "find_spec", lambda name: None)
    server.files[place] = of_timm
    return digest


@pytest.fixture
def hub(server: Server, of_timm: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """huggingface_hub with this server, which has the file of timm, and with an empty cache."""
    package = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    pattern = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    told = {"ENDPOINT": server.address, "HUGGINGFACE_CO_URL_TEMPLATE": pattern}
    for name, value in (told | {"HF_HUB_CACHE": str(tmp_path / "hub")}).items():
        monkeypatch.setattr(package.constants, name, value)
    server.files["/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"] = of_timm
    return package


def planned(weights: str, backbone: str, **more: Any) -> list[Any]:
    """What rows know of the weights, planned in this process."""
    options = {"weights": weights, "output_stride": 32} | ({"backbone": backbone} if backbone else {})
    asked = Settings(
        methods=("cam",), datasets=("shapes",), stages=("pseudo",), device="cpu",
        dataset_options={"shapes": {"preset": "tiny"}}, options={"cam": options}, **more,
    )  # fmt: skip
    steps = [cell.trial.steps[0] for cell in make_plan(asked, Plugins())]
    return [(step.identity.config["weights"], step.identity.config["backbone"]) for step in steps]


def run(*words: str) -> Result:
    """`wsssbench run` of cam on a few images, for two steps."""
    options = ("shapes.preset=tiny", "cam.steps=2", "cam.output_stride=32")  # the only one of test_resnet
    asked = ["--method", "cam", "--dataset", "shapes", *(word for text in options for word in ("-o", text))]
    return CliRunner().invoke(main, ["run", "--device", "cpu", *asked, "--stages", "pseudo", "-q", *words])


def fetch(*words: str) -> Result:
    return CliRunner().invoke(main, ["weights", "fetch", *words])


def left(tmp_path: Path) -> list[str]:
    """Names of the files in the caches, but for locks."""
    found = [p for top in ("torch", "hub") for p in (tmp_path / top).rglob("*")]
    return sorted(p.name for p in found if p.is_file() and p.suffix not in (".lock", ".TAG"))


# ---------------------------------------------------------------------------------------------- torchvision


def test_weights_of_torchvision_are_fetched_once_and_a_row_knows_their_sha256(
    server: Server, torchvision_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned(TORCHVISION, NET) == [({"sha256": torchvision_file}, NET)]
    said, place = capsys.readouterr(), next(iter(server.files))
    assert said.out == ""
    assert said.err == f"fetching the weights {TORCHVISION} of {NET} from {server.address}{place}\n"
    assert len(server.asked) == 1
    server.stop()
    for offline in (False, True):
        assert planned(TORCHVISION, NET, offline=offline) == [({"sha256": torchvision_file}, NET)]
    assert capsys.readouterr() == ("", "")


def test_the_command_fetch_prints_the_file_and_its_sha256(
    server: Server, torchvision_file: str, tmp_path: Path
) -> None:
    first = fetch(TORCHVISION, "--backbone", NET)
    again = fetch(TORCHVISION, "--backbone", NET)
    assert (first.exit_code, again.exit_code, len(server.asked)) == (0, 0, 1)
    path, digest = first.stdout.splitlines()
    assert Path(path).parent == tmp_path / "torch/hub/checkpoints"
    assert digest == f"sha256 {torchvision_file}"
    assert (again.stdout, again.stderr) == (first.stdout, "")


def test_the_backbone_of_a_preset_says_which_weights_of_torchvision_are_meant(torchvision_file: str) -> None:
    with pytest.raises(WsssError, match="compact is none of its networks") as caught:
        planned(TORCHVISION, "")  # the preset of shapes
    assert "mobilenet_v2, resnet18" in caught.value.hint


def test_an_unknown_tag_of_torchvision_names_the_nearest(server: Server) -> None:
    with pytest.raises(UnknownName, match="no weights 'IMAGENET1K_V3' of mobilenet_v2") as caught:
        fetched_file("torchvision:IMAGENET1K_V3", NET)
    assert "IMAGENET1K_V2" in caught.value.hint
    assert server.asked == []


def test_a_file_that_was_changed_on_the_way_is_refused_and_not_kept(
    server: Server, torchvision_file: str, tmp_path: Path
) -> None:
    place = next(iter(server.files))
    server.files[place] = server.files[place][:-1]
    done = fetch(TORCHVISION, "--backbone", NET)
    assert done.exit_code == 2
    assert "cannot be fetched: invalid hash value" in done.stderr
    assert f"{server.address}{place}" in done.stderr
    assert left(tmp_path) == []


def test_a_damaged_file_in_the_cache_is_named_and_left_alone(torchvision_file: str, tmp_path: Path) -> None:
    path = fetched_file(TORCHVISION, NET)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadData, match="in the cache do not have the sha256") as caught:
        fetched_file(TORCHVISION, NET)
    assert caught.value.where == str(path)
    assert path.is_file()


def test_a_file_that_the_server_does_not_have(server: Server, torchvision_file: str, tmp_path: Path) -> None:
    server.files.clear()
    done = run("--weights", TORCHVISION, "-o", f"cam.backbone={NET}")
    assert done.exit_code == 2
    assert "cannot be fetched: HTTP Error 404: Not Found" in done.stderr
    assert "next: check the network" in done.stderr
    assert left(tmp_path) == []
    assert not Path("runs").exists()


def test_a_server_that_is_gone(server: Server, torchvision_file: str, tmp_path: Path) -> None:
    server.stop()
    with pytest.raises(WsssError, match=r"cannot be fetched: <urlopen error .*refused") as caught:
        fetched_file(TORCHVISION, NET)
    assert caught.value.where.startswith(server.address)
    assert left(tmp_path) == []


def test_a_full_disk_is_told_from_a_network_that_fails(
    server: Server, torchvision_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.hub, "download_url_to_file", full)
    with pytest.raises(WsssError, match="No space left on device") as caught:
        fetched_file(TORCHVISION, NET)
    assert caught.value.where == str(tmp_path / "torch/hub/checkpoints")
    assert "TORCH_HOME" in caught.value.hint


def test_several_that_want_one_file_at_once_fetch_it_once(server: Server, torchvision_file: str) -> None:
    found: list[Path] = []
    ask = lambda: found.append(fetched_file(TORCHVISION, NET))  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == len(server.asked) == 1


# -------------------------------------------------------------------------------------------------- offline


def dry(weights: str) -> Any:
    more = {"options": {"cam.backbone": NET, "shapes.preset": "tiny"}, "weights": {"cam": weights}}
    return wsssbench.dry_run("cam", "shapes", device="cpu", **more)  # type: ignore[arg-type]


def by_the_flag(*flags: str) -> Callable[[str], Any]:
    def ask(weights: str) -> Any:
        done = run("--weights", weights, "-o", f"cam.backbone={NET}", *flags)
        assert done.exit_code == 2
        raise WsssError(done.stderr)

    return ask


def by_the_file(weights: str) -> Any:
    Path("wsssbench.toml").write_text("[run]\noffline = true\n")
    return by_the_flag()(weights)


@pytest.mark.parametrize(
    "ask", [dry, by_the_file, by_the_flag("--offline"), by_the_flag("--dry-run")],
    ids=["wsssbench.dry_run", "wsssbench.toml", "--offline", "--dry-run"],
)  # fmt: skip
def test_offline_and_dry_runs_fetch_nothing_and_name_the_command_that_does(
    ask: Callable[[str], Any], server: Server, torchvision_file: str, tmp_path: Path
) -> None:
    with pytest.raises(WsssError) as caught:
        ask(TORCHVISION)
    assert "are not in the cache, and nothing is fetched here" in str(caught.value)
    assert f"wsssbench weights fetch {TORCHVISION} --backbone {NET}" in str(caught.value)
    assert (server.asked, left(tmp_path)) == ([], [])


def test_the_switch_of_huggingface_hub_counts_too(
    server: Server, timm_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WsssError, match=f"weights {TIMM} are not in the cache"):
        fetched_file(TIMM)
    assert server.asked == []


# ----------------------------------------------------------------------------------------------------- timm


def test_a_run_with_weights_of_timm_trains_their_network(
    server: Server, timm_file: str, tmp_path: Path
) -> None:
    done = run("--weights", TIMM)
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith(f"fetching the weights {TIMM} from {server.address}/release/")
    (found,) = find_records(tmp_path / "runs")
    options = found.record.identity.recipe[0].config
    assert (options["weights"], options["backbone"]) == ({"sha256": timm_file}, TIMM)
    assert len(server.asked) == 1
    assert run("--weights", TIMM, "--offline").exit_code == 0  # and the row is there already
    assert len(find_records(tmp_path / "runs")) == 1


def test_a_sandbox_without_network_reads_the_file_that_was_fetched_before(
    server: Server, timm_file: str, tmp_path: Path
) -> None:
    try:
        check_sandbox()
    except WsssError as error:
        pytest.skip(f"no sandbox here: {error}")
    done = run("--weights", TIMM, "--isolate")
    assert done.exit_code == 0, done.output
    (found,) = find_records(tmp_path / "runs")
    assert found.record.provenance["isolation"]
    assert found.record.identity.recipe[0].config["weights"] == {"sha256": timm_file}


def test_an_unknown_name_of_timm_is_refused_with_the_nearest(server: Server) -> None:
    with pytest.raises(UnknownName, match=r"no pretrained weights 'resnet18\.a9_in1k'") as caught:
        fetched_file("timm:resnet18.a9_in1k")
    assert "resnet18.a1_in1k" in caught.value.hint
    with pytest.raises(UnknownName, match="no network 'resnet19'") as caught:
        fetched_file("timm:resnet19.a1_in1k")
    assert "resnet18" in caught.value.hint
    assert len(caught.value.hint) < 200
    with pytest.raises(WsssError, match="no weights that can be fetched"):
        fetch_command("resnet50.pth", "")


def test_weights_that_only_the_hub_has_say_which_package_fetches_them(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "find_spec", lambda name: None)
    with pytest.raises(WsssError, match="huggingface_hub, which is not installed"):
        fetched_file(TIMM)


def test_an_address_without_a_checksum_is_refused(
    server: Server, timm_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = SimpleNamespace(url=f"{server.address}/net.pth", hf_hub_id=None)
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda name: told)
    with pytest.raises(WsssError, match="no checksum in its name"):
        fetched_file(TIMM)
    assert server.asked == []


def test_a_file_of_the_hub_is_fetched_once(
    server: Server, hub: Any, of_timm: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned(TIMM, "") == [({"sha256": sha256(of_timm)}, TIMM)]
    said = capsys.readouterr().err
    assert said == f"fetching the weights {TIMM} from {server.address}/timm/test_resnet.r160_in1k\n"
    server.stop()
    path = fetched_file(TIMM)
    assert (path.name, path.parent.name) == ("model.safetensors", COMMIT)
    assert read_state_dict(path).keys() == timm.create_model("test_resnet").state_dict().keys()
    assert capsys.readouterr().err == ""


def test_the_variables_of_huggingface_hub_say_where_from_and_where_to(
    server: Server, hub: Any, of_timm: bytes, tmp_path: Path
) -> None:
    env = {**os.environ, "HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "wsssbench", "weights", "fetch", TIMM]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    path, digest = done.stdout.splitlines()
    assert Path(path).is_relative_to(tmp_path / "home/hub")
    assert digest == f"sha256 {sha256(of_timm)}"
    assert done.stderr == f"fetching the weights {TIMM} from {server.address}/timm/test_resnet.r160_in1k\n"


def test_a_repository_without_safetensors_gives_its_other_file(
    server: Server, hub: Any, of_timm: bytes
) -> None:
    server.files = {"/timm/test_resnet.r160_in1k/resolve/main/pytorch_model.bin": of_timm}
    assert fetched_file(TIMM).name == "pytorch_model.bin"


def test_a_file_of_the_hub_with_another_sha256_is_refused_and_not_kept(
    server: Server, hub: Any, tmp_path: Path
) -> None:
    server.etags[next(iter(server.files))] = "0" * 64
    with pytest.raises(BadData, match="has the sha256") as caught:
        fetched_file(TIMM)
    assert caught.value.where == f"{server.address}/timm/test_resnet.r160_in1k"
    assert not [name for name in left(tmp_path) if name in ("model.safetensors", "0" * 64)]
    with pytest.raises(WsssError, match="not in the cache"):
        fetched_file(TIMM, offline=True)


def test_a_repository_that_the_hub_does_not_have(server: Server, hub: Any) -> None:
    server.files.clear()
    done = fetch(TIMM)
    assert done.exit_code == 2
    assert f"the weights {TIMM} cannot be fetched: Client error '404 Not Found'" in done.stderr
