"""`wsssbench list`, `check` and `prepare`: what there is, and whether it keeps its contract and its files.

`list` reads entry points and sources and imports nothing; one plugin in full is `wsssbench.commands.show`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from wsssbench.commands.show import dataset_facts, facts_text
from wsssbench.errors import UnknownName, nearest
from wsssbench.planning.settings import Settings
from wsssbench.plugins.contract import unknown_names
from wsssbench.plugins.sources import headline, recipe_text
from wsssbench.plugins.table import GROUPS, Group, Plugins
from wsssbench.reporting.table_parts import grid
from wsssbench.running.opening import open_settings
from wsssbench.types import Dataset, Metric, Step

LISTED: Mapping[Group, str] = {
    "methods": "method",
    "steps": "step",
    "datasets": "data set",
    "metrics": "metric",
}


def list_command(check: bool, files: Sequence[Path]) -> int:
    """Print the tables; with `check`, import every plugin and return 1 where one is broken."""
    settings, plugins = open_settings({"plugins": tuple(files)}, None, ())
    if check:
        return _list_checked(plugins)
    for group in LISTED:
        click.echo(grid(list(_group_lines(group, settings, plugins))) + "\n")
    click.echo(grid(_stage_lines(settings)))
    for name, why in plugins.broken.items():
        click.echo(f"broken: {name}: {why}", err=True)
    return 0


def _group_lines(group: Group, settings: Settings, plugins: Plugins) -> Iterator[dict[str, str]]:
    own = settings.recipes if group == "methods" else {}
    for entry in plugins.entries(group):
        text = recipe_text(entry) if group == "methods" else headline(entry)
        yield {LISTED[group]: entry.name, "steps" if group == "methods" else "": text, "origin": entry.origin}
    for name, steps in own.items():
        yield {"method": name, "steps": " > ".join(steps), "origin": str(settings.source)}


def _stage_lines(settings: Settings) -> list[dict[str, str]]:
    from wsssbench.planning.stages import STAGES, resolve_stages

    return [
        {
            "stage": stage.name,
            "question": stage.question,
            "tags given": "yes" if stage.tags_given else "no",
            "origin": str(settings.source) if stage.custom else "wsssbench",
        }
        for stage in resolve_stages((*STAGES, *settings.custom_stages), settings.custom_stages)
    ]


def _list_checked(plugins: Plugins) -> int:
    checks = plugins.check_all()
    lines = [
        {
            "kind": c.group.removesuffix("s"),
            "name": c.name,
            "state": "ok" if c.ok else "BROKEN",
            "why": c.error,
        }
        for c in checks
    ]
    broken = sum(not c.ok for c in checks)
    end = f"{broken} of {len(checks)} are broken" if broken else f"all {len(checks)} can be imported"
    click.echo(f"{grid(lines)}\n\n{end}")
    return 1 if broken else 0


# --------------------------------------------------------------------------------------------------- check


def check_command(name: str, files: Sequence[Path], options: Sequence[str] = ()) -> int:
    """Run the contract tests of the step, recipe, data set or metric `name`; 1 where one fails."""
    from wsssbench.testing import BrokenContract

    settings, plugins = open_settings({"plugins": tuple(files)}, None, options)
    code = 0
    for title, (cls, base), test in _contract_tests(name, settings, plugins):
        start = time.perf_counter()
        try:
            held = test()
            seconds = time.perf_counter() - start
            click.echo(f"{title}: ok, {len(held)} contracts hold ({seconds:.1f} s)")
        except BrokenContract as broken:
            code = 1
            click.echo(f"{title}: {len(broken.failures)} of its contracts are broken")
            for failure in broken.failures:
                click.echo(f"- {failure}")
        if strange := unknown_names(cls, base):
            names = ", ".join(strange)
            click.echo(f"note: {names} of {cls.__name__}: not in the contract, so nothing asks for it")
    return code


def _contract_tests(
    name: str, settings: Settings, plugins: Plugins
) -> list[tuple[str, tuple[type, type], Callable[[], Sequence[str]]]]:
    """A title, a class with its contract, and a test for everything called `name`, each step of a recipe."""
    from wsssbench.planning.recipe_loading import resolve_recipe
    from wsssbench.testing import check_dataset, check_metric, check_step

    tests: list[tuple[str, tuple[type, type], Callable[[], Sequence[str]]]] = []
    known = {n for group in ("steps", "methods") for n in plugins.names(group)} | set(settings.recipes)
    if name in known or ">" in name or ":" in name or plugins.find("steps", name):
        recipe = resolve_recipe(name, plugins, settings)
        parts = {step: (cls, given) for (step, cls), given in zip(recipe.steps, recipe.options, strict=True)}
        for step, (cls, given) in parts.items():
            tests.append((f"step {step}", (cls, Step), partial(check_step, cls, given, step)))
    if plugins.find("datasets", name):
        cls, given = plugins.load("datasets", name), settings.dataset_options.get(name, {})
        tests.append((f"data set {name}", (cls, Dataset), partial(check_dataset, cls, given, name)))
    if plugins.find("metrics", name):
        cls = plugins.load("metrics", name)
        tests.append((f"metric {name}", (cls, Metric), partial(check_metric, cls, name)))
    if not tests:
        known = {n for group in GROUPS for n in plugins.names(group)} | set(settings.recipes)
        raise UnknownName(f"unknown step, data set or metric {name!r}", hint=nearest(name, sorted(known)))
    return tests


# ------------------------------------------------------------------------------------------------- prepare


def prepare_command(name: str, options: Sequence[str], config: Path | None) -> int:
    """Check the files of a data set, or say what a generated one would draw; 1 where something is wrong."""
    from wsssbench.planning.plan import open_dataset

    settings, plugins = open_settings({}, config, options)
    dataset = open_dataset(name, plugins, settings, settings.seeds[0])
    click.echo(_card_text(dataset))
    found = dataset.prepare()
    if found is not None:
        click.echo("\n".join(found.lines()))
        return 0 if found.ok else 1
    if dataset.card.generated:
        click.echo("generated from the seed of each run: nothing to prepare, nothing is downloaded")
    else:
        click.echo("this data set has no check of its own: `wsssbench check` reads a few of its images")
    return 0


def _card_text(dataset: Dataset) -> str:
    """The facts of the data set's card, with the images of each split and the options."""
    card: Any = dataset.card
    splits = ", ".join(f"{split} {len(dataset.ids(split)):,}" for split in card.splits)
    options = ", ".join(f"{key}={value}" for key, value in card.options.items())
    return (
        f"data set {card.name}\n{facts_text({**dataset_facts(card), 'splits': splits, 'options': options})}"
    )
