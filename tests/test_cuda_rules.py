"""What a GPU is told to do, seen without one: the arithmetic of float32, how convolutions are chosen, how
tensors lie, and which passes are made together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from wsssbench.machine import env, hardware
from wsssbench.machine.hardware import resolve_hardware, rounds_to_tf32, sizes_repeat
from wsssbench.nets import heads
from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import Classifier, JointNet, in_one_pass, multi_scale_cam
from wsssbench.nets.segment_heads import HeadPlan
from wsssbench.planning.settings import Settings

HEAD = HeadPlan("detail", 16, 3)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """torch's switches after the test."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark
    yield
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = before


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that torch says to have."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")


# ----------------------------------------------------------------------------------------------- switches


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_on_a_gpu_float32_is_not_rounded_to_tf32_and_the_record_says_so(gpu: None, precision: Any) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    assert env.hardware("cuda")["tf32"] is True
    found = resolve_hardware(Settings(device="auto", precision=precision))
    assert (found.device, found.precision) == ("cuda", "bf16" if precision == "auto" else "fp32")
    assert not rounds_to_tf32()
    assert torch.get_float32_matmul_precision() == "highest"
    assert env.hardware("cuda") | {"cpu": "", "cores": 0} == {
        "cpu": "", "cores": 0, "device": "cuda", "gpu": "a GPU", "tf32": False,
    }  # fmt: skip


def test_on_a_cpu_the_switches_of_a_gpu_stay() -> None:
    torch.backends.cudnn.allow_tf32 = True
    resolve_hardware(Settings(device="cpu"))
    assert torch.backends.cudnn.allow_tf32
    assert "tf32" not in env.hardware("cpu")


@pytest.mark.parametrize(
    ("device", "deterministic", "tried"),
    [("cuda", False, True), ("cuda:1", False, True), ("cuda", True, False), ("cpu", False, False)],
)
def test_convolutions_are_tried_out_where_sizes_repeat_on_a_gpu(
    device: str, deterministic: bool, tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "is_deterministic", lambda: deterministic)
    with suppress(KeyError), sizes_repeat(device):
        assert torch.backends.cudnn.benchmark is tried
        raise KeyError
    assert not torch.backends.cudnn.benchmark


# ------------------------------------------------------------------------------------------------- layout


def last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last)


def joint_net(backbone: str, head: HeadPlan) -> JointNet:
    torch.manual_seed(0)
    return JointNet(Classifier(Backbone(backbone), 5, 0.0), head).train()


@pytest.mark.parametrize("backbone", ["compact", "small", "mobilenet_v2_folded", "resnet18", "wrn38"])
def test_activations_and_gradients_lie_channels_last_in_every_network(backbone: str) -> None:
    """Convolutions of cuDNN and of oneDNN go by the same rule: last, where images or weights are."""
    net, wrong = joint_net(backbone, HeadPlan("dilated", 16, 3)), []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            images = inputs[0].shape[1] <= 6  # pixels, which the first convolution turns
            if not last(output) or not (images or last(inputs[0])):
                wrong.append(name)

        return hook

    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_hook(look(name))
    tags, maps, logits = net.joint(torch.randint(0, 256, (1, 3, 33, 33), dtype=torch.uint8))
    assert not wrong
    (tags.square().sum() + maps.square().sum() + logits.square().sum()).backward()
    strides = {p.grad.stride() == p.stride() for p in net.parameters() if p.grad is not None}
    assert strides == {True}  # a fused optimizer walks through both in one order


def test_a_checkpoint_is_the_same_in_either_layout(tmp_path: Path) -> None:
    net, other = joint_net("compact", HEAD), joint_net("compact", HEAD)
    plain = {name: value.contiguous() for name, value in net.state_dict().items()}
    torch.save(plain, tmp_path / "net.pt")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    assert all(torch.equal(value, plain[name]) for name, value in other.state_dict().items())
    assert all(last(p) for p in other.parameters() if p.ndim == 4)


# ----------------------------------------------------------------------------------------- on a made-up GPU


def moved(net: nn.Module) -> nn.Module:
    """`net` with parameters and buffers on the GPU of a FakeTensorMode: shapes, types and devices alone."""
    for module in net.modules():
        for store, make in ((module._parameters, nn.Parameter), (module._buffers, None)):
            for name, value in store.items():
                if value is None:
                    continue
                fake = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda")
                store[name] = fake if make is None else make(fake, requires_grad=value.requires_grad)
    return net


@pytest.mark.parametrize("backbone", ["compact", "mobilenet_v2"])
def test_a_network_computes_in_bf16_and_its_cam_is_float32(backbone: str) -> None:
    net, types = joint_net(backbone, HEAD).eval(), set[torch.dtype]()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, i, out: types.add(out.dtype))
    images = torch.randint(0, 256, (2, 3, 33, 33), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        raw = net.joint(images)[1]
        cam = multi_scale_cam(net, images, (1.0, 0.5), flip=True, first=raw)
    assert types == {torch.bfloat16}
    assert cam.dtype == torch.float32


# ------------------------------------------------------------------------------------------ passes together


class Counting(Classifier):
    """Notes the batch of every pass."""

    passes: list[int]

    def class_maps(self, pixels: Tensor) -> Tensor:
        self.passes.append(len(pixels))
        return super().class_maps(pixels)


def counting() -> Counting:
    torch.manual_seed(0)
    net = Counting(Backbone("compact"), 3).eval()
    net.passes = []
    return net


@pytest.mark.usefixtures("fake_cuda")
@pytest.mark.parametrize(("side", "passes"), [(32, [4, 4]), (800, [2, 2, 2, 2])])
def test_a_gpu_takes_mirror_images_along_with_a_small_batch(side: int, passes: list[int]) -> None:
    net = counting()
    with FakeTensorMode(), torch.no_grad():
        images = torch.empty(2, 3, side, side, dtype=torch.uint8, device="cuda")
        multi_scale_cam(moved(net), images, (1.0, 0.99), flip=True)
        assert net.passes == passes
        net.passes.clear()
        known = torch.empty(2, 3, side // 8, side // 8, device="cuda")
        multi_scale_cam(net, images, (1.0,), flip=True, first=known)
        assert net.passes == [2]  # the images themselves are at hand


@pytest.mark.usefixtures("fake_cuda")
def test_a_cpu_and_a_network_bound_to_its_images_take_mirror_images_apart() -> None:
    pixels = torch.zeros(1, 3, 8, 8)
    assert not in_one_pass(counting(), pixels)
    with FakeTensorMode():
        assert not in_one_pass(object(), torch.empty(1, 3, 8, 8, device="cuda"))


def test_together_and_apart_the_maps_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net, draw = counting(), torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (3, 3, 40, 48), generator=draw, dtype=torch.uint8)
    with torch.no_grad():
        apart = multi_scale_cam(net, pixels, (0.5, 1.0, 1.5), flip=True)
        assert net.passes == [3] * 6
        net.passes.clear()
        monkeypatch.setattr(heads, "in_one_pass", lambda *given: True)
        together = multi_scale_cam(net, pixels, (0.5, 1.0, 1.5), flip=True)
    assert net.passes == [6] * 3
    torch.testing.assert_close(together, apart)
