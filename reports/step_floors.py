"""What a joint training step of RRM's preset `paper` asks of a GPU: arithmetic and bytes of its network.

Counted, not measured, on tensors without memory: operations by torch's counter; bytes as if every operation
read its inputs once and wrote its outputs once, in bf16. `python reports/step_floors.py` writes
reports/performance/step_floors.json, which reports/performance.py shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import Classifier, JointNet, rescaled
from wsssbench.plugins.options import build_config
from wsssbench_methods.rrm.step import Rrm

OUT = Path(__file__).resolve().parent / "performance" / "step_floors.json"
TERAFLOPS, TERABYTES = 790.0, 4.3  # a second: of bf16 products and of copies, as measured on an H200
CLASSES, FLOAT = 20, 4  # bytes
STREAMS = 5  # SGD reads weight, gradient and momentum, and writes weight and momentum
FREE = (
    "view",
    "detach",
    "slice",
    "transpose",
    "expand",
    "empty",
    "t.",
    "squeeze",
    "permute",
    "alias",
    "as_str",
)


class Traffic(TorchDispatchMode):
    """Adds up bytes of all operations inside, those of convolutions apart, and counts the operations."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = self.others = self.operations = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = operation(*args, **(kwargs or {}))
        name = operation.name().partition("::")[2].lstrip("_")
        if not f"{name}.".startswith(FREE):
            moved = sum(tensor.numel() * tensor.element_size() for tensor in _tensors([args, out]))
            self.operations += 1
            self.convolutions += moved if "conv" in name else 0
            self.others += 0 if "conv" in name else moved
        return out


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for each in value for t in _tensors(each)] if isinstance(value, list | tuple) else []


def in_bf16(net: JointNet) -> JointNet:
    """As autocast has it: convolutions in bfloat16, norms in float32."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.bfloat16()
    for name in ("mean", "std"):  # the division of the pixels, then, is in bfloat16 too
        setattr(net.backbone, name, getattr(net.backbone, name).bfloat16())
    return net


def counted(what: str, work: Callable[[], object]) -> dict[str, Any]:
    """A line of the page."""
    with FlopCounterMode(display=False) as arithmetic:
        work()
    with Traffic() as traffic:
        work()
    return {
        "what": what,
        "tflop": round(arithmetic.get_total_flops() / 1e12, 2),
        "gb": round((traffic.convolutions + traffic.others) / 1e9, 1),
        "elementwise_gb": round(traffic.others / 1e9, 1),
        "operations": traffic.operations,
    }


def main() -> None:
    c = build_config("rrm", Rrm, {"preset": "paper"})
    with torch.device("meta"):
        classifier = Classifier(Backbone(c.backbone, c.output_stride), CLASSES, c.dropout)
        net = in_bf16(JointNet(classifier, c.head_plan()).train())
        pixels = torch.empty(c.batch, 3, c.crop, c.crop, dtype=torch.uint8)
    net.backbone.body.register_forward_pre_hook(lambda module, given: (given[0].bfloat16(),))

    def step() -> None:
        tags, _, logits = net.joint(pixels)
        (tags.sum() + logits.sum()).backward()

    @torch.no_grad()
    def maps(scale: float) -> None:
        net.class_maps(rescaled(pixels, scale))

    size = sum(parameter.numel() for parameter in net.parameters())
    lines = [counted("forward and backward, scale 1, all heads", step)]
    lines += [counted(f"maps at scale {s:g}, forward", lambda s=s: maps(s)) for s in c.cam_scales if s != 1]
    gb = round(STREAMS * FLOAT * size / 1e9, 1)
    sgd = {"what": "SGD, fused, float32", "tflop": 0.0, "gb": gb, "elementwise_gb": gb, "operations": 1}
    speeds = {"teraflops_a_second": TERAFLOPS, "terabytes_a_second": TERABYTES}
    what = f"batch {c.batch} of {c.crop}x{c.crop}, {c.backbone}, {size / 1e6:.0f} million parameters"
    OUT.write_text(json.dumps({**speeds, "what": what, "lines": [*lines, sgd]}, indent=1) + "\n")
    print(OUT.read_text())


if __name__ == "__main__":
    main()
