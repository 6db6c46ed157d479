"""Mining, dense CRF and dense energy beside the published procedures, and the memory of a batch.

How to run it, and what `extra_info` holds: conftest.py and speed_turns.py. The crops are real ones, with the
CAMs of the published code.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import speed_peers
import torch
from numpy.typing import NDArray
from speed_peers import mined_by_pydensecrf, pydensecrf, smooth_probs
from speed_turns import CORES, Peer, beside, needs_pydensecrf

from wsssbench.identity import CrfSet
from wsssbench.ops.energy import dense_energy
from wsssbench.ops.mean_field import mean_field
from wsssbench_methods.rrm.reliable_rule import ReliableRule, reliable_labels_batch

INFERENCE = CrfSet(*speed_peers.INFERENCE)
RULE = ReliableRule(variant="faithful")
# The published C++ energy of 4 crops took 0.07 s where pydensecrf's 321x321, 21-label CRF took 0.17 s.
PUBLISHED_ENERGY_PER_CRF = 0.07 / 0.17
Crops = list[dict[str, Any]]


def mining_batch(crops: Crops) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, CAMs and tags of the crops, as a training step has them: a plane for each of 20 classes."""
    cams, tags = torch.zeros(len(crops), 20, 321, 321), torch.zeros(len(crops), 20, dtype=torch.bool)
    for n, crop in enumerate(crops):
        cams[n, crop["tags"]] = torch.from_numpy(crop["cams"])
        tags[n, crop["tags"]] = True
    return torch.from_numpy(np.stack([crop["image"] for crop in crops])), cams, tags


def published(crops: Crops) -> list[NDArray[np.uint8]]:
    return [mined_by_pydensecrf(crop["image"], crop["cams"]) for crop in crops]


def equal_share(mined: torch.Tensor, crops: Crops) -> float:
    """The share of pixels at which ours and the published procedure give the same label."""
    theirs = []
    for crop, label in zip(crops, published(crops), strict=True):
        names = np.full(256, 255)
        names[: len(crop["tags"]) + 1] = [0, *(crop["tags"] + 1)]
        theirs.append(names[label])
    return float((mined.numpy() == np.stack(theirs)).mean())


@pytest.mark.benchmark(group="mining")
@pytest.mark.parametrize("cores", [CORES, 1])
def test_mining_a_batch_of_four(
    benchmark: Any, crops: Crops, threads: Callable[[int], None], cores: int
) -> None:
    needs_pydensecrf(benchmark)
    threads(cores)
    batch = mining_batch(crops)
    bars = {"bar": 3.0, "aim": 4.0} if cores == CORES else {}
    peers, same = [Peer("two runs of pydensecrf and numpy", lambda: published(crops), **bars)], 0.0
    several = benchmark.enabled and cores == CORES
    if benchmark.enabled:
        same = equal_share(reliable_labels_batch(*batch, RULE), crops)
        assert same > 0.999
    processes = multiprocessing.get_context("spawn")  # numba does not survive a fork
    pool: Any
    with processes.Pool(CORES) if several else nullcontext() as pool:
        if several:
            jobs = [(crop["image"], crop["cams"]) for crop in crops]
            peers.append(
                Peer(
                    f"the same on {CORES} processes",
                    lambda: pool.starmap(mined_by_pydensecrf, jobs, chunksize=1),
                )
            )
        beside(
            benchmark, "reliable labels of 4 crops", lambda: reliable_labels_batch(*batch, RULE), *peers,
            threads=cores, note=f"labels equal on {100 * same:.2f} % of the pixels",
        )  # fmt: skip


@pytest.mark.benchmark(group="mining")
@pytest.mark.parametrize("case", [0, 1, 2])
def test_mining_one_crop(benchmark: Any, crops: Crops, case: int) -> None:
    needs_pydensecrf(benchmark)
    own, count = crops[case : case + 1], len(crops[case]["cams"])
    batch, classes = mining_batch(own), "1 class" if count == 1 else f"{count} classes"
    beside(
        benchmark, f"reliable labels of 1 crop, {classes}", lambda: reliable_labels_batch(*batch, RULE),
        Peer("two runs of pydensecrf and numpy", lambda: published(own)), threads=CORES,
    )  # fmt: skip


