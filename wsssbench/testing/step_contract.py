"""The contract of a step: its card, its options, what it reads and returns, and that it can be restored."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from wsssbench.identity import StepIdentity, content_key
from wsssbench.planning.cells import chosen_kinds
from wsssbench.plugins.contract import as_predictor, complete
from wsssbench.testing.contracts import Contracts
from wsssbench.testing.outputs import ask_all, same
from wsssbench.testing.tiny import TinyDataset, made_up_outputs
from wsssbench.types import KINDS, SUPERVISION, Step, StepCard, View

if TYPE_CHECKING:
    from wsssbench.running.context import RunContext

ROLES = get_args(get_type_hints(StepCard)["role"])
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=@-]*")


def check_step(cls: type, options: Mapping[str, Any] | None = None, name: str = "") -> tuple[str, ...]:
    """The contracts that the step class `cls` keeps; BrokenContract lists those that it does not.

    It is fitted, asked and restored in a temporary folder. `options` go over its defaults (and over its
    preset `tiny`); `name` is what its entry point calls it. WsssError where an option is wrong.
    """
    contracts = Contracts(name or cls.__name__)
    complete(cls, Step)
    _check_card(contracts, getattr(cls, "card", None), name)
    config = check_config(contracts, cls, options or {}, name)
    with contracts.attempt("cls(config) makes a step"):
        step: Any = cls(config)
    _check_own_card(contracts, step.card, cls.card)  # type: ignore[attr-defined]
    contracts.expect(
        step.config is config, "step.config is the Config that it was made with", "it is another"
    )
    with tempfile.TemporaryDirectory(prefix="wsssbench-check-") as folder:
        _check_run(contracts, cls, config, Path(folder))
    return contracts.settle()


def _check_own_card(contracts: Contracts, own: StepCard, card: StepCard) -> None:
    """Options may make outputs and supervision less, or known what the class's card calls unknown."""
    fields = ("name", "takes", "learns_from")
    kept = all(getattr(own, field) == getattr(card, field) for field in fields)
    kept = kept and bool(own.gives) and set(own.gives) <= set(card.gives)
    allowed = set(own.supervision) <= set(card.supervision) or "unknown" in card.supervision
    contracts.expect(
        kept and allowed, "options add no outputs or supervision to the class's card", f"its card is {own}"
    )


def _check_card(contracts: Contracts, card: Any, name: str) -> None:
    if not contracts.expect(
        isinstance(card, StepCard), "the class has card = StepCard(...)", f"card is {card!r}"
    ):
        contracts.settle()
    named = bool(FILE_NAME.fullmatch(card.name)) and card.name == (name or card.name)
    contracts.expect(
        named, f"card.name is the name {name or 'of the step'}, which names a folder", f"it is {card.name!r}"
    )
    contracts.expect(bool(card.version), "card.version is not empty", "it is")
    contracts.expect(card.role in ROLES, f"card.role is one of {', '.join(ROLES)}", f"it is {card.role!r}")
    strange = [s for s in card.supervision if s not in SUPERVISION]
    contracts.expect(
        not strange, f"card.supervision names some of {', '.join(SUPERVISION)}", f"it names {strange}"
    )
    needs = [kind for need in (*card.takes, *card.learns_from) for kind in need.split("|")]
    kinds = [k for k in (*card.gives, *needs) if k not in KINDS]
    contracts.expect(
        not kinds, f"gives, takes and learns_from name some of {', '.join(KINDS)}", f"it names {kinds}"
    )
    contracts.expect(bool(card.gives), "card.gives names at least one kind of output", "it is empty")
    if contracts.broken:  # a run would fail for the same reasons
        contracts.settle()


