"""Where and how numbers are computed: device, precision and Gaussian filter, by name. What was asked for and
is not there is an error, never another one in its place."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

from wsssbench.errors import WsssError

# cuBLAS repeats its sums only with a workspace of fixed size, named before CUDA starts
CUBLAS_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@dataclass(frozen=True)
class Hardware:
    """Where and how numbers are computed, resolved once."""

    device: str
    precision: str
    filter_backend: str


class AskedHardware(Protocol):
    """What was asked for, by name; the settings of a run have these fields."""

    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def filter(self) -> str: ...


def resolve_hardware(settings: AskedHardware) -> Hardware:
    """Device, precision and filter backend by name; what was asked for and is not there is an error.

    Where it is a GPU, float32 is float32 there from now on (`compute_full_float32`).
    """
    import torch

    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise WsssError("no CUDA device is visible to torch", where="--device", hint="use --device cpu")
    if device.startswith("cuda:") and int(device[5:]) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise WsssError(f"there is no {device}", where="--device", hint=f"torch sees {count}, from cuda:0 on")
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if device.startswith("cuda") else "fp32"
    if settings.filter == "pydensecrf" and find_spec("pydensecrf") is None:
        from wsssbench.ops.densecrf_package import densecrf_hint

        raise WsssError("pydensecrf is not installed", where="--filter", hint=densecrf_hint())
    if device.startswith("cuda"):
        compute_full_float32()
    return Hardware(device, precision, settings.filter)


def compute_full_float32() -> None:
    """Let a GPU compute float32 with all of its 24 bits: a row whose precision is fp32 means that.

    torch by default lets convolutions round their inputs to TF32, 11 bits. Rows in bf16 lose nothing by it:
    what they compute in float32 (losses, filters) is none of the large products.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def rounds_to_tf32() -> bool:
    """Whether torch may compute float32 products in TF32 on a GPU at present."""
    import torch

    return bool(torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)


@contextmanager
def sizes_repeat(device: str) -> Iterator[None]:
    """Inside, inputs come in a few sizes, over and over: a GPU's convolutions are chosen by trying them.

    cuDNN then times its algorithms at the first input of each size, instead of guessing by rule. Which one
    wins may differ from run to run, and with it last bits: not where computing is deterministic.
    """
    import torch

    cudnn = torch.backends.cudnn
    before, wanted = cudnn.benchmark, device.startswith("cuda") and not is_deterministic()
    cudnn.benchmark = wanted or before
    try:
        yield
    finally:
        cudnn.benchmark = before


def compute_deterministically() -> None:
    """Make torch choose operations that repeat bit for bit, and say where there is none.

    An operation on the GPU that has no such form is used as it is, with a warning; on the CPU there is none
    among those that this package uses. Call it before CUDA starts. docs/isolation.md lists the operations.
    """
    os.environ.setdefault(*CUBLAS_WORKSPACE)
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def is_deterministic() -> bool:
    """Whether `compute_deterministically` was called in this process; torch is not imported to see."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.are_deterministic_algorithms_enabled())
