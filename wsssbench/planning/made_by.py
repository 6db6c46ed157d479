"""Which code made a number: hashes of what a step, a metric, a data set and the judge consist of. A record
keeps them, and is stale where today's code is another. Which files count is `wsssbench.plugins.code_hash`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wsssbench.plugins.code_hash import code_of, is_code

if TYPE_CHECKING:
    from wsssbench.identity import Record, Stage
    from wsssbench.types import Metric


class HasSteps(Protocol):
    """A trial: planned steps, each with a `name` and the `step` itself."""

    @property
    def steps(self) -> Sequence[Any]: ...


def trial_code(trial: HasSteps) -> dict[str, str]:
    """Step name -> hash of the code that it consists of."""
    return {planned.name: code_hash(planned.step) for planned in trial.steps}


def code_hash(plugin: Any) -> str:
    """Hash of the code of a step, data set or metric, by its class; empty where there is no file."""
    cls: Any = type(plugin)  # mypy does not accept a type as Hashable
    return _code_of_class(cls)


def has_code(plugin: Any, digest: str) -> bool:
    """Whether `digest` is the hash of today's code of the class, by the scheme that made `digest`."""
    cls: Any = type(plugin)
    return digest == code_hash(plugin) or _is_code_of_class(cls, digest)


def judging_code(dataset: Any, stage: Stage, metrics: Iterable[Metric]) -> dict[str, str]:
    """Name -> hash of the code that judges a cell: the judge's, the data set's, that of each metric."""
    of_metrics = {metric_key(metric.name): code_hash(metric) for metric in metrics}
    judge = judge_code(crf=stage.crf is not None, several=stage.multi_scale)
    return {"judge": judge, "data set": code_hash(dataset), **of_metrics}


def metric_key(name: str) -> str:
    """Under which name a record keeps the hash of a metric's code."""
    return f"metric {name}"


@cache
def reading_code() -> str:
    """Hash of the code that reads outputs of other programs for `wsssbench score`."""
    here = Path(__file__).resolve().parents[1]
    return code_of(here / "commands" / "foreign.py", here / "dumps" / "__init__.py")


@cache
def judge_code(*, crf: bool, several: bool) -> str:
    """Hash of the code that makes labels of outputs and counts them; filters count where there is a `crf`."""
    here = Path(__file__).resolve().parents[1]
    files = [here / "judging" / "cell_judging.py", *([here / "running" / "scales.py"] if several else [])]
    return code_of(*files, without=() if crf else ("ops",))


def is_of_today(record: Record, trial: HasSteps, judged_by: Mapping[str, str]) -> bool:
    """Whether the code that made and judged a cell, as far as it makes numbers, is today's."""
    made, judged = record.provenance.get("code", {}), record.provenance.get("judged_by", {})
    same_steps = set(made) == {p.name for p in trial.steps}
    return (
        same_steps
        and all(has_code(p.step, made[p.name]) for p in trial.steps)
        and all(judged.get(name) == code for name, code in judged_by.items())
    )


@cache  # a class is what was loaded, whatever became of its file since
def _code_of_class(cls: type) -> str:
    file = _file_of(cls)
    return code_of(file) if file else ""


@cache
def _is_code_of_class(cls: type, digest: str) -> bool:
    file = _file_of(cls)
    return file is not None and is_code(digest, file)


def _file_of(cls: type) -> Path | None:
    """The file that defines a class; None where it was typed into an interpreter, or compiled."""
    try:
        known = getattr(cls, "source_file", None)  # of a class that stands for one that is not here
        source = known or inspect.getsourcefile(cls)
    except (TypeError, OSError):
        return None
    return Path(source) if source and Path(source).is_file() else None
