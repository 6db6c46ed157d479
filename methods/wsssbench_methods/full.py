"""The ceiling: the segmentation network of `rrm` from the same classifier, trained on true masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from wsssbench.nets.segment_heads import logit_stride
from wsssbench.types import Artifacts, Context, DatasetCard, Kind, Step, StepCard, View
from wsssbench_methods.classifier import check_network, check_trained, plan_of, shared_batches
from wsssbench_methods.presets import FULL_PRESETS
from wsssbench_methods.segment_training import train_segmenter
from wsssbench_methods.segmenter import (
    LabelledOptions,
    SegmenterPredictor,
    classified_backbone,
    new_segmenter,
    restored_segmenter,
    segment_plan,
)


@dataclass(frozen=True)
class FullConfig(LabelledOptions):
    """Options of `full`."""


class Full(Step):
    """A segmenter trained on true masks: what full supervision reaches with the same network and terms."""

    Config = FullConfig
    presets: ClassVar = FULL_PRESETS
    trains_together = True  # all processes that torchrun starts share its trainings
    card = StepCard("full", "1", "control", supervision=("tags", "masks"), gives=("probs", "labels"))

    def __init__(self, config: FullConfig) -> None:
        self.config = config
        self.card = replace(self.card, pretraining=config.pretraining if config.weights else "none")

    def ready(self) -> None:
        c = self.config
        trained = not c.classifier_steps
        check_network(self.card.name, c.backbone, c.output_stride, c.weights, trained=trained)

    def ready_on(self, card: DatasetCard, filter_backend: str) -> None:
        check_trained(plan_of(self.config), self.config.weights, card)

    def batches(self) -> Mapping[str, int]:
        return shared_batches(self.config)

    def stride_of(self, kind: Kind) -> float:
        return logit_stride(self.config.head_kind, self.config.output_stride)

    def fit(self, train: View, given: Artifacts, ctx: Context) -> SegmenterPredictor:
        net = new_segmenter(classified_backbone(self.config, train, ctx), self.config, ctx)
        train_segmenter(net, train, segment_plan(self.config), ctx)
        return SegmenterPredictor(net, ctx)

    def restore(self, ctx: Context) -> SegmenterPredictor:
        return restored_segmenter(self.config, ctx)
