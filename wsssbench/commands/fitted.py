"""A fitted run from its record and the steps' folders: the predictors of its recipe, and labels from them.

The data set itself is not needed: what was learned from is named by the record. Nothing is trained here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
import numpy as np

from wsssbench.artifacts import as_kept
from wsssbench.errors import BadData, WsssError
from wsssbench.identity import Record, Stage, StepIdentity
from wsssbench.judging.cell_judging import judged_labels
from wsssbench.machine.hardware import Hardware, resolve_hardware
from wsssbench.planning.cells import PlannedStep, Trial
from wsssbench.planning.plan import judged_kind
from wsssbench.planning.settings import load_settings
from wsssbench.planning.stages import SEVERAL_VIEWS
from wsssbench.planning.staleness import stale_keys
from wsssbench.plugins.contract import as_predictor
from wsssbench.plugins.options import build_config
from wsssbench.plugins.table import Plugins
from wsssbench.records.store import FITTED, RECORD, check_claim, read_record
from wsssbench.running.fits import chain_of
from wsssbench.running.predicting import looks_up
from wsssbench.running.screen.progress import Progress
from wsssbench.running.step_runner import StepRunner
from wsssbench.types import DatasetCard, Kind, Outputs, Predictor
from wsssbench.verifying.recorded import RecordedData, planned_as_recorded, recorded_crf, recorded_stage

if TYPE_CHECKING:
    from wsssbench.types import Image, Mask

    Seen: TypeAlias = tuple[Image, Outputs]  # an image and what the step before said of it

MOST_PIXELS = 2**24  # of images that go through a step together: 16 of 1,024 x 1,024


class FittedRun:
    """The predictors of one cell's recipe, restored, and the terms that its maps become labels by."""

    def __init__(self, cell: Path, device: str | None, plugins: Plugins) -> None:
        file = cell / RECORD if cell.is_dir() else cell
        record = read_record(file)
        _check_record(record, file)
        self.stale = bool(stale_keys([record], plugins))  # the code has changed since
        identity, terms = record.identity, record.identity.terms
        hardware = resolve_hardware(load_settings(None, {"device": device}))
        self.hardware = Hardware(hardware.device, identity.precision, identity.filter_backend)
        data: Any = RecordedData(record)
        self.card: DatasetCard = data.card
        chosen = record.scores.get("threshold", {})  # by a policy that is not fixed
        self.threshold = {**identity.threshold, **chosen} if identity.threshold else None
        self.stage = dataclasses.replace(
            recorded_stage(terms, {}, "seg"),
            version=terms.stage_version,
            judged="seg",
            tags_given=False,
            crf=recorded_crf(terms),
            scales=terms.scales,
            flip=terms.flip,
        )
        # runs/<dataset>/<method>/seed0/<cell>/record.json and runs/<dataset>/steps
        base = file.resolve().parents[3] / "steps"
        steps = planned_as_recorded(record, base, [rebuilt_step(known, plugins) for known in identity.recipe])
        trial = Trial(record.method, data, identity.seed, steps)
        self.kind = _label_kind(steps[-1], self.stage, file)
        self.steps = needed_steps(steps[-1])
        runner = StepRunner(self.hardware, terms.limit, Progress(quiet=True))
        self.predictors = [restored(runner, trial, step) for step in self.steps]
        if any(map(looks_up, self.predictors)):
            raise _no_model(file)
        if self.stage.multi_scale:
            _check_views(self.stage, steps[-1], file)
            from wsssbench.running.scales import MultiScale

            self.predictors[-1] = MultiScale(self.predictors[-1], terms.scales, flip=terms.flip)

    def labels(self, images: Iterable[Image]) -> Iterator[Mask]:
        """(H, W) labels of each image, in {0..K, 255}; of images that the cell judged, the judged ones.

        As many images go through a step together as when the cell is judged: the last bits depend on that.
        """
        wants: list[tuple[Kind, ...]] = [*(step.takes for step in self.steps[1:]), (self.kind,)]
        found: Iterator[Seen] = ((image, Outputs()) for image in images)
        for predictor, want in zip(self.predictors, wants, strict=True):
            found = self._said(predictor, want, found)
        for image, outputs in found:
            (labels,) = judged_labels(
                self.stage,
                self.card,
                [outputs],
                [image],
                threshold=self._cut() if self.kind == "maps" else None,
                tags=None,
                backend=self.hardware.filter_backend,
                device=self.hardware.device,
            )
            yield labels

    def _said(self, predictor: Predictor, want: Sequence[Kind], before: Iterator[Seen]) -> Iterator[Seen]:
        """Each image with what a step says of it, as the next step or the judge would read it from disk."""
        import torch

        for batch in together(before, predictor.images_per_call):
            pixels = [torch.from_numpy(np.ascontiguousarray(i.transpose(2, 0, 1))) for i, _ in batch]
            given = [outputs for _, outputs in batch]
            said = predictor([p.to(self.hardware.device) for p in pixels], None, given, frozenset(want))
            for (image, _), outputs in zip(batch, said, strict=True):
                yield image, as_kept(outputs, want, "predicting")

    def _cut(self) -> float:
        """The threshold of the record, or the step's own where the cell did not judge maps."""
        if self.threshold is not None:
            return float(self.threshold["value"])
        own = self.steps[-1].step.default_threshold()
        assert own is not None  # planned_threshold asked for it
        return own


