"""What a long-computing process sets for itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from wsssbench.machine.process import set_threads

FAULTS = """
import resource, torch
from wsssbench.machine.process import keep_memory
torch.set_num_threads(1)
def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(16 * 2**20).sum()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(1)
without = faults(5)
assert keep_memory()
faults(5)
print(without, min(faults(5) for _ in range(3)))  # once a block may be needed beside one that is cut up
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_large_tensors_are_not_mapped_anew_each_time() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    without, kept = map(int, done.stdout.split())
    assert kept < without / 10, done.stdout


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity here")
def test_threads_are_the_cores_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
        set_threads()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
