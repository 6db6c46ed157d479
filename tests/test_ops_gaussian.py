"""The filter backends: each against a reference of a few lines in float64, and the promises they share."""

from __future__ import annotations

import runpy
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.errors import UnknownName, WsssError
from wsssbench.ops import gaussian
from wsssbench.ops.filters import Filter
from wsssbench.ops.gaussian import (
    CompiledLatticeFilter,
    bilateral_features,
    gaussian_filter,
    spatial_features,
)
from wsssbench.ops.lattice_torch import TorchLatticeFilter

Array = NDArray[np.float64]
LATTICE = runpy.run_path(str(Path(__file__).with_name("float64_lattice.py")))
permutohedral, case = LATTICE["permutohedral"], LATTICE["case"]
MAKERS = {
    "compiled": lambda f: gaussian_filter(f, "lattice"),
    "torch": TorchLatticeFilter,
    "exact": lambda f: gaussian_filter(f, "exact"),
}
CASES = [(1, 40, 2, 1), (2, 30, 3, 9), (3, 50, 5, 4), (1, 60, 1, 17)]  # B, N, d, C


def brute_force(features: Array, values: Array) -> Array:
    distance = ((features[:, None] - features[None]) ** 2).sum(-1)
    return np.asarray(np.exp(-distance / 2) @ values)


def picture(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    """A (B, H, W, 3) uint8 image with smooth colours and some noise."""
    random = torch.Generator().manual_seed(seed)
    coarse = 255 * torch.rand(batch, 3, 4, 4, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    noisy = smooth + 10 * torch.randn(batch, 3, height, width, generator=random)
    return noisy.clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)


@pytest.mark.parametrize("shape", CASES, ids=str)
@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_a_lattice_equals_the_float64_lattice(backend: str, shape: tuple[int, int, int, int]) -> None:
    features, values = case(shape, seed=11)
    out = MAKERS[backend](features)(values)
    want = [
        permutohedral(f, v) for f, v in zip(features.double().numpy(), values.double().numpy(), strict=True)
    ]
    np.testing.assert_allclose(out.numpy(), np.array(want), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("shape", CASES, ids=str)
def test_exact_equals_a_float64_brute_force(shape: tuple[int, int, int, int]) -> None:
    features, values = case(shape, seed=12)
    out = gaussian_filter(features, "exact")(values)
    want = [
        brute_force(f, v) for f, v in zip(features.double().numpy(), values.double().numpy(), strict=True)
    ]
    np.testing.assert_allclose(out.numpy(), np.array(want), rtol=1e-5)


def test_exact_is_the_same_in_small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    features, values = case((2, 50, 5, 3), seed=13)
    whole = gaussian_filter(features, "exact")(values)
    monkeypatch.setattr("wsssbench.ops.filters.TILE_ENTRIES", {"cpu": 350})  # seven rows of 50
    torch.testing.assert_close(gaussian_filter(features, "exact")(values), whole, rtol=1e-6, atol=1e-6)


def test_exact_stays_in_float32_under_autocast() -> None:
    features, values = case((1, 80, 5, 3), seed=14)
    f = gaussian_filter(features, "exact")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = f(values)
    assert torch.equal(inside, f(values))


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_both_lattices_agree_on_an_image(backend: str) -> None:
    features = bilateral_features(picture(2, 40, 50), 80.0, 13.0)
    values = torch.rand(2, 2000, 5, generator=torch.Generator().manual_seed(1))
    out, want = MAKERS[backend](features)(values), gaussian_filter(features)(values)
    assert (out - want).abs().max() < 1e-4 * want.abs().max()


def test_the_lattice_comes_near_the_exact_filter_up_to_one_factor() -> None:
    features = bilateral_features(picture(1, 40, 50), 20.0, 30.0)
    values = torch.rand(1, 2000, 1, generator=torch.Generator().manual_seed(2))
    ratio = gaussian_filter(features, "exact")(values) / gaussian_filter(features)(values)
    assert ratio.std() / ratio.mean() < 0.25


@pytest.mark.parametrize("backend", MAKERS)
def test_a_batch_equals_its_images_one_by_one(backend: str) -> None:
    features, values = case((4, 60, 5, 6), seed=15)
    together = MAKERS[backend](features)(values)
    alone = torch.cat([MAKERS[backend](features[b : b + 1])(values[b : b + 1]) for b in range(4)])
    # Bit for bit where sums have a fixed order; torch's matrix products choose theirs by size.
    limits = {"rtol": 0, "atol": 0} if backend == "compiled" else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(together, alone, **limits)


def test_groups_of_a_batch_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    features, values = case((5, 60, 5, 6), seed=16)
    together = gaussian_filter(features)(values)
    monkeypatch.setattr(gaussian, "GROUP_POINTS", 120)  # two images in a group, then one
    assert torch.equal(gaussian_filter(features)(values), together)


def test_the_compiled_lattice_repeats_bit_for_bit_on_any_number_of_threads() -> None:
    features = bilateral_features(picture(1, 60, 70), 80.0, 13.0)
    values = torch.rand(1, 4200, 9, generator=torch.Generator().manual_seed(3))
    threads = numba.get_num_threads()
    first = gaussian_filter(features)(values)
    assert torch.equal(gaussian_filter(features)(values), first)
    try:
        numba.set_num_threads(1)
        assert torch.equal(gaussian_filter(features)(values), first)
    finally:
        numba.set_num_threads(threads)


@pytest.mark.parametrize(("backend", "tolerance"), [("compiled", 0.02), ("torch", 0.02), ("exact", 1e-5)])
def test_the_filter_is_its_own_adjoint(backend: str, tolerance: float) -> None:
    features = bilateral_features(picture(1, 30, 30), 40.0, 20.0)
    u, v = torch.rand(2, 1, 900, 3, generator=torch.Generator().manual_seed(4)).unbind(0)
    f: Filter = MAKERS[backend](features)
    one, other = float((u * f(v)).sum()), float((f(u) * v).sum())
    assert one == pytest.approx(other, rel=tolerance)


@pytest.mark.parametrize("backend", MAKERS)
def test_channels_do_not_mix_and_strides_do_not_matter(backend: str) -> None:
    features, values = case((2, 50, 3, 11), seed=17)
    f = MAKERS[backend](features)
    out = f(values.transpose(1, 2).contiguous().transpose(1, 2))
    for c in (0, 7, 8, 10):
        torch.testing.assert_close(f(values[..., c : c + 1])[..., 0], out[..., c], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 50, 5, 21), (3, 100, 3, 4)], ids=str)
