"""The ceiling: the segmentation network of `rrm` from the same classifier, trained on true masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wsssbench.types import Artifacts, Context, StepCard, View
from wsssbench_methods.presets import FULL_PRESETS
from wsssbench_methods.segment_training import train_segmenter
from wsssbench_methods.segmenter import LabelledOptions, LabelledStep, SegmenterPredictor


@dataclass(frozen=True)
class FullConfig(LabelledOptions):
    """Options of `full`."""


class Full(LabelledStep):
    """A segmenter trained on true masks: what full supervision reaches with the same network and terms."""

    Config = FullConfig
    presets: ClassVar = FULL_PRESETS
    card = StepCard("full", "1", "control", supervision=("tags", "masks"), gives=("probs", "labels"))

    def fit(self, train: View, given: Artifacts, ctx: Context) -> SegmenterPredictor:
        net = self._network(self._classified_backbone(train, ctx), ctx)
        train_segmenter(net, train, self._segment_plan(), ctx)
        return SegmenterPredictor(net, ctx)
