"""The same network with less work: BatchNorm that is the identity goes into the convolution before it, and
dilated depthwise convolutions train as dense ones on the CPU, whose library has no fast gradient for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


def drop_folded_norms(body: nn.Module) -> None:
    """Replace every BatchNorm right after a convolution; its bias stays, fixed, as the convolution's own.

    Only for weights whose BatchNorm is folded (mean 0, variance 1, weight 1): elsewhere the rate of learning
    of the convolution would change with the scale that goes into it.
    """
    for parent in [layer for layer in body.modules() if isinstance(layer, nn.Sequential)]:
        for at in range(len(parent) - 1):
            conv, norm = parent[at], parent[at + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(conv.eval(), norm.eval())
                assert fused.bias is not None
                fused.bias.requires_grad_(False)
                parent[at], parent[at + 1] = fused, nn.Identity()


def ease_depthwise(body: nn.Module) -> None:
    """Let every dilated depthwise convolution of `body` train by `DilatedDepthwise`."""
    for parent in list(body.modules()):
        for name, conv in list(parent.named_children()):
            if type(conv) is nn.Conv2d and _is_dilated_depthwise(conv):  # others may pad in their own way
                setattr(parent, name, DilatedDepthwise(conv))


def _is_dilated_depthwise(conv: nn.Conv2d) -> bool:
    same = conv.groups == conv.in_channels == conv.out_channels and conv.stride == (1, 1)
    (dilation, across), (side, other), padding = conv.dilation, conv.kernel_size, conv.padding
    square = dilation == across and side == other and side % 2 == 1
    return same and dilation > 1 and square and padding == (dilation * (side // 2),) * 2


class DilatedDepthwise(nn.Conv2d):
    """A dilated depthwise convolution, as a dense one on the d x d grids that its dilation d separates.

    (B, C, H, W) -> (B, C, H, W), the same numbers up to rounding. The gradient of the dilated one takes
    eight times as long as that of a dense one on a CPU; elsewhere and without gradient nothing is rearranged.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        d, width, side = conv.dilation[0], conv.in_channels, conv.kernel_size[0]
        bias = conv.bias is not None
        super().__init__(width, width, side, 1, d * (side // 2), d, groups=width, bias=bias)
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not (torch.is_grad_enabled() and x.requires_grad):
            return super().forward(x)
        d, (batch, channels, height, width) = self.dilation[0], x.shape
        rows, columns = -(-height // d), -(-width // d)
        x = F.pad(x, (0, columns * d - width, 0, rows * d - height)).permute(0, 2, 3, 1)
        x = x.reshape(batch, rows, d, columns, d, channels).permute(0, 2, 4, 1, 3, 5)
        grids = x.reshape(batch * d * d, rows, columns, channels).permute(0, 3, 1, 2)
        border = self.kernel_size[0] // 2
        y = F.conv2d(grids, self.weight, self.bias, padding=border, groups=self.groups).permute(0, 2, 3, 1)
        y = y.reshape(batch, d, d, rows, columns, channels).permute(0, 3, 1, 4, 2, 5)
        y = y.reshape(batch, rows * d, columns * d, channels)[:, :height, :width]
        return y.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
