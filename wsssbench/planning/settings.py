"""What the user asked for: defaults < wsssbench.toml < flags, as one frozen object.

A setting of a run is one field of `Settings`: its type, default, range and help make the flag of
`wsssbench run` (`wsssbench.cli.option_groups`), the key of [run] and the argument of `wsssbench.run`.
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
from wsssbench.identity import FilterBackend
from wsssbench.option_fields import option
from wsssbench.plugins.options import build, field_value, parse_value

FILE_NAME = "wsssbench.toml"
TABLES = ("run", "steps", "datasets", "methods", "stages", "executors")
OPTION_TABLES = {"steps": "options", "datasets": "dataset_options", "executors": "executor_options"}
WITH_OPTIONS = ("slurm",)  # executors
TABLE_NAMES = {"steps": "a step", "datasets": "a data set", "executors": "an executor"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")  # of a method or stage: it becomes a folder

Raw: TypeAlias = Mapping[str, Any]
Tables: TypeAlias = Mapping[str, Raw]
Policy: TypeAlias = Literal["fixed", "held-out", "label-free", "oracle"]
Precision: TypeAlias = Literal["auto", "fp32", "bf16"]
Rerun: TypeAlias = Literal["", "stale", "all"]
Executor: TypeAlias = Literal["here", "local", "slurm"]  # `wsssbench.running.executors`


def setting(
    default: Any, help: str, *, key: str | None = None, flag: str = "", metavar: str | None = None,
    repeat: bool = False, **bounds: Any,
) -> Any:  # fmt: skip
    """A field of Settings that a user sets; `bounds` as of `option`.

    `key` of [run]: the field's name unless given, "" for none. `flag` on the command line: the key unless
    given; `repeat` for one that may be given several times, `metavar` for its value in the help.
    """
    told: dataclasses.Field[Any] = option(default, help, **bounds)
    words = {"key": key, "flag": flag, "metavar": metavar, "repeat": repeat}
    return field(default=default, metadata={**told.metadata, **words})


@dataclass(frozen=True)
class Settings:
    """One run as asked for. Option values are raw; names are as the user wrote them."""

    methods: tuple[str, ...] = setting(
        (), 'A method, or steps as "cam > crf". Repeatable.', key="method", repeat=True
    )
    datasets: tuple[str, ...] = setting((), "A data set. Repeatable.", key="dataset", repeat=True)
    seeds: tuple[int, ...] = setting((0,), "Training seeds, as 0,1,2.", low=0, filled=True)
    stages: tuple[str, ...] = setting(
        ("pseudo", "seg", "seg+crf"), "Stages to judge, as pseudo,seg,seg+crf.", filled=True
    )
    metrics: tuple[str, ...] = setting(  # iou always is among them
        ("iou",), "Metrics beside iou, as boundary_iou,activation.", filled=True
    )
    threshold_policy: Policy = setting(
        "fixed", "How the threshold of maps is chosen; rows of each policy are ranked apart."
    )
    runs: Path = setting(Path("runs"), "Folder for artifacts and records.")
    device: str = setting("auto", "Where to compute: auto, cpu, cuda or cuda:N.")
    precision: Precision = setting(
        "auto", "Number format of networks; auto is fp32 on a CPU and bf16 on a GPU."
    )
    filter: FilterBackend = setting(
        "lattice", "Gaussian filter; exact gives other labels at 1 to 6 % of the pixels."
    )
    limit: int | None = setting(None, "Only the first N images of every split; kept out of tables.", low=1)
    jobs: int = setting(
        1, "Trials at a time, each in a process of its own, one a GPU or a share of the cores.",
        metavar="N", low=1,
    )  # fmt: skip
    executor: Executor = setting(
        "here",
        "Where trials run: here (the default), local (processes) or slurm (jobs; -o slurm.KEY=VALUE).",
    )
    plugins: tuple[Path, ...] = setting(
        (), "A Python file with steps, data sets or metrics. Repeatable.", flag="plugin", repeat=True
    )
    rerun: Rerun = setting(
        "", "Also run cells that are done: those whose code has changed (stale), or all.", key=""
    )
    offline: bool = setting(
        False, "Fetch nothing: weights called timm:NAME or torchvision:TAG must be in the cache already."
    )
    isolate: bool = setting(
        False,
        "Run every step in a sandbox (bubblewrap) without masks and network; what was made without one is "
        "made again. A generated data set (shapes) can be drawn again from its seed even there.",
    )
    options: Tables = field(default_factory=dict)  # step -> option -> value
    dataset_options: Tables = field(default_factory=dict)  # data set -> option -> value
    recipes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # from [methods.NAME]
    recipe_options: Mapping[str, Tables] = field(default_factory=dict)  # from [methods.NAME.options.STEP]
    custom_stages: Tables = field(default_factory=dict)  # from [stages.NAME]
    executor_options: Tables = field(default_factory=dict)  # from [executors.NAME]
    source: Path | None = None  # the file that was read


FIELDS = {f.name: f for f in dataclasses.fields(Settings) if "help" in f.metadata}  # those that a user sets
KINDS = get_type_hints(Settings)


def key_of(f: dataclasses.Field[Any]) -> str:
    """The key of [run] for a setting; "" where the file cannot set it."""
    key: str | None = f.metadata["key"]
    return f.name if key is None else key


def flag_of(f: dataclasses.Field[Any]) -> str:
    """The flag of a setting, as --threshold-policy."""
    return f"--{f.metadata['flag'] or key_of(f) or f.name}".replace("_", "-")


def find_settings(config: Path | None) -> Path | None:
    """The file of `--config`, else wsssbench.toml in the working folder, else None."""
    return config or (Path(FILE_NAME) if Path(FILE_NAME).is_file() else None)


def load_settings(path: Path | None, flags: Mapping[str, Any]) -> Settings:
    """Settings from defaults < the file `path` < `flags`, named as the fields of Settings.

    A flag that is None or an empty tuple was not given. Raises BadData (file missing, not TOML: with the
    line), UnknownName (table or key, with the nearest) and WsssError (wrong type or value).
    """
    tables = _read_toml(path) if path else {}
    keys = {key_of(f): (f, f"{path}: run.{key_of(f)}") for f in FIELDS.values() if key_of(f)}
    values = _values(tables.get("run", {}), keys, f"{path}: run.")
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    values |= _values(given, {name: (f, flag_of(f)) for name, f in FIELDS.items()}, "")
    values |= {attribute: _subtables(tables, name, path) for name, attribute in OPTION_TABLES.items()}
    methods = {n: _method(n, t, path) for n, t in _subtables(tables, "methods", path).items()}
    settings = Settings(
        **values,
        recipes={name: method.steps for name, method in methods.items()},
        recipe_options={name: method.options or {} for name, method in methods.items()},
        custom_stages=_subtables(tables, "stages", path),
        source=path,
    )
    _check_values(settings)
    return settings


def check_names(settings: Settings, steps: Collection[str], datasets: Collection[str]) -> None:
    """Raise UnknownName where a [steps.NAME] or [datasets.NAME] table names no plugin, an [executors.NAME]
    table no executor."""
    for table, known in _known_names(steps, datasets).items():
        for name in getattr(settings, OPTION_TABLES[table]):
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
        table, name = _table_of(name, text, _known_names(steps, datasets))
        settings = _with_value(settings, table, name, key, value)
    return settings


def parse_weights(text: str, candidates: Collection[str]) -> dict[str, str]:
    """`STEP=FILE` as {step: file}, `FILE` alone as that of every step; a name of weights goes for a file.

    `candidates` names the steps of the recipes that have a `weights` option.
    Raises UnknownName and WsssError.
    """
    step, equals, file = text.partition("=")
    if equals and step in candidates:
        return {step: file}
    names = sorted(set(candidates))
    if equals and NAME.fullmatch(step) and not Path(text).exists():  # a path may hold "=", a step's name not
        hint = nearest(step, names)
        raise UnknownName(f"no step {step!r} that takes weights", where=f"--weights {text}", hint=hint)
    if not names:
        hint = "leave it out, or name a method that is trained"
        raise WsssError("no step of these methods takes weights", where=f"--weights {text}", hint=hint)
    return dict.fromkeys(names, text)


def weights_of_steps(texts: Sequence[str], candidates: Collection[str]) -> dict[str, str]:
    """Every `--weights` of `texts` by step; what names its step goes before what is for all."""
    files = [parse_weights(text, candidates) for text in texts]
    return {step: file for given in sorted(files, key=len, reverse=True) for step, file in given.items()}


def with_weights(settings: Settings, texts: Sequence[str], candidates: Collection[str]) -> Settings:
    """`settings` with every `--weights` of `texts` set as option `weights` of its step, or of all."""
    for step, file in weights_of_steps(texts, candidates).items():
        settings = _with_value(settings, "steps", step, "weights", file)
    return settings


def _table_of(name: str, text: str, known: Mapping[str, Collection[str]]) -> tuple[str, str]:
    """Which table of `known` names `name` belongs to, and its name without the table."""
    head, _, rest = name.partition(".")
    if rest and head in known:
        known, name = {head: known[head]}, rest
    tables = [table for table, names in known.items() if name in names]
    if not tables:
        what = head.removesuffix("s") if len(known) == 1 else "step or data set"
        hint = nearest(name, tuple({each for names in known.values() for each in names}))
        raise UnknownName(f"unknown {what} {name!r}", where=f"-o {text}", hint=hint)
    if len(tables) > 1:
        hint = f"write {' or '.join(f'{table}.{name}.KEY=VALUE' for table in tables)}"
        what = " and ".join(TABLE_NAMES[table] for table in tables)
        raise WsssError(f"{name!r} is {what}", where=f"-o {text}", hint=hint)
    return tables[0], name


def _known_names(steps: Collection[str], datasets: Collection[str]) -> dict[str, Collection[str]]:
    """The names that have options, by table."""
    return {"steps": steps, "datasets": datasets, "executors": WITH_OPTIONS}


def _with_value(settings: Settings, table: str, name: str, key: str, value: Any) -> Settings:
    attribute = OPTION_TABLES[table]
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


@dataclass(frozen=True)
class MethodTable:
    """What a [methods.NAME] table holds."""

    steps: tuple[str, ...] = option(dataclasses.MISSING, "the steps in order", filled=True)
    options: Mapping[str, Any] | None = option(None, "options that the method sets for its own steps")


def _method(name: str, table: Raw, path: Path | None) -> MethodTable:
    where = f"{path}: methods.{name}"
    found = build(where, MethodTable, table, missing='write steps = ["cam", "crf"]')
    for step, options in (found.options or {}).items():
        _require_table(options, f"{where}.options.{step}")
        if step not in found.steps:
            hint = f"its steps are {', '.join(found.steps)}"
            raise UnknownName(f"the method has no step {step!r}", where=f"{where}.options.{step}", hint=hint)
    return found


def _values(
    given: Raw, known: Mapping[str, tuple[dataclasses.Field[Any], str]], where: str
) -> dict[str, Any]:
    """The fields of Settings that `given` sets, checked; `known` has field and place of each name."""
    values = {}
    for name, value in given.items():
        if name not in known:
            hint = nearest(name, tuple(known))
            raise UnknownName(f"unknown key {name!r}", where=f"{where}{name}", hint=hint)
        f, place = known[name]
        values[f.name] = field_value(f, KINDS[f.name], value, place)
    return values


def _check_values(settings: Settings) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", settings.device):
        hint = "auto, cpu, cuda or cuda:N"
        raise WsssError(f"unknown device {settings.device!r}", where="device", hint=hint)
    if len(set(settings.seeds)) < len(settings.seeds):
        raise WsssError("seeds must be distinct integers, 0 or larger", where="seeds", hint="--seeds 0,1,2")
