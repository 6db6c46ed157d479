"""`wsssbench list`, `check` and `prepare`: what there is, and whether it keeps its contract and its files.

`list` reads entry points and sources and imports nothing; one plugin in full is `wsssbench.commands.show`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from wsssbench.commands.show import show_command
from wsssbench.errors import UnknownName, nearest
from wsssbench.planning.settings import Settings
from wsssbench.plugins.contract import unknown_names
from wsssbench.plugins.sources import headline, recipe_text
from wsssbench.plugins.table import GROUPS, Entry, Group, Plugins
from wsssbench.running.opening import open_settings
from wsssbench.types import Dataset, Metric, Step

__all__ = ["check_command", "list_command", "prepare_command", "show_command"]

HEADS: Mapping[Group, tuple[str, str]] = {
    "methods": ("method", "steps"),
    "steps": ("step", ""),
    "datasets": ("data set", ""),
    "metrics": ("metric", ""),
}


def list_command(check: bool, files: Sequence[Path]) -> int:
    """Print the tables; with `check`, import every plugin and return 1 where one is broken."""
    settings, plugins = open_settings({"plugins": tuple(files)}, None, ())
    if check:
        return _list_checked(plugins)
    for group in ("methods", "steps", "datasets", "metrics"):
        click.echo(_group_table(group, settings, plugins) + "\n")
    click.echo(_stage_table(settings))
    for name, why in plugins.broken.items():
        click.echo(f"broken: {name}: {why}", err=True)
    return 0


def _group_table(group: Group, settings: Settings, plugins: Plugins) -> str:
    text: Callable[[Entry], str] = recipe_text if group == "methods" else headline
    lines = [[e.name, text(e), e.origin] for e in plugins.entries(group)]
    if group == "methods":
        lines += [[name, " > ".join(steps), str(settings.source)] for name, steps in settings.recipes.items()]
    return _grid(lines, [*HEADS[group], "origin"])


def _stage_table(settings: Settings) -> str:
    from wsssbench.planning.stages import STAGES, resolve_stages

    stages = resolve_stages((*STAGES, *settings.custom_stages), settings.custom_stages)
    lines = [
        [
            s.name,
            s.question,
            "yes" if s.tags_given else "no",
            str(settings.source) if s.custom else "wsssbench",
        ]
        for s in stages
    ]
    return _grid(lines, ["stage", "question", "tags given", "origin"])


def _list_checked(plugins: Plugins) -> int:
    checks = plugins.check_all()
    lines = [[c.group.removesuffix("s"), c.name, "ok" if c.ok else "BROKEN", c.error] for c in checks]
    click.echo(_grid(lines, ["kind", "name", "state", "why"]))
    broken = sum(not c.ok for c in checks)
    click.echo(
        f"\n{broken} of {len(checks)} are broken" if broken else f"\nall {len(checks)} can be imported"
    )
    return 1 if broken else 0


def _grid(lines: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """A markdown table without its empty columns."""
    from tabulate import tabulate

    kept = [i for i in range(len(head)) if any(line[i] for line in lines)] if lines else range(len(head))
    body = [[line[i].replace("|", "\\|") for i in kept] for line in lines]
    return str(tabulate(body, [head[i] for i in kept], "github", disable_numparse=True))


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
    from wsssbench.planning.recipes import resolve_recipe
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
        click.echo("drawn anew from the seed of each run: nothing to prepare, nothing is downloaded")
    else:
        click.echo("this data set has no check of its own: `wsssbench check` reads a few of its images")
    return 0


def _card_text(dataset: Dataset) -> str:
    card: Any = dataset.card
    splits = ", ".join(f"{split} {len(dataset.ids(split)):,}" for split in card.splits)
    options = ", ".join(f"{key}={value}" for key, value in card.options.items())
    lines = [
        f"{card.name} {card.version}: {len(card.class_names)} classes, tags from {card.label_source}",
        f"images: {splits}",
        f"fit on {card.fit_split}, labels judged on {card.label_split}, segmentation on {card.eval_split}",
    ]
    lacking = ", ".join(f"{split} {count:,}" for split, count in card.without_masks.items())
    lines += [f"images without a mask: {lacking}"] if lacking else []
    return "\n".join([*lines, f"options: {options}"] if options else lines)
