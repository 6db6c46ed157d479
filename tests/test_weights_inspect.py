"""`wsssbench weights inspect`: what it says of a file, in words and as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

from wsssbench.cli.main import main
from wsssbench.errors import BadData
from wsssbench.nets.inspection import inspect_weights
from wsssbench.nets.weights import read_state_dict
from wsssbench.nets.wrn38 import WideResNet38
from wsssbench.nets.wrn38_names import mxnet_name, official_name

State = dict[str, Tensor]


def inspect(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["weights", "inspect", str(path), *arguments], catch_exceptions=False)


def facts(path: Path) -> dict[str, Any]:
    result = inspect(path, "--json")
    assert result.exit_code == 0
    return dict(json.loads(result.stdout))


def torchvision_state(name: str) -> State:
    import torchvision.models

    torch.manual_seed(6)
    net: nn.Module = getattr(torchvision.models, name)(weights=None)
    return net.state_dict()


def trained(state: State) -> State:
    """As if BatchNorm had seen something."""
    return {k: v + 0.25 if k.endswith("running_mean") else v for k, v in state.items()}


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "net.pth"
    torch.save(trained(torchvision_state("mobilenet_v2")), path)
    return path


def test_a_torchvision_file_is_told_in_words(mobilenet: Path) -> None:
    result = inspect(mobilenet)
    assert result.exit_code == 0
    lines = dict(line.split("  ", 1) for line in result.stdout.splitlines())
    said = {name.strip(): text.strip() for name, text in lines.items()}
    assert said["format"] == "torch checkpoint"
    assert said["size"] == f"{mobilenet.stat().st_size:,} bytes"
    assert said["tensors"] == "314 (262 float32, 52 int64)"
    assert "3,504,872" in result.stdout  # torchvision's own count
    assert hashlib.sha256(mobilenet.read_bytes()).hexdigest() in result.stdout
    assert "fits backbone  mobilenet_v2\n" in result.stdout
    assert "classifier.1.weight, 1000 outputs (ImageNet)" in result.stdout
    assert "nearest" not in result.stdout


def test_json_holds_the_same_facts(mobilenet: Path) -> None:
    found = facts(mobilenet)
    assert (found["format"], found["tensors"], found["parameters"]) == ("torch", 314, 3_504_872)
    assert found["sha256"] == hashlib.sha256(mobilenet.read_bytes()).hexdigest()
    assert found["dtypes"] == {"float32": 262, "int64": 52}
    assert (found["fits"], found["batchnorm"]) == (["mobilenet_v2"], "as trained")
    assert found["classifier"] == {"weight": "classifier.1.weight", "outputs": 1000}
    assert found["segmentation"] is None


def test_folded_batchnorm_decides_which_of_two_backbones_fits(tmp_path: Path) -> None:
    torch.save(torchvision_state("mobilenet_v2"), tmp_path / "w.pth")  # mean 0, variance 1
    found = facts(tmp_path / "w.pth")
    assert (found["fits"], found["batchnorm"]) == (["mobilenet_v2_folded"], "folded")


def test_the_nearest_misfit_is_named_with_its_keys(tmp_path: Path) -> None:
    state = trained(torchvision_state("resnet18"))
    state["layer5.weight"] = state.pop("conv1.weight")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pth")
    found = facts(tmp_path / "w.pth")
    assert (found["fits"], found["found"]) == ([], None)
    near = {"backbone": "resnet18", "prefix": "state_dict.module.", "missing": ["conv1.weight"]}
    assert found["nearest_misfit"] == near | {"unexpected": ["layer5.weight"], "reshaped": [], "rivals": []}
    said = inspect(tmp_path / "w.pth").stdout
    assert "resnet18, 2 keys do not fit" in said
    assert "1: layer5.weight" in said
    assert "names begin  state_dict.module." in said


def thin(shape: torch.Size) -> Tensor:
    """One number under a big shape, so that a network of 105 million is a small file."""
    return torch.full((1,), 0.5).expand(shape)


def wrn38_shapes() -> dict[str, torch.Size]:
    with torch.device("meta"):
        state = WideResNet38().state_dict()
    return {k: v.shape for k, v in state.items() if v.is_floating_point()}


def test_an_rrm_checkpoint_is_told_with_both_heads(tmp_path: Path) -> None:
    state = {official_name(k): thin(shape) for k, shape in wrn38_shapes().items()}
    state["fc8.weight"] = thin(torch.Size((20, 4096, 1, 1)))
    for name, shape in {"conv1": (512, 4096, 3, 3), "conv2": (21, 512, 3, 3)}.items():
        state[f"fc8_seg_{name}.weight"] = thin(torch.Size(shape))
        state[f"fc8_seg_{name}.bias"] = thin(torch.Size(shape[:1]))
    torch.save(state, tmp_path / "RRM_final.pth")
    assert (tmp_path / "RRM_final.pth").stat().st_size < 1_000_000
    found = facts(tmp_path / "RRM_final.pth")
    assert (found["fits"], found["batchnorm"]) == (["wrn38"], "as trained")
    assert found["classifier"] == {"weight": "fc8.weight", "outputs": 20}
    assert found["segmentation"] == {"weight": "fc8_seg_conv2.weight", "outputs": 21}
    assert "fc8.weight, 20 outputs (VOC)" in inspect(tmp_path / "RRM_final.pth").stdout


def test_an_mxnet_file_that_lacks_layers_is_nearest_to_wrn38(tmp_path: Path) -> None:
    named = {mxnet_name(k): shape for k, shape in wrn38_shapes().items() if not k.startswith("stage")}
    path = tmp_path / "ilsvrc.params"
    arrays = b"".join(
        struct.pack(f"<I{len(s)}I3i", len(s), *s, 1, 0, 0) + bytes(4 * s.numel()) for s in named.values()
    )
    names = b"".join(struct.pack("<Q", len(n)) + n.encode() for n in named)
    count = struct.pack("<Q", len(named))
    path.write_bytes(struct.pack("<QQ", 0x112, 0) + count + arrays + count + names)
    report = inspect_weights(path)
    assert (report.format, report.tensors, report.nearest) == ("mxnet", 5, "wrn38")
    near = report.misfits["wrn38"]
    assert near.unexpected == near.reshaped == []
    assert "arg:res2a_branch2a_weight" in near.missing


def test_a_safetensors_file_is_told_by_its_content(tmp_path: Path) -> None:
    header = b'{"head": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}'
    path = tmp_path / "w.pth"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    found = facts(path)
    assert (found["format"], found["dtypes"], found["parameters"]) == ("safetensors", {"bfloat16": 1}, 4)
    assert (found["fits"], found["batchnorm"], found["nearest_misfit"]) == ([], "none", None)
    assert "fits backbone  none" in inspect(path).stdout


class Payload:
    """Unpickled the ordinary way, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle 2", "pickle 5"])
