"""The dense CRF of the pydensecrf package, kept as a reference to select by name.

One image and one alternative at a time, on the CPU. Nothing else of the suite may depend on that package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.errors import WsssError
from wsssbench.identity import CrfSet
from wsssbench.ops.densecrf_package import densecrf_hint


def pydensecrf_marginals(unary: Tensor, image: Tensor, params: CrfSet) -> Tensor:
    """Marginals (B, A, L, H, W) of `unary` (B, A, L, H, W), on its device; `image` (B, H, W, 3) uint8."""
    densecrf = _package()
    pictures = [np.ascontiguousarray(picture) for picture in image.cpu().numpy()]
    q = [
        [_marginals(densecrf, plane, picture, params) for plane in planes]
        for planes, picture in zip(unary.cpu().numpy(), pictures, strict=True)
    ]
    return torch.from_numpy(np.asarray(q, np.float32)).to(unary.device)


def _package() -> Any:
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        what = "backend 'pydensecrf' needs the package pydensecrf"
        raise WsssError(what, hint=densecrf_hint()) from error
    return densecrf


def _marginals(
    densecrf: Any, unary: NDArray[np.float32], image: NDArray[np.uint8], params: CrfSet
) -> NDArray[np.float32]:
    labels, height, width = unary.shape
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(labels, -1)))
    crf.addPairwiseGaussian(sxy=params.gauss_xy, compat=params.gauss_compat)
    crf.addPairwiseBilateral(
        sxy=params.bilateral_xy, srgb=params.bilateral_rgb, rgbim=image, compat=params.bilateral_compat
    )
    return np.asarray(crf.inference(params.iterations), np.float32).reshape(unary.shape)
