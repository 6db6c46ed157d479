"""The Triton kernels compile for the GPUs they are meant for, and keep what they work on in registers."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", "3.6", reason="no Triton that compiles for a GPU which is not there")
CODE = runpy.run_path(str(Path(__file__).with_name("gpu_code.py")))
KERNELS = CODE["kernels"]()
Found = Mapping[tuple[str, int], Mapping[str, Any]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """All kernels for all architectures, in one process."""
    found: Found = CODE["gpu_code"](tmp_path_factory.mktemp("triton"))
    return found


def test_the_kernels_compile_and_spill_no_register(compiled: Found) -> None:
    assert {name for name, _ in compiled} == {kernel.name for kernel in KERNELS}
    for code in compiled.values():
        print(code)
        assert code["spills"] == 0, code
        assert 0 < code["registers"] <= 255, code
        assert code["warps_resident"] >= 8, code


def test_every_kernel_of_the_package_is_compiled() -> None:
    """A kernel is what is launched; functions that kernels call are compiled with them."""
    interpreter = runpy.run_path(str(Path(__file__).with_name("triton_interpreter.py")))
    named = {kernel.function.partition(".")[0] for kernel in KERNELS}
    assert {name.rpartition(".")[2] for name in interpreter["kernel_modules"]()} == named


def test_the_exact_filter_runs_on_tensor_cores_and_adds_their_sums_itself(compiled: Found) -> None:
    """Tensor cores add without rounding to nearest, so only COLUMNS products are added by them."""
    kernel = KERNELS[0]
    rows, columns, channels, d = (kernel.constants[k] for k in ("ROWS", "COLUMNS", "CHANNELS", "DIMENSIONS"))
    pairs, sums, values = (x // 128 for x in (rows * columns, rows * channels, columns * channels))
    loop = compiled[kernel.name, 90]["loop"]
    assert loop["HGMMA"] == 3 * columns // 8
    assert loop["MUFU"] == pairs
    assert loop["FADD"] >= pairs * (d + 1) + sums + values  # d differences and p - p1, v - v1
    assert compiled[kernel.name, 90]["warps_resident"] == 12  # three programs hide each other's waiting
