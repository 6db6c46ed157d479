"""Provenance: which code, which packages, which hardware produced a number."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("wsssbench", "torch", "torchvision", "timm", "triton", "numpy", "scipy", "numba", "pillow"),
    "pydensecrf2",
)


def provenance(device: str) -> dict[str, Any]:
    """Versions, hardware and the command of this process."""
    return {
        "versions": versions(),
        "hardware": hardware(device),
        "commit": commit(),
        "command": ["wsssbench", *sys.argv[1:]],
    }


@cache
def versions() -> dict[str, str]:
    """Installed versions of what can change a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: str) -> dict[str, Any]:
    """Processor and, for a CUDA device, the GPU's name and whether its float32 is rounded to TF32 now."""
    found: dict[str, Any] = {"cpu": cpu_name(), "cores": core_count(), "device": device}
    if device.startswith("cuda"):
        import torch

        from wsssbench.machine.hardware import rounds_to_tf32

        found |= {"gpu": torch.cuda.get_device_name(device), "tf32": rounds_to_tf32()}
    return found


@cache
def cpu_name() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def commit() -> str:
    """The commit of the checkout that wsssbench runs from; empty for an installed wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:  # git is not installed
        return ""
