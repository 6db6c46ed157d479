"""What the filters ask of a GPU: bytes that the Triton kernels load and store on real crops, and their code.

Counted, not measured: from the number of vertices of each lattice and the shapes of the arrays, every load
and store once, as if there were no cache. `python reports/gpu_floors.py` (with the shared reference crops)
writes reports/performance/gpu_floors.json, which reports/performance.py shows.
"""

from __future__ import annotations

import json
import math
import os
import runpy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsssbench.ops.gaussian import bilateral_features, spatial_features
from wsssbench.ops.lattice_torch import TorchLatticeFilter
from wsssbench.ops.lattice_triton import TILES, power_of_two

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "reports" / "performance" / "gpu_floors.json"
CROPS = (6, 0, 3, 9)  # golden cases of 321 x 321, with 1, 2, 3 and 1 tagged classes
FLOAT, INT, KEY = 4, 4, 8  # bytes
TERABYTES = 4.3  # a second: of copies, as measured on an H200
SORT_PASSES = 8  # of a radix sort over keys of 64 bits
STARTED_BUILD, STARTED_STEP = 3, 1  # kernels that build a lattice; that end a mean-field step


@dataclass(frozen=True)
class Counted:
    """A lattice in numbers, shared by `copies` images or holding a whole batch."""

    points: int
    corners: int
    vertices: int
    segments: int
    copies: int = 1

    @classmethod
    def of(cls, features: Tensor, copies: int = 1) -> Counted:
        lattice = TorchLatticeFilter(features)
        owned = torch.bincount(lattice._ids.flatten(), minlength=lattice._vertices)
        cuts = lattice._ids.numel() // TILES.segment  # lists are cut at round places, too
        return cls(*lattice._ids.shape, lattice._vertices, int((owned > 0).sum()) + cuts, copies)

    @property
    def entries(self) -> int:
        return self.points * self.corners

    def build(self) -> int:
        """Embedding, sorting, numbering, and finding neighbours by bisection."""
        embed = self.points * FLOAT * (self.corners - 1) + self.entries * (FLOAT + KEY)
        sort = SORT_PASSES * 2 * self.entries * (KEY + KEY)
        number = self.entries * (3 * KEY + 4 * INT + 4 * FLOAT)
        find = self.vertices * 2 * self.corners * (KEY * math.ceil(math.log2(self.vertices)) + INT)
        return embed + sort + number + find

    def splat_and_blur(self, channels: int) -> int:
        row = FLOAT * channels
        splat = self.entries * (INT + FLOAT + row) + 2 * self.segments * row + self.vertices * row
        return self.copies * (splat + self.corners * self.vertices * (2 * INT + 4 * row))

    def slice(self, channels: int) -> int:
        return self.copies * self.entries * (INT + FLOAT + FLOAT * channels)

    @property
    def started(self) -> int:
        """Kernels of splatting and blurring."""
        return 2 + self.corners


def mean_field(
    images: Tensor, labels: int, alternatives: int, xy: float, rgb: float, iterations: int = 10
) -> tuple[int, int]:
    """Bytes and started kernels of dense CRFs over (B, H, W, 3) images."""
    batch, height, width, _ = images.shape
    far = Counted.of(bilateral_features(images, xy, rgb))
    near = Counted.of(spatial_features(1, height, width, 3.0, images.device), batch)
    channels = power_of_two(alternatives * power_of_two(labels))
    one = FLOAT * far.points
    both = sum(x.splat_and_blur(channels) + x.slice(channels) for x in (near, far))
    step = both + one * (alternatives * labels + channels)
    start = far.build() + far.splat_and_blur(1) + far.slice(1) + 3 * far.entries * FLOAT
    steps = iterations * (near.started + far.started + STARTED_STEP) + STARTED_STEP
    return start + iterations * step, STARTED_BUILD + far.started + 1 + steps


def energy(images: Tensor, classes: int, xy: float, rgb: float) -> tuple[int, int]:
    """Bytes and started kernels of the dense energy of (B, H, W, 3) images, forward and backward."""
    lattice, channels = Counted.of(bilateral_features(images, xy, rgb)), power_of_two(classes)
    planes = FLOAT * lattice.points * classes
    filtered = lattice.splat_and_blur(channels) + lattice.slice(channels)
    around = 9 * planes + 2 * FLOAT * lattice.points * channels  # rows, factors, sum, gradient
    return lattice.build() + filtered + around, STARTED_BUILD + lattice.started + 1


def crops() -> Tensor:
    """(4, 321, 321, 3) uint8."""
    base = Path(os.environ.get("WSSSBENCH_SHARED") or ROOT.parent / "shared")
    found = [np.load(base / f"golden/rrm/reliable_{case:02d}.npz")["image"] for case in CROPS]
    return torch.from_numpy(np.stack(found))


def _in_short(code: dict[str, Any]) -> dict[str, Any]:
    """A compiled kernel, its instructions as one number."""
    whole = {name: value for name, value in code.items() if name != "loop"}
    return whole | {"instructions": sum(code["instructions"].values())}


def main() -> None:
    images = crops()
    wide = torch.nn.functional.interpolate(images.permute(0, 3, 1, 2), (375, 500), mode="bilinear")
    works = {
        "reliable labels of 4 crops of 321x321": (mean_field(images, 4, 2, 80, 13), 10.0),
        "dense energy of 4 crops of 160x160, 21 classes, forward and backward": (
            energy(images[:, :320:2, :320:2], 21, 50, 15),
            5.0,
        ),
        "dense CRF of 4 images of 500x375, 21 labels, 10 iterations": (
            mean_field(wide.permute(0, 2, 3, 1).contiguous(), 21, 1, 83, 5),
            40.0,
        ),
    }
    lines = [
        {"what": what, "bytes": moved, "kernels": started, "bar_ms": bar}
        for what, ((moved, started), bar) in works.items()
    ]
    with TemporaryDirectory() as scratch:
        gpu_code = runpy.run_path(str(ROOT / "tests" / "gpu_code.py"))["gpu_code"]
        code = [_in_short(each) for each in gpu_code(Path(scratch))]
    found = {"terabytes_a_second": TERABYTES, "lines": lines, "code": code}
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written: {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
