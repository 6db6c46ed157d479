"""What a plan asks of a step before anything runs: whether it can run here, and without tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wsssbench.types import DatasetCard

if TYPE_CHECKING:
    from wsssbench.plan import PlannedStep


def check_ready(step: Any, card: DatasetCard, filter_backend: str) -> None:
    """Raise what `step.ready()` and `step.ready_on(card, filter_backend)` raise, where the step has them."""
    if hasattr(step, "ready"):
        step.ready()
    if hasattr(step, "ready_on"):
        step.ready_on(card, filter_backend)


def why_mining_fails(planned: PlannedStep) -> str:
    """Why a step cannot predict without tags, or "": it, or one that it takes from, takes mined labels."""
    if planned.before is None or not planned.takes:
        return ""
    if "mined" in planned.takes:
        return f"{planned.name} takes mined labels, which are made only where tags are given"
    return why_mining_fails(planned.before)
