"""What a plan consists of: steps with their keys, trials, and cells with their states."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsssbench.identity import RowIdentity, Stage, StepIdentity, content_key
from wsssbench.planning.made_by import judging_code
from wsssbench.planning.pretrained_choice import ChosenPreset
from wsssbench.types import KINDS, Dataset, Kind, Metric, Step

State = Literal["done", "stale", "failed", "missing", "skip"]


@dataclass(frozen=True)
class PlannedStep:
    """One step of a recipe with its key; equal keys share one fit."""

    name: str
    step: Step
    key: str
    identity: StepIdentity
    folder: Path
    before: PlannedStep | None
    preset: ChosenPreset | None = None  # that its weights asked for

    @property
    def gives(self) -> tuple[Kind, ...]:
        return self.step.card.gives

    @property
    def takes(self) -> tuple[Kind, ...]:
        """What it is given of the step before when it predicts."""
        return chosen_kinds(self.step.card.takes, self.before.gives if self.before else ())

    @property
    def learns_from(self) -> tuple[Kind, ...]:
        """What it is given of the step before when it is fitted."""
        return chosen_kinds(self.step.card.learns_from, self.before.gives if self.before else ())


@dataclass(frozen=True)
class Trial:
    """One recipe on one data set with one seed."""

    method: str
    dataset: Dataset
    seed: int
    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True)
class Cell:
    """One trial judged in one stage: one row of a table, one record."""

    trial: Trial
    stage: Stage
    split: str
    ids: tuple[str, ...]  # that are judged
    tuned_on: tuple[str, ...]  # images whose masks chose the threshold; none of them is judged
    identity: RowIdentity
    key: str
    folder: Path
    state: State
    reason: str = ""
    rerun: str = ""  # what was asked for: "stale" or "all" make its steps again
    metrics: tuple[Metric, ...] = ()  # iou first

    @property
    def judged_by(self) -> dict[str, str]:
        """The code that judges it today: name -> hash."""
        return judging_code(self.trial.dataset, self.stage, self.metrics)

    @property
    def title(self) -> str:
        return f"{self.trial.method} seed {self.trial.seed} {self.stage.name} on {self.split}"


def chosen_kinds(needs: Sequence[str], given: Collection[Kind]) -> tuple[Kind, ...]:
    """The kinds that stand for `needs` of a card: of "probs|maps" the first that is `given`."""
    every: list[Kind] = [kind for kind in KINDS if kind in given]
    found = (next((k for name in need.split("|") for k in every if k == name), None) for need in needs)
    return tuple(kind for kind in found if kind is not None)


def artifact_name(
    split: str, tags_given: bool, stage: Stage | None = None, part: Sequence[str] | None = None
) -> str:
    """Folder name of a step's outputs: `train-tags`, `val`, `val@0.5,1.0+flip-v2`.

    The views' version is in the name: what an older rule made of several is never taken for another's. Of a
    `part` of the split, some of its ids, outputs lie apart, as `train+part-1a2b3c4d`: their last bits depend
    on the images that they were predicted with.
    """
    name = f"{split}-tags" if tags_given else split
    name += "" if part is None else f"+part-{content_key(list(part))[:8]}"
    if stage is not None and stage.multi_scale:
        name += "@" + ",".join(map(str, stage.scales)) + ("+flip" if stage.flip else "")
        name += "" if stage.version == "1" else f"-v{stage.version}"
    return name