def open_fitted(cell: Path, device: str | None, plugins: Plugins) -> FittedRun:
    """The fitted run of a cell; stderr says where the code of its steps has changed since."""
    fitted = FittedRun(cell, device, plugins)
    if fitted.stale:
        click.echo("the code of this run's steps has changed since it was fitted", err=True)
    return fitted


def together(seen: Iterator[Seen], most: int) -> Iterator[list[Seen]]:
    """`seen` in lists of at most `most`; fewer where they are so large that memory could run out."""
    batch: list[Seen] = []
    for one in seen:
        if batch and sum(image[..., 0].size for image, _ in (*batch, one)) > MOST_PIXELS:
            yield batch
            batch = []
        batch.append(one)
        if len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch


def needed_steps(last: PlannedStep) -> tuple[PlannedStep, ...]:
    """The steps that have to run for the outputs of `last`: it, and those that it takes something from."""
    chain = chain_of(last)
    first = max(i for i, planned in enumerate(chain) if not planned.takes)
    return tuple(chain[first:])


def _check_record(record: Record, file: Path) -> None:
    if any(step.name.startswith("import:") for step in record.identity.recipe):
        raise _no_model(file)
    if "dataset" not in record.provenance:
        raise BadData("the record does not say which classes there are", where=file, hint="run it again")


def _check_views(stage: Stage, judged: PlannedStep, file: Path) -> None:
    """WsssError where an older rule has turned what the step was given: its labels cannot be made again."""
    if judged.takes and stage.version != SEVERAL_VIEWS:
        what = f"{stage.name} was judged by version {stage.version} of testing at several scales and mirrored"
        hint = f"it is version {SEVERAL_VIEWS} now: run the cell again; nothing is fitted again"
        raise WsssError(what, where=file, hint=hint)


def _no_model(file: Path) -> BadData:
    hint = "name a cell of `wsssbench run`, of a method that segments"
    return BadData("the labels of this row came as files: there is no model to run", where=file, hint=hint)


def _label_kind(planned: PlannedStep, stage: Stage, file: Path) -> Kind:
    kind = judged_kind(planned, stage)
    if kind is None:
        hint = "name a cell of the stage `seg`"
        raise WsssError(f"{planned.name} gives nothing that {stage.name} can use", where=file, hint=hint)
    return kind


def rebuilt_step(known: StepIdentity, plugins: Plugins) -> Any:
    """The step with the options of the record. Files of weights are left out: the checkpoint holds them."""
    group: Any = (
        "steps" if plugins.find("steps", known.name) or not plugins.find("methods", known.name) else "methods"
    )
    cls = plugins.load(group, known.name)
    options = {k: v for k, v in known.config.items() if not (isinstance(v, dict) and set(v) == {"sha256"})}
    step = cls(build_config(known.name, cls, options))
    if step.card.version != known.version:
        raise WsssError(
            f"step {known.name} is version {step.card.version} now, the run was made by {known.version}",
            where=known.name,
            hint="install the version of then, or run again",
        )
    return step


def restored(runner: StepRunner, trial: Trial, planned: PlannedStep) -> Predictor:
    """The fitted step from its folder; WsssError where that is gone."""
    if not (planned.folder / FITTED).is_file():
        raise WsssError(
            f"the fitted step {planned.name} is not there: removed by `wsssbench clean`, or never copied",
            where=planned.folder,
            hint="run the method again; what else is done stays done",
        )
    check_claim(planned.folder, planned.key)
    return as_predictor(planned.step.restore(runner.context(trial, planned)))
