"""Where Triton kernels can run, and how they are started: on the device that holds the tensors."""

from __future__ import annotations

import os
import shutil
import warnings
from contextlib import nullcontext
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def launch(kernel: Any, grid: tuple[int, ...], first: Tensor, *arguments: Any) -> None:
    """Run `kernel` on `grid` with the arguments `first`, ...: Triton itself would take the current device."""
    import torch

    elsewhere = first.is_cuda and first.device.index != torch.cuda.current_device()
    with torch.cuda.device(first.device) if elsewhere else nullcontext():
        kernel[grid](first, *arguments, enable_fp_fusion=True)


def runs_triton(device: torch.device) -> bool:
    """Whether filters on `device` are Triton kernels; where they cannot run on a GPU, one warning says so."""
    if device.type != "cuda":
        return False
    missing = lacks_triton()
    if missing:
        text = f"filters run on the GPU in plain torch, several times slower: {missing}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)  # shown once: Python remembers where
    return not missing


@lru_cache(maxsize=1)
def lacks_triton() -> str:
    """What is missing for Triton's kernels on this machine; nothing where they can run."""
    import torch

    if torch.version.hip:
        return "the kernels are written for NVIDIA's GPUs"
    if find_spec("triton") is None:
        return "triton is not installed (torch for CUDA on Linux brings it)"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "triton finds no C compiler (install gcc or clang)"
    return ""
