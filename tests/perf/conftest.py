"""Speed beside peers, in one process. The first command measures the parts (under six minutes on two idle
cores), the second the main job (minutes more, may be left out), the third writes reports/performance.md:

    pytest tests/perf --benchmark-enable --benchmark-json=measured.json
    pytest tests/perf -m slow --benchmark-enable --benchmark-json=main_job.json
    python reports/performance.py measured.json main_job.json

What a GPU does is measured alone, with all cores (`-m gpu`, test_perf_gpu.py).

Without `--benchmark-enable`, as in the ordinary suite, every case runs once, small, without peers and clock.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))  # the modules speed_*.py; spawned processes import them too

from speed_turns import CORES

AT_START = pytest.StashKey[dict[str, Any]]()
GPU_ALONE = pytest.StashKey[bool]()
CROPS = (6, 0, 3, 9)  # golden cases of 321 x 321, with 1, 2, 3 and 1 tagged classes


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note whether only tests that need a GPU are asked for."""
    session.config.stash[GPU_ALONE] = all(item.get_closest_marker("gpu") for item in session.items)


@pytest.fixture(scope="session")
def gpu_alone(request: pytest.FixtureRequest) -> bool:
    """Whether only tests that need a GPU run: they are given all cores."""
    return request.config.stash[GPU_ALONE]


@pytest.fixture(scope="session", autouse=True)
def machine(request: pytest.FixtureRequest) -> None:
    """Two cores (where a GPU computes: all), and memory as every run has it, before anything is measured."""
    config = request.config
    if config.getoption("benchmark_disable") and not config.getoption("benchmark_enable"):
        return
    import torch

    from wsssbench.machine.process import keep_memory, use_machine

    if hasattr(os, "getloadavg"):
        config.stash[AT_START] = {"load_average": round(os.getloadavg()[0], 2)}
    if config.stash[GPU_ALONE]:
        use_machine()
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    torch.set_num_threads(CORES)
    keep_memory()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """`threads(n)`: numba and torch compute on n threads for the rest of this test."""
    import numba
    import torch

    before = numba.get_num_threads(), torch.get_num_threads()

    def use(count: int) -> None:
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
        torch.set_num_threads(count)

    yield use
    numba.set_num_threads(before[0])
    torch.set_num_threads(before[1])


@pytest.fixture(scope="session")
def crops(shared: Callable[[str], Path]) -> list[dict[str, Any]]:
    """Real crops of 321 x 321: `image` uint8 (321, 321, 3), `tags` (T,) of 20 classes and `cams` float32
    (T, 321, 321) of these."""
    found = []
    for case in CROPS:
        with np.load(shared(f"golden/rrm/reliable_{case:02}.npz")) as golden:
            own = {name: golden[name] for name in ("image", "tags")}
            found.append({**own, "cams": golden["cam"].astype(np.float32)})
    return found


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """What the page says of the machine, and nothing that names it."""
    from wsssbench.machine.env import core_count, cpu_name, versions

    machine_info.clear()
    alone = config.stash.get(GPU_ALONE, False)
    cores = core_count() if alone else CORES
    machine_info.update(cpu=cpu_name(), cores=cores, versions=versions(), **config.stash.get(AT_START, {}))
    if alone:
        machine_info.update(_gpu())
    machine_info["features"] = [name for name in ("avx2", "avx512f") if name in _cpu_flags()]


def _gpu() -> dict[str, str]:
    import torch

    if not torch.cuda.is_available():
        return {}
    return {"gpu": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}


def _cpu_flags() -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
