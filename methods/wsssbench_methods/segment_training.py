"""How a segmentation network learns from label maps, given or true: losses, scales, and a check that it has
not collapsed. Which network it is, what it starts from, whose labels they are: the step's business."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wsssbench import distributed
from wsssbench.errors import TrainingFailed
from wsssbench.nets.heads import Segmenter, rescaled, resize
from wsssbench.train import Losses, Schedule, autocast, make_optimizer, train
from wsssbench.training.checks import warn
from wsssbench.training.crops import Batch, CropBatches, CropRule, LabelOf
from wsssbench.training.late_losses import on_its_way
from wsssbench.types import IGNORE, Context, View
from wsssbench_methods.rrm.losses import EnergyPlan, balanced_cross_entropy, energy_of

WINDOW = 20  # batches in a row that must be of one label before the network counts as collapsed
LABELS = 256  # that a byte can name
JUDGED = 0.75  # share of the steps after which that is judged: at the start every network says one thing
LEAST_STEPS = 200  # of a training that is judged: a trial of fewer is all start


@dataclass(frozen=True)
class SegmentPlan:
    """How a segmentation network is trained. Without `energy` the loss is plain cross-entropy."""

    schedule: Schedule
    crop: CropRule
    batch: int
    scales: tuple[float, ...] = (1.0,)  # of the image in the loss
    energy: EnergyPlan | None = None


def train_segmenter(
    net: Segmenter, view: View, plan: SegmentPlan, ctx: Context, label_of: LabelOf | None = None
) -> None:
    """Fit `net` to the masks of `view`, or to the labels (H, W) that `label_of` gives of a sample."""
    net.to(ctx.device)
    optimizer = make_optimizer(net.backbone, [net.segment], plan.schedule)
    crops = CropBatches(view, plan.crop, plan.batch, ctx.seed("crops"), label_of)
    check = CollapseCheck(plan.schedule.steps)

    def losses(batch: Batch) -> Losses:
        assert batch.labels is not None
        with ctx.phase("network"), autocast(ctx):
            every = multi_scale_logits(net, batch.images, plan.scales)
        check.note(every[0], batch.labels)
        return segment_losses(every, batch, plan, ctx)

    train(ctx, "segmenter", net, optimizer, crops, losses, plan.schedule, check)


def multi_scale_logits(
    net: Callable[[Tensor], Tensor], images: Tensor, scales: tuple[float, ...]
) -> list[Tensor]:
    """Logits of `images` (B, 3, S, S) at each scale and, of several, their elementwise maximum: float32.

    The first is that of scale 1; the maximum is taken on its grid (DeepLab-v2's training with MSC).
    """
    ordered = sorted(scales, key=lambda scale: scale != 1.0)
    every = [net(rescaled(images, scale)).float() for scale in ordered]
    if len(every) > 1:
        grid = every[0].shape[-2:]
        every.append(torch.stack([every[0], *(resize(e, grid) for e in every[1:])]).amax(0))
    return every


def segment_losses(every: list[Tensor], batch: Batch, plan: SegmentPlan, ctx: Context) -> Losses:
    """The sum of each logits' loss, at the size of the crop, and the energy of those of scale 1."""
    assert batch.labels is not None
    labels, size = batch.labels, batch.images.shape[-2:]
    up = [resize(logits, size) for logits in every]
    loss = cross_entropy if plan.energy is None else balanced_cross_entropy
    ce = torch.stack([loss(logits, labels) for logits in up]).sum()
    if plan.energy is None:
        return {"total": ce}
    with ctx.phase("energy"):
        energy = energy_of(up[0], batch.images, batch.valid, labels, plan.energy, ctx)
    return {"total": ce + energy, "ce": ce, "energy": energy}


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labelled pixels, a scalar; 0 where a batch has none, whose mean would be no number.

    logits (B, C, H, W) float32, labels (B, H, W) uint8 in {0..C-1, 255}. Where processes share a batch the
    mean is over the pixels of all of them.
    """
    total = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="sum")
    return total / distributed.normaliser((labels != IGNORE).sum().float(), len(labels))


class CollapseCheck:
    """Stops a run whose network says one label everywhere, and one that was given no label to learn from.

    In the last quarter of the steps, the last WINDOW batches count: all predicted as one and the same label
    while their labels have others. In a training of fewer than LEAST_STEPS that is a word on stderr.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.seen: deque[Tensor] = (
            deque()
        )  # of the batches that are noted and not yet reported, the oldest first
        self.single: list[tuple[int, set[int]]] = []  # batches in a row: the one label said, those to learn
        self.noted, self.labelled, self.warned = 0, False, False

    @property
    def memory(self) -> list[Any]:
        """What a resumed training must know, as plain lists and numbers."""
        single = [[label, sorted(labels)] for label, labels in self.single]
        return [self.noted, self.labelled, single]

    @memory.setter
    def memory(self, known: list[Any]) -> None:
        self.noted, self.labelled, single = known
        self.single = [(label, set(labels)) for label, labels in single]

    def note(self, logits: Tensor, labels: Tensor) -> None:
        """Look at one batch: logits (B, C, h, w), labels (B, H, W) in {0..C-1, 255}."""
        self.seen.append(seen_by_all(logits, labels))

    def _count(self, seen: Tensor) -> None:
        """A batch of which `seen_by_all` said that."""
        said, known = (set(part.nonzero().flatten().tolist()) for part in seen[:-1].chunk(2))
        if len(said) == 1 and not seen[-1]:
            self.single = [*self.single[-WINDOW + 1 :], (min(said), known - {IGNORE})]
        else:
            self.single = []
        self.noted += 1
        self.labelled = self.labelled or bool(known - {IGNORE})

    def __call__(self, losses: Losses, step: int) -> None:
        self._count(self.seen.popleft())
        if self.noted == WINDOW and not self.labelled:
            raise TrainingFailed(
                f"no pixel of the first {WINDOW} batches has a label to learn from",
                where=f"step {step}",
                hint="look at what the step before gives: `wsssbench run --stages pseudo`",
            )
        said = {label for label, _ in self.single}
        others = {label for _, labels in self.single for label in labels} - said
        if step >= JUDGED * self.steps and len(self.single) == WINDOW and len(said) == 1 and others:
            self._collapsed(_name(min(said)), len(others), step)

    def _collapsed(self, label: str, others: int, step: int) -> None:
        """The end of the training; in one too short for a verdict, a warning."""
        what = f"the last {WINDOW} batches are {label} everywhere, their labels have {others} more"
        if self.steps >= LEAST_STEPS:
            raise TrainingFailed(
                f"the segmentation collapsed: {what}",
                where=f"step {step}",
                hint="lower the learning rate (option lr), or look at the labels: `--stages pseudo`",
            )
        if not self.warned:
            self.warned = True
            warn(f"{what} [step {step}]; a training of {LEAST_STEPS} steps or more stops at that")


def seen_by_all(logits: Tensor, labels: Tensor) -> Tensor:
    """(513,) bool on the host once the step is reported: which labels of 0..255 the logits say, which
    `labels` have, and whether a logit is not finite; of the whole batch, whoever shares it."""
    flags = torch.zeros(2 * LABELS + 1, dtype=torch.bool, device=logits.device)
    flags[:LABELS].index_fill_(0, logits.detach().argmax(1).flatten(), True)
    flags[LABELS:].index_fill_(0, labels.flatten().long(), True)
    flags[-1] = ~torch.isfinite(logits.detach()).all()
    group = distributed.group()
    return on_its_way(flags) if group is None else torch.tensor(group.any_of(flags.tolist()))


def _name(label: int) -> str:
    return "background" if label == 0 else f"label {label}"
