"""Tables of performance.md that are counted for a GPU, not measured: floors, and the compiled kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Row = dict[str, str]


def parts(filters: Any, step: Any, table: Callable[..., str]) -> Iterator[str]:
    """The least that filters and a training step could take, and what the compiler makes of the kernels."""
    if filters:
        yield "## On a GPU: floors of the filters"
        speed = filters["terabytes_a_second"]
        yield f"Bytes that the kernels load and store, counted, at {speed} TB/s (H200), as without a cache."
        yield table(filter_rows(filters))
        yield (
            "What Triton and NVIDIA's compiler make of the kernels, no GPU needed (`tests/gpu_code.py`); "
            "warps are those that one processor of an H200 holds at a time, of 64."
        )
        yield table(map(code_row, filters["code"]))
    if step:
        yield "## On a GPU: floors of a training step of the paper"
        speeds = (step["teraflops_a_second"], step["terabytes_a_second"])
        yield (
            "Counted, {}: arithmetic at {:g} TFLOP/s in bf16, what is no convolution by its bytes at {} TB/s "
            "(large products and copies on an H200). Mining, energy and decoding come on top."
        ).format(step["what"], *speeds)
        yield table(step_rows(step))


def code_row(code: Mapping[str, Any]) -> Row:
    """One compiled kernel."""
    kernel, _, constants = code["name"].removesuffix(")").partition("(")
    numbers = ("registers", "shared_bytes", "spills", "warps_resident", "instructions")
    shown = {name.replace("_", " "): str(code[name]) for name in numbers}
    return {"kernel": f"`{kernel}`", "constants": constants, "for": f"sm_{code['architecture']}", **shown}


def filter_rows(floors: Mapping[str, Any]) -> Iterator[Row]:
    for line in floors["lines"]:
        least = line["bytes"] / floors["terabytes_a_second"] / 1e9
        bar = f"{line['bar_ms']:g} ms"
        row = {"what": line["what"], "bytes": f"{line['bytes'] / 1e9:.2f} GB", "floor": f"{least:.2f} ms"}
        yield {**row, "kernels": str(line["kernels"]), "bar": bar}


def step_rows(floors: Mapping[str, Any]) -> Iterator[Row]:
    """A row for each part of the step, and their sum."""
    names = ("tflop", "gb", "elementwise_gb", "operations")
    whole = {name: sum(line[name] for line in floors["lines"]) for name in names}
    for line in (*floors["lines"], {"what": "all", **whole}):
        products = line["tflop"] / floors["teraflops_a_second"] * 1e3
        others = line["elementwise_gb"] / floors["terabytes_a_second"]
        yield {
            "what": line["what"],
            "arithmetic": f"{line['tflop']:.2f} TFLOP",
            "its floor": f"{products:.1f} ms",
            "bytes besides convolutions": f"{line['elementwise_gb']:.1f} GB",
            "their floor": f"{others:.1f} ms",
            "operations": str(line["operations"]),
        }
