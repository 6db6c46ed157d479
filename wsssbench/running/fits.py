"""What a fitted step leaves in its folder beside its own files: fitted.json, the mark that it is fitted, with
what fitting cost and which code did it; and what a cell cost, summed over its steps. No step is run here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wsssbench.files.atomic import atomic_write_text
from wsssbench.identity import plain
from wsssbench.planning.cells import Cell, PlannedStep, Trial, artifact_name
from wsssbench.planning.made_by import code_hash, has_code, trial_code
from wsssbench.planning.plan import judged_step
from wsssbench.records.store import FITTED

if TYPE_CHECKING:
    from wsssbench.artifacts import ArtifactFolder
    from wsssbench.machine.timing import Cost

WRITTEN = {"step", "seconds", "images", "phases"}


def write_fit(planned: PlannedStep, cost: Cost, processes: int = 1) -> None:
    """Mark the step as fitted, by so many processes that shared its training."""
    said = {"key": planned.key, "step": plain(planned.identity), "code": chain_code(planned)}
    said |= {"processes": processes} if processes > 1 else {}
    atomic_write_text(planned.folder / FITTED, json.dumps({**said, **plain(cost)}, indent=1))


def read_fit(planned: PlannedStep) -> dict[str, Any]:
    """What `write_fit` wrote; empty where the step is not fitted, or the mark is damaged."""
    try:
        fit = json.loads((planned.folder / FITTED).read_text())
    except (OSError, ValueError):
        return {}
    return fit if isinstance(fit, dict) and fit.keys() >= WRITTEN else {}


def sharing_processes(trial: Trial) -> dict[str, int]:
    """Step name -> how many processes shared its training (the last session of it), where several did."""
    return {p.name: n for p in trial.steps if isinstance(n := read_fit(p).get("processes"), int)}


def chain_of(planned: PlannedStep) -> list[PlannedStep]:
    """A step and those before it, the first one first."""
    return [*(chain_of(planned.before) if planned.before else []), planned]


def chain_code(planned: PlannedStep) -> dict[str, str]:
    """Step name -> sha256 of its code, for a step and those before it."""
    return {p.name: code_hash(p.step) for p in chain_of(planned)}


def is_stale(planned: PlannedStep) -> bool:
    """Whether the step was fitted by code other than today's, its own or that of a step before it."""
    fit, chain = read_fit(planned), {p.name: p.step for p in chain_of(planned)}
    code: Mapping[str, str] = fit.get("code") or {}
    same = code.keys() == chain.keys() and all(has_code(chain[name], then) for name, then in code.items())
    return bool(fit) and not same


def code_of_fits(trial: Trial) -> dict[str, str]:
    """Step name -> sha256 of the code that fitted it: today's, unless the fit is older."""
    older = {name: code for p in trial.steps for name, code in read_fit(p).get("code", {}).items()}
    return {**trial_code(trial), **older}


def cell_timing(cell: Cell, artifacts: ArtifactFolder) -> dict[str, Any]:
    """Seconds and images of fitting and predicting, summed over the steps up to the judged one."""
    chain = chain_of(judged_step(cell.trial.steps, cell.stage))
    fits = [fit for planned in chain if (fit := read_fit(planned))]
    images, seconds = sum(f["images"] for f in fits), sum(f["seconds"] for f in fits)
    predicting = _predict_costs(cell, artifacts)
    timing: dict[str, Any] = {
        "fit_seconds": round(seconds, 2),
        "fit_images": images,
        "fit_phases": {f["step"]["name"]: f["phases"] for f in fits},
        "predict_seconds": round(sum(cost["seconds"] for cost in predicting), 3),
        "predict_images": predicting[0]["images"],
    }
    if images and seconds:
        timing["train_images_per_s"] = round(images / seconds, 2)
    per_image = sum(cost["seconds"] / max(cost["images"], 1) for cost in predicting)
    if per_image:
        timing["predict_images_per_s"] = round(1 / per_image, 2)
    return timing


def _predict_costs(cell: Cell, artifacts: ArtifactFolder) -> list[dict[str, float]]:
    """Costs of the judged step's outputs and of what they were made from, the judged step first."""
    planned, costs = judged_step(cell.trial.steps, cell.stage), [artifacts.cost()]
    name = artifact_name(cell.split, cell.stage.tags_given)
    while planned.before is not None and planned.takes:
        planned = planned.before
        costs.append(type(artifacts)(planned.folder / "artifacts" / name).cost())
    return costs
