"""WRN-38, the wide residual network with 38 layers that PSA, SEAM and RRM share ("resnet38d" in their code),
dilated to an output stride of 8. Names of modules are our own; files that use others are in `wrn38_names`.

Facts: Wu, Shen and van den Hengel, "Wider or Deeper", 2016 (model A1); RRM code, network/resnet38d.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from wsssbench.nets.wrn38_names import BESIDES, mxnet_name, official_name


class PreActivationBlock(nn.Module):
    """BatchNorm - ReLU - convolution, once per entry of `widths`, around a shortcut.

    Where the shapes differ the shortcut is a 1x1 convolution on the first ReLU's output, else the input.
    Dropout2d acts after every ReLU but the first.
    """

    def __init__(
        self,
        inputs: int,
        widths: tuple[int, ...],
        kernels: tuple[int, ...],
        dilations: tuple[int, ...],
        stride: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        before = (inputs, *widths[:-1])
        strides = (stride, *(1 for _ in widths[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in before)
        self.convs = nn.ModuleList(map(_conv, before, widths, kernels, strides, dilations))
        self.drop = nn.Dropout2d(dropout)
        same = stride == 1 and inputs == widths[-1]
        self.shortcut = None if same else _conv(inputs, widths[-1], 1, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.norms[0](x), inplace=True)
        y = self.convs[0](activated)
        for index in range(1, len(self.convs)):
            y = self.convs[index](self.drop(F.relu(self.norms[index](y), inplace=True)))
        out: Tensor = y + (x if self.shortcut is None else self.shortcut(activated))
        return out


class WideResNet38(nn.Sequential):
    """(B, 3, H, W) normalised -> (B, 4096, H / 8, W / 8) after BatchNorm and ReLU; 105 million parameters.

    Every convolution trains unless `freeze_early` is called: RRM sets `not_training = []`
    (network/RRM.py).
    """

    file_layouts: ClassVar[tuple[Callable[[str], str], ...]] = (official_name, mxnet_name)
    besides: ClassVar[frozenset[str]] = BESIDES  # what files may hold beside the backbone

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 64, 3, 1, 1)
        self.stage2 = _plain_stage(64, (128, 128), 3, stride=2)
        self.stage3 = _plain_stage(128, (256, 256), 3, stride=2)
        self.stage4 = _plain_stage(256, (512, 512), 6, stride=2)
        self.stage5 = _plain_stage(512, (512, 1024), 3, first_dilation=1, dilation=2)
        self.stage6 = nn.Sequential(_bottleneck(1024, 2048, dropout=0.3))
        self.stage7 = nn.Sequential(_bottleneck(2048, 4096, dropout=0.5))
        self.norm = nn.BatchNorm2d(4096)
        self.relu = nn.ReLU(inplace=True)

    def freeze_early(self) -> None:
        """Stop training the first convolution and stage 2, as PSA and SEAM do (network/resnet38_cls.py)."""
        self.stem.requires_grad_(False)
        self.stage2.requires_grad_(False)


def _conv(inputs: int, outputs: int, kernel: int, stride: int, dilation: int) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)


def _plain_stage(
    inputs: int,
    widths: tuple[int, int],
    count: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    first_dilation: int = 0,
) -> nn.Sequential:
    """`count` blocks of two 3x3 convolutions; the stage's first convolution may have its own dilation."""
    head = (first_dilation or dilation, dilation)
    first = PreActivationBlock(inputs, widths, (3, 3), head, stride)
    rest = (PreActivationBlock(widths[1], widths, (3, 3), (dilation,) * 2) for _ in range(count - 1))
    return nn.Sequential(first, *rest)


def _bottleneck(inputs: int, outputs: int, *, dropout: float) -> PreActivationBlock:
    widths = (outputs // 4, outputs // 2, outputs)
    return PreActivationBlock(inputs, widths, (1, 3, 1), (1, 4, 1), dropout=dropout)
