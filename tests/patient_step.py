"""A step that trains a very small network by the loop of all steps, slowly: used by tests of interruptions.

steps/starts.txt tells how often a training began; `fault` makes it fail or die in the middle.
"""

import os
import signal
import time
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from wsssbench.train import Schedule, make_optimizer, train
from wsssbench.training.crops import CropBatches, CropRule
from wsssbench.types import Maps, Outputs, StepCard, option


@dataclass(frozen=True)
class PatientConfig:
    """Options of `patient`."""

    steps: int = option(6, "steps of the training")
    seconds: float = option(0.0, "seconds that a step takes longer than it must", key=False)
    fault: str = option("", "what happens at the second step: fail, die, or nothing")
    threshold: float = option(0.5, "map value above which a pixel is foreground")


class Patient:
    """Maps are the planes of a convolution of one pixel, learned from tags."""

    Config = PatientConfig
    presets: ClassVar = {}
    card = StepCard("patient", "1", "localizer", ("tags",), ("maps",))

    def __init__(self, config):
        self.config = config

    def fit(self, train_view, given, ctx):
        with (ctx.workdir.parent / "starts.txt").open("a") as starts:
            starts.write(f"{ctx.workdir.name} {ctx.run_seed}\n")
        torch.manual_seed(ctx.seed("weights"))
        net = nn.Conv2d(3, len(ctx.card.class_names), 1).to(ctx.device)
        plan = Schedule(self.config.steps, 0.05)
        batches = CropBatches(train_view, CropRule(16, (0.7, 1.3)), 2, ctx.seed("crops"))
        train(ctx, "patient", net, make_optimizer(net, [], plan), batches, self.losses(net, ctx), plan)
        torch.save(net.state_dict(), ctx.workdir / "net.pt")
        return self.predictor(net)

    def losses(self, net, ctx):
        steps = []

        def losses(batch):
            steps.append(1)
            if len(steps) == 2 and self.config.fault:
                self.fault()
            time.sleep(self.config.seconds)
            images = batch.images.float() / 255
            logits = net(images + 0.1 * torch.rand_like(images)).mean((2, 3))
            loss = F.binary_cross_entropy_with_logits(logits, batch.tags)
            return {"total": loss, "cls": loss}

        return losses

    def fault(self):
        if self.config.fault == "die":
            print("about to die", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("the fault that was asked for")

    def restore(self, ctx):
        net = nn.Conv2d(3, len(ctx.card.class_names), 1)
        net.load_state_dict(torch.load(ctx.workdir / "net.pt", weights_only=True))
        return self.predictor(net.to(ctx.device))

    def predictor(self, net):
        def predict(images, tags, given, want):
            with torch.no_grad():
                planes = [net(image[None].float() / 255)[0].sigmoid().cpu().numpy() for image in images]
            own = [range(len(p)) for p in planes] if tags is None else [row.nonzero()[0] for row in tags]
            return [self.outputs(p, list(chosen)) for p, chosen in zip(planes, own, strict=True)]

        return predict

    def outputs(self, planes, chosen):
        import numpy as np

        return Outputs(maps=Maps(np.array(chosen, np.int64), planes[chosen]))
