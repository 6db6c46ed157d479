"""A step whose training processes share, used by tests as a plugin: small, slow or failing as asked."""

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from wsssbench import distributed
from wsssbench.train import Schedule, load_checkpoint, make_optimizer, train
from wsssbench.training.crops import CropBatches, CropRule
from wsssbench.types import Outputs, StepCard, option


@dataclass(frozen=True)
class PairConfig:
    """Options of `pair`."""

    steps: int = option(6, "optimisation steps")
    batch: int = option(6, "images per step")
    fail: bool = option(False, "the second process fails at the third step")
    pause: float = option(0.0, "seconds that a step takes", key=False)


class Pair:
    """A linear classifier of mean colours; what it has learned decides one label for everything."""

    Config = PairConfig
    presets: ClassVar = {}
    card = StepCard("pair", "1", "one-step", ("tags",), ("labels",))
    trains_together = True

    def __init__(self, config):
        self.config = config

    def net(self, ctx):
        torch.manual_seed(ctx.seed("init"))
        return torch.nn.Linear(3, len(ctx.card.class_names))

    def fit(self, view, given, ctx):
        c, net, steps = self.config, self.net(ctx), []
        plan = Schedule(c.steps, 0.05, optimizer="sgd")
        group = distributed.group()

        def losses(batch):
            time.sleep(c.pause)
            steps.append(1)
            if c.fail and len(steps) == 3 and (group is None or group.rank == 1):
                raise ValueError("a bad day")
            logits = net(batch.images.float().mean((2, 3)) / 255)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.tags)
            return {"total": loss, "cls": loss}

        crops = CropBatches(view, CropRule(24), c.batch, ctx.seed("crops"))
        train(ctx, "pair", net, make_optimizer(net, [], plan), crops, losses, plan)
        return self.restored(net)

    def restore(self, ctx):
        net = self.net(ctx)
        load_checkpoint(ctx.workdir / "ckpt" / "pair.pt", net, None)
        return self.restored(net)

    def restored(self, net):
        label = int(net.bias.argmax()) + 1

        def predict(images, tags, given, want):
            return [Outputs(labels=np.full(image.shape[1:], label, np.uint8)) for image in images]

        return predict


class Flaky(Pair):
    """`pair`, failing."""

    card = StepCard("flaky", "1", "one-step", ("tags",), ("labels",))

    def __init__(self, config):
        self.config = PairConfig(fail=True)
