"""Mean-field inference in the dense CRF of Kraehenbuehl and Koltun (NeurIPS 2011), as pydensecrf runs it.

Potts compatibility, one spatial and one bilateral Gaussian kernel, each normalised symmetrically: Q <-
softmax(-unary + sum_m w_m D_m^-1/2 K_m D_m^-1/2 Q). Whole images in, marginals out; where the unary comes
from and what becomes of the marginals must not enter.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from wsssbench.errors import WsssError
from wsssbench.identity import CrfSet
from wsssbench.ops.gaussian import (
    bilateral_features,
    check_backend,
    gaussian_filter,
    image_groups,
    spatial_features,
)
from wsssbench.ops.triton_launch import runs_triton


@torch.no_grad()
def mean_field(
    unary: Tensor, image: Tensor, params: CrfSet, *, backend: str = "lattice", scale: float = 1.0
) -> Tensor:
    """Marginals of the dense CRF, of the shape of `unary`, float32.

    `unary` is (B, L, H, W) or (B, A, L, H, W) negative log probabilities: A alternatives of one image share
    its lattice. `image` is (B, H, W, 3) uint8 on the same device. `scale` multiplies both spatial widths.
    """
    check_backend(backend)
    _check_shapes(unary, image)
    stacked = (unary if unary.ndim == 5 else unary.unsqueeze(1)).float()
    params = replace(params, gauss_xy=params.gauss_xy * scale, bilateral_xy=params.bilateral_xy * scale)
    if backend == "pydensecrf":
        from wsssbench.ops.reference_crf import pydensecrf_marginals

        q = pydensecrf_marginals(stacked, image, params)
    elif backend == "lattice" and unary.device.type == "cpu":
        groups = image_groups(len(unary), image.shape[1] * image.shape[2])
        q = torch.cat([_compiled_lattice(stacked[g], image[g], params) for g in groups])
    elif backend == "lattice" and runs_triton(unary.device):
        from wsssbench.ops import mean_field_triton

        q = mean_field_triton.mean_field(stacked, image, params)
    else:
        q = _filtered(stacked, image, params, backend)
    return q.view(unary.shape)


def _check_shapes(unary: Tensor, image: Tensor) -> None:
    batch_and_size = (unary.shape[0], *unary.shape[-2:])
    if unary.ndim not in (4, 5) or image.ndim != 4 or batch_and_size != tuple(image.shape[:3]):
        raise WsssError(
            f"unary {tuple(unary.shape)} and image {tuple(image.shape)} do not fit together",
            hint="pass unary (B, [A,] L, H, W) and image (B, H, W, 3)",
        )
    if unary.device != image.device:
        raise WsssError(f"unary is on {unary.device}, image on {image.device}", hint="move one of them")


def _compiled_lattice(unary: Tensor, image: Tensor, params: CrfSet) -> Tensor:
    """The fused CPU path: reading both lattices, the softmax and writing to both are one pass over pixels."""
    from wsssbench.ops import lattice_cpu, mean_field_cpu

    batch, alternatives, labels, height, width = unary.shape
    energies = unary.reshape(batch, alternatives * labels, height * width).contiguous()
    features = bilateral_features(image, params.bilateral_xy, params.bilateral_rgb)
    spatial, stencil = mean_field_cpu.spatial_filter(height, width, params.gauss_xy, params.gauss_compat)
    bilateral = lattice_cpu.build(features.numpy())
    lattice = lattice_cpu.normalised(bilateral, batch, params.bilateral_compat, spatial)
    q = mean_field_cpu.mean_field(energies.numpy(), lattice, stencil, labels, params.iterations)
    return torch.from_numpy(q).view(unary.shape)


def _filtered(unary: Tensor, image: Tensor, params: CrfSet, backend: str) -> Tensor:
    """The same on any device, in terms of `gaussian_filter`."""
    batch, height, width, _ = image.shape
    features = [
        spatial_features(batch, height, width, params.gauss_xy, unary.device),
        bilateral_features(image, params.bilateral_xy, params.bilateral_rgb),
    ]
    filters = [gaussian_filter(f, backend) for f in features]
    ones = torch.ones(batch, height * width, 1, device=unary.device)
    norms = [torch.rsqrt(f(ones) + 1e-20) for f in filters]
    compats = (params.gauss_compat, params.bilateral_compat)
    logits = unary.flatten(3).neg().permute(0, 3, 1, 2).contiguous()  # (B, N, A, L)
    q = logits.softmax(-1)
    for _ in range(params.iterations):
        total = logits
        for f, norm, compat in zip(filters, norms, compats, strict=True):
            total = total + (compat * norm * f(norm * q.flatten(2))).view_as(logits)
        q = total.softmax(-1)
    return q.permute(0, 2, 3, 1).reshape(unary.shape)
