"""The Triton kernels compile for the GPUs they are meant for, and keep what they work on in registers."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", "3.6", reason="no Triton that compiles for a GPU which is not there")
CODE = runpy.run_path(str(Path(__file__).with_name("gpu_code.py")))
KERNELS = CODE["kernels"]()
Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """All kernels, compiled in one process."""
    found: Found = CODE["gpu_code"](tmp_path_factory.mktemp("triton"))
    return found


def test_the_kernels_compile_and_spill_no_register(compiled: Found) -> None:
    assert {code["name"] for code in compiled} == {kernel.name for kernel in KERNELS}
    for code in compiled:
        print(code)
        assert code["spills"] == 0, code
        assert 0 < code["registers"] <= 255, code
        assert code["warps_resident"] >= 8, code


def test_every_kernel_of_the_package_is_compiled() -> None:
    """A kernel is what is launched; functions that kernels call are compiled with them."""
    interpreter = runpy.run_path(str(Path(__file__).with_name("triton_interpreter.py")))
    named = {kernel.function.partition(".")[0] for kernel in KERNELS}
    assert {name.rpartition(".")[2] for name in interpreter["kernel_modules"]()} == named
