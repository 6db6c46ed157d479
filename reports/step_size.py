"""Does momentum kill the classifier of RRM's joint training, or the size of the step? Prints the table of
step_size.md: four settings of SGD from one trained classifier, the classification loss of each.

python reports/step_size.py VOC_ROOT WEIGHTS CLASSIFIER, the last a classifier.pt that a run of
`rrm` with preset mobilenet left in its runs folder (steps/classifier-*/ckpt).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from wsssbench.plugins.options import build_config
from wsssbench.running.context import RunContext
from wsssbench.train import make_optimizer, one_step
from wsssbench.training.checkpoints import load_checkpoint
from wsssbench.training.crops import CropBatches
from wsssbench.types import View
from wsssbench_datasets.voc12.dataset import Voc12
from wsssbench_methods.classifier import new_classifier
from wsssbench_methods.rrm.joint import joint_losses
from wsssbench_methods.rrm.step import Rrm

SETTINGS = ((7e-4, 0.9), (7e-3, 0.0), (7e-4, 0.0), (7e-5, 0.9))  # learning rate, momentum
SMALL = {"preset": "mobilenet", "optimizer": "sgd", "clip": 0.0, "batch": 4, "cam_scales": (1.0,)}


def tag_losses(data: Voc12, options: dict[str, Any], classifier: Path, steps: int) -> list[float]:
    """The classification loss of each of `steps` joint steps at a constant rate."""
    config = build_config("rrm", Rrm, options)
    with tempfile.TemporaryDirectory() as folder:
        ctx = RunContext("cpu", "fp32", "lattice", data.card, Path(folder), None, 0, "rrm")
        step = Rrm(config)
        start = new_classifier(step.plan, "", ctx)
        load_checkpoint(classifier, start, None)
        net = step._joint(start, ctx).train()
        optimizer = make_optimizer(net.backbone, [net.head, net.segment], config.joint_schedule())
        crops = CropBatches(View(data, data.card.fit_split, ("tags",)), config.crop_rule(), config.batch, 1)
        found = []
        for number in range(steps):
            torch.manual_seed(number)
            losses = one_step(
                ctx, net, optimizer, lambda b: joint_losses(net, b, config, ctx), crops(number), 1.0, 0.0
            )
            found.append(float(losses["cls"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("classifier", type=Path)
    parser.add_argument("--steps", type=int, default=32)
    given = parser.parse_args()
    data = Voc12(build_config("voc12", Voc12, {"root": str(given.root)}), 0)
    print("| learning rate | momentum | mean of the first 3 | mean of the last 10 | largest |")
    print("|---|---|---|---|---|")
    for lr, momentum in SETTINGS:
        options = {**SMALL, "weights": str(given.weights), "lr": lr, "momentum": momentum}
        losses = tag_losses(data, options, given.classifier, given.steps)
        first, last = sum(losses[:3]) / 3, sum(losses[-10:]) / 10
        print(f"| {lr:g} | {momentum:g} | {first:.3f} | {last:.3f} | {max(losses):.3f} |", flush=True)


if __name__ == "__main__":
    main()
