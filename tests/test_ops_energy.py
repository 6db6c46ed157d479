"""The gated dense energy: published values and gradients, finite differences, gate and mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.errors import UnknownName
from wsssbench.ops import energy
from wsssbench.ops.energy import dense_energy, energy_weight
from wsssbench.ops.gaussian import gaussian_filter
from wsssbench.ops.lattice_torch import TorchLatticeFilter

Case = tuple[Tensor, Tensor, Tensor, Tensor]


def scene(seed: int, size: int = 9, channels: int = 3) -> Case:
    """Two images: probabilities, image 0..255, mask with a padded corner, labels of which some are known."""
    print(f"seed {seed}")
    random = torch.Generator().manual_seed(seed)
    probs = (3 * torch.randn(2, channels, size, size, generator=random)).softmax(1)
    image = 255 * torch.rand(2, 3, size, size, generator=random)
    roi = torch.ones(2, size, size)
    roi[0, :2, :3] = 0
    labels = torch.full((2, size, size), 255, dtype=torch.uint8)
    labels[:, ::2, 1::3] = 1
    return probs, image, roi, labels


def gate_of(probs: NDArray[np.float64], case: Case) -> NDArray[np.float64]:
    _, _, roi, labels = (x.double().numpy() for x in case)
    return np.asarray(np.where(labels == 255, 1.0, np.maximum(roi - probs.max(1), 0)))


def brute_energy(
    probs: NDArray[np.float64], gate: NDArray[np.float64], case: Case, sigma_xy: float, sigma_rgb: float
) -> float:
    """The unweighted energy at scale 1 with full N x N kernels in float64, for a given gate."""
    _, image, roi, _ = (x.double().numpy() for x in case)
    total = 0.0
    for b in range(len(probs)):
        size = probs.shape[-1]
        y, x = np.mgrid[:size, :size].reshape(2, -1) / sigma_xy
        features = np.concatenate([np.stack([x, y]), image[b].reshape(3, -1) / sigma_rgb]).T
        kernel = np.exp(-((features[:, None] - features[None]) ** 2).sum(-1) / 2)
        s = (probs[b] * roi[b]).reshape(probs.shape[1], -1)
        total -= float((s * (gate[b].reshape(-1) * (s @ kernel))).sum()) / len(probs)
    return total


@pytest.mark.parametrize("case", range(4))
def test_published_energies_and_gradients_are_reproduced(shared: Callable[[str], Path], case: int) -> None:
    golden = np.load(shared(f"golden/rrm/energy_{case}.npz"))
    probs = torch.from_numpy(golden["prob"]).requires_grad_()
    options = {k: float(golden[k]) for k in ("sigma_rgb", "sigma_xy", "scale", "weight")}
    image, roi, labels = (torch.from_numpy(golden[k]) for k in ("image", "roi", "label"))
    loss = dense_energy(probs, image.float(), roi.float(), labels, **options)
    loss.backward()
    grad, want = probs.grad.flatten().double(), torch.from_numpy(golden["grad"]).flatten().double()
    assert loss.item() == pytest.approx(float(golden["loss"]), rel=0.01)
    assert torch.cosine_similarity(grad, want, dim=0) >= 0.999
    assert loss.item() == pytest.approx(float(golden["loss"]), rel=1e-5)  # what this lattice reaches
    assert (grad - want).norm() < 1e-5 * want.norm()


def test_exact_energy_equals_a_float64_brute_force() -> None:
    case = scene(41)
    loss = dense_energy(*case, sigma_xy=6.0, sigma_rgb=60.0, scale=1.0, weight=1.0, backend="exact")
    probs = case[0].double().numpy()
    assert loss.item() == pytest.approx(brute_energy(probs, gate_of(probs, case), case, 6.0, 60.0), rel=1e-5)


def test_the_true_gradient_equals_finite_differences_with_the_gate_held() -> None:
    case = scene(42, size=6)
    probs = case[0].clone().requires_grad_()
    dense_energy(
        probs,
        *case[1:],
        sigma_xy=6.0,
        sigma_rgb=60.0,
        scale=1.0,
        weight=1.0,
        backend="exact",
        gradient="true",
    ).backward()
    base = case[0].double().numpy()
    gate, numeric = gate_of(base, case), np.zeros(base.shape)
    for i in np.ndindex(*base.shape):
        up, down = base.copy(), base.copy()
        up[i] += 1e-4
        down[i] -= 1e-4
        rise = brute_energy(up, gate, case, 6.0, 60.0) - brute_energy(down, gate, case, 6.0, 60.0)
        numeric[i] = rise / 2e-4
    np.testing.assert_allclose(probs.grad.numpy(), numeric, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("gradient", ["published", "true"])
def test_where_the_gate_is_open_both_gradients_are_the_derivative(gradient: str) -> None:
    probs, image, roi, labels = scene(43, size=12)
    labels.fill_(255)
    options = {"sigma_xy": 12.0, "sigma_rgb": 60.0, "weight": 1.0, "backend": "exact", "gradient": gradient}
    leaf = probs.clone().requires_grad_()
    dense_energy(leaf, image, roi, labels, **options).backward()
    direction = torch.randn(probs.shape, generator=torch.Generator().manual_seed(1))
    step = 0.05  # the energy is quadratic, so a central difference of any step is exact
    values = [
        dense_energy(probs + s * direction, image, roi, labels, **options).item() for s in (step, -step)
    ]
    slope = float((leaf.grad * direction).sum())
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3)


def test_on_closed_gates_the_published_gradient_is_not_the_derivative() -> None:
    grads = []
    for gradient in ("published", "true"):
        probs, *rest = scene(44)
        leaf = probs.requires_grad_()
        dense_energy(leaf, *rest, scale=1.0, weight=1.0, gradient=gradient).backward()
        grads.append(leaf.grad)
    assert not torch.allclose(*grads, rtol=1e-2)


def test_padding_gets_no_gradient_and_confident_labelled_pixels_a_small_one() -> None:
    probs, image, roi, labels = scene(45)
    probs[:, 0], probs[:, 1:] = 0.98, 0.01
    labels[0, 5, 5] = 0
    leaf = probs.clone().requires_grad_()
    dense_energy(leaf, image, roi, labels, scale=1.0, weight=1.0, backend="exact").backward()
    assert (leaf.grad[0, :, :2, :3] == 0).all()
    assert leaf.grad[0, 0, 5, 5].abs() < 0.05 * leaf.grad[0, 0, 5, 6].abs()


def test_the_energy_is_linear_in_its_weight_and_runs_in_float32() -> None:
    case = scene(46)
    one = dense_energy(*case, weight=1.0)
    assert one.dtype == torch.float32
    assert one.item() < 0
    assert dense_energy(*case, weight=0.5).item() == pytest.approx(one.item() / 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(dense_energy(*case, weight=1.0), one)


def test_the_weight_keeps_the_paper_value_at_the_paper_size() -> None:
    assert energy_weight(160 * 160) == pytest.approx(1e-7)
    assert energy_weight(48 * 48) == pytest.approx(1e-7 * (25600 / 2304) ** 2)


@pytest.mark.parametrize("gradient", ["published", "true"])
@pytest.mark.parametrize(("scale", "size"), [(0.5, 41), (1.0, 20)])
def test_the_compiled_lattice_gives_the_energy_of_any_other_filter(
    monkeypatch: pytest.MonkeyPatch, gradient: str, scale: float, size: int
) -> None:
    """The way of the GPU, on the CPU: torch's lattice and no compiled loops around it."""
    results = []
    for make in (gaussian_filter, lambda features, backend: TorchLatticeFilter(features)):
        monkeypatch.setattr(energy, "gaussian_filter", make)
        probs, *rest = scene(49, size=size, channels=5)
        leaf = probs.requires_grad_()
        loss = dense_energy(leaf, *rest, weight=1.0, scale=scale, gradient=gradient)
        loss.backward()
        results.append((loss.item(), leaf.grad))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert (results[0][1] - results[1][1]).norm() < 1e-5 * results[1][1].norm()