def test_factors_around_the_compiled_filter_multiply_its_values(shape: tuple[int, int, int, int]) -> None:
    features, values = case(shape, seed=19)
    before, after = torch.rand(2, *shape[:2], generator=torch.Generator().manual_seed(20)).unbind(0)
    f = CompiledLatticeFilter(features)
    out = f.between(before, values.transpose(1, 2), after).transpose(1, 2)
    torch.testing.assert_close(out, after[..., None] * f(before[..., None] * values), rtol=1e-6, atol=0)


@pytest.mark.parametrize("backend", MAKERS)
def test_the_filter_leaves_its_input_alone(backend: str) -> None:
    features, values = case((1, 50, 2, 8), seed=18)
    before = values.clone()
    MAKERS[backend](features)(values)
    assert torch.equal(values, before)


def test_more_vertices_than_the_first_hash_table_are_found() -> None:
    # Points far apart: every corner of every point is a vertex of its own, so nothing is shared.
    features = 100 * torch.arange(4000, dtype=torch.float32).reshape(1, -1, 1).expand(-1, -1, 2).contiguous()
    out = gaussian_filter(features)(torch.ones(1, 4000, 1))
    want = TorchLatticeFilter(features)(torch.ones(1, 4000, 1))
    torch.testing.assert_close(out, want, rtol=1e-3, atol=1e-4)


def test_features_are_x_y_and_colour_in_units_of_the_widths() -> None:
    image = torch.arange(2 * 3 * 3).reshape(1, 2, 3, 3).to(torch.uint8)
    features = bilateral_features(image, 2.0, 4.0)
    assert features.shape == (1, 6, 5)
    assert features[0, 5].tolist() == [2 / 2, 1 / 2, 15 / 4, 16 / 4, 17 / 4]  # row 1, column 2
    positions = spatial_features(2, 2, 3, 2.0, torch.device("cpu"))
    assert torch.equal(positions[1], features[0, :, :2])


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="latice") as error:
        gaussian_filter(torch.zeros(1, 2, 2), "latice")
    assert "did you mean lattice" in error.value.hint


def test_pydensecrf_cannot_filter_and_says_what_can() -> None:
    with pytest.raises(WsssError, match="cannot filter") as error:
        gaussian_filter(torch.zeros(1, 2, 2), "pydensecrf")
    assert "lattice" in error.value.hint


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    features = torch.zeros(1, 10, 2)
    features[0, 3, 1] = value
    with pytest.raises(WsssError, match="not finite"):
        gaussian_filter(features)


def test_widths_that_no_lattice_can_hold_are_refused() -> None:
    features = 1e6 * torch.rand(1, 10, 5, generator=torch.Generator().manual_seed(5))
    with pytest.raises(WsssError, match="too small"):
        gaussian_filter(features)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["lattice", "exact"])
def test_the_gpu_agrees_with_the_cpu(backend: str) -> None:
    features = bilateral_features(picture(2, 40, 50), 80.0, 13.0)
    values = torch.rand(2, 2000, 21, generator=torch.Generator().manual_seed(6))
    want = gaussian_filter(features, backend)(values)
    out = gaussian_filter(features.cuda(), backend)(values.cuda()).cpu()
    assert (out - want).abs().max() < 1e-4 * want.abs().max()


def test_what_is_compiled_is_said_once_and_only_of_the_filters(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsssbench.ops.kernels import COMPILING, CompileNotice

    def own(x: float) -> float:
        return x

    def foreign(x: float) -> float:
        return x

    own.__module__ = "wsssbench.ops.made_up"
    monkeypatch.setattr(CompileNotice, "said", False)
    caplog.set_level("WARNING", "wsssbench")
    numba.njit(foreign)(1)
    assert not caplog.messages
    compiled = numba.njit(own)
    for value in (1, 1.5):
        compiled(value)
    assert caplog.messages == [COMPILING]