@pytest.mark.parametrize("place", ["alone", "among tensors"])
def test_a_payload_in_a_weight_file_is_refused_and_never_run(form: str, place: str, tmp_path: Path) -> None:
    path, marker = tmp_path / "w.pth", tmp_path / "made-by-the-payload"
    evil: Any = Payload(marker)
    content = evil if place == "alone" else {"state_dict": {"a": torch.ones(2)}, "epoch": evil}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(content, protocol=int(form[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    result = inspect(path)
    assert result.exit_code == 2
    assert "refused: it " in result.stderr
    assert "weights_only" not in result.stderr  # torch's advice to load it all the same
    assert not marker.exists()
    with pytest.raises(BadData, match="refused"):
        read_state_dict(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such weight file"),
        (b"", "begins like none"),
        (b"# Just a text file\n", "begins like none"),
        (b"PK\x03\x04 cut off", "cannot read this weight file"),
        (b"\x12\x01" + bytes(6) + bytes(8) + b"\x09", "this MXNet file is damaged"),
        (b"\x02" + bytes(7) + b'{"', "this safetensors file is damaged"),
    ],
)
def test_a_bad_file_is_one_clear_error_with_exit_code_2(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    if content is not None:
        path.write_bytes(content)
    for arguments in ((), ("--json",)):
        result = inspect(path, *arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert words in result.stderr
        assert str(path) in result.stderr
        assert "next: " in result.stderr


def test_a_network_that_was_never_trained_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    torch.save(torchvision_state("resnet18"), tmp_path / "new.pth")
    text = inspect(tmp_path / "new.pth").output
    assert "fits backbone  none" in text
    assert "resnet18: every key fits; BatchNorm is folded, or was never trained" in text
