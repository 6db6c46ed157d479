"""Where and how numbers are computed: device, precision and Gaussian filter, by name. What was asked for and
is not there is an error, never another one in its place."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec

from wsssbench.errors import UnknownName, WsssError, nearest
from wsssbench.settings import Settings

BACKENDS = ("lattice", "exact", "pydensecrf")
# cuBLAS repeats its sums only with a workspace of fixed size, named before CUDA starts
CUBLAS_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@dataclass(frozen=True)
class Hardware:
    """Where and how numbers are computed, resolved once."""

    device: str
    precision: str
    filter_backend: str


def resolve_hardware(settings: Settings) -> Hardware:
    """Device, precision and filter backend by name; what was asked for and is not there is an error."""
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
    if settings.filter_backend not in BACKENDS:
        raise UnknownName(
            f"there is no filter backend {settings.filter_backend!r}",
            where="--filter",
            hint=nearest(settings.filter_backend, BACKENDS),
        )
    if settings.filter_backend == "pydensecrf" and find_spec("pydensecrf") is None:
        hint = "pip install 'wsssbench[pydensecrf]', or --filter lattice, the same operator"
        raise WsssError("pydensecrf is not installed", where="--filter", hint=hint)
    return Hardware(device, precision, settings.filter_backend)


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
