"""`wsssbench mined`: what mined labels teach, the first thing to look at where a training on them fails."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import click

from wsssbench.errors import WsssError
from wsssbench.planning.cells import Cell
from wsssbench.planning.recipe_loading import resolve_recipe
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins
from wsssbench.records.store import read_record
from wsssbench.reporting.table_parts import grid
from wsssbench.running.executors.request import Switches
from wsssbench.running.opening import open_flags
from wsssbench.running.plan_run import plan_run, run_plan
from wsssbench.running.screen.progress import Progress
from wsssbench.scores.mined import Mined

RULE = "reliable"  # the step that mines the maps of any localizer
COLUMNS = {
    "background: share": "share_background",
    "background: right": "precision_background",
    "background: found": "recall_background",
    "objects: share": "share_objects",
    "objects: right": "precision_objects",
    "objects: found": "recall_objects",
    "objects per background": "objects_per_background",
    "images without background": "images_without_background",
    "images without objects": "images_without_objects",
}
READING = (
    "Pixels of all images together, in %. Of those mined as background (as objects), `right` truly are "
    "background (of the very class); `found` is the share of the true ones that is mined rightly. For scale: "
    "{base:.1f} % of the pixels truly are background, so often would a pixel picked at random be right, and "
    "there are {ratio:.2f} object pixels for each background pixel. Where labels have many more, or many "
    "images have no background, a network learns to call everything an object."
)


@dataclass(frozen=True)
class MinedLabels:
    """What is known of one method's labels on one data set: means over seeds of the numbers of `Mined`."""

    dataset: str
    method: str
    classes: tuple[str, ...]  # background first
    numbers: Mapping[str, float | None]
    per_class: Mapping[str, Sequence[float | None]]


def mined_command(flags: Mapping[str, Any]) -> int:
    """Fit what is not fitted, judge the mined labels of the training images, print; 1 where a cell failed."""
    found, failed = mined_labels(*open_flags(flags), Progress(quiet=flags["quiet"]))
    click.echo(json.dumps([plain_of(one) for one in found], indent=2) if flags["as_json"] else as_text(found))
    return 1 if failed else 0


def mined_labels(settings: Settings, plugins: Plugins, progress: Progress) -> tuple[list[MinedLabels], int]:
    """What the labels of the settings' methods teach, and how many cells failed."""
    settings = replace(with_rule(settings, plugins), stages=("pseudo",), metrics=(Mined.name,))
    with progress.live():
        plan = plan_run(settings, plugins, progress)
        failed = run_plan(plan, progress, Switches(False, False))
    return labels_of([cell for cell in plan.cells if cell.state != "skip"]), failed


def with_rule(settings: Settings, plugins: Plugins) -> Settings:
    """`settings` with RRM's rule behind every method that gives maps and mines nothing itself.

    WsssError for a method whose last step gives neither.
    """
    methods, recipes, options = [], dict(settings.recipes), dict(settings.recipe_options)
    for name in settings.methods:
        steps = resolve_recipe(name, plugins, settings).steps
        last: Any = steps[-1][1]
        gives = last.card.gives
        if "mined" not in gives and "maps" not in gives:
            what = f"{steps[-1][0]} gives {', '.join(gives)}: no labels are mined of these"
            hint = "name a method that mines labels (rrm), or one whose last step gives maps (cam)"
            raise WsssError(what, where=f"method {name!r}", hint=hint)
        ruled = name
        if "mined" not in gives:
            ruled = f"{name} > {RULE}"
            if name in recipes:  # a table of the user's: its options go along
                ruled = f"{name}+{RULE}"
                if ruled in settings.recipes:  # the user's own: it is not replaced
                    hint = f"name {ruled!r} itself, or rename it in the settings file"
                    raise WsssError(
                        f"there is a method {ruled!r} of another recipe", where=f"method {name!r}", hint=hint
                    )
                recipes[ruled] = (*recipes[name], RULE)
                options[ruled] = options.get(name, {})
        methods.append(ruled)
    return replace(settings, methods=tuple(methods), recipes=recipes, recipe_options=options)


def labels_of(cells: Sequence[Cell]) -> list[MinedLabels]:
    """The judged cells by data set and method, averaged over seeds; those that failed are left out."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for cell in cells:
        record, card = read_record(cell.folder), cell.trial.dataset.card  # also of a cell that failed
        if Mined.name in record.scores:
            groups.setdefault((card.name, cell.trial.method), []).append(record.scores[Mined.name])
            classes[card.name] = ("background", *card.class_names)
    return [MinedLabels(*place, classes[place[0]], *averaged(scores)) for place, scores in groups.items()]


def averaged(
    scores: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, float | None], dict[str, list[float | None]]]:
    """Means over seeds of the numbers, and of the lists over classes; None where no seed has one."""
    numbers = {k: _mean([s[k] for s in scores]) for k, v in scores[0].items() if not isinstance(v, list)}
    lists = {
        k: [_mean(values) for values in zip(*(s[k] for s in scores), strict=True)]
        for k, v in scores[0].items()
        if isinstance(v, list)
    }
    return numbers, lists


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def plain_of(one: MinedLabels) -> dict[str, Any]:
    """For JSON: every number; lists are by class name."""
    named = {k: dict(zip(one.classes, values, strict=True)) for k, values in one.per_class.items()}
    return {"dataset": one.dataset, "method": one.method, **one.numbers, **named}


def as_text(found: Sequence[MinedLabels]) -> str:
    """For each data set a table of methods, one of classes, and what can be read from them."""
    parts = []
    for dataset in dict.fromkeys(one.dataset for one in found):
        own = [one for one in found if one.dataset == dataset]
        lines = [
            {"method": one.method} | {title: _text(one.numbers[key]) for title, key in COLUMNS.items()}
            for one in own
        ]
        parts += [f"## {dataset}: mined labels", grid(lines), _reading(own[0]), *map(_classes, own)]
    return "\n\n".join(part for part in parts if part)


def _reading(one: MinedLabels) -> str:
    base = one.numbers["true_background"]
    return READING.format(base=base, ratio=(100 - base) / base) if base else ""


def _classes(one: MinedLabels) -> str:
    """A table of the classes that any mask shows, and those of which nothing is mined."""
    keys = {"share": "share", "right": "precision", "found": "recall", "images without": "images_without"}
    shown = [k for k, share in enumerate(one.per_class["share_per_class"]) if share is not None]
    lines = [
        {"class": one.classes[k]}
        | {title: _text(one.per_class[f"{key}_per_class"][k]) for title, key in keys.items()}
        for k in shown
    ]
    never = [one.classes[k] for k in shown if not one.per_class["share_per_class"][k]]
    said = [f"Not one pixel is mined of: {', '.join(never)}."] if never else []
    return "\n\n".join([f"{one.method}, by class (%)", grid(lines), *said])


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
