"""Backbones and their strides, frozen BatchNorm, weight files, and class activation maps."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsssbench.errors import BadData, UnknownName, WsssError
from wsssbench.nets.backbones import BACKBONES, Backbone
from wsssbench.nets.batching import by_size
from wsssbench.nets.heads import (
    Classifier,
    JointNet,
    Segmenter,
    multi_scale_cam,
    normalise_cam,
)
from wsssbench.nets.matching import is_folded, load_backbone_weights
from wsssbench.nets.segment_heads import HeadPlan, segment_head
from wsssbench.nets.weights import read_state_dict, weights_digest

STRIDES = [(name, stride) for name, info in BACKBONES.items() for stride in info.strides]


def pixels(height: int, width: int, batch: int = 1, seed: int = 3) -> Tensor:
    """(B, 3, H, W) float32 noise in 0..255, smooth enough to have structure."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, height // 4 + 1, width // 4 + 1, generator=draw) * 255
    return F.interpolate(coarse, (height, width), mode="bilinear")


def classifier(stride: int = 8, classes: int = 4) -> Classifier:
    torch.manual_seed(1)
    return Classifier(Backbone("small", stride), classes).eval()


# ------------------------------------------------------------------------------------------------ strides


@pytest.mark.parametrize(("name", "stride"), STRIDES)
def test_a_backbone_gives_its_channels_at_the_stride_asked_for(name: str, stride: int) -> None:
    with torch.device("meta"):  # shapes alone: nothing is computed
        net = Backbone(name, stride)
        features = net(torch.zeros(2, 3, 64, 96))
    assert features.shape == (2, net.channels, 64 // stride, 96 // stride)
    assert (net.channels, net.stride) == (BACKBONES[name].channels, stride)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_first_stride_is_the_default(name: str) -> None:
    with torch.device("meta"):
        assert Backbone(name).stride == BACKBONES[name].strides[0]


@pytest.mark.parametrize(
    ("name", "stride"),
    [("resnet18", 16), ("resnet18", 8), ("resnet50", 8), ("mobilenet_v2", 8), ("small", 4)],
)
def test_a_held_stride_keeps_features_aligned_with_the_native_network(name: str, stride: int) -> None:
    # Dilation makes every layer see what it saw before (Chen et al., DeepLab): at the places of the native
    # grid the dense features are the native ones, borders included.
    native = max(BACKBONES[name].strides)
    torch.manual_seed(2)
    coarse = Backbone(name, stride)
    with torch.device("meta"):
        fine = Backbone(name, 32 if native == 32 else 8)
    fine = fine.to_empty(device="cpu")
    fine.load_state_dict(coarse.state_dict())
    fine.mean, fine.std = coarse.mean, coarse.std
    image = pixels(2 * native, 3 * native)
    with torch.inference_mode():
        dense, sparse = coarse.eval()(image), fine.eval()(image)
    every = native // stride
    assert sparse.abs().max() > 0
    assert torch.allclose(
        dense[..., ::every, ::every], sparse, rtol=1e-3, atol=1e-4 * float(sparse.abs().max())
    )


def test_a_stride_that_is_not_offered_and_an_unknown_backbone_are_named() -> None:
    with pytest.raises(WsssError, match="output stride 5") as caught:
        Backbone("small", 5)
    assert "8, 4" in caught.value.hint
    with pytest.raises(UnknownName, match="'resnet52'") as unknown:
        Backbone("resnet52")
    assert "resnet50" in unknown.value.hint


@pytest.mark.parametrize("name", ["small", "mobilenet_v2_folded", "resnet18"])
def test_pixels_are_normalised_by_the_backbones_own_description(name: str) -> None:
    net = Backbone(name)
    net.body = nn.Sequential(nn.Identity())
    info = BACKBONES[name]
    image = torch.full((1, 3, 2, 2), 200, dtype=torch.uint8)
    expected = [(200 - mean) / std for mean, std in zip(info.mean, info.std, strict=True)]
    assert net(image)[0, :, 0, 0].tolist() == pytest.approx(expected)


# ---------------------------------------------------------------------------------------------- BatchNorm


def norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_frozen_batchnorm_stays_as_it_is_through_training() -> None:
    net = nn.Sequential(Backbone("mobilenet_v2"))
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
    features = net(pixels(32, 32, batch=2))
    assert not any(layer.training for layer in norms(net))
    assert not any(p.requires_grad for layer in norms(net) for p in layer.parameters())
    assert all(torch.equal(net.state_dict()[k], v) for k, v in before.items())
    features.sum().backward()
    assert any(p.grad is not None for p in net.parameters())  # the convolutions learn


def test_batchnorm_of_the_small_network_learns_until_it_becomes_a_joint_network() -> None:
    net = classifier()
    net.train()
    assert all(layer.training for layer in norms(net))
    joint = JointNet(net, HeadPlan("dilated", 8, 1))
    joint.train()
    assert joint.drop.training
    assert not any(layer.training for layer in norms(joint))
    assert not any(p.requires_grad for layer in norms(joint) for p in layer.parameters())


# ------------------------------------------------------------------------------------------- weight files


class Payload:
    """An object that would make a file when a pickle of it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def mobilenet() -> nn.Module:
    import torchvision.models

    net: nn.Module = torchvision.models.mobilenet_v2(weights=None)
    return net


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the weights of a MobileNetV2 whose BatchNorm has seen something."""
    torch.manual_seed(4)
    net = mobilenet()
    for layer in norms(net):
        layer.running_mean.fill_(0.25)  # type: ignore[union-attr]
    path = tmp_path_factory.mktemp("weights") / "net.pth"
    torch.save(net.state_dict(), path)
    return path


def test_weights_from_a_file_are_the_networks(saved: Path) -> None:
    net = Backbone("mobilenet_v2", 16, str(saved))
    state = torch.load(saved, weights_only=True)
    own = net.body.state_dict()
    assert all(torch.equal(own[k], state[f"features.{k}"]) for k in own)


def test_a_file_with_the_state_dict_inside_works_too(saved: Path, tmp_path: Path) -> None:
    state = torch.load(saved, weights_only=True)
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "w.pth")
    load_backbone_weights(mobilenet(), tmp_path / "w.pth", name="mobilenet_v2", folded=False)


