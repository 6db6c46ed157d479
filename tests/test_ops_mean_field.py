"""Mean-field inference: the published marginals, a float64 reference, and what batching must not change."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.errors import UnknownName, WsssError
from wsssbench.identity import CrfSet
from wsssbench.ops import lattice_cpu, mean_field_cpu
from wsssbench.ops.lattice_torch import TorchLatticeFilter
from wsssbench.ops.mean_field import mean_field

MINING = CrfSet(3, 3, 80, 13, 10, 10)
INFERENCE = CrfSet(3, 3, 83, 5, 4, 10)
SMALL = CrfSet(2, 3, 8, 20, 4, 5)
needs_pydensecrf = pytest.mark.skipif(
    importlib.util.find_spec("pydensecrf") is None, reason="pydensecrf is not installed"
)


def scene(batch: int, labels: int, height: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """A random unary (B, L, H, W) and an image (B, H, W, 3) of smooth colours."""
    print(f"seed {seed}")
    random = torch.Generator().manual_seed(seed)
    coarse = 255 * torch.rand(batch, 3, 3, 3, generator=random)
    image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    probs = torch.rand(batch, labels, height, width, generator=random).softmax(1)
    return -probs.log(), image.permute(0, 2, 3, 1).to(torch.uint8)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max(0))
    return np.asarray(e / e.sum(0))


def brute_force(unary: Tensor, image: Tensor, params: CrfSet) -> NDArray[np.float64]:
    """Mean field of one image with full N x N kernels in float64: (L, H, W)."""
    labels, height, width = unary.shape
    y, x = np.mgrid[:height, :width].reshape(2, -1).astype(float)
    colours = image.double().numpy().reshape(-1, 3) / params.bilateral_rgb
    xy = np.stack([x, y], 1)
    kernels = []
    for features, compat in (
        (xy / params.gauss_xy, params.gauss_compat),
        (np.concatenate([xy / params.bilateral_xy, colours], 1), params.bilateral_compat),
    ):
        kernel = np.exp(-((features[:, None] - features[None]) ** 2).sum(-1) / 2)
        norm = 1 / np.sqrt(kernel.sum(1))
        kernels.append(compat * norm[:, None] * kernel * norm)
    energy = unary.double().numpy().reshape(labels, -1)
    q = softmax(-energy)
    for _ in range(params.iterations):
        q = softmax(-energy + sum(q @ kernel for kernel in kernels))
    return q.reshape(labels, height, width)


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize(("name", "params"), [("mining", MINING), ("inference", INFERENCE)])
def test_published_marginals_are_reproduced(
    shared: Callable[[str], Path], name: str, params: CrfSet, case: int
) -> None:
    golden = np.load(shared(f"golden/rrm/crf_{case}.npz"))
    unary = -torch.from_numpy(golden["prob"]).clamp(1e-5, 1).log()
    q = mean_field(unary[None], torch.from_numpy(golden["image"])[None], params)[0].numpy()
    error = np.abs(q - golden[name]).max(0)
    assert (error < 0.02).mean() >= 0.999
    assert error.max() < 1e-3  # what this lattice reaches


def test_exact_equals_a_float64_brute_force() -> None:
    unary, image = scene(1, 3, 12, 15, seed=21)
    q = mean_field(unary, image, SMALL, backend="exact")[0]
    np.testing.assert_allclose(q.numpy(), brute_force(unary[0], image[0], SMALL), atol=1e-4)


@pytest.mark.parametrize("params", [MINING, INFERENCE], ids=["mining", "inference"])
@pytest.mark.parametrize("size", [(30, 40), (40, 50)])
def test_labels_of_exact_and_lattice_differ_on_a_few_percent_of_a_small_image(
    size: tuple[int, int], params: CrfSet
) -> None:
    """As docs/protocol.md says: they are two operators, and a row of one is none of the other."""
    _, image = scene(1, 4, *size, seed=7)
    coarse = 2 * torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(7))
    unary = -torch.nn.functional.interpolate(coarse, size=size, mode="bilinear").log_softmax(1)
    best = [mean_field(unary, image, params, backend=b).argmax(1) for b in ("lattice", "exact")]
    assert 0.001 < (best[0] != best[1]).float().mean() < 0.1


def test_the_fused_pass_equals_the_same_steps_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    unary, image = scene(2, 4, 20, 25, seed=22)
    fused = mean_field(unary, image, MINING)
    monkeypatch.setattr("wsssbench.ops.mean_field.gaussian_filter", lambda f, backend: TorchLatticeFilter(f))
    monkeypatch.setattr("wsssbench.ops.mean_field._compiled_lattice", lambda *_: pytest.fail("still fused"))
    stepwise = mean_field(unary, image, MINING, backend="exact")  # "exact" is routed to the torch lattice
    torch.testing.assert_close(fused, stepwise, rtol=0, atol=2e-4)


@pytest.mark.parametrize("labels", [1, 2, 8, 21])
def test_marginals_are_probabilities(labels: int) -> None:
    unary, image = scene(2, labels, 16, 18, seed=23)
    q = mean_field(unary, image, MINING)
    assert q.shape == unary.shape
    assert q.dtype == torch.float32
    assert q.is_contiguous()
    torch.testing.assert_close(q.sum(1), torch.ones(2, 16, 18), rtol=0, atol=1e-5)


def test_alternatives_share_a_lattice_and_nothing_else() -> None:
    unary, image = scene(2, 3, 20, 25, seed=24)
    other = torch.roll(unary, 5, dims=2) * 2
    together = mean_field(torch.stack([unary, other], dim=1), image, MINING)
    assert torch.equal(together[:, 0], mean_field(unary, image, MINING))
    assert torch.equal(together[:, 1], mean_field(other, image, MINING))


def test_a_batch_equals_its_images_one_by_one() -> None:
    unary, image = scene(3, 5, 20, 25, seed=25)
    together = mean_field(unary, image, INFERENCE)
    alone = torch.cat([mean_field(unary[b : b + 1], image[b : b + 1], INFERENCE) for b in range(3)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("scale", [0.2, 1.0])  # a stencil and a lattice for the spatial kernel
def test_results_repeat_bit_for_bit_on_any_number_of_threads(scale: float) -> None:
    unary, image = scene(1, 3, 150, 160, seed=26)  # more than one band
    threads, first = numba.get_num_threads(), mean_field(unary, image, MINING, scale=scale)
    assert torch.equal(mean_field(unary, image, MINING, scale=scale), first)
    try:
        numba.set_num_threads(1)
        assert torch.equal(mean_field(unary, image, MINING, scale=scale), first)
    finally:
        numba.set_num_threads(threads)


@pytest.mark.parametrize("sigma", [0.25, 0.576, 0.74])
@pytest.mark.parametrize(("height", "width"), [(20, 23), (1, 9), (2, 1)])
def test_a_stencil_is_the_spatial_lattice(sigma: float, height: int, width: int) -> None:
    seed = 36
    print(f"seed {seed}")
    values = np.random.default_rng(seed).random((1, 2, height * width), dtype=np.float32)
    y, x = np.mgrid[:height, :width].reshape(2, 1, -1).astype(np.float32)
    lattice = lattice_cpu.build(np.stack([x, y], axis=-1) / np.float32(sigma))
    want = lattice_cpu.filter_planes(lattice_cpu.normalised(lattice, 1, 3.0), values, np.empty_like(values))
    none, stencil = mean_field_cpu.spatial_filter(height, width, sigma, 3.0)
    assert none is None
    assert stencil.weights.shape[1] <= mean_field_cpu.MOST_TERMS
    halo = abs(stencil.offsets).max()
    padded = np.pad(values, ((0, 0), (0, 0), (halo, halo)))
    near = [padded[..., halo + k : halo + k + height * width] for k in stencil.offsets]
    out = sum(n * w for n, w in zip(near, stencil.weights.T, strict=True))
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-6)


def test_marginals_are_the_same_with_a_stencil_and_with_a_lattice(monkeypatch: pytest.MonkeyPatch) -> None:
    unary, image = scene(3, 5, 20, 25, seed=37)
    params = replace(MINING, gauss_xy=0.6, iterations=3)  # more would magnify what rounding leaves
    with_stencil = mean_field(unary, image, params)
    lattice = mean_field_cpu.spatial_filter.__wrapped__
    monkeypatch.setattr(mean_field_cpu, "MOST_TERMS", 0)
    monkeypatch.setattr(mean_field_cpu, "spatial_filter", lattice)
    assert lattice(20, 25, 0.6, 3.0)[0] is not None
    torch.testing.assert_close(mean_field(unary, image, params), with_stencil, rtol=0, atol=1e-5)


def test_wide_spatial_kernels_stay_on_the_lattice() -> None:
    lattice, stencil = mean_field_cpu.spatial_filter(20, 25, 3.0, 3.0)
    assert lattice is not None
    assert len(stencil.offsets) == 0


def test_scale_multiplies_both_spatial_widths() -> None:
    unary, image = scene(1, 3, 20, 25, seed=27)
    scaled = replace(MINING, gauss_xy=MINING.gauss_xy * 0.25, bilateral_xy=MINING.bilateral_xy * 0.25)
    assert torch.equal(mean_field(unary, image, MINING, scale=0.25), mean_field(unary, image, scaled))
    assert not torch.allclose(mean_field(unary, image, MINING), mean_field(unary, image, scaled), atol=1e-3)


def test_without_iterations_the_marginals_are_the_softmax() -> None:
    unary, image = scene(1, 3, 10, 12, seed=28)
    q = mean_field(unary, image, replace(MINING, iterations=0))
    torch.testing.assert_close(q, (-unary).softmax(1), rtol=1e-5, atol=1e-6)


def test_a_label_of_huge_energy_stays_impossible_and_changes_nothing() -> None:
    unary, image = scene(1, 3, 20, 25, seed=29)
    extended = torch.cat([unary, torch.full_like(unary[:, :1], 1e4)], dim=1)
    q = mean_field(extended, image, MINING)
    assert q[:, 3].max() < 1e-30
    torch.testing.assert_close(q[:, :3], mean_field(unary, image, MINING), rtol=0, atol=1e-6)


def test_energies_that_are_all_large_give_no_nan() -> None:
    unary, image = scene(1, 3, 10, 12, seed=30)
    shifted = mean_field(unary + 500, image, MINING)
    torch.testing.assert_close(shifted, mean_field(unary, image, MINING), rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1)])
def test_degenerate_images_work(size: tuple[int, int]) -> None:
    q = mean_field(torch.ones(1, 2, *size), torch.zeros(1, *size, 3, dtype=torch.uint8), MINING)
    torch.testing.assert_close(q, torch.full((1, 2, *size), 0.5))


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UnknownName, match="fast"):
        mean_field(*scene(1, 2, 4, 4, seed=31), MINING, backend="fast")


def test_shapes_that_do_not_fit_are_refused() -> None:
    unary, image = scene(1, 2, 6, 8, seed=32)
    with pytest.raises(WsssError, match="do not fit") as error:
        mean_field(unary, image.permute(0, 3, 1, 2), MINING)
    assert "(B, H, W, 3)" in error.value.hint


def test_a_missing_pydensecrf_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setattr("wsssbench.ops.densecrf_package.PYTHON", (3, 12))  # the newest that it builds on
    with pytest.raises(WsssError, match="pydensecrf") as error:
        mean_field(*scene(1, 2, 4, 4, seed=33), MINING, backend="pydensecrf")
    assert "wsssbench[pydensecrf]" in error.value.hint


@needs_pydensecrf
def test_the_lattice_agrees_with_pydensecrf() -> None:
    unary, image = scene(2, 3, 30, 35, seed=34)
    stacked = torch.stack([unary, unary.flip(1)], dim=1)
    q = mean_field(stacked, image, INFERENCE)
    torch.testing.assert_close(
        q, mean_field(stacked, image, INFERENCE, backend="pydensecrf"), rtol=0, atol=2e-3
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["lattice", "exact"])
def test_the_gpu_agrees_with_the_cpu(backend: str) -> None:
    unary, image = scene(2, 5, 40, 45, seed=35)
    q = mean_field(unary.cuda(), image.cuda(), INFERENCE, backend=backend).cpu()
    torch.testing.assert_close(q, mean_field(unary, image, INFERENCE, backend=backend), rtol=0, atol=2e-3)
