"""What NVIDIA's compiler makes of the Triton kernels, found without a GPU: registers, spills, instructions.

    python tests/gpu_code.py        a JSON list, one object for each line of kernels()

Triton carries ptxas and cuobjdump, and compiles for an architecture that is named. `gpu_code` runs this file
in a process of its own, since kernels that are interpreted cannot be compiled.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = 90  # sm_90: H100, H200
THREADS, WARPS = 32, 4  # threads of a warp; warps of a program, Triton's default
REGISTERS, SHARED, MOST_WARPS = 65536, 228 * 1024, 64  # of one processor of an H200


class Kernel(NamedTuple):
    """One way to compile a kernel: the types of its arguments in order, constants by name."""

    function: str  # "lattice_triton_kernels.blur", in wsssbench.ops
    types: str  # of arguments that are not constants: "*fp32 i32", and "i32:16" for a multiple of 16
    constants: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.function}({', '.join(f'{k}={v}' for k, v in self.constants.items())})"


def kernels() -> list[Kernel]:
    """All that is compiled: a line for each kernel and set of constants that matters (d = 5, 21 channels)."""
    from wsssbench.ops.lattice_triton import TILES

    lattice, lists = "lattice_triton_kernels", "*fp32 i32 *i32 *fp32 *i32 *i32 *fp32 i32"
    update, tables = "mean_field_triton_kernels.update", "*fp32 *i32 *fp32"
    step = f"*fp32 *fp32 *fp32 i32 i32 i32 {tables} i32 {tables}"
    corners, rows, listed, read = {"S": 6}, {"CHANNELS": 32}, TILES.listed // 32, TILES.read
    middle = {"FIRST": False, "LAST": False, "NEAR": 3, "FAR": 6}
    return [
        Kernel(f"{lattice}.embed", "*fp32 *fp32 *i64 *fp32 *i64 i32 i32",
               {**corners, "COLUMNS": 8, "BLOCK": TILES.points}),
        Kernel(f"{lattice}.number", "*i64 *i64 *i32 *i32 *fp32 *i32 *fp32 *i32 *i32 *i32 *i64 *i32 i32",
               {**corners, "BLOCK": TILES.entries}),
        Kernel(f"{lattice}.neighbours", "*i64 *i64 *i32 *i32 i32 i32",
               {**corners, "COLUMNS": 8, "BLOCK": TILES.vertices}),
        *[Kernel(f"{lattice}.add_up", lists, {"GATHERED": TILES.segment == width, **rows,
                                              "SEGMENTS": listed // width, "WIDTH": width})
          for width in (TILES.segment, TILES.segments)],
        Kernel(f"{lattice}.blur", "*fp32 *fp32 *i32 *i32 i32", {**rows, "BLOCK": TILES.vertices}),
        Kernel(f"{lattice}.read_back", "*fp32 *i32 *fp32 *fp32 i32 fp32",
               {**corners, **rows, "BLOCK": read // 32}),
        Kernel(update, step, {**middle, "LABELS": 4, "CHANNELS": 8, "BLOCK": read // 4}),
        Kernel(update, step, {**middle, "LABELS": 32, "CHANNELS": 32, "BLOCK": read // 32}),
    ]  # fmt: skip


def gpu_code(folder: Path) -> list[dict[str, Any]]:
    """What `measured` says of all kernels(); Triton's cache goes into `folder`."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


# ------------------------------------------------------------------------------- in the process of its own


def measured(kernel: Kernel, cubin: Path) -> dict[str, Any]:
    """Registers a thread, shared bytes a program, spilling instructions, resident warps, instructions by name
    (one thread's, without suffixes)."""
    from triton import knobs

    compiled = compiled_for(kernel)
    cubin.write_bytes(compiled.asm["cubin"])
    tool = [knobs.nvidia.cuobjdump.path, "-sass", "--dump-resource-usage"]
    dump = subprocess.run([*tool, cubin], check=True, capture_output=True, text=True).stdout
    usage = re.search(r"REG:(\d+)", dump)
    assert usage
    registers, shared = int(usage[1]), int(compiled.metadata.shared)
    counted = Counter(re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z0-9]+)[^;]*;", dump))
    return {
        "name": kernel.name,
        "architecture": ARCHITECTURE,
        "registers": registers,
        "shared_bytes": shared,
        "spills": counted["STL"] + counted["LDL"],
        "warps_resident": resident_warps(registers, shared),
        "instructions": dict(counted.most_common()),
    }


def compiled_for(kernel: Kernel) -> Any:
    """Triton's compiled kernel, with pointers to multiples of 16 bytes, as torch gives them."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module, _, function = kernel.function.rpartition(".")
    jitted = getattr(import_module(f"wsssbench.ops.{module}"), function)
    variable = [name for name in jitted.arg_names if name not in kernel.constants]
    types = dict(zip(variable, kernel.types.split(), strict=True))
    round_ones = [name for name, type in types.items() if type.startswith("*") or type.endswith(":16")]
    attributes = {(jitted.arg_names.index(name),): [["tt.divisibility", 16]] for name in round_ones}
    signature = {name: types.get(name, "constexpr").removesuffix(":16") for name in jitted.arg_names}
    source = ASTSource(jitted, signature, kernel.constants, attributes)
    options = {"num_warps": WARPS, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", ARCHITECTURE, THREADS), options=options)


def resident_warps(registers: int, shared: int) -> int:
    """How many warps a processor of an H200 holds at once; registers are given out by eights."""
    by_registers = REGISTERS // (-(-registers // 8) * 8 * THREADS * WARPS)
    return WARPS * min(by_registers, SHARED // (shared + 1024), MOST_WARPS // WARPS)


if __name__ == "__main__":
    scratch = Path(os.environ["TRITON_CACHE_DIR"])
    scratch.mkdir(parents=True, exist_ok=True)
    found = [measured(each, scratch / f"{number}.cubin") for number, each in enumerate(kernels())]
    print(json.dumps(found))