@pytest.mark.benchmark(group="dense CRF")
@pytest.mark.parametrize(
    ("labels", "images", "cores", "bar"),
    [(21, 1, CORES, 2.0), (21, 1, 1, 0), (21, 4, CORES, 0), (3, 1, CORES, 0)],
)
def test_dense_crf(
    benchmark: Any,
    crops: Crops,
    threads: Callable[[int], None],
    labels: int,
    images: int,
    cores: int,
    bar: float,
) -> None:
    needs_pydensecrf(benchmark)
    threads(cores)
    probs, pictures = smooth_probs(labels), [crop["image"] for crop in crops[:images]]
    unary = (-torch.from_numpy(probs).clamp(1e-5, 1).log()).expand(images, -1, -1, -1).contiguous()
    image = torch.from_numpy(np.stack(pictures))
    what = f"dense CRF of {images} crop{'s' * (images > 1)}, {labels} labels, 10 iterations"
    beside(
        benchmark, what, lambda: mean_field(unary, image, INFERENCE),
        Peer("pydensecrf", lambda: [pydensecrf(probs, p, speed_peers.INFERENCE) for p in pictures], bar),
        threads=cores, rounds=5 if images > 1 else 9,
    )  # fmt: skip


@pytest.mark.benchmark(group="dense energy")
@pytest.mark.parametrize("cores", [CORES, 1])
def test_energy_of_four_crops(
    benchmark: Any, crops: Crops, threads: Callable[[int], None], cores: int
) -> None:
    needs_pydensecrf(benchmark)
    threads(cores)
    image = torch.from_numpy(np.stack([crop["image"] for crop in crops])).permute(0, 3, 1, 2).float()
    crf_probs = smooth_probs(21)
    probs = torch.from_numpy(crf_probs).expand(4, -1, -1, -1).contiguous().requires_grad_()
    roi, labels = torch.ones(4, 321, 321), torch.full((4, 321, 321), 255, dtype=torch.uint8)

    def forward_and_backward() -> None:
        probs.grad = None
        dense_energy(probs, image, roi, labels).backward()

    peer = Peer(
        "the published filter: 0.07 / 0.17 of a pydensecrf CRF of 21 labels",
        lambda: pydensecrf(crf_probs, crops[0]["image"], speed_peers.INFERENCE),
        bar=3.0 if cores == CORES else 0.0,
        factor=PUBLISHED_ENERGY_PER_CRF,
    )
    what = "dense energy of 4 crops at 160x160, 21 classes, forward and backward"
    beside(benchmark, what, forward_and_backward, peer, threads=cores, rounds=11)


# ----------------------------------------------------------------------------------------------- memory

MEMORY_OF_A_BATCH = """
import pathlib, sys
import numpy as np, torch
from wsssbench.ops.energy import dense_energy
from wsssbench.machine.process import use_machine
from wsssbench_methods.rrm.reliable_rule import reliable_labels_batch

def resident(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

def mine(images, cams, tags):
    reliable_labels_batch(images, cams, tags)

def energy(probs, images, roi, labels):
    dense_energy(probs, images, roi, labels).backward()

use_machine()
golden = [np.load(path) for path in sys.argv[2:]] * 2
images = torch.from_numpy(np.stack([g["image"] for g in golden]))
if sys.argv[1] == "mining":
    cams = torch.zeros(8, 20, 321, 321)
    for own, g in zip(cams, golden):
        own[g["tags"]] = torch.from_numpy(g["cam"].astype(np.float32))
    work, inputs = mine, [images, cams, cams.amax((2, 3)) > 0]
    small = [images[:1, :64, :64].contiguous(), cams[:1, :, :64, :64].contiguous(), inputs[2][:1]]
else:
    probs, roi = torch.rand(8, 21, 321, 321).softmax(1), torch.ones(8, 321, 321)
    planes = [probs, images.permute(0, 3, 1, 2).float(), roi]
    work, inputs = energy, [*planes, torch.full((8, 321, 321), 255, dtype=torch.uint8)]
    small = [x[:1, ..., :64, :64].contiguous() for x in inputs]
    inputs[0].requires_grad_(), small[0].requires_grad_()
work(*small)  # compiles or reads the compiled loops
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = resident("VmRSS")
work(*inputs)
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory as Linux tells it")
@pytest.mark.benchmark(group="memory")
@pytest.mark.parametrize("what", ["mining", "energy"])
def test_a_batch_of_eight_takes_less_than_300_mb_above_its_inputs(
    benchmark: Any, shared: Callable[[str], Path], what: str
) -> None:
    files = [str(shared(f"golden/rrm/reliable_{case:02}.npz")) for case in (6, 0, 3, 9)]
    command = [sys.executable, "-c", MEMORY_OF_A_BATCH, what, *files]
    found: list[float] = []

    def measure() -> None:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(float(done.stdout) * 1.048576)

    benchmark.pedantic(measure, rounds=2 if benchmark.enabled else 1)
    print(f"{max(found):.0f} MB")
    names = {
        "mining": "reliable labels of 8 crops",
        "energy": "dense energy of 8 crops, its gradient included",
    }
    benchmark.extra_info.update(what=names[what], memory={"mb": round(max(found)), "bar": 300})
    assert max(found) < 300
