"""Where the package pydensecrf can be had; nothing of it is imported."""

from __future__ import annotations

import sys

PYTHON = sys.version_info[:2]


DENSECRF_PYTHON = (3, 12)  # the newest that pydensecrf2 1.1 builds on: it pins Cython 0.29.36


def densecrf_hint() -> str:
    """What to do where the package pydensecrf is missing."""
    if PYTHON > DENSECRF_PYTHON:
        return f"pydensecrf2 does not build on Python {PYTHON[0]}.{PYTHON[1]}; use --filter lattice"
    return "pip install 'wsssbench[pydensecrf]' (builds with a C++ compiler), or --filter lattice"
