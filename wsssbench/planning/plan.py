"""Settings and plugins become recipes, steps and cells: each with its key and its state. Nothing is trained
here; a mistake found here ends with exit code 2 before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsssbench.errors import BadData, WsssError
from wsssbench.files.atomic import safe_name
from wsssbench.identity import Record, RowIdentity, Stage, StepIdentity, content_key, plain
from wsssbench.machine.hardware import Hardware, resolve_hardware
from wsssbench.planning.cells import Cell, PlannedStep, State, Trial, chosen_kinds
from wsssbench.planning.made_by import is_of_today, judging_code
from wsssbench.planning.metric_choice import applicable, check_used, judged_before, load_metrics
from wsssbench.planning.pretrained_choice import with_pretrained
from wsssbench.planning.recipe_loading import RecipeSpec, batches_of, resolve_recipe
from wsssbench.planning.settings import Policy, Settings
from wsssbench.planning.stages import resolve_stages
from wsssbench.planning.terms import named_px, terms_of
from wsssbench.planning.thresholds import held_out_ids, judged_ids, planned_threshold
from wsssbench.plugins.options import build_config, key_options
from wsssbench.plugins.table import Plugins
from wsssbench.records.store import RECORD, cell_folder, check_claim, check_key, read_record
from wsssbench.split_rules import refuse_overlap, require_masks
from wsssbench.types import SUPERVISION, Dataset, Kind, Step


def make_plan(settings: Settings, plugins: Plugins, hardware: Hardware | None = None) -> list[Cell]:
    """All cells that the settings ask for, in the order in which they run; what is named twice runs once.

    `hardware` is what they run on, where that is not this machine.
    """
    if not settings.methods or not settings.datasets:
        what = "method" if not settings.methods else "dataset"
        group: Any = "methods" if what == "method" else "datasets"
        raise WsssError(
            f"no {what} is named",
            where="run",
            hint=f"add --{what} NAME; known: {', '.join(plugins.names(group))}",
        )
    hardware = hardware or resolve_hardware(settings)
    stages = resolve_stages(tuple(dict.fromkeys(settings.stages)), settings.custom_stages)
    recipes = [recipe for _, recipe in planned_recipes(settings, plugins)]
    load_metrics(settings.metrics, plugins)  # an unknown one is refused before data sets are opened
    cells = []
    for name in dict.fromkeys(settings.datasets):
        for seed in settings.seeds:
            dataset = open_dataset(name, plugins, settings, seed)
            fit, judged = dataset.card.fit_split, dataset.card.eval_split
            refuse_overlap(fit, dataset.ids(fit), judged, dataset.ids(judged), name)
            for recipe in recipes:
                trial = plan_trial(recipe, dataset, seed, settings, hardware)
                cells += [plan_cell(trial, stage, settings, hardware, plugins) for stage in stages]
    check_used(settings.metrics, [cell.metrics for cell in cells if cell.state != "skip"], plugins)
    return cells


def planned_recipes(settings: Settings, plugins: Plugins) -> list[tuple[str, RecipeSpec]]:
    """The methods that are asked for, as they were written and as recipes; equal ones count once."""
    found: list[tuple[str, RecipeSpec]] = []
    for name in settings.methods:
        recipe = resolve_recipe(name, plugins, settings)
        found += [(name, recipe)] if recipe not in [known for _, known in found] else []
    return found


def open_dataset(name: str, plugins: Plugins, settings: Settings, seed: int) -> Dataset:
    """The data set called `name` with its options; a generated one is drawn from `seed`."""
    cls = plugins.load("datasets", name)
    config = build_config(name, cls, settings.dataset_options.get(name, {}))
    dataset: Dataset = cls(config, seed)
    return dataset


def plan_trial(
    recipe: RecipeSpec, dataset: Dataset, seed: int, settings: Settings, hardware: Hardware
) -> Trial:
    """Keys and folders of the recipe's steps."""
    card = dataset.card
    base = settings.runs / safe_name(card.name) / "steps"
    planned: list[PlannedStep] = []
    for (name, cls), options in zip(recipe.steps, recipe.options, strict=True):
        given, preset = with_pretrained(cls, options, dataset, offline=settings.offline)
        config = build_config(name, cls, given, dataset=card.name)
        step: Step = cls(config)
        before = planned[-1] if planned else None
        step.ready()
        step.ready_on(card, hardware.filter_backend)
        _check_step(name, step, before)
        if "masks" in step.card.supervision:
            require_masks(card, card.fit_split, f"{name} learns from them")
        identity = StepIdentity(name, step.card.version, key_options(config))
        supervision = step.card.supervision
        key = step_key(
            identity, before, supervision, learned_content(dataset), seed, hardware, settings.limit
        )
        folder = base / f"{safe_name(name)}-{key[:8]}"
        planned.append(PlannedStep(name, step, key, identity, folder, before, preset))
        check_claim(planned[-1].folder, key)
        _check_lessons(planned[-1], dataset, settings.limit)
    return Trial(recipe.name, dataset, seed, tuple(planned))


