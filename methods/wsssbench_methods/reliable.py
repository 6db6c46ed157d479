"""RRM's reliable labels as a step of its own: from the maps of any localizer the pixels that may teach.

It shows what the rule makes of maps, whoever drew them, and at which share of pixels; training on the labels
belongs to other steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.errors import WsssError
from wsssbench.masks import tagged_maps
from wsssbench.nets.batching import by_size
from wsssbench.nets.heads import resize
from wsssbench.planning.stages import sigma_scale
from wsssbench.types import Artifacts, Context, Kind, Maps, Outputs, Predictor, Step, StepCard, View
from wsssbench_methods.rrm.reliable_rule import ReliableRule, RuleOptions, labels_at_scale


class ReliablePredictor(Predictor):
    """Labels of the reliable pixels, 255 elsewhere; the classes are those that the maps are of, and that are
    tagged where tags are given."""

    def __init__(self, config: RuleOptions, ctx: Context) -> None:
        self.rule, self.ctx = ReliableRule.of(config), ctx

    def __call__(
        self,
        images: Sequence[Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> Sequence[Outputs]:
        with self.ctx.phase("mining"):
            every = [None] * len(images) if tags is None else list(tags)
            maps = [_tagged(*each) for each in zip(given, every, strict=True)]
            return by_size(images, lambda stack, members: self._mined(stack, [maps[i] for i in members]))

    def _mined(self, stack: Tensor, given: Sequence[Maps]) -> list[Outputs]:
        size, classes = stack.shape[-2:], len(self.ctx.card.class_names)
        cams = torch.zeros(len(stack), classes, *size)
        tagged = torch.zeros(len(stack), classes, dtype=torch.bool)
        for i, maps in enumerate(given):
            chosen = torch.from_numpy(maps.classes.astype(np.int64))
            if len(chosen):
                planes = torch.from_numpy(maps.values.astype(np.float32))
                cams[i, chosen] = resize(planes[None], size)[0]
                tagged[i, chosen] = True
        every = torch.ones_like(stack[:, 0], dtype=torch.bool)
        labels = labels_at_scale(
            stack, cams.to(stack.device), tagged.to(stack.device), self.rule, every,
            backend=self.ctx.filter_backend, scale=sigma_scale(self.ctx.card),
            most_tags=max(len(maps.classes) for maps in given),
        )  # fmt: skip
        return [Outputs(labels=mask, mined=mask) for mask in labels.cpu().numpy()]


def _tagged(given: Outputs, tags: NDArray[np.bool_] | None) -> Maps:
    if given.maps is None:
        hint = "put a step that gives maps before it"
        raise WsssError("the reliable step was given no maps", where="reliable", hint=hint)
    return tagged_maps(given.maps, tags)


class Reliable(Step):
    """Reliable labels of RRM (Zhang et al., AAAI 2020, section 3.2) from the maps of the step before."""

    Config = RuleOptions
    card = StepCard(
        name="reliable",
        version="1",
        role="refiner",
        supervision=(),
        takes=("maps",),
        gives=("labels", "mined"),
        paper="Zhang et al., Reliability Does Matter, AAAI 2020, arXiv 1911.08039",
    )

    def fit(self, train: View, given: Artifacts, ctx: Context) -> ReliablePredictor:
        return ReliablePredictor(self.config, ctx)

    def restore(self, ctx: Context) -> ReliablePredictor:
        return ReliablePredictor(self.config, ctx)
