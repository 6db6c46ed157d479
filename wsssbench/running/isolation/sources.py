"""Where the class of a step is found, in words that another process understands: a module, or a file."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsssbench.plugins.code_hash import package_root
from wsssbench.plugins.sources import module_file


@dataclass(frozen=True)
class StepSource:
    """`value` is "module:attribute"; of a step in a local file, `file`, it is the class's name."""

    value: str
    file: str = ""

    def load(self) -> Any:
        """The class (or a recipe's tuple), imported now."""
        if self.file:
            from wsssbench.plugins.table import run_file

            return getattr(run_file(Path(self.file)), self.value)
        from importlib.metadata import EntryPoint

        return EntryPoint("step", self.value, "wsssbench.steps").load()

    @property
    def path(self) -> Path | None:
        """The file that defines it, found without importing it."""
        return Path(self.file) if self.file else module_file(self.value.partition(":")[0].strip())

    def packages(self) -> tuple[Path, ...]:
        """What has to be seen to import it: its top-level package, or its file alone."""
        if self.file or self.path is None:
            return ()
        root = package_root(self.path)
        return (root / self.path.resolve().relative_to(root).parts[0],)


def source_of(step: object) -> StepSource:
    """Where the class of `step` was loaded from."""
    cls = type(step)
    known: StepSource | None = getattr(cls, "source", None)
    if isinstance(known, StepSource):
        return known
    module = sys.modules[cls.__module__]
    if getattr(module, "__spec__", None) is not None and not cls.__module__.startswith("_wsssbench_file_"):
        return StepSource(f"{cls.__module__}:{cls.__qualname__}")
    return StepSource(cls.__qualname__, inspect.getfile(cls))