def test_the_home_folder_may_be_written_as_a_tilde(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.pth").write_bytes(saved.read_bytes())
    assert set(read_state_dict("~/w.pth")) == set(read_state_dict(saved))
    assert weights_digest("~/w.pth") == weights_digest(saved)
    assert weights_digest("") == ""


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no such weight file") as caught:
        Backbone("mobilenet_v2", 16, str(tmp_path / "no.pth"))
    assert "no.pth" in caught.value.where


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_named(share: float, saved: Path, tmp_path: Path) -> None:
    whole, path = saved.read_bytes(), tmp_path / "cut.pth"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BadData, match="cannot read this weight file") as caught:
        read_state_dict(path)
    assert caught.value.where == str(path)


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1), "b": Payload(tmp_path / "hacked")}, tmp_path / "w.pth")
    torch.load(tmp_path / "w.pth", weights_only=False)  # the payload is a real one
    assert (tmp_path / "hacked").exists()
    (tmp_path / "hacked").unlink()
    with pytest.raises(BadData, match="cannot read this weight file") as caught:
        read_state_dict(tmp_path / "w.pth")
    assert not (tmp_path / "hacked").exists()
    assert "needs code to load is refused" in caught.value.hint


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": 3}, torch.zeros(2)])
def test_a_file_without_a_state_dict_is_named(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BadData, match="no state dict"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore:.*torch.load.*:UserWarning")
def test_a_garbled_file_is_read_or_named_and_nothing_else(tmp_path: Path) -> None:
    seed, path = 20, tmp_path / "w.pth"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    whole, draw = path.read_bytes(), random.Random(seed)
    for turn in range(60):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 3, 20])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data)
        try:
            read_state_dict(path)
        except BadData:
            continue
        except Exception as error:
            pytest.fail(f"seed {seed}, turn {turn}: {error!r}")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda state: nn.Linear(2, 2).state_dict(), "keys missing"),
        (lambda state: {**state, "features.19.weight": torch.zeros(1)}, "1 unexpected (features.19.weight)"),
        (
            lambda state: {**state, "features.0.1.bias": torch.zeros(20)},
            "1 of another shape or type (features.0.1.bias)",
        ),
        (lambda state: dict(itertools.islice(state.items(), 100)), "keys missing (features."),
    ],
)
def test_weights_of_another_network_are_refused_with_what_differs(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], word: str, saved: Path, tmp_path: Path
) -> None:
    torch.save(change(torch.load(saved, weights_only=True)), tmp_path / "w.pth")
    with pytest.raises(BadData, match="do not fit mobilenet_v2") as caught:
        load_backbone_weights(mobilenet(), tmp_path / "w.pth", name="mobilenet_v2", folded=False)
    assert word in caught.value.what


