"""The balanced cross-entropy of RRM."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from wsssbench.types import IGNORE


def balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """CE over background pixels plus CE over foreground pixels, each a mean of its own; a scalar.

    logits (B, C, H, W) float32, labels (B, H, W) uint8 in {0..C-1, 255}. The sum has weight 1 and is not
    halved (code, tool/myTool.py). A side without pixels adds nothing; the code's mean would be NaN (B6).
    """
    target = labels.long()
    each = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
    background = (target == 0).float()
    foreground = ((target != 0) & (target != IGNORE)).float()
    total: Tensor = sum(  # type: ignore[assignment]
        (each * side).sum() / side.sum().clamp(min=1) for side in (background, foreground)
    )
    return total
