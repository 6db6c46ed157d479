"""Modules that can be called: `wsssbench.report(...)`, `wsssbench.compare(...)` are functions of the API and
rooms of the house by one name. Once the room is imported, its module stands in the function's place.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module whose call is that of the function of its name in `wsssbench.api`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from wsssbench import api

        return getattr(api, self.__name__.rpartition(".")[2])(*args, **kwargs)


def make_callable(module: str) -> None:
    """Let the imported module of this name be called as the function of its last name in `wsssbench.api`."""
    sys.modules[module].__class__ = CallableModule