def test_old_files_without_batch_counters_load(saved: Path, tmp_path: Path) -> None:
    state = torch.load(saved, weights_only=True)
    torch.save({k: v for k, v in state.items() if "num_batches" not in k}, tmp_path / "w.pth")
    net = mobilenet()
    load_backbone_weights(net, tmp_path / "w.pth", name="mobilenet_v2", folded=False)
    assert torch.equal(net.state_dict()["classifier.1.weight"], state["classifier.1.weight"])


def test_folded_weights_fit_the_folded_backbone_alone(saved: Path, tmp_path: Path) -> None:
    fresh = mobilenet().state_dict()  # mean 0, variance 1: what folding leaves
    assert is_folded(fresh)
    torch.save(fresh, tmp_path / "folded.pth")
    with pytest.raises(BadData, match="is folded") as one:
        Backbone("mobilenet_v2", 16, str(tmp_path / "folded.pth"))
    assert "mobilenet_v2_folded" in one.value.hint
    with pytest.raises(BadData, match="is not folded") as two:
        Backbone("mobilenet_v2_folded", 16, str(saved))
    assert two.value.hint.endswith("use backbone mobilenet_v2")


def test_real_imagenet_weights_load_and_give_finite_logits(shared: Callable[[str], Path]) -> None:
    path = shared("weights/mobilenet_v2_imagenet.pth")
    net = mobilenet()
    load_backbone_weights(net, path, name="mobilenet_v2_folded", folded=True)
    image = pixels(64, 64)
    with torch.inference_mode():
        logits = net.eval()(image / 127.5 - 1)
        features = Backbone("mobilenet_v2_folded", 32, str(path)).eval()(image)
        pooled = net.classifier(features.mean((2, 3)))  # type: ignore[operator]
    assert torch.isfinite(logits).all()
    assert logits.std() > 0.1
    assert torch.allclose(pooled, logits, atol=1e-3)  # the backbone is that network, normalisation included
    with pytest.raises(BadData, match="folded"):
        Backbone("mobilenet_v2", 16, str(path))


# ----------------------------------------------------------------------------------- class activation maps


def test_the_mean_of_the_class_maps_is_the_tag_logits() -> None:
    logits, maps = classifier()(pixels(64, 48, batch=2))
    assert torch.allclose(maps.mean((2, 3)), logits, atol=1e-5)


def test_dropout_acts_on_the_logits_when_training_and_never_on_the_maps() -> None:
    net = classifier()
    image = pixels(32, 32)
    net.drop.train()
    torch.manual_seed(1)
    one, maps = net(image)
    two, again = net(image)
    assert not torch.equal(one, two)
    assert torch.equal(maps, again)


def test_one_scale_without_mirror_is_the_rectified_class_maps() -> None:
    net, image = classifier(), pixels(40, 56, batch=2)
    raw = net.class_maps(image)
    cam = multi_scale_cam(net, image, (1.0,), flip=False)
    assert torch.equal(cam, raw.relu())
    assert (raw < 0).any()


def test_maps_at_hand_are_not_computed_again() -> None:
    net, image, calls = classifier(), pixels(32, 32), []

    class Counting:
        def class_maps(self, view: Tensor) -> Tensor:
            calls.append(tuple(view.shape[-2:]))
            return net.class_maps(view)

    whole = multi_scale_cam(net, image, (0.5, 1.0), flip=True)
    first = net.class_maps(image)
    assert torch.equal(multi_scale_cam(Counting(), image, (0.5, 1.0), flip=True, first=first), whole)
    assert calls == [(32, 32), (16, 16), (16, 16)]


