"""The joint training of RRM: one loss of classification, balanced cross-entropy on reliable pixels, and gated
dense energy on the others. Networks are made and predictions drawn elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wsssbench.nets.backbones import IMAGENET_MEAN, IMAGENET_STD
from wsssbench.nets.heads import JointNet, multi_scale_cam, resize
from wsssbench.planning.stages import sigma_scale
from wsssbench.train import (
    AliveCheck,
    Losses,
    autocast,
    last_step,
    make_optimizer,
    patience_of,
    tag_frequencies,
    train,
)
from wsssbench.training.crops import Batch, CropBatches
from wsssbench.types import IGNORE, Context, View
from wsssbench_methods.rrm.losses import balanced_cross_entropy, energy_of, energy_plan
from wsssbench_methods.rrm.reliable_rule import ReliableRule, labels_at_scale
from wsssbench_methods.rrm.rrm_options import RrmConfig


def train_jointly(net: JointNet, view: View, c: RrmConfig, ctx: Context) -> None:
    """The joint steps: loss = classification + balanced CE + energy, each with weight 1."""
    plan = c.joint_schedule()
    net.to(ctx.device)
    optimizer = make_optimizer(net.backbone, [net.head, net.segment], plan)
    crops = CropBatches(view, c.crop_rule(), c.batch, ctx.seed("joint/crops"))
    patience = patience_of(len(view.ids), c.batch, last_step(plan, None, 0))
    alive = AliveCheck(tag_frequencies(map(view.tags, view.ids)), patience=patience)

    def losses(batch: Batch) -> Losses:
        return joint_losses(net, batch, c, ctx)

    train(ctx, "joint", net, optimizer, crops, losses, plan, alive)


def joint_losses(net: JointNet, batch: Batch, c: RrmConfig, ctx: Context) -> Losses:
    """The losses of one batch; the CAM's other scales run without gradient and with dropout, as the code."""
    with ctx.phase("network"), autocast(ctx):
        tag_logits, raw, logits = net.joint(batch.images)
        with torch.no_grad():
            cam = multi_scale_cam(net, batch.images, c.cam_scales, flip=False, first=raw.detach())
    colours = truncated(batch, c.crop_rule().padding) if c.truncate_colours else batch.images
    with ctx.phase("mining"):
        labels = mine(cam, colours, batch, c, ctx)
    up = resize(logits.float(), batch.images.shape[-2:])
    cls = F.multilabel_soft_margin_loss(tag_logits.float(), batch.tags)
    parts = {"cls": cls, "ce": balanced_cross_entropy(up, labels)}
    if c.energy_weight:
        with ctx.phase("energy"):
            plan = energy_plan(c, recompute_scale=bool(c.recompute_scale))
            parts["energy"] = energy_of(up, colours, batch.valid, labels, plan, ctx)
    total = torch.stack(list(parts.values())).sum()
    return {"total": total, **parts, **shares(labels, logits.detach())}


def shares(labels: Tensor, logits: Tensor) -> dict[str, Tensor]:
    """How the labels and the network's answer divide a batch: `mined`, the share of its pixels that have a
    label; `mined_objects`, the share that is labelled as an object; and `objects`, the share of the cells
    that the network calls an object. (B, H, W) labels, (B, C, h, w) logits; scalars in [0, 1].
    """
    known = labels != IGNORE
    return {
        "mined": known.float().mean(),
        "mined_objects": (known & (labels != 0)).float().mean(),
        "objects": (logits.argmax(1) != 0).float().mean(),
    }


@torch.no_grad()
def mine(cam: Tensor, colours: Tensor, batch: Batch, c: RrmConfig, ctx: Context) -> Tensor:
    """Sparse labels (B, S, S) uint8 in {0..K, 255} from CAMs (B, K, h, w), tags and two CRFs.

    `colours` (B, 3, S, S) uint8 is the image that the CRFs see.
    """
    rule = ReliableRule.of(c, label_padding=bool(c.label_padding))
    return labels_at_scale(
        colours, cam, batch.tags > 0, rule, batch.valid,
        backend=ctx.filter_backend, scale=sigma_scale(ctx.card), most_tags=batch.most_tags,
    )  # fmt: skip


def truncated(batch: Batch, padding: tuple[int, int, int]) -> Tensor:
    """The batch's images normalised, turned back and cut to integers in float32 (trap B13), uint8.

    Some values lose one on the way; padding becomes the cut mean colour, or stays black.
    """
    mean, std = (_colour(v, batch.images.device) / 255 for v in (IMAGENET_MEAN, IMAGENET_STD))
    normal = (batch.images.float() / 255 - mean) / std
    back = ((normal * std + mean) * 255).clamp(0, 255)
    empty = (mean * 255) * (1.0 if any(padding) else 0.0)
    return torch.where(batch.valid[:, None], back, empty).to(torch.uint8)


def _colour(values: tuple[float, float, float], device: torch.device) -> Tensor:
    """(3, 1, 1) float32, filled on the device: a copy of numbers of the host would wait for it."""
    return torch.stack([torch.full((1, 1), value, device=device) for value in values])
