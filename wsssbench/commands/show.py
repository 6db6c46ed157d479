"""`wsssbench show`: one plugin or stage in full: card, options with default and origin, presets."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from wsssbench.errors import UnknownName, WsssError, nearest
from wsssbench.identity import Stage, plain
from wsssbench.planning.settings import WITH_OPTIONS, Settings
from wsssbench.planning.stages import STAGES, resolve_stages
from wsssbench.plugins.table import GROUPS, Group, Plugins
from wsssbench.running.opening import open_settings
from wsssbench.types import DatasetCard, StepCard

SLURM_NEEDS = "Slurm's commands"


def show_command(name: str, files: Sequence[Path]) -> None:
    """Print everything that is called `name`: a method, step, data set, metric, stage or executor."""
    settings, plugins = open_settings({"plugins": tuple(files)}, None, ())
    sections = list(_sections(name, settings, plugins))
    if not sections:
        known = {n for group in GROUPS for n in plugins.names(group)}
        known |= {*settings.recipes, *STAGES, *settings.custom_stages, *WITH_OPTIONS}
        raise UnknownName(f"unknown name {name!r}", where="show", hint=nearest(name, sorted(known)))
    click.echo("\n\n".join(sections))


def _sections(name: str, settings: Settings, plugins: Plugins) -> Iterator[str]:
    if name in settings.recipes or plugins.find("methods", name):
        yield _recipe(name, settings, plugins)
    pages: tuple[tuple[Group, str, Callable[..., str]], ...] = (
        ("steps", "step", _step),
        ("datasets", "data set", partial(_dataset, name, settings.dataset_options.get(name, {}))),
        ("metrics", "metric", _metric),
    )
    for group, kind, page in pages:
        if entry := plugins.find(group, name):
            yield f"{kind} {name} ({entry.value}, {entry.origin})\n{page(plugins.load(group, name))}"
    if name in STAGES or name in settings.custom_stages:
        (stage,) = resolve_stages((name,), settings.custom_stages)
        yield f"stage {name} (version {stage.version})\n{_stage(stage)}"
    if name in WITH_OPTIONS:
        from wsssbench.running.executors.slurm_options import Slurm

        yield f"executor {name}\n{_blocks(Slurm, {'needs': SLURM_NEEDS})}"


def _recipe(name: str, settings: Settings, plugins: Plugins) -> str:
    from wsssbench.planning.recipe_loading import resolve_recipe

    entry = plugins.find("methods", name)
    origin = f"{entry.value}, {entry.origin}" if entry and name not in settings.recipes else settings.source
    spec = resolve_recipe(name, plugins, settings)
    head = f"method {name} ({origin})\n  steps: {' > '.join(step for step, _ in spec.steps)}"
    alone = [cls for step, cls in spec.steps if plugins.find("steps", step) is None]
    return "\n".join([head, *(_step(cls) for cls in alone)])


# --------------------------------------------------------------------------------------------------- cards


def _step(cls: Any) -> str:
    card: StepCard = cls.card
    facts = {
        "version": card.version,
        "role": card.role,
        "supervision": ", ".join(card.supervision) or "none",
        "learns from": _needs(card.learns_from),
        "takes": _needs(card.takes),
        "gives": ", ".join(card.gives),
        "threshold": "its maps become labels by the option `threshold`" if card.needs_threshold else "",
        "its default was tuned on": card.tuned_on,
        "pretraining": card.pretraining,
        "paper": card.paper,
        "published, not measured here": _pairs(card.reported),
    }
    return _blocks(cls, facts)


def _needs(needs: Sequence[str]) -> str:
    """ "probs or else maps, labels"."""
    return ", ".join(need.replace("|", " or else ") for need in needs)


def _dataset(name: str, given: Mapping[str, Any], cls: Any) -> str:
    from wsssbench.plugins.options import build_config

    try:
        facts = dataset_facts(cls(build_config(name, cls, given), 0).card)
    except WsssError as error:  # a data set on disk knows its card when it has its files
        facts = {"files": f"{error.what}; {error.hint}"}
    return _blocks(cls, facts)


def dataset_facts(card: DatasetCard) -> dict[str, str]:
    """What a card says of its data set, by the words for it."""
    return {
        "version": card.version,
        "classes": f"{len(card.class_names)}: {', '.join(card.class_names)}",
        "splits": ", ".join(card.splits),
        "fit on": card.fit_split,
        "labels judged on": card.label_split,
        "segmentation judged on": card.eval_split,
        "tags from": card.label_source,
        "images without a mask": ", ".join(f"{s} {n:,}" for s, n in card.without_masks.items()),
        "generated": "from the seed of each run" if card.generated else "",
        "licence": card.licence,
        "source": card.source,
    }


def _metric(cls: Any) -> str:
    metric = cls() if isinstance(cls, type) else cls
    return _blocks(cls, {"needs": metric.needs, "better": metric.better, "unit": metric.unit}, options=False)


def _stage(stage: Stage) -> str:
    judged = {"maps": "the first maps of the recipe", "pseudo": "the last labels before a segmenter"}
    split = {"label": "the data set's label split", "eval": "the data set's eval split"}
    crf = _pairs(dataclasses.asdict(stage.crf)) if stage.crf else "none"
    facts = {
        "question": stage.question,
        "judged": judged.get(stage.judged, "the segmentation of the last step"),
        "split": split[stage.split],
        "tags at evaluation": "given" if stage.tags_given else "not given",
        "CRF": crf,
        "scales": ", ".join(f"{s:g}" for s in stage.scales),
        "flip": "yes" if stage.flip else "no",
        "ranked": "never with the registered stages: custom" if stage.custom else "",
    }
    return facts_text(facts)


# -------------------------------------------------------------------------------------------------- layout


def _blocks(cls: Any, facts: Mapping[str, str], *, options: bool = True) -> str:
    """Docstring, facts, table of options, presets: what exists of them."""
    text = inspect.getdoc(cls) or ""
    blocks = [*(f"  {line}".rstrip() for line in text.splitlines()), facts_text(facts)]
    if options:
        blocks += ["", _options(cls), *_presets(cls)]
    return "\n".join(blocks)


def facts_text(facts: Mapping[str, str]) -> str:
    """One line for each fact that there is."""
    return "\n".join(f"  {name}: {value}" for name, value in facts.items() if value)


def _options(cls: type) -> str:
    from wsssbench.plugins.options import describe_options
    from wsssbench.reporting.table_parts import grid

    lines = [
        {"option": o.name, "type": o.type, "default": _value(o.default), "range": str(o.range),
         "what": o.help, "origin": o.origin}
        for o in describe_options(cls)
    ]  # fmt: skip
    return grid(lines) if lines else "  options: none"


def _presets(cls: Any) -> list[str]:
    presets: Mapping[str, Mapping[str, Any]] = getattr(cls, "presets", {})
    return [f"  preset {name}: {_pairs(values)}" for name, values in presets.items()]


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    """A value as one would write it after `-o NAME.KEY=`."""
    if value is dataclasses.MISSING:
        return "must be given"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return ",".join(_value(v) for v in value)
    return '""' if value == "" else str(plain(value))
