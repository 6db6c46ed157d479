"""The leaner network gives the same features and the same gradients as the one it replaces."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from wsssbench.nets.backbones import Backbone
from wsssbench.nets.lean import DilatedDepthwise, drop_folded_norms, ease_depthwise


def depthwise(dilation: int, *, bias: bool = False) -> nn.Conv2d:
    torch.manual_seed(dilation)
    return nn.Conv2d(6, 6, 3, 1, dilation, dilation, groups=6, bias=bias)


def gradients(layer: nn.Module, image: Tensor) -> list[Tensor]:
    """The output of `layer`, and the gradients at the image and the weights of an uneven sum of it."""
    image = image.clone().requires_grad_()
    out = layer(image)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return [out.detach(), image.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]  # type: ignore[list-item]


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 5), (3, 2)])
@pytest.mark.parametrize("dilation", [2, 3, 4])
def test_a_dilated_depthwise_convolution_and_its_gradient_stay_what_they_are(
    dilation: int, size: tuple[int, int]
) -> None:
    image = torch.randn(2, 6, *size)
    for bias in (False, True):
        plain = depthwise(dilation, bias=bias)
        expected = gradients(plain, image)
        plain.zero_grad()
        eased = DilatedDepthwise(plain)
        with torch.inference_mode():
            assert torch.allclose(eased(image), expected[0], atol=1e-6)
        for ours, theirs in zip(gradients(eased, image), expected, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_only_dilated_depthwise_convolutions_are_eased() -> None:
    others = [
        nn.Conv2d(6, 6, 3, 1, 1, groups=6),  # not dilated
        nn.Conv2d(6, 6, 3, 1, 2, 2),  # not depthwise
        nn.Conv2d(6, 6, 3, 2, 2, 2, groups=6),  # a stride
        nn.Conv2d(6, 6, 3, 1, 1, 2, groups=6),  # a frame that shrinks
    ]
    body = nn.Sequential(*others, nn.Sequential(depthwise(2)))
    ease_depthwise(body)
    assert [type(layer) for layer in body[:4]] == [nn.Conv2d] * 4
    assert isinstance(body[4][0], DilatedDepthwise)


def test_a_norm_behind_a_convolution_becomes_its_fixed_bias() -> None:
    conv, norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
    nn.init.normal_(norm.bias)
    plain = nn.Sequential(conv, norm, nn.ReLU6()).eval()
    image = torch.randn(2, 3, 6, 6)
    with torch.inference_mode():
        expected = plain(image)
    drop_folded_norms(plain)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in plain.modules())
    assert not plain[0].bias.requires_grad
    assert plain[0].weight.requires_grad
    assert torch.allclose(plain(image), expected, atol=1e-5)


def test_the_folded_backbone_has_no_norm_left_and_the_same_features(tmp_path: Path) -> None:
    import torchvision.models

    torch.manual_seed(0)
    whole = torchvision.models.mobilenet_v2(weights=None).eval()
    for name, value in whole.named_parameters():
        if ".1.bias" in name or name.endswith(".2.bias"):
            nn.init.normal_(value)  # folding leaves a bias in every BatchNorm
    torch.save(whole.state_dict(), tmp_path / "folded.pth")
    lean = Backbone("mobilenet_v2_folded", 32, str(tmp_path / "folded.pth")).eval()
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in lean.modules())
    image = torch.randint(0, 255, (1, 3, 65, 65)).float()
    with torch.inference_mode():
        expected = whole.features(image / 127.5 - 1)
        assert torch.allclose(lean(image), expected, atol=1e-3 * expected.abs().max().item())
    eased = [m for m in Backbone("mobilenet_v2_folded", 16).modules() if isinstance(m, DilatedDepthwise)]
    assert len(eased) == 3  # those behind the stride that was dropped


def test_a_backbone_with_norms_of_its_own_keeps_them() -> None:
    count = sum(isinstance(layer, nn.BatchNorm2d) for layer in Backbone("mobilenet_v2", 16).modules())
    assert count == 52
