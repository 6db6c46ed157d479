"""How this process uses the machine: as many threads as it may, and memory that it keeps once it has it."""

from __future__ import annotations

import ctypes
import os
import sys
import traceback

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # mallopt(3)
LARGEST = 2**31 - 1


def use_machine(threads: int | None = None) -> None:
    """Set threads and memory for long computing; call it once, at the start of a command."""
    set_threads(threads)
    keep_memory()


def set_threads(threads: int | None = None) -> None:
    """As many torch threads as the process may use cores (a container may allow fewer than it shows), or so
    many."""
    import torch  # here: who only judges masks needs the memory, not torch

    torch.set_num_threads(threads or usable_cores())


def usable_cores() -> int:
    """Cores that this process may use; at least 1."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)


def keep_memory() -> bool:
    """Let glibc keep freed memory instead of handing it back; False where there is no glibc.

    A network's activations are tens of MB each; by default every one is mapped again and cleared by the
    kernel, page by page: a third of the time of MobileNetV2 at 257 px. Masks of VOC's size are large enough
    for that, too. The peak stays what it was.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, LARGEST))


def forget_frames(error: BaseException | None) -> None:
    """Let go of what the frames of an error, and of those that led to it, hold: networks and batches."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
