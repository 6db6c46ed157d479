"""Options of a segmentation head, shared by every step that has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wsssbench.nets.segment_heads import HeadPlan
from wsssbench.types import option

PAPER = "RRM code, network/RRM.py"


@dataclass(frozen=True)
class HeadOptions:
    """The segmentation head beside (or instead of) the classifier's."""

    head_kind: Literal["dilated", "detail", "aspp"] = option(
        "dilated",
        "segmentation head: dilated as in RRM, aspp as in DeepLab-v2, or detail (small images)",
        origin=PAPER,
    )
    head_width: int = option(512, "channels of the segmentation head; aspp has none", origin=PAPER, low=1)
    head_dilation: int = option(12, "dilation of the segmentation head", origin=PAPER, low=1)


def head_plan(c: HeadOptions) -> HeadPlan:
    """The head that these options ask for."""
    return HeadPlan(c.head_kind, c.head_width, c.head_dilation)
