"""WRN-38 against the official network's outputs, through the importer of official checkpoints."""

from __future__ import annotations

import json
import runpy
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wsssbench.errors import BadData, WsssError
from wsssbench.nets.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from wsssbench.nets.heads import Classifier, JointNet, multi_scale_cam
from wsssbench.nets.matching import fit, load_backbone_weights
from wsssbench.nets.mxnet_params import read_mxnet_params
from wsssbench.nets.official import heads_held, load_official
from wsssbench.nets.segment_heads import HeadPlan
from wsssbench.nets.wrn38 import PreActivationBlock, WideResNet38
from wsssbench.nets.wrn38_names import mxnet_name, official_name

Narrow: Any = runpy.run_path(str(Path(__file__).with_name("narrow_net.py")))["Narrow"]

State = dict[str, Tensor]


def meta_joint(width: int = 512, dilation: int = 12, classes: int = 20) -> JointNet:
    """The network without its numbers: only shapes."""
    with torch.device("meta"):
        return JointNet(Classifier(Backbone("wrn38"), classes), HeadPlan("dilated", width, dilation))


def meta_state(*parts: str) -> State:
    """An official checkpoint without numbers: the backbone, and "classifier" or "segment"."""
    net = meta_joint()
    state = {official_name(k): v for k, v in net.backbone.body.state_dict().items()}
    state |= {"fc8.weight": net.head.weight.detach()} if "classifier" in parts else {}
    if "segment" in parts:
        ours = net.segment.state_dict()
        names = ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias")
        state |= {f"fc8_seg_{name}": v for name, v in zip(names, ours.values(), strict=True)}
    return state


def golden_tensor(name: str, shape: list[int]) -> Tensor:
    """What the golden README says that the entry of this name holds."""
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    noise = draw.standard_normal(shape, dtype=np.float32)
    if name.endswith("running_var"):
        noise = 1 + 0.1 * np.abs(noise)
    elif name.endswith("running_mean"):
        noise *= 0.1
    elif len(shape) == 4:
        noise *= (1 / prod(shape[1:])) ** 0.5
    elif "bn" in name:
        noise = 0.1 * noise + (1 if name.endswith("weight") else 0)
    else:
        noise *= 0.01
    return torch.from_numpy(noise.astype(np.float32, copy=False))


