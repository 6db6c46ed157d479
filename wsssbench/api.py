"""What the commands do, as functions: `wsssbench.run(...)`, `dry_run`, `score`, `report`, `compare`.

They take Python values for the flags of the same name, read ./wsssbench.toml as the commands do, raise
WsssError where those exit, and return plain objects that a notebook shows as tables. The work itself is done
in `wsssbench.commands`; nothing is computed here, nothing heavy is imported before a function is called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypedDict, TypeVar, Unpack, overload

from wsssbench.types import plain

if TYPE_CHECKING:
    from pandas import DataFrame

    from wsssbench.commands.compare import Comparison  # noqa: F401  (named in a base class)
    from wsssbench.plan import Cell
    from wsssbench.report.rows import Row  # noqa: F401  (likewise)
    from wsssbench.settings import Settings

T = TypeVar("T")
Names: TypeAlias = "str | Sequence[str]"  # one name stands for a list of one
Options: TypeAlias = Mapping[str, Any]  # {"rrm.crop": 448, "shapes.preset": "tiny"}
Place: TypeAlias = "Path | str"
Places: TypeAlias = "Place | Sequence[Place] | None"  # None: `runs` of wsssbench.toml


@dataclass(frozen=True, repr=False)
class Table(Sequence[T], Generic[T]):
    """Plain objects in a row, which a notebook or `print` shows as markdown."""

    items: tuple[T, ...]

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __repr__(self) -> str:
        return self._repr_markdown_()

    def _repr_markdown_(self) -> str:
        raise NotImplementedError


class Rows(Table["Row"]):
    """Rows as they stand in the tables (`wsssbench.report.rows.Row`), best first within equal terms."""

    @property
    def failures(self) -> dict[str, tuple[str, ...]]:
        """The reasons of failed cells, by method."""
        return {row.title: row.reasons for row in self if row.reasons}

    def text(self, format: str = "md") -> str:
        """The tables as "md", "csv" or "json"."""
        from wsssbench.report.tables import render

        return render(list(self), format)

    def frame(self) -> DataFrame:
        """One line per row with every number (miou_mean, miou_sd, ...), for pandas."""
        import io

        import pandas

        return pandas.read_csv(io.StringIO(self.text("csv"))) if self.items else pandas.DataFrame()

    def _repr_markdown_(self) -> str:
        return self.text() if self.items else "No rows."


class Cells(Table["Cell"]):
    """What a run would do, by `wsssbench.plan.Cell`: `state` is done, stale, missing, failed or skip."""

    def _repr_markdown_(self) -> str:
        from wsssbench.commands.run import plan_table

        return plan_table(self)


class Comparisons(Table["Comparison"]):
    """The first method minus each other one (`wsssbench.commands.compare.Comparison`), with intervals."""

    def _repr_markdown_(self) -> str:
        from wsssbench.commands.compare import as_text

        return as_text(self)


@dataclass(frozen=True)
class Report:
    """Text of a report; markdown is shown as such in a notebook."""

    text: str
    format: str

    def __str__(self) -> str:
        return self.text

    def write(self, path: Place) -> Path:
        """Write it to a file, whole or not at all."""
        from wsssbench.store import atomic_write_text

        atomic_write_text(path, self.text)
        return Path(path)

    def _repr_markdown_(self) -> str:
        return self.text if self.format == "md" else f"```{self.format}\n{self.text}```"


class RunSettings(TypedDict, total=False):
    """What `run` and `dry_run` take beside methods and data sets; the rest comes from the settings file."""

    seeds: Sequence[int]
    stages: Names
    metrics: Names
    threshold_policy: Literal["fixed", "held-out", "label-free", "oracle"]
    options: Options
    weights: Mapping[str, Place]  # step -> file
    plugins: Sequence[Place]
    runs: Place
    device: str  # auto, cpu, cuda, cuda:N
    precision: Literal["auto", "fp32", "bf16"]
    filter: Literal["lattice", "exact", "pydensecrf"]
    limit: int  # the first N images of every split
    rerun: Literal["stale", "all"]
    config: Place  # the settings file; ./wsssbench.toml


def run(
    methods: Names = (), datasets: Names = (), *, quiet: bool = False, **settings: Unpack[RunSettings]
) -> Rows:
    """Train and judge `methods` on `datasets`; what is done already is not done again.

    `run(["cam", "rrm"], "shapes", seeds=(0, 1), options={"shapes.preset": "tiny"})`. A cell that fails is a
    row with its reason (`Rows.failures`) and does not stop the others; WsssError is raised for what cannot be
    planned. Progress goes to stderr. Sets the number of torch's threads of this process.
    """
    from wsssbench.commands.run import judged_cells, rows_of_cells
    from wsssbench.engine import Engine
    from wsssbench.hardware import resolve_hardware
    from wsssbench.plan import refreshed
    from wsssbench.process import use_machine
    from wsssbench.progress import Progress

    used, cells = _planned(methods, datasets, settings)
    use_machine()
    Engine(resolve_hardware(used), used.limit, Progress(quiet=quiet)).run(cells)
    judged = judged_cells(refreshed(cells))
    return Rows(tuple(rows_of_cells(judged, limited=used.limit is not None)))


def dry_run(methods: Names = (), datasets: Names = (), **settings: Unpack[RunSettings]) -> Cells:
    """The cells that `run` would make of the same arguments, and their states; nothing is run."""
    return Cells(tuple(_planned(methods, datasets, settings)[1]))


def _planned(methods: Names, datasets: Names, settings: RunSettings) -> tuple[Settings, list[Cell]]:
    from wsssbench.commands.setup import open_settings
    from wsssbench.plan import make_plan

    rest: dict[str, Any] = {**settings}
    config, options, weights = (rest.pop(name, None) for name in ("config", "options", "weights"))
    flags = {"method": methods, "dataset": datasets, **rest}
    for name in ("method", "dataset", "stages", "metrics", "seeds", "plugins"):
        if isinstance(flags.get(name, ()), (str, int, Path)):
            flags[name] = (flags[name],)
        flags[name] = tuple(flags.get(name, ()))
    files = [f"{step}={file}" for step, file in (weights or {}).items()]
    used, found = open_settings(flags, _path(config), _texts(options), files)
    return used, make_plan(used, found)


def _path(place: Place | None) -> Path | None:
    return None if place is None else Path(place)


def _texts(options: Options | None) -> list[str]:
    """`options` as the command line has them: NAME.KEY=VALUE with a TOML value."""
    plainly = {name: "none" if value is None else plain(value) for name, value in (options or {}).items()}
    return [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in plainly.items()]


def _folders(runs: Places) -> tuple[Path, ...]:
    from wsssbench.commands.setup import default_runs

    if runs is None:
        return (default_runs(),)
    return (Path(runs),) if isinstance(runs, (str, Path)) else tuple(map(Path, runs))


# ----------------------------------------------------------------------------------- what is on disk already


def score(
    folder: Place,
    dataset: str,
    name: str,
    *,
    stage: str = "seg",
    supervision: Names | None = None,
    format: str = "auto",
    threshold: float | None = None,
    class_index: int | None = None,
    rescale: bool = False,
    seed: int = 0,
    runs: Place | None = None,
    limit: int | None = None,
    options: Options | None = None,
    config: Place | None = None,
) -> Rows:
    """Judge the files <folder>/<image id>.* of any repository, and record them as the row `name`.

    Label PNGs, class maps (with `threshold`), probabilities or logits; `wsssbench score --help` says more.
    WsssError for files that are missing, damaged or of another data set.
    """
    from wsssbench.commands.results import score_files
    from wsssbench.report.rows import rows_of

    seen = (supervision,) if isinstance(supervision, str) else supervision
    flags = {
        "dataset": dataset, "name": name, "stage": stage, "supervision": seen, "format": format,
        "threshold": threshold, "class_index": class_index, "rescale": rescale, "seed": seed,
        "runs": _path(runs), "limit": limit, "options": _texts(options), "config": _path(config),
    }  # fmt: skip
    record, _ = score_files(Path(folder), flags)
    return Rows(tuple(rows_of([record], limited=True)))


def report(runs: Places = None, format: str = "md", *, limited: bool = False) -> Report:
    """The tables of all records below the folders `runs`, as "md", "csv", "json" or "tex".

    `limited` also shows runs with a limit. BadData where a folder does not exist, UnknownName for a format.
    """
    from wsssbench.commands.sources import stale_keys
    from wsssbench.plugins import Plugins
    from wsssbench.report import report as text_of
    from wsssbench.store import find_records

    folders = _folders(runs)
    stale = stale_keys([found.record for root in folders for found in find_records(root)], Plugins())
    return Report(text_of(folders, format, limited, stale), format)


def compare(
    *methods: str, runs: Places = None, stage: str | None = None, resamples: int = 10_000, seed: int = 0
) -> Comparisons:
    """The first of `methods` against each other one, paired by seed and image, with intervals of 95 %.

    `compare("rrm", "cam", stage="seg")`. NotComparable, with the fields that differ, for unlike protocols;
    UnknownName for a method without results.
    """
    from wsssbench.commands.compare import compare_runs

    return Comparisons(tuple(compare_runs(methods, _folders(runs), stage, resamples, seed)))
