"""A few layers of WRN-38, small enough for weight files in a test."""

from __future__ import annotations

from torch import nn

from wsssbench.nets.wrn38 import PreActivationBlock, WideResNet38


class Narrow(nn.Sequential):
    """A few layers of WRN-38 with few channels, under the same names."""

    file_layouts = WideResNet38.file_layouts
    besides = WideResNet38.besides

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, bias=False)
        self.stage2 = nn.Sequential(PreActivationBlock(4, (4, 8), (3, 3), (1, 1), 2))
        self.norm = nn.BatchNorm2d(8)
