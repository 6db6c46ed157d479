"""A network small enough to be trained in a test of the training loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """A convolution, BatchNorm and dropout: everything that a resumed run could get wrong."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(images.float() / 255).mean((2, 3)))
        return out
