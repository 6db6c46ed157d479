"""What NVIDIA's compiler makes of the Triton kernels, found without a GPU: registers, spills, instructions.

    python tests/gpu_code.py        a JSON list, one object for each line of kernels() and each architecture

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
BOTH = (90, 80)  # sm_90: H100, H200; sm_80: A100, whose tensor cores are addressed in another way
THREADS = 32  # of a warp
REGISTERS, SHARED, WARPS = 65536, 228 * 1024, 64  # of one processor of an H200


class Kernel(NamedTuple):
    """One way to compile a kernel: the types of its arguments in order, constants by name."""

    function: str  # "exact_kernels.gaussian_sum", in wsssbench.ops
    types: str  # of arguments that are no constants: "*fp32 i32", and "i32:16" for a multiple of 16
    constants: dict[str, Any]
    architectures: tuple[int, ...] = (90,)
    warps: int = 4
    stages: int = 3

    @property
    def name(self) -> str:
        return f"{self.function}({', '.join(f'{k}={v}' for k, v in self.constants.items())})"


def kernels() -> list[Kernel]:
    """All that is compiled: a line for each kernel and set of constants that matters (d = 5, 21 channels)."""
    from wsssbench.ops import exact_triton as exact
    from wsssbench.ops.lattice_triton import TILES

    def pairs(d: int, block: int) -> dict[str, int]:
        return {"DIMENSIONS": d, "ROWS": exact.ROWS, "COLUMNS": exact.COLUMNS[block], "CHANNELS": block}

    exact_sum, planes = "exact_kernels.gaussian_sum", "*fp32 *fp32 *fp32 *fp32 i32 i32:16"
    lattice, lists = "lattice_triton_kernels", "*fp32 i32 *i32 *fp32 *i32 *i32 *fp32 i32"
    update, tables = "mean_field_triton_kernels.update", "*fp32 *i32 *fp32"
    step = f"*fp32 *fp32 *fp32 i32 i32 i32 {tables} i32 {tables}"
    corners, rows, listed, read = {"S": 6}, {"CHANNELS": 32}, TILES.listed // 32, TILES.read
    middle = {"FIRST": False, "LAST": False, "NEAR": 3, "FAR": 6}
    return [
        Kernel(exact_sum, f"{planes} i32", pairs(5, 32), BOTH),
        Kernel(exact_sum, f"{planes} i32", pairs(8, 64)),
        Kernel(exact_sum, planes, {"channels": 1, **pairs(5, 16)}),
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


def gpu_code(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """(name, architecture) -> what `measured` says, for all kernels(); Triton's cache goes into `folder`."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {(found["name"], found["architecture"]): found for found in json.loads(done.stdout)}


# ------------------------------------------------------------------------------- in the process of its own


def measured(kernel: Kernel, architecture: int, cubin: Path) -> dict[str, Any]:
    """Registers a thread, shared bytes a program, spilling instructions, resident warps, instructions of
    the whole and of the largest innermost loop by name (one thread's, without suffixes)."""
    from triton import knobs

    compiled = compiled_for(kernel, architecture)
    cubin.write_bytes(compiled.asm["cubin"])
    tool = [knobs.nvidia.cuobjdump.path, "-sass", "--dump-resource-usage"]
    dump = subprocess.run([*tool, cubin], check=True, capture_output=True, text=True).stdout
    whole, usage = instructions(dump), re.search(r"REG:(\d+)", dump)
    assert usage
    registers, shared = int(usage[1]), int(compiled.metadata.shared)
    everything, loop = (Counter(name for _, name, _ in part) for part in (whole, largest_loop(whole)))
    return {
        "name": kernel.name,
        "architecture": architecture,
        "registers": registers,
        "shared_bytes": shared,
        "spills": everything["STL"] + everything["LDL"],
        "warps_resident": resident_warps(registers, shared, kernel.warps),
        "instructions": dict(everything.most_common()),
        "loop": dict(loop.most_common()),
    }


def compiled_for(kernel: Kernel, architecture: int) -> Any:
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
    options = {"num_warps": kernel.warps, "num_stages": kernel.stages, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", architecture, THREADS), options=options)


def instructions(sass: str) -> list[tuple[int, str, str]]:
    """(address, name without suffixes, operands) of every instruction."""
    lines = re.finditer(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+ )?([A-Z0-9]+)(\S*)\s*([^;]*);", sass)
    return [(int(line[1], 16), line[2], line[4]) for line in lines]


def largest_loop(whole: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    """The instructions of the largest loop that holds no other: a loop ends with a branch to before it."""
    branches = [(re.search(r"0x(\w+)", operands), at) for at, name, operands in whole if name == "BRA"]
    loops = [(int(to[1], 16), at) for to, at in branches if to and int(to[1], 16) < at]
    inner = [a for a in loops if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    bodies = [[x for x in whole if first <= x[0] <= last] for first, last in inner]
    return max(bodies, key=len, default=[])


def resident_warps(registers: int, shared: int, warps: int) -> int:
    """How many warps a processor of an H200 holds at once; registers are given out by eights."""
    by_registers = REGISTERS // (-(-registers // 8) * 8 * THREADS * warps)
    return warps * min(by_registers, SHARED // (shared + 1024), WARPS // warps)


if __name__ == "__main__":
    scratch = Path(os.environ["TRITON_CACHE_DIR"])
    scratch.mkdir(parents=True, exist_ok=True)
    every = [(kernel, architecture) for kernel in kernels() for architecture in kernel.architectures]
    print(json.dumps([measured(*pair, scratch / f"{number}.cubin") for number, pair in enumerate(every)]))
