"""What `--isolate` means before anything is run: is there a sandbox, would it show the data set, and which
cells have to be run again because they were not made in one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsssbench.errors import WsssError
from wsssbench.running.isolation.marks import lacks_isolation
from wsssbench.running.isolation.sandbox import check_sandbox, visible_folders
from wsssbench.running.isolation.strangers import IsolatedPlugins

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsssbench.planning.cells import Cell
    from wsssbench.planning.settings import Settings
    from wsssbench.plugins.table import Plugins
    from wsssbench.running.isolation.boxed import Isolation


def isolated_plugins() -> Plugins:
    """The plugins of an isolated run. WsssError where there is no sandbox."""
    check_sandbox()
    return IsolatedPlugins()


def isolated_cells(cells: Sequence[Cell], settings: Settings) -> list[Cell]:
    """The cells of an isolated run: what was made without a sandbox is missing. WsssError where a sandbox
    would show the data set."""
    check_hidden(settings.dataset_options)
    judged = ("done", "stale")
    return [
        replace(cell, state="missing") if cell.state in judged and lacks_isolation(cell.folder) else cell
        for cell in cells
    ]


def open_isolation(wanted: bool, say: Callable[[str], None]) -> AbstractContextManager[Isolation | None]:
    """The boxes of a run; None where none are wanted."""
    if not wanted:
        return nullcontext()
    from wsssbench.running.isolation.boxed import Isolation

    return Isolation(check_sandbox(), say)


def check_hidden(options: Mapping[str, Mapping[str, Any]]) -> None:
    """WsssError where a place that a data set's options name lies in a folder that every sandbox shows."""
    for name, given in options.items():
        for key, place in _places(given):
            shown = next((f for f in visible_folders() if f == place or f in place.parents), None)
            if shown is not None:
                hint = "move the data elsewhere: the interpreter or the system needs that folder"
                what = f"a sandbox would show this data: it lies in {shown}"
                raise WsssError(what, where=f"{name}.{key} = {place}", hint=hint)


def _places(given: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    for key, value in given.items():
        values: Iterable[Any] = value if isinstance(value, (list, tuple)) else (value,)
        for text in values:
            if isinstance(text, (str, Path)) and str(text) and Path(text).expanduser().exists():
                yield key, Path(text).expanduser().resolve()
