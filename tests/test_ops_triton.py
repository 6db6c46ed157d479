"""The GPU's lattice, mean field and energy: Triton's kernels, interpreted where there is no GPU."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from wsssbench.identity import CrfSet
from wsssbench.ops import energy, gaussian, lattice_triton, mean_field_triton, triton_launch
from wsssbench.ops.energy import dense_energy
from wsssbench.ops.gaussian import bilateral_features, gaussian_filter
from wsssbench.ops.lattice_torch import TorchLatticeFilter
from wsssbench.ops.lattice_triton import Tiles, TritonLatticeFilter
from wsssbench.ops.mean_field import mean_field
from wsssbench_methods.rrm import reliable_rule
from wsssbench_methods.rrm.reliable_rule import ReliableRule, reliable_labels

LARGE = Tiles(points=2**13, entries=2**15, vertices=2**11, read=2**17, listed=2**18)
CASES = [
    (1, 40, 2, 1),
    (2, 30, 3, 9),
    (3, 50, 5, 4),
    (1, 60, 1, 17),
    (1, 20, 8, 2),
    (2, 1, 5, 3),
]  # B, N, d, C
MINING = CrfSet(3, 3, 80, 13, 10, 10)
LATTICE = runpy.run_path(str(Path(__file__).with_name("float64_lattice.py")))
permutohedral, case = LATTICE["permutohedral"], LATTICE["case"]


@pytest.fixture(autouse=True)
def device(triton_device: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the kernels run; interpreted they work on large pieces, since each program is slow to start."""
    if triton_device == "cpu":
        use_tiles(monkeypatch, LARGE)
    yield triton_device
    mean_field_triton.spatial_filter.cache_clear()


def use_tiles(monkeypatch: pytest.MonkeyPatch, tiles: Tiles) -> None:
    monkeypatch.setattr(lattice_triton, "TILES", tiles)
    monkeypatch.setattr(mean_field_triton, "TILES", tiles)


