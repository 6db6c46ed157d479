"""What is said of cells, a line each: in which states they are, how one went, why one failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wsssbench.errors import WsssError
from wsssbench.records.store import has_result

if TYPE_CHECKING:
    from wsssbench.identity import Record
    from wsssbench.planning.cells import Cell


def counted(cells: Sequence[Cell]) -> str:
    """How many cells are in which state: `3 done, 1 skip`."""
    states = [cell.state for cell in cells]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def reason_of(error: BaseException, trace: Path) -> str:
    """One line on why a cell failed."""
    reason = ", ".join([str(error).strip().partition("\n")[0], *getattr(error, "__notes__", ())])
    return reason if isinstance(error, WsssError) else f"{type(error).__name__}: {reason} (see {trace})"


def cell_line(cell: Cell, record: Record, seconds: float, hint: str = "") -> str:
    """How a cell went, in `seconds`: its mIoU, or why it failed and the next step."""
    if record.status == "failed":
        stays = "\n  the result that it had before stays" if has_result(cell.folder) else ""
        return f"FAILED {cell.title}: {record.reason}{stays}" + (f"\n  next: {hint}" if hint else "")
    miou = record.scores["iou"]["miou"]
    shown = "undefined" if miou is None else f"{miou:.1f}"  # no pixel of the split has a truth
    return f"{cell.title}: mIoU {shown}  ({seconds:.0f} s)"
