"""Weight files as other codes leave them: without a classifier, behind prefixes and keys, beside heads."""

from __future__ import annotations

import os
import runpy
import shlex
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from wsssbench.cli.main import main
from wsssbench.errors import BadData
from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import Classifier
from wsssbench.nets.inspection import inspect_weights
from wsssbench.nets.matching import fit, load_backbone_weights
from wsssbench.nets.official import load_official
from wsssbench.nets.residual import SmallResNet
from wsssbench.nets.weights import read_state_dict
from wsssbench.nets.wrn38_names import official_name

State = dict[str, Tensor]
Narrow: Any = runpy.run_path(str(Path(__file__).with_name("narrow_net.py")))["Narrow"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def resnet18() -> State:
    """The state dict of a ResNet-18 that has been trained, with its classifier."""
    import torchvision.models

    torch.manual_seed(7)
    state = torchvision.models.resnet18(weights=None).state_dict()
    return trained(state)


def trained(state: State) -> State:
    """As if BatchNorm had seen something."""
    return {k: v + 0.25 if k.endswith("running_mean") else v for k, v in state.items()}


@pytest.fixture(scope="module")
def compact() -> State:
    """That of a small network, to be wrapped in many ways."""
    torch.manual_seed(8)
    return trained(SmallResNet(compact=True).state_dict())


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def headless(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def saved(content: Any, path: Path, form: str = "zip") -> Path:
    if form == "safetensors":
        path.write_bytes(safetensors_bytes(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    return path


def holds(path: Path, backbone: str, state: State) -> bool:
    """Whether a backbone that is filled from the file has the tensors of `state`, all of them."""
    own = list(Backbone(backbone, 8, str(path)).body.state_dict().values())
    wanted = [v for k, v in state.items() if not k.startswith("fc.")]
    return all(torch.equal(a, b) for a, b in zip(own, wanted, strict=True))


# ---------------------------------------------------------------------------------- what is not needed


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_a_backbone_without_its_classifier_loads_and_says_so(
    form: str, resnet18: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(headless(resnet18), tmp_path / "w.pth", form)
    assert holds(path, "resnet18", resnet18)
    said = "resnet18 from {}: fc.weight, fc.bias absent or of another shape or type, and not needed\n"
    assert said.format(path) in capsys.readouterr().err
    report = inspect_weights(path)
    assert (report.fits, report.classifier) == (("resnet18",), None)
    assert report.fit is not None
    assert (report.fit.absent, report.fit.unused) == (["fc.weight", "fc.bias"], [])


def test_a_whole_file_loads_without_a_word(
    resnet18: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = {"epoch": 3, "state_dict": prefixed(resnet18, "module.")}
    assert holds(saved(wrapped, tmp_path / "w.pth"), "resnet18", resnet18)
    assert capsys.readouterr().err == ""


def test_heads_of_other_sizes_and_beside_the_backbone_are_left_out_by_name(
    resnet18: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = {"fc.weight": torch.ones(20, 512), "fc.bias": torch.ones(20), "projector.0.weight": torch.ones(3)}
    path = saved(resnet18 | heads, tmp_path / "w.pth")
    assert holds(path, "resnet18", resnet18)
    said = capsys.readouterr().err
    assert "fc.weight, fc.bias absent or of another shape" in said
    assert "1 more not used (projector.0.weight)" in said
    assert inspect_weights(path).classifier == ("fc.weight", 20)


def test_a_deeper_network_and_one_with_modules_in_its_blocks_do_not_pass_for_a_smaller_one(
    resnet18: State,
) -> None:
    import torchvision.models

    with torch.device("meta"):
        deep = torchvision.models.resnet34(weights=None).state_dict()
        net = torchvision.models.resnet18(weights=None)
    found = fit(net, deep, "fc.")
    assert (found.missing, found.reshaped, len(found.unexpected)) == ([], [], 96)
    assert found.unexpected[0] == "layer1.2.conv1.weight"
    squeezed = resnet18 | {"layer4.1.se.fc1.weight": torch.ones(1)}
    assert fit(net, squeezed, "fc.").unexpected == ["layer4.1.se.fc1.weight"]


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("lost", ["conv1.weight", "layer3.1.bn2.running_var"])
def test_no_tensor_of_the_backbone_may_be_missing(
    lost: str, form: str, resnet18: State, tmp_path: Path
) -> None:
    path = saved(
        prefixed({k: v for k, v in resnet18.items() if k != lost}, "backbone."), tmp_path / "w", form
    )
    with pytest.raises(BadData, match="do not fit resnet18: 1 keys missing") as caught:
        Backbone("resnet18", 8, str(path))
    assert f"({lost}), of names that begin with backbone." in caught.value.what
    assert inspect_weights(path).fits == ()


# ------------------------------------------------------------------------------------ where the names are


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "_orig_mod.",
        "backbone.",
        "model.",
        "module.encoder_q.",
        "_orig_mod.module.net.encoder.",
    ],
)
def test_a_prefix_is_found_whatever_it_is(
    prefix: str, form: str, compact: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(prefixed(compact, prefix), tmp_path / "w.pth", form)
    assert holds(path, "compact", compact)
    assert ("names begin with " + prefix in capsys.readouterr().err) == (prefix not in ("", "module."))
    report = inspect_weights(path)
    assert (report.fits, report.fit and report.fit.prefix) == (("compact",), prefix)


@pytest.mark.parametrize(
    "key", ["state_dict", "model", "teacher", "student", "net", "model_state_dict", "anything else"]
)
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_state_dict_is_found_under_any_key_beside_an_optimizer(
    key: str, form: str, compact: State, tmp_path: Path
) -> None:
    moments = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    content = {"epoch": 3, "optimizer": moments, key: prefixed(compact, "module."), "best": torch.ones(())}
    path = saved(content, tmp_path / "w.pth", form)
    assert holds(path, "compact", compact)
    assert f"names begin  {key}.module." in inspect(path).replace("begin    ", "begin  ")


def inspect(path: Path) -> str:
    result = CliRunner().invoke(main, ["weights", "inspect", str(path)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_nested_keys_and_the_counter_of_an_averaged_model_are_no_hindrance(
    compact: State, tmp_path: Path
) -> None:
    averaged = {"n_averaged": torch.tensor(3), **prefixed(compact, "module.")}
    path = saved({"model": {"ema": averaged}, "step": torch.tensor(1)}, tmp_path / "w.pth")
    assert holds(path, "compact", compact)


def test_of_two_networks_that_fit_none_is_taken_until_somebody_chooses(
    compact: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = {name: tensor * 2 for name, tensor in compact.items()}
    content = {"student": prefixed(other, "module.backbone."), "teacher": prefixed(compact, "backbone.")}
    path = saved(content, tmp_path / "a 'b' $c.pth")
    with pytest.raises(BadData, match="2 networks that fit") as caught:
        Backbone("compact", 8, str(path))
    assert "student.module.backbone., teacher.backbone." in caught.value.what
    report = inspect_weights(path)
    assert (report.fits, report.fit, report.nearest) == ((), None, "compact")
    assert "2 networks in it fit compact: student.module.backbone., teacher.backbone." in inspect(path)
    program, flag, code, prefix = shlex.split(caught.value.hint.partition("teacher): ")[2])
    assert (program, flag, prefix) == ("python", "-c", "PREFIX")
    monkeypatch.setattr("sys.argv", ["-c", "teacher.backbone."])
    exec(code, {})
    assert holds(tmp_path / "chosen.pth", "compact", compact)


def test_one_network_under_two_keys_of_one_dict_is_one(compact: State, tmp_path: Path) -> None:
    assert holds(saved({"model": compact, "state_dict": compact}, tmp_path / "w.pth"), "compact", compact)


def test_a_rival_that_lacks_a_tensor_is_none(compact: State, tmp_path: Path) -> None:
    lame = dict(list(prefixed(compact, "ema.").items())[1:])
    assert holds(saved({**lame, **compact}, tmp_path / "w.pth"), "compact", compact)


# ------------------------------------------------------------------------------------- odd and hostile files


def test_a_dict_that_holds_itself_is_read_once(compact: State, tmp_path: Path) -> None:
    content: dict[str, Any] = {"net": dict(compact)}
    content["net"]["self"] = content["again"] = content
    assert holds(saved(content, tmp_path / "w.pth"), "compact", compact)


@pytest.mark.skipif(not hasattr(torch.serialization, "safe_globals"), reason="torch before 2.5 refuses them")
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_the_command_line_in_a_checkpoint_is_no_hindrance_and_nothing_else_gets_in(
    form: str, compact: State, tmp_path: Path
) -> None:
    arguments = Namespace(lr=0.1, arch="resnet50", dims=[1, 2])
    path = saved({"teacher": compact, "args": arguments}, tmp_path / "w.pth", form)
    assert holds(path, "compact", compact)
    saved({"teacher": compact, "args": Namespace(evil=Payload(tmp_path / "made"))}, path, form)
    with pytest.raises(BadData, match="refused: it asks for"):
        read_state_dict(path)
    assert not (tmp_path / "made").exists()
    assert Namespace not in torch.serialization.get_safe_globals()


class Payload:
    """Unpickled the ordinary way, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: v.bool(),
        lambda v: v.to(torch.complex64),
        lambda v: v.to(torch.int8),
        lambda v: v.to_sparse(),
        lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8),
        lambda v: v.to("meta"),
        lambda v: torch.ones(1).expand(2**50),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_no_network_here_has_are_one_clear_error(
    spoil: Callable[[Tensor], Tensor], compact: State, tmp_path: Path
) -> None:
    name = "blocks.0.norm1.running_var"
    path = saved(compact | {name: spoil(compact[name])}, tmp_path / "w.pth")
    with pytest.raises(BadData, match=f"do not fit compact: 1 (keys missing|of another.*) .{name}") as caught:
        Backbone("compact", 8, str(path))
    assert caught.value.where == str(path)
    assert "1: " + name in inspect(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_floating_numbers_of_any_width_load(dtype: torch.dtype, compact: State, tmp_path: Path) -> None:
    rounded = {k: v.to(dtype) if v.is_floating_point() else v for k, v in compact.items()}
    own = {k: v.float() if v.is_floating_point() else v for k, v in rounded.items()}
    assert holds(saved(rounded, tmp_path / "w.pth"), "compact", own)


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    path = saved({"a": {"b": torch.ones(1)}, "a.b": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(BadData, match=r"two tensors in this file have the name 'a\.b'"):
        read_state_dict(path)


def test_endless_names_and_many_networks_cost_little(compact: State) -> None:
    """Where every dot of a name were looked at, this would take hours."""
    with torch.device("meta"):
        net = SmallResNet(compact=True)
    names = {"." * 2**22 + f"{k}": torch.ones(0) for k in range(4)}
    assert fit(net, names).matched == 0
    crowd = {f"{k}.{name}": tensor for k in range(400) for name, tensor in compact.items()}
    assert 1 < len(fit(net, crowd).rivals) < 20


# ---------------------------------------------------------------------------------------- official files


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize("key", ["", "state_dict", "model"])
def test_an_official_classifier_is_filled_with_its_head_from_behind_prefixes(
    prefix: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(9)
    body = Narrow()
    monkeypatch.setattr("wsssbench.nets.official.wide_resnet", lambda net: body)
    wanted = {k: torch.rand_like(v) for k, v in body.state_dict().items() if v.is_floating_point()}
    net = Classifier(Backbone("compact", 8), 5)
    state = {official_name(k): v for k, v in wanted.items()} | {"fc8.weight": torch.rand(5, 128, 1, 1)}
    state["f9.weight"] = torch.ones(2)  # SEAM's, beside the backbone
    content = prefixed(state, prefix)
    path = saved({key: content} if key else content, tmp_path / "w.pth")
    assert load_official(net, path) == {"backbone", "classifier"}
    assert torch.equal(net.head.weight, state["fc8.weight"])
    assert all(torch.equal(body.state_dict()[k], v) for k, v in wanted.items())


def test_a_file_that_was_read_before_gives_the_same_tensors(resnet18: State, tmp_path: Path) -> None:
    """With its classifier, which a torchvision network has too."""
    import torchvision.models

    net = torchvision.models.resnet18(weights=None)
    path = saved(resnet18, tmp_path / "w.pth")
    load_backbone_weights(net, path, name="resnet18", folded=False, classifier="fc.")
    assert all(torch.equal(v, resnet18[k]) for k, v in net.state_dict().items())
