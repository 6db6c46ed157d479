"""wsssbench: one protocol for weakly supervised semantic segmentation, from image tags to a table.

`wsssbench.run`, `score`, `report`, `compare` and their like are the commands as functions (`wsssbench.api`),
imported when they are used: `import wsssbench` alone imports nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wsssbench._version import __version__

if TYPE_CHECKING:
    from wsssbench.api.functions import (
        bench,
        compare,
        dry_run,
        find_errors,
        gate,
        inspect_weights,
        merge,
        mined,
        predict,
        prepare,
        report,
        run,
        score,
        verify,
        write_baseline,
    )
    from wsssbench.api.publishing import export_labels, export_records, paper, plot

__all__ = [
    "__version__",
    "bench",
    "compare",
    "dry_run",
    "export_labels",
    "export_records",
    "find_errors",
    "gate",
    "inspect_weights",
    "merge",
    "mined",
    "paper",
    "plot",
    "predict",
    "prepare",
    "report",
    "run",
    "score",
    "verify",
    "write_baseline",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wsssbench.api import functions as api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