def step_key(
    identity: StepIdentity,
    before: PlannedStep | None,
    supervision: Sequence[str],
    learns_on: Mapping[str, Any],
    seed: int,
    hardware: Hardware,
    limit: int | None,
) -> str:
    """Key of a fitted step: all that could change what it has learned; `learns_on` is `learned_content`."""
    return content_key(
        {
            "step": identity,
            "after": before.key if before else "",
            "learns_on": learns_on,
            "supervision": sorted(supervision),
            "seed": seed,
            "precision": hardware.precision,
            "filter_backend": hardware.filter_backend,
            "limit": limit,
        }
    )


def learned_content(dataset: Dataset) -> dict[str, Any]:
    """What names the data that a recipe learns from."""
    card = dataset.card
    return {
        "dataset": card.name,
        "version": card.version,
        "options": plain(card.options),
        "split": card.fit_split,
        "fingerprint": dataset.fingerprint(card.fit_split),
        **({"image_px": px} if (px := named_px(card)) else {}),  # widths of filters and energy follow from it
    }


def plan_cell(trial: Trial, stage: Stage, settings: Settings, hardware: Hardware, plugins: Plugins) -> Cell:
    """Identity, key, folder and state of one stage of a trial."""
    card = trial.dataset.card
    judged = judged_step(trial.steps, stage)
    policy, threshold, tuned_on = threshold_of(
        judged, stage, settings.threshold_policy, trial.dataset, settings.limit
    )
    terms = terms_of(trial.dataset, stage, policy, settings.limit)
    identity = RowIdentity(
        terms=terms,
        recipe=tuple(step.identity for step in trial.steps),
        supervision=tuple(sorted({s for p in trial.steps for s in p.step.card.supervision})),
        fit_fingerprint=trial.dataset.fingerprint(card.fit_split),
        threshold=threshold,
        seed=trial.seed,
        batch=batches_of([step.identity for step in trial.steps]),
        precision=hardware.precision,
        filter_backend=hardware.filter_backend,
        fit_options=plain(card.options_of(card.fit_split)) if card.generated else {},
    )
    key = content_key(identity)
    folder = cell_folder(settings.runs, card.name, trial.method, trial.seed, stage.name, terms.split, key)
    reason = skip_reason(judged, stage) or nothing_to_say(judged, trial.dataset, terms.split, settings.limit)
    record = kept_record(folder)
    asked = load_metrics((*settings.metrics, *judged_before(record, plugins)), plugins)
    metrics = applicable(asked, judged.gives, stage)
    names, code = [metric.name for metric in metrics], judging_code(trial.dataset, stage, metrics)
    state: State = "skip" if reason else cell_state(folder, record, key, trial, settings.rerun, names, code)
    ids = judged_ids(trial.dataset, terms.split, settings.limit, tuned_on)
    split, rerun = terms.split, settings.rerun
    return Cell(trial, stage, split, ids, tuned_on, identity, key, folder, state, reason, rerun, metrics)


def judged_step(steps: Sequence[PlannedStep], stage: Stage) -> PlannedStep:
    """Which step a stage judges: the first that gives maps, the last before a segmenter, or the last."""
    if stage.judged == "maps":
        return next((s for s in steps if "maps" in s.gives), steps[0])
    if stage.judged == "pseudo" and len(steps) > 1 and steps[-1].step.card.role == "segmenter":
        return steps[-2]
    return steps[-1]


def judged_kind(planned: PlannedStep, stage: Stage) -> Kind | None:
    """Which output of the judged step a stage needs; None where it gives nothing that fits."""
    if stage.judged == "maps":
        return "maps" if "maps" in planned.gives else None
    if stage.multi_scale:
        made_here = planned.step.card.role != "labels"  # files have one scale
        return "probs" if "probs" in planned.gives and made_here else None
    order: tuple[Kind, ...] = ("probs", "maps") if stage.crf else ("labels", "probs", "maps")
    return next((kind for kind in order if kind in planned.gives), None)


def label_kind(cell: Cell) -> Kind | None:
    """The output of the judged step that the cell's labels are made from."""
    return judged_kind(judged_step(cell.trial.steps, cell.stage), cell.stage)


def cell_kinds(cell: Cell) -> list[Kind]:
    """The outputs that a cell reads: what its stage judges, and what its metrics ask for beside labels."""
    kind = label_kind(cell)
    more = {metric.needs for metric in cell.metrics if metric.needs != "labels"}
    return sorted(more | {kind}) if kind else []


def is_tuned_elsewhere(cell: Cell) -> bool:
    """Whether its threshold is chosen on maps of another split than the judged one."""
    known = cell.identity.threshold
    chosen = known is not None and "value" not in known
    return chosen and bool(cell.tuned_on) and cell.trial.dataset.card.label_split != cell.split