def check_config(contracts: Contracts, cls: Any, options: Mapping[str, Any], name: str) -> Any:
    """The configuration for the test run, after a look at the class behind it and its presets."""
    from wsssbench.plugins.options import build_config, describe_options, key_options

    kind: Any = cls.Config
    who = name or cls.__name__
    frozen = dataclasses.is_dataclass(kind) and getattr(kind, "__dataclass_params__").frozen  # noqa: B009
    if not contracts.expect(frozen, "Config is a frozen dataclass", f"it is {kind!r}"):
        contracts.settle()
    fields = [f.name for f in dataclasses.fields(kind)]
    contracts.expect("preset" not in fields, "no option is called `preset`, which chooses one", "one is")
    outside = [o.name for o in describe_options(cls) if not o.range.holds(o.default)]
    contracts.expect(not outside, "the defaults of all options lie in their ranges", f"{outside} do not")
    config = build_config(who, cls, options, dataset=TinyDataset.card.name)
    for preset in cls.presets:
        with contracts.attempt(f"the preset {preset} fits Config"):
            build_config(who, cls, {"preset": preset}, {k: v for k, v in options.items() if k != "preset"})
    with contracts.attempt("the options can be written as JSON"):
        content_key(key_options(config))
    card = getattr(cls, "card", None)
    if isinstance(card, StepCard) and "maps" in card.gives and "labels" not in card.gives:
        there = isinstance(cls(config).default_threshold(), float)
        contracts.expect(there, "a step whose maps are judged has an option threshold: float", "it has none")
    return config


def _check_run(contracts: Contracts, cls: type, config: Any, folder: Path) -> None:
    """Fit on the tiny data set, ask with and without tags, restore, and ask again."""
    data = TinyDataset()
    step = cls(config)
    card: StepCard = step.card
    view = View(data, data.card.fit_split, card.supervision)
    lessons = chosen_kinds(card.learns_from, KINDS)
    given = {id: made_up_outputs(data, id, lessons) for id in view.ids}
    data.forget()
    with contracts.attempt("fit returns a predictor"):
        predictor = step.fit(view, given, _context(data, step, config, folder))
    _check_reads(contracts, data, card, "fit")
    data.forget()
    if not contracts.expect(callable(predictor), "fit returns a predictor", f"it returned {predictor!r}"):
        contracts.settle()
    before = ask_all(contracts, as_predictor(predictor), data, card, "the fitted step")
    with contracts.attempt("restore returns a predictor"):
        again: Any = cls(config)
        restored = again.restore(_context(data, again, config, folder))
    contracts.expect(callable(restored), "restore returns a predictor", f"it returned {restored!r}")
    after = ask_all(contracts, as_predictor(restored), data, card, "the restored step")
    _check_reads(contracts, data, card, "the predictor")
    for one, two in zip(before, after, strict=True):
        for kind in card.gives:
            equal = same(getattr(one, kind), getattr(two, kind))
            contracts.expect(equal, f"a restored step gives the same {kind} as the fitted one", "they differ")


def _context(data: TinyDataset, step: Any, config: Any, folder: Path) -> RunContext:
    """The engine's own context, on the CPU, with `folder`/step as its folder."""
    from wsssbench.machine.hardware import Hardware
    from wsssbench.planning.cells import PlannedStep, Trial
    from wsssbench.plugins.options import key_options
    from wsssbench.running.screen.progress import Progress
    from wsssbench.running.step_runner import StepRunner

    identity = StepIdentity(step.card.name, step.card.version, key_options(config))
    workdir = folder / "step"
    workdir.mkdir(exist_ok=True)
    planned = PlannedStep(step.card.name, step, content_key(identity), identity, workdir, None)
    runner = StepRunner(Hardware("cpu", "fp32", "lattice"), None, Progress(quiet=True))
    return runner.context(Trial(step.card.name, data, 0, (planned,)), planned)


def _check_reads(contracts: Contracts, data: TinyDataset, card: StepCard, who: str) -> None:
    """What was asked of the data set since `forget`: nothing but what the supervision allows."""
    for field, allowed in (("mask", "masks"), ("tags", "tags")):
        if allowed not in card.supervision:
            reads = data.reads[field]
            contracts.expect(
                not reads, f"{who} reads no {allowed}, which the supervision lacks", f"it read {len(reads)}"
            )
    foreign = data.reads["image"] - set(data.ids(data.card.fit_split))
    contracts.expect(
        not foreign, f"{who} reads the images of the fit split only", f"it read {sorted(foreign)}"
    )
