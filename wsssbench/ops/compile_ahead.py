"""Compiling the lattice's loops in a process of its own, while a first long training goes on.

numba compiles each loop when it is first called, half a minute in all, and keeps the result on disk. Who
trains on a CPU leaves a part of the second core idle for as long. Nothing depends on this process: where it
fails, or has not finished, the loops are compiled where they are called.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

SIDE, LABELS = 16, 6  # any numbers: loops are compiled for types, not for sizes
POLITE = 5  # added to the niceness


@cache
def compile_ahead() -> None:
    """Start the process, once for each state of the loops' sources and of numba; it is not waited for."""
    mark = _mark()
    if mark.exists():
        return
    with suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        subprocess.Popen(
            [sys.executable, "-m", "wsssbench.ops.compile_ahead"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


def _mark() -> Path:
    """An empty file that says that these loops, by this numba, for this Python, were compiled before."""
    state = hashlib.sha256(f"{sys.version} {version('numba')} {sys.prefix}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        state.update(source.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "wsssbench" / f"loops-{state.hexdigest()[:16]}"


def compile_all() -> None:
    """Call what mining, the energy and the CRF call, on a picture of a few pixels."""
    import torch

    from wsssbench.identity import CrfSet
    from wsssbench.ops.energy import dense_energy
    from wsssbench.ops.mean_field import mean_field

    image = torch.arange(SIDE * SIDE * 3).reshape(1, SIDE, SIDE, 3).to(torch.uint8)
    for width in (0.5, 3.0):  # a stencil of a few pixels, a lattice
        mean_field(torch.rand(1, 2, LABELS, SIDE, SIDE), image, CrfSet(width, 3, 16, 5, 4, iterations=2))
    probs = torch.rand(1, LABELS, SIDE, SIDE).softmax(1).requires_grad_()
    known, planes = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8), image.permute(0, 3, 1, 2).float()
    energy = dense_energy(probs, planes, known == 0, known, sigma_xy=20.0)
    energy.backward()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    with suppress(AttributeError):  # not on Windows
        os.nice(POLITE)
    compile_all()
