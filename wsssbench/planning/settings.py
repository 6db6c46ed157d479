"""What the user asked for: defaults < wsssbench.toml < flags, as one frozen object.

Every name in the file and on the command line is checked here against what exists; the values of a plugin's
options are left raw, since only the plugin's own Config can judge them (`wsssbench.plugins.options`).
Nothing is imported from any plugin. Relative paths start at the working folder, wherever the file lies.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_type_hints

from wsssbench.errors import BadData, UnknownName, WsssError, nearest
from wsssbench.files.toml_file import MOST_BYTES, parse_toml
from wsssbench.plugins.options import coerce, parse_value

FILE_NAME = "wsssbench.toml"
TABLES = ("run", "steps", "datasets", "methods", "stages", "executors")
EXECUTORS = ("here", "local", "slurm")  # where trials run: `wsssbench.running.executors`
WITH_OPTIONS = ("slurm",)  # executors
# The keys of [run] and the fields that they fill; --rerun is a flag only.
RUN_KEYS = {
    "method": "methods",
    "dataset": "datasets",
    "seeds": "seeds",
    "stages": "stages",
    "metrics": "metrics",
    "threshold_policy": "threshold_policy",
    "runs": "runs",
    "device": "device",
    "precision": "precision",
    "filter": "filter_backend",
    "limit": "limit",
    "plugins": "plugins",
    "isolate": "isolate",
    "jobs": "jobs",
    "executor": "executor",
}
FLAG_KEYS = {**RUN_KEYS, "rerun": "rerun"}
METHOD_KEYS = ("steps", "options")
TABLE_NAMES = {"steps": "a step", "datasets": "a data set", "executors": "an executor"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")  # of a method or stage: it becomes a folder

Raw: TypeAlias = Mapping[str, Any]
Tables: TypeAlias = Mapping[str, Raw]


@dataclass(frozen=True)
class Settings:
    """One run as asked for. Option values are raw; names are as the user wrote them."""

    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    stages: tuple[str, ...] = ("pseudo", "seg", "seg+crf")
    metrics: tuple[str, ...] = ("iou",)  # iou always is among them
    threshold_policy: Literal["fixed", "held-out", "label-free", "oracle"] = "fixed"  # of rows of maps
    runs: Path = Path("runs")
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    filter_backend: Literal["lattice", "exact", "pydensecrf"] = "lattice"
    limit: int | None = None  # the first N ids of every split
    plugins: tuple[Path, ...] = ()  # local files
    isolate: bool = False  # every step in a sandbox
    rerun: Literal["", "failed", "stale", "all"] = ""  # failed cells are retried anyway
    jobs: int = 1  # trials at a time, each in a process of its own
    executor: str = "here"  # one of EXECUTORS
    options: Tables = field(default_factory=dict)  # step -> option -> value
    dataset_options: Tables = field(default_factory=dict)  # data set -> option -> value
    recipes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # from [methods.NAME]
    recipe_options: Mapping[str, Tables] = field(default_factory=dict)  # from [methods.NAME.options.STEP]
    custom_stages: Tables = field(default_factory=dict)  # from [stages.NAME]
    executor_options: Tables = field(default_factory=dict)  # from [executors.NAME]
    source: Path | None = None  # the file that was read


def find_settings(config: Path | None) -> Path | None:
    """The file of `--config`, else wsssbench.toml in the working folder, else None."""
    return config or (Path(FILE_NAME) if Path(FILE_NAME).is_file() else None)


def load_settings(path: Path | None, flags: Mapping[str, Any]) -> Settings:
    """Settings from defaults < the file `path` < `flags`, named as the keys of [run] and `rerun`.

    A flag that is None or an empty tuple was not given. Raises BadData (file missing, not TOML: with the
    line), UnknownName (table or key, with the nearest) and WsssError (wrong type or value).
    """
    tables = _read_toml(path) if path else {}
    values = _values(tables.get("run", {}), RUN_KEYS, f"{path}: run")
    given = {key: value for key, value in flags.items() if value is not None and value != ()}
    values |= _values(given, FLAG_KEYS, "--")
    settings = Settings(
        **values,
        options=_subtables(tables, "steps", path),
        dataset_options=_subtables(tables, "datasets", path),
        recipes={n: _recipe(n, t, path) for n, t in _subtables(tables, "methods", path).items()},
        recipe_options={n: _recipe_options(n, t, path) for n, t in tables.get("methods", {}).items()},
        custom_stages=_subtables(tables, "stages", path),
        executor_options=_subtables(tables, "executors", path),
        source=path,
    )
    _check_values(settings)
    return settings


def check_names(settings: Settings, steps: Collection[str], datasets: Collection[str]) -> None:
    """Raise UnknownName where a [steps.NAME] or [datasets.NAME] table names no plugin, an [executors.NAME]
    table no executor."""
    pairs = (
        ("steps", settings.options, steps),
        ("datasets", settings.dataset_options, datasets),
        ("executors", settings.executor_options, WITH_OPTIONS),
    )
    for table, given, known in pairs:
        for name in given:
            if name not in known:
                where = f"{settings.source or 'options'}: {table}.{name}"
                hint = nearest(name, tuple(known))
                raise UnknownName(f"unknown {table[:-1]} {name!r}", where=where, hint=hint)


# -------------------------------------------------------------------------------------------- command line


def parse_option(text: str) -> tuple[str, str, Any]:
    """`NAME.KEY=VALUE` as (name, key, value): a TOML value or else a string. NAME may have a table before it:
    `steps.NAME.KEY=VALUE`, `datasets.NAME.KEY=VALUE`, `executors.NAME.KEY=VALUE`."""
    left, equals, right = text.partition("=")
    name, dot, key = left.strip().rpartition(".")
    if not (equals and dot and name and key):
        raise WsssError(
            "not an option", where=f"-o {text}", hint="write -o NAME.KEY=VALUE, as -o rrm.crop=448"
        )
    return name, key, parse_value(right.strip())


def with_options(
    settings: Settings, texts: Sequence[str], steps: Collection[str], datasets: Collection[str]
) -> Settings:
    """`settings` with every `-o` of `texts` laid over; the last one of a key counts.

    `steps` and `datasets` are the names that exist. Raises UnknownName, or WsssError for a name of both.
    """
    for text in texts:
        name, key, value = parse_option(text)
        table, name = _table_of(name, text, steps, datasets)
        settings = _with_value(settings, table, name, key, value)
    return settings


def parse_weights(text: str, candidates: Collection[str]) -> tuple[str, str]:
    """`STEP=FILE`, or `FILE` where one step takes weights, as (step, file).

    `candidates` names the steps of the recipes that have a `weights` option.
    Raises UnknownName and WsssError.
    """
    step, equals, file = text.partition("=")
    if equals and step in candidates:
        return step, file
    names = sorted(set(candidates))
    if equals and NAME.fullmatch(step) and not Path(text).exists():  # a path may hold "=", a step's name not
        hint = nearest(step, names)
        raise UnknownName(f"no step {step!r} that takes weights", where=f"--weights {text}", hint=hint)
    if len(names) != 1:
        problem = f"{', '.join(names)} take weights" if names else "no step of these methods takes weights"
        raise WsssError(problem, where=f"--weights {text}", hint="write --weights STEP=FILE")
    return names[0], text


def with_weights(settings: Settings, texts: Sequence[str], candidates: Collection[str]) -> Settings:
    """`settings` with every `--weights` of `texts` set as option `weights` of its step."""
    for text in texts:
        step, file = parse_weights(text, candidates)
        settings = _with_value(settings, "steps", step, "weights", file)
    return settings


def _table_of(name: str, text: str, steps: Collection[str], datasets: Collection[str]) -> tuple[str, str]:
    """Which table `name` belongs to, and its name without the table."""
    known = {"steps": steps, "datasets": datasets, "executors": WITH_OPTIONS}
    head, _, rest = name.partition(".")
    if rest and head in known:
        return _known(head, rest, text, known[head])
    tables = [table for table, names in known.items() if name in names]
    if len(tables) > 1:
        hint = f"write {' or '.join(f'{table}.{name}.KEY=VALUE' for table in tables)}"
        what = " and ".join(TABLE_NAMES[table] for table in tables)
        raise WsssError(f"{name!r} is {what}", where=f"-o {text}", hint=hint)
    return _known(tables[0] if tables else "step or data set", name, text, {*steps, *datasets, *WITH_OPTIONS})


def _known(table: str, name: str, text: str, names: Collection[str]) -> tuple[str, str]:
    if name not in names:
        what = table.removesuffix("s")
        raise UnknownName(f"unknown {what} {name!r}", where=f"-o {text}", hint=nearest(name, tuple(names)))
    return table, name


def _with_value(settings: Settings, table: str, name: str, key: str, value: Any) -> Settings:
    attribute = {"steps": "options", "datasets": "dataset_options"}.get(table, "executor_options")
    tables: Tables = getattr(settings, attribute)
    changes: dict[str, Any] = {attribute: {**tables, name: {**tables.get(name, {}), key: value}}}
    return dataclasses.replace(settings, **changes)


# ------------------------------------------------------------------------------------------------ the file


def _read_toml(path: Path) -> dict[str, Raw]:
    """The tables of the file; BadData or UnknownName where it cannot be one of ours."""
    try:
        with path.open("rb") as file:
            text = file.read(4 * MOST_BYTES).decode()
    except OSError as error:
        raise BadData(f"cannot be read: {error.strerror}", where=path, hint="check --config") from error
    except UnicodeDecodeError as error:
        raise BadData("not a text file in UTF-8", where=path, hint="check --config") from error
    tables = parse_toml(text, path, "mend that line; strings are quoted")
    for name, table in tables.items():
        if name not in TABLES:
            raise UnknownName(f"unknown table [{name}]", where=f"{path}: {name}", hint=nearest(name, TABLES))
        _require_table(table, f"{path}: {name}")
    return tables


def _subtables(tables: Mapping[str, Raw], name: str, path: Path | None) -> dict[str, Raw]:
    found = dict(tables.get(name, {}))
    for key, table in found.items():
        where = f"{path}: {name}.{key}"
        _require_table(table, where)
        if name in ("methods", "stages") and not NAME.fullmatch(key):
            raise WsssError(f"{key!r} cannot name a folder", where=where, hint="letters, digits and . _ + -")
    return found


def _require_table(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise WsssError("a table is expected here", where=where, hint=f"write [{where.rpartition(': ')[2]}]")


def _recipe(name: str, table: Raw, path: Path | None) -> tuple[str, ...]:
    where = f"{path}: methods.{name}"
    for key in table:
        if key not in METHOD_KEYS:
            raise UnknownName(f"unknown key {key!r}", where=f"{where}.{key}", hint=nearest(key, METHOD_KEYS))
    steps = coerce(table.get("steps"), tuple[str, ...], f"{where}.steps") if "steps" in table else ()
    if not steps or not all(steps):
        raise WsssError("a method needs its steps", where=where, hint='steps = ["cam", "crf"]')
    return tuple(steps)


def _recipe_options(name: str, table: Raw, path: Path | None) -> Tables:
    """The options that a method sets for its own steps."""
    where = f"{path}: methods.{name}.options"
    given = table.get("options", {})
    _require_table(given, where)
    for step, options in given.items():
        _require_table(options, f"{where}.{step}")
        if step not in table["steps"]:
            hint = f"its steps are {', '.join(table['steps'])}"
            raise UnknownName(f"the method has no step {step!r}", where=f"{where}.{step}", hint=hint)
    return dict(given)


def _values(given: Raw, keys: Mapping[str, str], where: str) -> dict[str, Any]:
    """The fields of Settings that `given` sets, checked; `where` stands before the key in messages."""
    kinds, fields = get_type_hints(Settings), {f.name: f for f in dataclasses.fields(Settings)}
    values = {}
    for key, value in given.items():
        place = f"{where}{key}" if where == "--" else f"{where}.{key}"
        if key not in keys:
            raise UnknownName(f"unknown key {key!r}", where=place, hint=nearest(key, tuple(keys)))
        name = keys[key]
        values[name] = coerce(value, kinds[name], place, fields[name].default)
    return values


def _check_values(settings: Settings) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", settings.device):
        raise WsssError(f"no device {settings.device!r}", where="device", hint="auto, cpu, cuda or cuda:N")
    if not settings.seeds or min(settings.seeds) < 0 or len(set(settings.seeds)) < len(settings.seeds):
        raise WsssError("seeds are different numbers of 0 and more", where="seeds", hint="--seeds 0,1,2")
    if settings.jobs < 1:
        raise WsssError("at least one trial runs at a time", where="jobs", hint="--jobs 2, or leave it out")
    if settings.executor not in EXECUTORS:
        hint = nearest(settings.executor, EXECUTORS)
        raise UnknownName(f"there is no executor {settings.executor!r}", where="executor", hint=hint)
    if settings.limit is not None and settings.limit < 1:
        raise WsssError("limit is at least 1", where="limit", hint="leave it out for all images")
