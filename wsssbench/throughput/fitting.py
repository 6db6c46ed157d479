"""Fits the steps of a recipe as far as a measurement needs them, in a folder that goes with it.

A step that learns from the step before is fitted twice: once on blank outputs, to see which images its first
steps ask for, and then on real ones of just these, which were made before the clock ran.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from wsssbench.artifacts import ArtifactFolder
from wsssbench.machine.hardware import Hardware
from wsssbench.planning.cells import PlannedStep, Trial
from wsssbench.plugins.contract import as_predictor
from wsssbench.throughput.chain import links_of, read_pictures, run_links
from wsssbench.throughput.clock import Clock
from wsssbench.throughput.measuring_context import MeasuringContext
from wsssbench.types import Artifacts, Dataset, Kind, Maps, Outputs, Predictor, View

BLANK_STRIDE = 8  # of blank maps and probabilities


@dataclass
class Fitter:
    """The fits of one trial below `folder`, by the clock."""

    trial: Trial
    hardware: Hardware
    clock: Clock
    folder: Path
    say: Callable[[str], None]
    predictors: dict[str, Predictor] = field(default_factory=dict)  # by key, in the order of the recipe

    def fit_all(self) -> None:
        """Fit every step; a step that occurs twice is fitted once for each place."""
        for planned in self.trial.steps:
            self.say(f"{self.trial.method}: {planned.name} starts")
            given = self._lessons(planned)
            self.predictors[planned.key] = self._fit(planned, given, self.clock, "steps")

    def _fit(self, planned: PlannedStep, given: Artifacts, clock: Clock, place: str) -> Predictor:
        workdir = self.folder / place / planned.folder.name
        workdir.mkdir(parents=True, exist_ok=True)
        ctx = MeasuringContext.of(
            self.trial, replace(planned, folder=workdir), self.hardware, None, self.say,
            step_limit=clock.laps, clock=clock, owner=planned.name,
        )  # fmt: skip
        return as_predictor(planned.step.fit(self._view(planned), given, ctx))

    def _view(self, planned: PlannedStep) -> View:
        return View(self.trial.dataset, self.trial.dataset.card.fit_split, planned.step.card.supervision)

    def _lessons(self, planned: PlannedStep) -> Artifacts:
        """What the step learns from, of the images that it asks for; made now, on disk as in a run."""
        before, kinds = planned.before, planned.learns_from
        if before is None or not kinds:
            return ArtifactFolder(self.folder / "none")
        asked = NotedIds(self.trial.dataset, self._view(planned).ids, kinds)
        self._fit(planned, asked, Clock(self.clock.protocol, self.clock.tools), "rehearsal")
        self.say(f"{self.trial.method}: {before.name} labels {len(asked.ids)} images for {planned.name}")
        lessons = ArtifactFolder(self.folder / "lessons" / planned.folder.name, asked.ids)
        links, size = links_of(before, kinds), self.clock.protocol.predict_batch
        for first in range(0, len(asked.ids), size):
            pictures = read_pictures(self.trial.dataset, asked.ids[first : first + size], tags_given=True).to(
                self.hardware.device
            )
            found = run_links(links, self.predictors, pictures)
            for id, outputs in zip(pictures.ids, found, strict=True):
                lessons.write(id, outputs, kinds)
        return lessons.only(kinds)


class NotedIds:
    """Artifacts that say nothing, and note of which images they were asked."""

    def __init__(self, dataset: Dataset, every: Sequence[str], kinds: Collection[Kind]) -> None:
        self.dataset, self.every, self.kinds = dataset, every, kinds
        self._asked: dict[str, None] = {}

    @property
    def ids(self) -> tuple[str, ...]:
        """In the order in which they were asked for first."""
        return tuple(self._asked)

    def __len__(self) -> int:
        return len(self.every)

    def __getitem__(self, id: str) -> Outputs:
        self._asked[id] = None
        return blank_outputs(self.dataset, id, self.kinds)


def blank_outputs(dataset: Dataset, id: str, kinds: Collection[Kind]) -> Outputs:
    """The named kinds of outputs that hold the contract and say nothing of the image."""
    height, width = dataset.image(id).shape[:2]
    tags = dataset.tags(id)
    grid = (-(-height // BLANK_STRIDE), -(-width // BLANK_STRIDE))
    classes, planes = np.flatnonzero(tags), len(tags) + 1
    blank = Outputs(
        maps=Maps(classes, np.zeros((len(classes), *grid), np.float32)),
        probs=np.full((planes, *grid), 1 / planes, np.float32),
        labels=np.zeros((height, width), np.uint8),
        mined=np.zeros((height, width), np.uint8),
        tag_scores=np.asarray(tags, np.float32),
    )
    return replace(Outputs(), **{kind: getattr(blank, kind) for kind in kinds})
