"""Where Triton kernels can run, and how they are started: on the device that holds the tensors."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

WITHOUT = (
    "triton is not installed: filters run on the GPU in plain torch, several times slower "
    "(pip install triton; torch for CUDA on Linux brings it)"
)


def launch(kernel: Any, grid: tuple[int, ...], first: Tensor, *arguments: Any) -> None:
    """Run `kernel` on `grid` with the arguments `first`, ...: Triton itself would take the current device."""
    with torch.cuda.device(first.device) if first.is_cuda else nullcontext():
        kernel[grid](first, *arguments, enable_fp_fusion=True)


def runs_triton(device: torch.device) -> bool:
    """Whether kernels for tensors on `device` are Triton's; a GPU without Triton is told of once."""
    if device.type != "cuda":
        return False
    there = _installed()
    if not there:
        warnings.warn(WITHOUT, RuntimeWarning, stacklevel=2)  # shown once: Python remembers where
    return there


@lru_cache(maxsize=1)
def _installed() -> bool:
    return find_spec("triton") is not None
