"""Joint training steps of rrm that are measured, and what stands for mining and energy where pydensecrf does
them in worker processes, as the released code could have been spread. Nothing is timed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from speed_peers import filtered_by_pydensecrf, mined_by_pydensecrf
from torch import Tensor

from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import Classifier, JointNet
from wsssbench.running.context import RunContext
from wsssbench.train import make_optimizer, one_step
from wsssbench.training.crops import Batch, CropBatches
from wsssbench.types import Dataset, View
from wsssbench_methods.rrm import joint
from wsssbench_methods.rrm.rrm_options import RrmConfig


def new_net(config: RrmConfig, classes: int, dropout: float = 0.0) -> JointNet:
    """The network of `config` with untrained weights, the same ones every time."""
    torch.manual_seed(0)
    classifier = Classifier(Backbone(config.backbone, config.output_stride), classes, dropout)
    return JointNet(classifier, config.head_plan()).train()


def new_step(data: Dataset, config: RrmConfig, ctx: RunContext) -> tuple[Callable[[], object], Batch]:
    """One joint step on a batch made now; untrained weights."""
    net = new_net(config, len(data.card.class_names))
    optimizer = make_optimizer(net.backbone, [net.head, net.segment], config.joint_schedule())
    batch = CropBatches(View(data, "train", ("tags",)), config.crop_rule(), config.batch, 1)(0)

    def losses(given: Batch) -> Any:
        return joint.joint_losses(net, given, config, ctx)

    return lambda: one_step(ctx, net, optimizer, losses, batch, 1.0, config.clip), batch


def mined_by_workers(pool: Any, scale: float) -> Callable[..., Tensor]:
    """What stands for `reliable_labels_batch`: the published procedure, an image a job."""

    def mine(images: Tensor, cams: Tensor, tags: Tensor, rule: object, **options: object) -> Tensor:
        pixels, maps, present = (tensor.cpu().numpy() for tensor in (images, cams, tags))
        classes = [np.flatnonzero(own) for own in present]
        planes = [np.ascontiguousarray(own[c]) for own, c in zip(maps, classes, strict=True)]
        jobs = [(image, own, scale) for image, own in zip(pixels, planes, strict=True)]
        found = []
        for label, own in zip(pool.starmap(mined_by_pydensecrf, jobs, chunksize=1), classes, strict=True):
            names = np.full(256, 255, np.uint8)
            names[: len(own) + 1] = [0, *(own + 1)]
            found.append(names[label])
        return torch.from_numpy(np.stack(found)).to(images.device)

    return mine


def filtered_by_workers(pool: Any) -> Callable[..., Callable[[Tensor], Tensor]]:
    """What stands for `gaussian_filter` in the energy: pydensecrf's lattice, an image a job."""

    def gaussian_filter(features: Tensor, *options: object) -> Callable[[Tensor], Tensor]:
        places: Sequence[Any] = features.cpu().numpy()

        def work(values: Tensor) -> Tensor:
            jobs = list(zip(places, values.detach().float().cpu().numpy(), strict=True))
            found = pool.starmap(filtered_by_pydensecrf, jobs, chunksize=1)
            return torch.from_numpy(np.stack(found)).to(values.device)

        return work

    return gaussian_filter
