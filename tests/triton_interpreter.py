"""Triton's CPU interpreter inside the process of the tests, whatever was imported before.

TRITON_INTERPRET=1 works only if it is set before Triton is imported (and torchvision imports it), and the
processes that tests start would inherit it. Here the functions are exchanged instead and put back: every
@triton.jit function of the modules given, and those of Triton's own library that kernels call (tl.sum, ...).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OPS = Path(__file__).resolve().parents[1] / "wsssbench" / "ops"


def kernel_modules() -> list[str]:
    """The modules of wsssbench.ops that hold Triton kernels, by the decorator in their text."""
    holds = [path.stem for path in sorted(OPS.glob("*.py")) if "@triton.jit" in path.read_text("utf-8")]
    return [f"wsssbench.ops.{name}" for name in holds]


@contextmanager
def interpreted() -> Iterator[None]:
    """Inside, all kernels of wsssbench.ops run in the interpreter, on CPU tensors."""
    import triton
    from triton.runtime.interpreter import InterpretedFunction

    for name in kernel_modules():
        importlib.import_module(name)
    own = [module for name, module in sys.modules.items() if name.startswith("wsssbench.")]
    before = [(space, dict(vars(space))) for space in _of_triton()]
    knobs = vars(triton.knobs.runtime)  # setting an attribute sets TRITON_INTERPRET, for subprocesses too
    knobs_before = dict(knobs)
    exchanged = _exchange([*own, *_of_triton()])
    try:
        knobs["interpret"] = True
        yield
    finally:
        for space, name, function in exchanged:
            setattr(space, name, function)
        for space, names in before:  # the interpreter leaves some of its patches behind
            _put_back(space, names)
        knobs.clear()
        knobs.update(knobs_before)
        InterpretedFunction.rewritten_fn.clear()


def _of_triton() -> list[Any]:
    """Modules and classes of Triton that hold @triton.jit functions, or that the interpreter patches."""
    import triton.language as tl

    modules = [tl, tl.core, tl.standard, tl.math]
    return [*modules, tl.tensor, tl.dtype, tl.condition, tl.core.tensor_descriptor_base]


def _exchange(spaces: list[Any]) -> list[tuple[Any, str, Any]]:
    """Put one interpreted function for each compiled one, under all its names; what was there before."""
    from triton import JITFunction
    from triton.runtime.interpreter import InterpretedFunction

    names = [(space, name, value) for space in spaces for name, value in vars(space).items()]
    found = [item for item in names if isinstance(item[2], JITFunction)]
    new = {id(function): InterpretedFunction(function.fn) for _, _, function in found}
    for space, name, function in found:
        setattr(space, name, new[id(function)])
    return found


def _put_back(space: Any, names: dict[str, Any]) -> None:
    for name, value in dict(vars(space)).items():
        if name not in names:
            delattr(space, name)
        elif names[name] is not value:
            setattr(space, name, names[name])
