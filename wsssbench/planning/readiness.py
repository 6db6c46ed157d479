"""What a plan checks before anything runs: whether a step can predict without tags, and slow filters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsssbench.types import DatasetCard

if TYPE_CHECKING:
    from wsssbench.machine.hardware import Hardware
    from wsssbench.planning.cells import PlannedStep

SLOW_PX = 250  # a CRF of 100 x 100 pixels and 21 labels took 84 s by the exact filter on two cores: x 39 here


def why_mining_fails(planned: PlannedStep) -> str:
    """Why a step cannot predict without tags, or "": it, or one that it takes from, takes mined labels."""
    if planned.before is None or not planned.takes:
        return ""
    if "mined" in planned.takes:
        return f"{planned.name} takes mined labels, which are made only where tags are given"
    return why_mining_fails(planned.before)


def slow_filter(card: DatasetCard, hardware: Hardware) -> list[str]:
    """A warning where a filter would take an hour and more for one image of the data set."""
    if hardware.filter_backend != "exact" or hardware.device != "cpu" or card.image_px < SLOW_PX:
        return []
    what = "--filter exact sums over all pairs of pixels: on a CPU the CRF of one image of"
    return [f"warning: {what} {card.name} ({card.image_px} px) takes an hour or more; lattice takes seconds"]