@pytest.mark.parametrize("gradient", ["published", "true"])
def test_energy_and_gradient_repeat_bit_for_bit_on_any_number_of_threads(gradient: str) -> None:
    results, threads = [], (numba.get_num_threads(), torch.get_num_threads())
    try:
        for count in (threads[0], 1):
            numba.set_num_threads(count)
            torch.set_num_threads(count)
            probs, *rest = scene(50, size=131, channels=9)
            leaf = probs.requires_grad_()
            loss = dense_energy(leaf, *rest, weight=1.0, gradient=gradient)
            loss.backward()
            results.append((loss.item(), leaf.grad))
    finally:
        numba.set_num_threads(threads[0])
        torch.set_num_threads(threads[1])
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_a_gradient_can_be_asked_for_twice() -> None:
    probs, *rest = scene(51, size=12)
    leaf = probs.requires_grad_()
    loss = dense_energy(leaf, *rest, weight=1.0)
    first, second = (torch.autograd.grad(loss, leaf, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert first.abs().sum() > 0


def test_an_unknown_gradient_is_refused() -> None:
    with pytest.raises(UnknownName, match="exakt"):
        dense_energy(*scene(47), gradient="exakt")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["lattice", "exact"])
def test_the_gpu_agrees_with_the_cpu(backend: str) -> None:
    results = []
    for device in ("cpu", "cuda"):
        probs, *rest = (x.to(device) for x in scene(48, size=40, channels=5))
        leaf = probs.requires_grad_()
        loss = dense_energy(leaf, *rest, weight=1.0, backend=backend)
        loss.backward()
        results.append((loss.item(), leaf.grad.cpu()))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-4)
    assert (results[1][1] - results[0][1]).norm() < 1e-4 * results[0][1].norm()