def test_mirroring_the_image_mirrors_the_map() -> None:
    net, image = classifier(), pixels(40, 64)
    cam = multi_scale_cam(net, image, (0.75, 1.0, 1.5), flip=True)
    mirrored = multi_scale_cam(net, image.flip(-1), (0.75, 1.0, 1.5), flip=True)
    assert torch.allclose(mirrored, cam.flip(-1), atol=1e-5)
    plain = multi_scale_cam(net, image, (1.0,), flip=False)  # the network alone is not symmetric
    assert not torch.allclose(
        multi_scale_cam(net, image.flip(-1), (1.0,), flip=False), plain.flip(-1), atol=1e-3
    )


@pytest.mark.parametrize("scales", [(0.5, 1.0, 2.0), (2.0, 0.5, 1.0)])
def test_the_grid_is_that_of_scale_1_in_whatever_order_scales_come(scales: tuple[float, ...]) -> None:
    net, image = classifier(), pixels(40, 56)
    cam = multi_scale_cam(net, image, scales, flip=False)
    assert cam.shape[-2:] == net.class_maps(image).shape[-2:]
    assert torch.allclose(cam, multi_scale_cam(net, image, sorted(scales), flip=False), atol=1e-6)


def test_normalised_maps_reach_one_and_an_empty_map_stays_empty() -> None:
    maps = torch.rand(2, 3, 5, 5) * 10
    maps[0, 1] = 0
    normal = normalise_cam(maps)
    assert normal.amax(dim=(-2, -1)).flatten().tolist() == pytest.approx([1, 0, 1, 1, 1, 1], abs=1e-5)
    assert torch.equal(normal.argmax(1), normal.clamp(0, 1).argmax(1))


def test_networks_with_a_segmentation_head_share_one_grid() -> None:
    image = pixels(48, 64, batch=2)
    joint = JointNet(classifier(), HeadPlan("dilated", 8, 2))
    tags, maps, logits = joint.joint(image)
    assert (tags.shape, maps.shape, logits.shape) == ((2, 4), (2, 4, 6, 8), (2, 5, 6, 8))
    assert Segmenter(Backbone("small", 4), 4, HeadPlan("dilated", 8, 2))(image).shape == (2, 5, 12, 16)


@pytest.mark.parametrize("dilation", [1, 3, 12])
def test_a_segmentation_head_keeps_the_size_and_starts_without_a_preference(dilation: int) -> None:
    head, image = segment_head(HeadPlan("dilated", 4, dilation), 6, 3), pixels(72, 56)
    assert head(torch.rand(1, 6, 9, 7), image).shape == (1, 3, 9, 7)
    assert head(torch.zeros(1, 6, 9, 7), image).abs().max() == 0


def test_a_detail_head_answers_at_stride_four_and_sees_the_image() -> None:
    head, features = segment_head(HeadPlan("detail", 8, 1), 6, 3).eval(), torch.rand(1, 6, 6, 8)
    image = pixels(48, 64)
    logits = head(features, image)
    assert logits.shape == (1, 3, 12, 16)
    other = image.clone()
    other[..., :16] = other[..., :16].flip(-2)  # the image's mean colour stays
    changed = (head(features, other) - logits).abs().amax(1)[0] > 1e-6
    assert changed[:, :3].all()  # under the changed columns
    assert not changed[:, -5:].any()  # and nowhere far from them


def test_images_of_one_size_go_together_and_results_come_in_order() -> None:
    images = [torch.full((3, *size), n) for n, size in enumerate([(4, 4), (4, 6), (4, 4), (6, 4), (4, 6)])]
    groups: list[list[int]] = []

    def one(stack: Tensor, members: list[int]) -> list[tuple[int, tuple[int, ...]]]:
        groups.append(members)
        return [(int(image[0, 0, 0]), tuple(image.shape[1:])) for image in stack]

    assert by_size(images, one) == [(n, tuple(image.shape[1:])) for n, image in enumerate(images)]
    assert groups == [[0, 2], [1, 4], [3]]
    assert by_size([], one) == []