def scene(batch: int, labels: int, height: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Energies (B, 2, L, H, W) of two alternatives and an image (B, H, W, 3) of smooth colours."""
    print(f"seed {seed}")
    random = torch.Generator().manual_seed(seed)
    coarse = 255 * torch.rand(batch, 3, 3, 3, generator=random)
    image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    unary = 4 * torch.rand(batch, 2, labels, height, width, generator=random)
    return unary, image.permute(0, 2, 3, 1).to(torch.uint8)


def filtered(device: str, features: Tensor, values: Tensor) -> Tensor:
    return TritonLatticeFilter(features.to(device))(values.to(device)).cpu()


@pytest.mark.parametrize("shape", CASES, ids=str)
def test_the_filter_is_that_of_the_lattice_in_torch(device: str, shape: tuple[int, int, int, int]) -> None:
    features, values = case(shape, seed=11)
    got, want = filtered(device, features, values), TorchLatticeFilter(features)(values)
    assert got.shape == want.shape
    assert (got - want).abs().max() < 1e-6 * want.abs().max()
    assert torch.equal(got, filtered(device, features, values))


@pytest.mark.parametrize("shape", CASES[:3], ids=str)
def test_the_filter_equals_the_float64_lattice(device: str, shape: tuple[int, int, int, int]) -> None:
    features, values = case(shape, seed=10)
    got = filtered(device, features, values).double().numpy()
    for one, feature, value in zip(got, features.double().numpy(), values.double().numpy(), strict=True):
        want = permutohedral(feature, value)
        assert np.abs(one - want).max() < 1e-5 * np.abs(want).max()


def test_small_pieces_and_few_programs_change_nothing_but_rounding(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, values = case((2, 40, 2, 3), seed=12)
    features[0, :30] = features[0, 0]  # vertices of many points: several segments, added in several rounds
    want = filtered(device, features, values)
    use_tiles(
        monkeypatch, Tiles(points=16, entries=32, vertices=8, read=32, listed=64, segment=4, segments=2)
    )
    monkeypatch.setattr(lattice_triton, "PROGRAMS", 3)
    got = filtered(device, features, values)
    assert (got - want).abs().max() < 1e-6 * want.abs().max()
    assert torch.equal(got, filtered(device, features, values))


def test_where_tables_would_be_large_they_have_as_many_rows_as_vertices(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, values = case((2, 60, 3, 2), seed=13)
    roomy = TritonLatticeFilter((0.1 * features).to(device))
    monkeypatch.setattr(lattice_triton, "ROOMY", 0)
    exact = TritonLatticeFilter((0.1 * features).to(device))
    assert roomy.lattice.rows == 2 * 60 * 4 + 1
    assert exact.lattice.rows == int(max(exact.lattice.counts)) + 1 < roomy.lattice.rows
    assert torch.equal(roomy(values.to(device)), exact(values.to(device)))


def test_planes_between_factors_are_filtered_as_values_are(device: str) -> None:
    features, values = case((2, 50, 5, 5), seed=14)
    before, after = torch.rand(2, 50), torch.rand(2, 50)
    f = TritonLatticeFilter(features.to(device))
    got = f.between(*(x.to(device) for x in (before, values.transpose(1, 2), after))).cpu()
    want = f((values * before[..., None]).to(device)).cpu() * after[..., None]
    assert got.is_contiguous()
    torch.testing.assert_close(got, want.transpose(1, 2), rtol=0, atol=1e-6)


def test_points_far_apart_and_points_alike_have_lattices(device: str) -> None:
    far = torch.tensor([[[0.0, 0.0], [1e4, -1e4], [-3e4, 2e4]]])
    values = torch.tensor([[[1.0], [2.0], [3.0]]])
    alone = TorchLatticeFilter(far[:, :1])(values[:, :1])
    got = filtered(device, far, values)
    assert got[0, 0] == pytest.approx(alone[0, 0].item(), rel=1e-6)
    alike = filtered(device, torch.zeros(1, 100, 2), torch.ones(1, 100, 1))
    torch.testing.assert_close(alike, TorchLatticeFilter(torch.zeros(1, 100, 2))(torch.ones(1, 100, 1)))


@pytest.mark.parametrize(("labels", "iterations"), [(1, 1), (3, 2)])
def test_the_mean_field_is_that_of_the_cpu(device: str, labels: int, iterations: int) -> None:
    unary, image = scene(2, labels, 17, 20, seed=15)
    params = replace(MINING, iterations=iterations)
    got = mean_field_triton.mean_field(unary.to(device), image.to(device), params).cpu()
    want = mean_field(unary, image, params)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-5)


def test_without_iterations_the_mean_field_is_the_softmax(device: str) -> None:
    unary, image = scene(1, 5, 4, 7, seed=16)
    params = replace(MINING, iterations=0)
    got = mean_field_triton.mean_field(unary.to(device), image.to(device), params).cpu()
    torch.testing.assert_close(got, unary.neg().softmax(2))


@pytest.mark.parametrize("gradient", ["published", "true"])
def test_the_energy_and_its_gradient_are_those_of_the_cpu(
    device: str, monkeypatch: pytest.MonkeyPatch, gradient: str
) -> None:
    print("seed 17")
    random = torch.Generator().manual_seed(17)
    probs = torch.rand(2, 5, 16, 20, generator=random).softmax(1)
    image = 255 * torch.rand(2, 3, 16, 20, generator=random)
    roi, labels = torch.ones(2, 16, 20), torch.randint(0, 6, (2, 16, 20), generator=random, dtype=torch.uint8)
    labels[labels == 5] = 255
    results = []
    for make, place in (
        (gaussian_filter, "cpu"),
        (lambda features, backend: TritonLatticeFilter(features), device),
    ):
        monkeypatch.setattr(energy, "gaussian_filter", make)
        leaf = probs.to(place).requires_grad_()
        rest = (x.to(place) for x in (image, roi, labels))
        loss = dense_energy(leaf, *rest, weight=1.0, sigma_xy=20.0, sigma_rgb=60.0, gradient=gradient)
        loss.backward()
        results.append((loss.item(), leaf.grad.cpu()))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-5)
    assert (results[1][1] - results[0][1]).norm() < 1e-5 * results[0][1].norm()


@pytest.mark.parametrize("case", range(4))
def test_published_energies_and_gradients_are_reproduced(
    device: str, shared: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, case: int
) -> None:
    monkeypatch.setattr(energy, "gaussian_filter", lambda features, backend: TritonLatticeFilter(features))
    golden = np.load(shared(f"golden/rrm/energy_{case}.npz"))
    probs = torch.from_numpy(golden["prob"]).to(device).requires_grad_()
    options = {k: float(golden[k]) for k in ("sigma_rgb", "sigma_xy", "scale", "weight")}
    image, roi, labels = (torch.from_numpy(golden[k]).to(device) for k in ("image", "roi", "label"))
    loss = dense_energy(probs, image.float(), roi.float(), labels, **options)
    loss.backward()
    grad, want = probs.grad.cpu().flatten().double(), torch.from_numpy(golden["grad"]).flatten().double()
    assert loss.item() == pytest.approx(float(golden["loss"]), rel=1e-5)
    assert (grad - want).norm() < 1e-5 * want.norm()


@pytest.mark.slow
@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize(("name", "params"), [("mining", MINING), ("inference", CrfSet(3, 3, 83, 5, 4, 10))])
def test_published_marginals_are_reproduced(
    device: str, shared: Callable[[str], Path], name: str, params: CrfSet, case: int
) -> None:
    golden = np.load(shared(f"golden/rrm/crf_{case}.npz"))
    unary = -torch.from_numpy(golden["prob"]).clamp(1e-5, 1).log()
    image = torch.from_numpy(golden["image"])
    q = mean_field_triton.mean_field(unary[None, None].to(device), image[None].to(device), params)
    error = np.abs(q[0, 0].cpu().numpy() - golden[name]).max(0)
    assert (error < 0.02).mean() >= 0.999
    assert error.max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("case", range(12))
def test_published_labels_are_reproduced(
    device: str, shared: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, case: int
) -> None:
    def by_triton(unary: Tensor, images: Tensor, crf: CrfSet, **_: object) -> Tensor:
        return mean_field_triton.mean_field(unary.to(device), images.to(device), crf).to(unary.device)

    monkeypatch.setattr(reliable_rule, "mean_field", by_triton)
    golden = np.load(shared(f"golden/rrm/reliable_{case:02d}.npz"))
    image, tags = torch.from_numpy(golden["image"]), torch.from_numpy(golden["tags"])
    cams = torch.from_numpy(golden["cam"].astype(np.float32))
    mined = reliable_labels(image, cams, tags, ReliableRule(variant="faithful")).numpy()
    want = golden["label"]
    for label in np.union1d(np.unique(mined), np.unique(want)):
        both, either = (mined == label) & (want == label), (mined == label) | (want == label)
        assert both.sum() / either.sum() >= 0.99, f"label {label}"
    assert abs((mined != 255).mean() - (want != 255).mean()) <= 0.005


@pytest.mark.usefixtures("fake_cuda")
def test_the_host_never_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors that claim to be on a GPU and have no values: what asks for one fails. No kernel starts."""
    started = []
    for module in (lattice_triton, mean_field_triton):
        monkeypatch.setattr(module, "launch", lambda kernel, *_: started.append(kernel.__name__))
    monkeypatch.setattr(energy, "gaussian_filter", lambda features, backend: TritonLatticeFilter(features))
    constants = lattice_triton._constants.__wrapped__  # kept between calls, so that they are copied once
    monkeypatch.setattr(lattice_triton, "_constants", constants)
    with FakeTensorMode(), torch.device("cuda"):
        image = torch.empty(2, 20, 24, 3, dtype=torch.uint8)
        q = mean_field_triton.mean_field(torch.empty(2, 2, 3, 20, 24), image, MINING)
        probs = torch.empty(2, 5, 20, 24, requires_grad=True)
        planes = torch.empty(2, 3, 20, 24)
        loss = dense_energy(probs, planes, planes[:, 0], torch.empty(2, 20, 24, dtype=torch.uint8))
    assert {q.device.type, loss.device.type} == {"cuda"}
    assert q.shape == (2, 2, 3, 20, 24)
    assert {"embed", "number", "neighbours", "add_up", "blur", "read_back", "update"} == set(started)
    monkeypatch.setattr(lattice_triton, "ROOMY", 0)
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        lattice_triton.build(torch.empty(1, 9, 2, device="cuda"))


@pytest.mark.usefixtures("fake_cuda")
def test_as_many_kernels_are_started_as_the_page_of_speed_says(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    for module in (lattice_triton, mean_field_triton):
        monkeypatch.setattr(module, "launch", lambda kernel, *_: started.append(kernel.__name__))
    monkeypatch.setattr(lattice_triton, "_constants", lattice_triton._constants.__wrapped__)
    with FakeTensorMode(), torch.device("cuda"):
        for _ in range(2):  # the lattice of positions is kept from the first
            started.clear()
            image = torch.empty(2, 20, 24, 3, dtype=torch.uint8)
            mean_field_triton.mean_field(torch.empty(2, 2, 3, 20, 24), image, MINING)
    page = json.loads((Path(__file__).parents[1] / "reports/performance/gpu_floors.json").read_text())
    assert len(started) == page["lines"][0]["kernels"]


@pytest.mark.parametrize(
    ("patched", "found", "said"),
    [("find_spec", None, "triton is not installed"), ("shutil.which", None, "triton finds no C compiler")],
)
def test_a_gpu_without_triton_filters_in_plain_torch_and_says_so(
    monkeypatch: pytest.MonkeyPatch, patched: str, found: None, said: str
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(f"wsssbench.ops.triton_launch.{patched}", lambda name: found)
    monkeypatch.setattr(triton_launch, "lacks_triton", triton_launch.lacks_triton.__wrapped__)
    with pytest.warns(RuntimeWarning, match=f"plain torch, several times slower: {said}"):
        assert not triton_launch.runs_triton(torch.device("cuda"))
    assert not triton_launch.runs_triton(torch.device("cpu"))


def test_where_triton_runs_its_lattice_is_the_lattice(monkeypatch: pytest.MonkeyPatch) -> None:
    features = bilateral_features(torch.zeros(1, 2, 3, 3, dtype=torch.uint8), 10, 10).to("meta")
    monkeypatch.setattr(lattice_triton, "build", lambda features: features)
    monkeypatch.setattr(gaussian, "runs_triton", lambda device: device.type == "meta")
    assert isinstance(gaussian_filter(features), TritonLatticeFilter)
