"""Resizing by one half: the values and gradients of torch's interpolation, and when it applies."""

from __future__ import annotations

import numba
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from wsssbench.ops.halving import bilinear, halves, nearest_pixels


def planes(height: int, width: int, seed: int) -> Tensor:
    print(f"seed {seed}")
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


def reference(x: Tensor, scale: float, recompute: bool, mode: str) -> Tensor:
    options = {"align_corners": False} if mode == "bilinear" else {}
    return interpolate(x, scale_factor=scale, mode=mode, recompute_scale_factor=recompute, **options)


SIZES = [(8, 8), (9, 9), (2, 3), (21, 34), (321, 33)]
RESIZINGS = [(0.5, False), (0.5, True), (0.4, False), (1.0, False)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("scale", "recompute"), RESIZINGS)
def test_values_and_gradients_are_those_of_interpolate(
    size: tuple[int, int], scale: float, recompute: bool
) -> None:
    if min(size) * scale < 1:
        pytest.skip("torch refuses to resize to nothing")
    ours, theirs = planes(*size, seed=71).requires_grad_(), planes(*size, seed=71).requires_grad_()
    out, want = bilinear(ours, scale, recompute), reference(theirs, scale, recompute, "bilinear")
    torch.testing.assert_close(out, want, rtol=2e-7, atol=0)  # torch sums four in an order that varies
    grad = torch.randn(want.shape, generator=torch.Generator().manual_seed(72))
    out.backward(grad)
    want.backward(grad)
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("scale", "recompute"), RESIZINGS)
def test_nearest_pixels_are_those_of_interpolate(
    size: tuple[int, int], scale: float, recompute: bool
) -> None:
    if min(size) * scale < 1:
        pytest.skip("torch refuses to resize to nothing")
    whole = (255 * planes(*size, seed=73)).to(torch.uint8)
    out = nearest_pixels(whole, scale, recompute)
    assert out.dtype == torch.float32
    assert torch.equal(out, reference(whole.float(), scale, recompute, "nearest"))


def test_layouts_and_expanded_gradients_do_not_matter() -> None:
    x = planes(10, 12, seed=74)
    last = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    out = bilinear(last, 0.5, False)
    assert torch.equal(out, bilinear(x, 0.5, False))
    out.sum().backward()  # its gradient is one number, expanded
    assert (last.grad == 0.25).all()


def test_elsewhere_than_on_the_cpu_a_half_is_pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    pooled: list[str] = []

    def noted(x: Tensor, size: int) -> Tensor:
        pooled.append(x.device.type)
        return avg_pool2d(x, size)

    monkeypatch.setattr("wsssbench.ops.halving.avg_pool2d", noted)
    x = planes(8, 9, seed=77)
    bilinear(x, 0.5, False)
    assert bilinear(x.to("meta"), 0.5, False).shape == (2, 3, 4, 4)
    assert pooled == ["meta"]
    torch.testing.assert_close(avg_pool2d(x, 2), reference(x, 0.5, False, "bilinear"), rtol=2e-7, atol=0)


def test_only_an_exact_half_is_halved() -> None:
    assert halves(planes(8, 9, seed=75), 0.5, False)
    assert not halves(planes(8, 9, seed=75), 0.5, True)  # 9 pixels by the ratio 4 / 9
    assert not halves(planes(8, 8, seed=75), 0.25, False)
    assert not halves(planes(1, 8, seed=75), 0.5, False)


def test_halving_repeats_bit_for_bit_on_any_number_of_threads() -> None:
    threads, x = numba.get_num_threads(), planes(33, 40, seed=76)
    first = bilinear(x, 0.5, False)
    try:
        numba.set_num_threads(1)
        assert torch.equal(bilinear(x, 0.5, False), first)
    finally:
        numba.set_num_threads(threads)