def skip_reason(planned: PlannedStep, stage: Stage) -> str:
    """Why a stage does not apply to this step; "" where it does."""
    if judged_kind(planned, stage) is not None:
        return "" if stage.tags_given else why_mining_fails(planned)
    needs = "probabilities" if stage.multi_scale else "probabilities or maps" if stage.crf else "labels"
    return f"{planned.name} gives no {'maps' if stage.judged == 'maps' else needs}"


def nothing_to_say(planned: PlannedStep, dataset: Dataset, split: str, limit: int | None) -> str:
    """Why a step, or one that it takes something from, skips the images of `split`; "" where none does."""
    while True:
        reason = planned.step.skip(split, dataset.ids(split)[:limit])
        if reason or not planned.takes or planned.before is None:
            return reason
        planned = planned.before


def threshold_of(
    planned: PlannedStep, stage: Stage, policy: Policy, dataset: Dataset, limit: int | None
) -> tuple[Policy, dict[str, Any] | None, tuple[str, ...]]:
    """Policy, value or rule of the threshold that turns maps into labels, and the ids that it is tuned on.

    A method without a threshold stands under the same policy, and is judged on the same images: nothing of
    it was chosen on them.
    """
    tuned_on = held_out_ids(dataset, limit) if policy == "held-out" else ()
    if judged_kind(planned, stage) != "maps":
        return policy, None, tuned_on
    return policy, planned_threshold(planned.step, planned.name, policy, tuned_on), tuned_on


def kept_record(folder: Path) -> Record | None:
    """The record in a cell's folder; None where there is none, or a damaged one."""
    try:
        return read_record(folder) if (folder / RECORD).exists() else None
    except BadData:
        return None


def cell_state(
    folder: Path, record: Record | None, key: str, trial: Trial, rerun: str, metrics: Sequence[str],
    judged_by: Mapping[str, str],
) -> State:  # fmt: skip
    """What the `record` in a cell's folder says of it: done, stale (its code has changed), failed or missing.

    One that was judged without some of the `metrics` is missing too, or failed where the last attempt to add
    them did: its labels are judged again. `judged_by` is the code that would judge it today. WsssError where
    the folder holds the record of another key.
    """
    if record is None:
        return "missing"
    check_key(folder, record.key, key)
    if rerun == "all":
        return "missing"
    if record.status == "failed":
        return "failed"
    if not set(metrics) <= set(record.scores):
        return "failed" if record.reason else "missing"
    if is_of_today(record, trial, judged_by):
        return "done"
    return "missing" if rerun == "stale" else "stale"


def refreshed(cells: Sequence[Cell]) -> list[Cell]:
    """The cells with the state that the store has for them now."""
    return [cell if cell.state == "skip" else replace(cell, state=state_of(cell)) for cell in cells]


def state_of(cell: Cell) -> State:
    """The state that the store has for the cell now, whatever was asked for when it was planned."""
    names = [metric.name for metric in cell.metrics]
    record = kept_record(cell.folder)
    return cell_state(cell.folder, record, cell.key, cell.trial, "", names, cell.judged_by)


def is_judged_otherwise(cell: Cell) -> bool:
    """Whether a cell's record was judged by code of the harness that has changed since."""
    record = kept_record(cell.folder)
    return (
        record is not None and record.provenance.get("judged_by", {}).get("judge") != cell.judged_by["judge"]
    )


def _check_step(name: str, step: Step, before: PlannedStep | None) -> None:
    unknown = set(step.card.supervision) - set(SUPERVISION)
    if unknown:
        raise WsssError(
            f"unknown supervision {min(unknown)!r}",
            where=f"step {name}",
            hint=f"a step declares some of {', '.join(SUPERVISION)}",
        )
    given = before.gives if before else ()
    needs = dict.fromkeys((*step.card.takes, *step.card.learns_from))
    lacking = [need.replace("|", " or ") for need in needs if not chosen_kinds((need,), given)]
    if lacking:
        place = f"{before.name} > {name}" if before else name
        raise WsssError(
            f"step {name} needs {', '.join(lacking)} from the step before it",
            where=f"recipe {place}",
            hint=f"put a step that gives {lacking[0]} before {name}, as in cam > crf",
        )


def _check_lessons(planned: PlannedStep, dataset: Dataset, limit: int | None) -> None:
    """Raise WsssError where the step before skips the images that this one learns from."""
    split = dataset.card.fit_split
    if planned.before is None or not planned.learns_from:
        return
    reason = nothing_to_say(planned.before, dataset, split, limit)
    if reason:
        hint = f"{planned.name} learns from labels of {dataset.card.name}:{split}"
        raise WsssError(reason, where=f"recipe {planned.before.name} > {planned.name}", hint=hint)


def why_mining_fails(planned: PlannedStep) -> str:
    """Why a step cannot predict without tags, or "": it, or one that it takes from, takes mined labels."""
    if planned.before is None or not planned.takes:
        return ""
    if "mined" in planned.takes:
        return f"{planned.name} takes mined labels, which are made only where tags are given"
    return why_mining_fails(planned.before)
