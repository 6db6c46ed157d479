"""Gaussian filtering of images: one interface, several backends, and the features of the two usual kernels.

`gaussian_filter(features)` returns a `Filter` that maps (B, N, C) values to (B, N, C): for every point the
sum of all values weighted by exp(-|f_i - f_j|^2 / 2), itself included, not normalised. `lattice` is the
permutohedral approximation of the published code (compiled on the CPU, Triton on CUDA), `exact` the sum
itself; they are different operators, so what ran belongs into a record. What the filter is for (a CRF, a
loss) must not enter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wsssbench.errors import UnknownName, WsssError, nearest
from wsssbench.identity import BACKENDS
from wsssbench.ops.filters import ExactFilter, Filter
from wsssbench.ops.triton_launch import runs_triton

if TYPE_CHECKING:
    from wsssbench.ops.lattice_cpu import CpuLattice

GROUP_POINTS = 2**17  # points in one compiled lattice: enough to fill the cores, few enough for the cache


def check_backend(backend: str) -> None:
    """Raise UnknownName unless `backend` is one of BACKENDS."""
    if backend not in BACKENDS:
        raise UnknownName(f"unknown filter backend {backend!r}", hint=nearest(backend, BACKENDS))


def check_filters(backend: str, where: str = "") -> None:
    """Raise WsssError where `backend` has no filter of its own, only a dense CRF."""
    check_backend(backend)
    if backend == "pydensecrf":
        raise WsssError(
            "backend 'pydensecrf' runs whole dense CRFs and cannot filter",
            where=where,
            hint="use backend 'lattice', which is the same operator, or 'exact'",
        )


def gaussian_filter(features: Tensor, backend: str = "lattice") -> Filter:
    """A filter over `features`, (B, N, d) float32 already divided by the widths; each image is on its own.

    The returned function maps (B, N, C) float32 on the same device to (B, N, C) float32 and may be called
    often: the lattice is built once, here.
    """
    check_filters(backend)
    features = features.detach().float()
    if backend == "exact":
        return ExactFilter(features)
    if features.device.type == "cpu":
        return CompiledLatticeFilter(features)
    if runs_triton(features.device):
        from wsssbench.ops.lattice_triton import TritonLatticeFilter

        return TritonLatticeFilter(features)
    from wsssbench.ops.lattice_torch import TorchLatticeFilter

    return TorchLatticeFilter(features)


class CompiledLatticeFilter(Filter):
    """The CPU lattice behind torch tensors; the batch is cut into groups that suit the cache."""

    def __init__(self, features: Tensor) -> None:
        from wsssbench.ops import lattice_cpu

        self._groups = image_groups(features.shape[0], features.shape[1])
        array = features.contiguous().numpy()
        self._lattices: list[CpuLattice] = [lattice_cpu.build(array[group]) for group in self._groups]

    def between(self, before: Tensor, planes: Tensor, after: Tensor) -> Tensor:
        from wsssbench.ops import lattice_cpu

        inputs = [x.detach().float().contiguous() for x in (planes, before, after)]
        out = torch.empty_like(inputs[0])
        for group, lattice in zip(self._groups, self._lattices, strict=True):
            values, first, last = (x[group].numpy() for x in inputs)
            lattice_cpu.filter_planes(lattice, values, out[group].numpy(), first, last)
        return out


def image_groups(batch: int, points: int) -> list[slice]:
    """Slices of the batch with at most GROUP_POINTS points each (or one image)."""
    size = max(1, GROUP_POINTS // max(points, 1))
    return [slice(first, min(first + size, batch)) for first in range(0, batch, size)]


def spatial_features(batch: int, height: int, width: int, sigma: float, device: torch.device) -> Tensor:
    """(B, H * W, 2) positions (x, y) in units of `sigma` pixels."""
    y, x = _positions(height, width, device)
    return (torch.stack([x, y], dim=-1) / sigma).expand(batch, -1, -1)


def bilateral_features(images: Tensor, sigma_xy: float, sigma_rgb: float) -> Tensor:
    """(B, H * W, 5): (x, y) in units of `sigma_xy` pixels, colours of (B, H, W, 3) images of `sigma_rgb`."""
    batch, height, width, _ = images.shape
    y, x = _positions(height, width, images.device)
    features = torch.empty(batch, height * width, 5, device=images.device)
    features[..., 0] = x / sigma_xy
    features[..., 1] = y / sigma_xy
    colours = features.view(batch, height, width, 5)[..., 2:]
    torch.div(images.detach().float(), sigma_rgb, out=colours)  # as images lie, often channel by channel
    return features


def _positions(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows = torch.arange(height, dtype=torch.float32, device=device)
    columns = torch.arange(width, dtype=torch.float32, device=device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return y.reshape(-1), x.reshape(-1)
