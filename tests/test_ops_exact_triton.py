"""The fused kernel of the exact filter against a float64 brute force, on a GPU or in Triton's interpreter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.ops import energy
from wsssbench.ops.exact import ExactFilter
from wsssbench.ops.gaussian import gaussian_filter

pytest.importorskip("triton", reason="Triton is not installed: its kernels cannot be tried")
from wsssbench.ops.exact_triton import COLUMNS, FusedExactFilter, channel_block

CASES = [  # B, N, d, C
    (2, 1, 2, 1),
    (1, 50, 5, 3),  # less than one block of points
    (3, 64, 1, 21),  # exactly one
    (1, 65, 8, 1),
    (2, 130, 5, 21),
    (1, 200, 3, 40),  # a wider block of channels
    (1, 70, 4, 150),  # several blocks of channels
    *[(1, 30, d, 2) for d in (2, 6, 7)],
]


def brute_force(features: Tensor, values: Tensor) -> NDArray[np.float64]:
    """The sum itself in float64, (B, N, d) and (B, N, C) to (B, N, C)."""
    f, v = features.double().numpy(), values.double().numpy()
    distance = ((f[:, :, None] - f[:, None]) ** 2).sum(-1)
    return np.asarray(np.exp(-distance / 2) @ v)


def case(batch: int, points: int, d: int, channels: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    print(f"seed {seed}")
    draw = torch.Generator().manual_seed(seed)
    features = 1.5 * torch.randn(batch, points, d, generator=draw)
    return features, torch.rand(batch, points, channels, generator=draw)


def filtered(features: Tensor, values: Tensor, device: str) -> Tensor:
    return FusedExactFilter(features.to(device))(values.to(device)).cpu()


@pytest.mark.parametrize("shape", CASES, ids=str)
def test_the_fused_filter_equals_a_float64_brute_force(
    shape: tuple[int, int, int, int], triton_device: str
) -> None:
    features, values = case(*shape)
    out = filtered(features, values, triton_device)
    assert (out.shape, out.dtype) == (values.shape, torch.float32)
    np.testing.assert_allclose(out.numpy(), brute_force(features, values), rtol=3e-6)


def test_values_of_both_signs_lose_no_more_than_float32_does(triton_device: str) -> None:
    features, values = case(1, 150, 5, 4, seed=1)
    values -= 0.5
    out, want = filtered(features, values, triton_device), brute_force(features, values)
    assert np.abs(out.numpy() - want).max() < 2e-6 * brute_force(features, values.abs()).max()


def test_points_far_apart_do_not_touch_each_other(triton_device: str) -> None:
    features = 100.0 * torch.arange(90.0).reshape(1, 90, 1).repeat(1, 1, 3)
    values = torch.rand(1, 90, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(filtered(features, values, triton_device), values, rtol=1e-6, atol=0)


def test_identical_points_all_get_the_sum(triton_device: str) -> None:
    _, values = case(2, 100, 2, 5, seed=3)
    out = filtered(torch.full((2, 100, 2), 7.5), values, triton_device)
    want = values.double().sum(1, keepdim=True).expand(-1, 100, -1)
    np.testing.assert_allclose(out.numpy(), want.numpy(), rtol=2e-6)


def test_large_coordinates_keep_small_distances(triton_device: str) -> None:
    features, values = case(1, 80, 2, 3, seed=4)
    moved = features + 4096.0  # differences survive; |a|^2 + |b|^2 - 2ab would have nothing left of them
    out = filtered(moved, values, triton_device)
    np.testing.assert_allclose(out.numpy(), brute_force(moved, values), rtol=3e-6)


def test_images_do_not_mix(triton_device: str) -> None:
    features, values = case(3, 70, 5, 2, seed=5)
    together = filtered(features, values, triton_device)
    for b in range(3):
        alone = filtered(features[b : b + 1], values[b : b + 1], triton_device)
        assert torch.equal(together[b : b + 1], alone)


def test_it_agrees_with_the_tiled_filter_on_the_cpu(triton_device: str) -> None:
    features, values = case(2, 130, 5, 21, seed=6)
    torch.testing.assert_close(
        filtered(features, values, triton_device), ExactFilter(features)(values), rtol=5e-6, atol=0
    )


def test_two_calls_give_the_same_bits(triton_device: str) -> None:
    features, values = case(2, 130, 5, 21, seed=7)
    f, own = FusedExactFilter(features.to(triton_device)), values.to(triton_device)
    assert torch.equal(f(own), f(own))


def test_factors_on_both_sides_are_those_of_the_diagonal_matrices(triton_device: str) -> None:
    features, values = case(2, 75, 5, 4, seed=8)
    before, after = torch.rand(2, 2, 75, generator=torch.Generator().manual_seed(9))
    planes = values.transpose(1, 2)
    f = FusedExactFilter(features.to(triton_device))
    out = f.between(*(x.to(triton_device) for x in (before, planes, after))).cpu()
    want = after[:, :, None].double().numpy() * brute_force(features, values * before[:, :, None])
    np.testing.assert_allclose(out.transpose(1, 2).numpy(), want, rtol=4e-6)


def test_the_dense_energy_and_its_gradient_are_those_of_the_tiles(
    triton_device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(11)
    image = torch.randint(0, 256, (2, 3, 16, 20), generator=draw, dtype=torch.uint8).float()
    labels = torch.where(torch.rand(2, 16, 20, generator=draw) < 0.7, 255, 1).to(torch.uint8)
    logits = torch.randn(2, 4, 16, 20, generator=draw)

    def energy_and_gradient(device: str) -> tuple[Tensor, Tensor]:
        probs = logits.softmax(1).to(device).requires_grad_()
        planes = (image.to(device), torch.ones(2, 16, 20, device=device), labels.to(device))
        value = energy.dense_energy(probs, *planes, sigma_rgb=40.0, backend="exact", gradient="true")
        value.backward()
        assert probs.grad is not None
        return value.detach().cpu(), probs.grad.cpu()

    tiled = energy_and_gradient("cpu")
    monkeypatch.setattr(energy, "gaussian_filter", lambda features, backend: FusedExactFilter(features))
    torch.testing.assert_close(energy_and_gradient(triton_device), tiled, rtol=1e-5, atol=1e-12)


def test_nothing_is_kept_for_a_gradient(triton_device: str) -> None:
    features, values = case(1, 20, 2, 3)
    assert not filtered(features.requires_grad_(), values.requires_grad_(), triton_device).requires_grad


@pytest.mark.parametrize(("channels", "block"), [(1, 16), (16, 16), (21, 32), (33, 64), (64, 64), (81, 64)])
def test_channels_are_taken_in_blocks_of_a_power_of_two(channels: int, block: int) -> None:
    assert channel_block(channels) == block


def test_the_cpu_keeps_the_tiles() -> None:
    assert isinstance(gaussian_filter(torch.zeros(1, 3, 2), "exact"), ExactFilter)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_takes_the_fused_filter_and_agrees_with_float64_at_the_papers_size() -> None:
    side, draw = 160, torch.Generator().manual_seed(10)
    y, x = torch.meshgrid(torch.arange(side) / 50.0, torch.arange(side) / 50.0, indexing="ij")
    colours = torch.rand(side, side, 3, generator=draw) * 2
    features = torch.cat([torch.stack([x, y], -1), colours], -1).reshape(1, side * side, 5)
    values = torch.rand(1, side * side, 21, generator=draw)
    f = gaussian_filter(features.cuda(), "exact")
    assert isinstance(f, FusedExactFilter)
    out = f(values.cuda()).cpu()[0, :: side + 1].double()
    distance = torch.cdist(features[0, :: side + 1].double(), features[0].double()).square()
    want = torch.exp(-distance / 2) @ values[0].double()
    assert (out / want - 1).abs().max() < 1e-5


# ------------------------------------------------------------------- the rounding of tensor cores, made up

Floats = NDArray[np.float32]
MERGED = 8  # products of TF32 that tensor cores add at once


def first_bits(x: Floats) -> Floats:
    """What TF32 holds of float32 numbers: their first 11 significant bits."""
    return (x.view(np.int32) & np.int32(-(2**13))).view(np.float32)


def toward_zero(x: NDArray[np.float64]) -> Floats:
    """float64 to float32 as tensor cores add: what does not fit is dropped."""
    near = x.astype(np.float32)
    return np.where(np.abs(near) > np.abs(x), np.nextafter(near, np.float32(0)), near)


def on_tensor_cores(pairs: list[tuple[Floats, Floats]], columns: int) -> Floats:
    """The sums of p v over (N, R) weights p and (N, C) values v, `columns` of them at a time on tensor cores,
    from zero, and those sums in float32."""
    points, total = len(pairs[0][0]), np.float32(0)
    for start in range(0, points, columns):
        block: Floats = np.zeros((pairs[0][0].shape[1], pairs[0][1].shape[1]), np.float32)
        for p, v in pairs:
            for first in range(start, min(start + columns, points), MERGED):
                few = slice(first, first + MERGED)
                products = first_bits(p[few]).astype(np.float64).T @ first_bits(v[few]).astype(np.float64)
                block = toward_zero(block + products)
        total = total + block
    return np.asarray(total)


def test_cut_numbers_and_short_sums_make_tensor_cores_exact_enough() -> None:
    """25,600 points, as of 160 x 160: the kernel's way, and what its two precautions spare."""
    print("seed 8")
    draw = np.random.default_rng(8)
    p = np.exp2(-4 * draw.random((25_600, 8))).astype(np.float32)
    v = draw.random((25_600, 4)).astype(np.float32)
    p1, v1 = first_bits(p), first_bits(v)
    cut = [(p - p1, v1), (p1, v - v1), (p1, v1)]
    exact = p.astype(np.float64).T @ v.astype(np.float64)

    def error(found: Floats) -> float:
        return float((np.abs(found - exact) / exact).max())

    kernel = error(on_tensor_cores(cut, COLUMNS[32]))
    long, plain = error(on_tensor_cores(cut, len(p))), error(on_tensor_cores([(p, v)], COLUMNS[32]))
    print(f"kernel {kernel:.1e}, one sum on tensor cores {long:.1e}, TF32 as it is {plain:.1e}")
    assert kernel < 3e-6
    assert long > 10 * kernel
    assert plain > 100 * kernel