@pytest.fixture(scope="module")
def golden(
    shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[JointNet, frozenset[str], dict[str, Tensor]]:
    """The joint network filled from an official file, what was filled, and the official outputs."""
    folder = shared("golden/rrm")
    shapes = json.loads((folder / "wrn38_state_dict.json").read_text())
    path = tmp_path_factory.mktemp("official") / "RRM_final.pth"
    torch.save({f"module.{name}": golden_tensor(name, shape) for name, shape in shapes.items()}, path)
    net = meta_joint().to_empty(device="cpu")  # no time is lost on initial numbers: the file has them all
    net.backbone.mean.copy_(torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
    net.backbone.std.copy_(torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
    filled = load_official(net, path)
    path.unlink()  # 0.5 GB
    with np.load(folder / "wrn38.npz") as arrays:
        return net.eval(), filled, {name: torch.from_numpy(arrays[name]) for name in arrays}


def relative_error(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


def test_the_official_outputs_come_out_of_an_official_checkpoint(
    golden: tuple[JointNet, frozenset[str], dict[str, Tensor]],
) -> None:
    net, filled, official = golden
    assert filled == {"backbone", "classifier", "segment"}
    pixels = official["image"] * net.backbone.std + net.backbone.mean  # theirs is normalised already
    with torch.inference_mode():
        logits, maps, segmentation = net.joint(pixels)
        cam = multi_scale_cam(net, pixels, (0.5, 1.0, 1.5, 2.0), flip=False, first=maps)
    assert relative_error(logits, official["logits"]) < 1e-4
    assert relative_error(cam, official["cam"]) < 1e-4
    assert relative_error(segmentation, official["seg"]) < 1e-4


# ------------------------------------------------------------------------------------------- the network


def test_every_convolution_trains_and_no_batchnorm_does() -> None:
    body = meta_joint().train().backbone.body
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.requires_grad
            assert layer.bias is None
        if isinstance(layer, nn.BatchNorm2d):
            assert not layer.training
            assert not any(p.requires_grad for p in layer.parameters())
        if isinstance(layer, nn.Dropout2d):
            assert layer.training


def test_the_early_layers_can_be_frozen_as_psa_and_seam_do() -> None:
    body = meta_joint().backbone.body
    assert isinstance(body, WideResNet38)
    body.freeze_early()
    frozen = {official_name(k).split(".")[0] for k, p in body.named_parameters() if not p.requires_grad}
    convolutions = {k for k, p in body.named_parameters() if p.ndim == 4 and not p.requires_grad}
    assert {official_name(k).split(".")[0] for k in convolutions} == {"conv1a", "b2", "b2_1", "b2_2"}
    assert "bn7" in frozen


def test_dilations_and_dropout_are_the_official_ones() -> None:
    body = meta_joint().backbone.body
    assert isinstance(body, WideResNet38)
    found = {
        official_name(f"{name}.weight"): conv.dilation[0]
        for name, conv in body.named_modules()
        if isinstance(conv, nn.Conv2d) and conv.dilation != (1, 1)
    }
    twos = {f"{b}.conv_{c}.weight" for b in ("b5_1", "b5_2") for c in ("branch2a", "branch2b1")}
    fours = {f"{b}.conv_branch2b1.weight" for b in ("b6", "b7")}
    wanted = dict.fromkeys([*twos, "b5.conv_branch2b1.weight"], 2) | dict.fromkeys(fours, 4)
    assert found == wanted
    rates = [m.drop.p for m in body.modules() if isinstance(m, PreActivationBlock)]
    assert rates == [0.0] * 15 + [0.3, 0.5]


def test_dropout_follows_the_second_and_third_relu_of_a_block() -> None:
    torch.manual_seed(5)
    block = PreActivationBlock(4, (4, 4, 8), (1, 3, 1), (1, 2, 1), dropout=0.999999)
    x = torch.rand(1, 4, 6, 6)
    block.norms.eval()
    assert block.shortcut is not None
    shortcut = block.shortcut(block.norms[0](x).relu())
    assert torch.allclose(block(x), shortcut, atol=1e-6)  # all that passes a dropout is gone
    assert not torch.allclose(block.eval()(x), shortcut, atol=1e-3)


def test_a_block_that_keeps_its_shape_adds_to_its_raw_input() -> None:
    block = PreActivationBlock(4, (4, 4), (3, 3), (1, 1)).eval()
    nn.init.zeros_(block.convs[1].weight)  # type: ignore[arg-type]
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(block(x), x)


# -------------------------------------------------------------------------------------------- the importer


def test_official_names_are_the_ones_in_the_official_state_dict(shared: Callable[[str], Path]) -> None:
    shapes = json.loads((shared("golden/rrm") / "wrn38_state_dict.json").read_text())
    state = meta_state("classifier", "segment")
    ours = {k: list(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert ours == shapes


@pytest.mark.parametrize(
    ("own", "official", "mxnet"),
    [
        ("stem.weight", "conv1a.weight", "arg:conv1a_weight"),
        ("norm.running_var", "bn7.running_var", "aux:bn7_moving_var"),
        ("stage2.0.norms.0.weight", "b2.bn_branch2a.weight", "arg:bn2a_branch2a_gamma"),
        ("stage4.5.norms.1.bias", "b4_5.bn_branch2b1.bias", "arg:bn4b5_branch2b1_beta"),
        ("stage5.0.shortcut.weight", "b5.conv_branch1.weight", "arg:res5a_branch1_weight"),
        ("stage5.2.convs.1.weight", "b5_2.conv_branch2b1.weight", "arg:res5b2_branch2b1_weight"),
        ("stage7.0.norms.2.running_mean", "b7.bn_branch2b2.running_mean", "aux:bn7a_branch2b2_moving_mean"),
    ],
)
def test_names_in_files_follow_from_ours(own: str, official: str, mxnet: str) -> None:
    assert own in OWN_KEYS
    assert (official_name(own), mxnet_name(own)) == (official, mxnet)


def own_keys() -> list[str]:
    with torch.device("meta"):
        return list(WideResNet38().state_dict())


OWN_KEYS = own_keys()


def test_no_two_layers_share_a_name() -> None:
    for layout in (official_name, mxnet_name):
        assert len({layout(key) for key in OWN_KEYS}) == len(OWN_KEYS)


@pytest.mark.parametrize("parts", [(), ("classifier",), ("classifier", "segment")])
def test_official_files_with_and_without_heads_fit_the_backbone(parts: tuple[str, ...]) -> None:
    state = meta_state(*parts)
    assert heads_held(state) == set(parts)
    with torch.device("meta"):
        assert fit(WideResNet38(), state).misfits == 0


def test_what_does_not_fit_is_named_as_in_the_file() -> None:
    state = meta_state("classifier")
    del state["b4_2.conv_branch2a.weight"]
    state["b9.weight"] = torch.zeros(1)
    state["bn7.bias"] = torch.zeros(3)
    with torch.device("meta"):
        found = fit(WideResNet38(), state)
    assert found.missing == ["b4_2.conv_branch2a.weight"]
    assert found.unexpected == ["b9.weight"]
    assert found.reshaped == ["bn7.bias"]


def load_tiny(monkeypatch: pytest.MonkeyPatch, net: JointNet | Classifier, state: State) -> frozenset[str]:
    """`load_official` from a state dict that is at hand instead of half a gigabyte on disk."""
    monkeypatch.setattr("wsssbench.nets.official.read_state_dict", lambda path: state)
    return load_official(net, "f.pth")


def test_a_classifier_takes_backbone_and_classifier_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        net = Classifier(Backbone("wrn38"), 20)
    with pytest.warns(UserWarning, match="no-op"):  # nothing is copied on the meta device
        filled = load_tiny(monkeypatch, net, meta_state("classifier", "segment"))
    assert filled == {"backbone", "classifier"}


@pytest.mark.parametrize(
    ("net", "change", "message"),
    [
        (meta_joint(classes=3), {}, "fc8.weight has the shape"),
        (meta_joint(width=64), {}, "fc8_seg_conv1.weight has the shape"),
        (meta_joint(dilation=6), {}, "dilation 12, the network's is of dilation 6"),
        (meta_joint(), {"fc8_seg_conv2.bias": None}, "lacks fc8_seg_conv2.bias"),
        (meta_joint(), {"bn7.weight": None}, r"do not fit wrn38: 1 keys missing \(bn7.weight\)"),
        (meta_joint(), {"b4_6.weight": torch.zeros(1)}, r"1 unexpected \(b4_6.weight\)"),
    ],
)
def test_an_official_file_for_another_network_is_refused(
    net: JointNet, change: dict[str, Tensor | None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = meta_state("classifier", "segment") | change
    kept = {k: v for k, v in state.items() if v is not None}
    with pytest.raises(WsssError, match=message) as caught:
        load_tiny(monkeypatch, net, kept)
    assert caught.value.where == "f.pth"
    assert caught.value.hint


def test_another_backbone_is_refused_before_the_file_is_read() -> None:
    net = Classifier(Backbone("small"), 20)
    with pytest.raises(WsssError, match="another backbone") as caught:
        load_official(net, "nowhere.pth")
    assert "wrn38" in caught.value.hint


# ----------------------------------------------------------------------------------------------- MXNet


def mxnet_bytes(state: dict[str, np.ndarray]) -> bytes:
    """The oldest form of mx.nd.save, as the ImageNet file's time had it."""
    words = np.array([0x112, 0, len(state)], "<u8").tobytes()
    for value in state.values():
        head = np.array([value.ndim, *value.shape], "<u4").tobytes()
        words += head + np.array([2, 0, 0], "<i4").tobytes() + value.astype("<f4").tobytes()
    words += np.array([len(state)], "<u8").tobytes()
    for name in state:
        words += np.array([len(name)], "<u8").tobytes() + name.encode()
    return words


def test_the_mxnet_file_fills_the_backbone_and_its_thousand_classes_are_left_out(tmp_path: Path) -> None:
    torch.manual_seed(8)
    net, path = Narrow(), tmp_path / "ilsvrc.params"
    wanted = {k: torch.rand_like(v) for k, v in net.state_dict().items() if v.is_floating_point()}
    state = {mxnet_name(k): v.numpy() for k, v in wanted.items()}
    state |= {"arg:linear1000_weight": np.ones((1000, 8)), "arg:linear1000_bias": np.ones(1000)}
    path.write_bytes(mxnet_bytes(state))
    assert set(read_mxnet_params(path)) == set(state)
    load_backbone_weights(net, path, name="wrn38", folded=False)
    assert all(torch.equal(net.state_dict()[k], v) for k, v in wanted.items())


def test_an_mxnet_file_of_another_network_is_refused_by_its_own_names(tmp_path: Path) -> None:
    net, path = Narrow(), tmp_path / "other.params"
    state = {mxnet_name(k): v.numpy() for k, v in net.state_dict().items() if v.is_floating_point()}
    del state["arg:bn2a_branch2b1_gamma"]
    path.write_bytes(mxnet_bytes(state | {"arg:bn2b1_branch2a_gamma": np.ones((2, 2))}))
    with pytest.raises(BadData, match="do not fit wrn38") as caught:
        load_backbone_weights(net, path, name="wrn38", folded=False)
    assert "1 keys missing (arg:bn2a_branch2b1_gamma)" in caught.value.what
    assert "1 unexpected (arg:bn2b1_branch2a_gamma)" in caught.value.what
