"""What the commands do, as functions: `wsssbench.run(...)`, `dry_run`, `score`, `predict`, `bench`, `report`,
`compare`, `find_errors` (the command `errors`), `gate`, `write_baseline`, `verify`, `prepare`,
`inspect_weights`, `plot`, `paper`, `export_records`, `export_labels`.

They take Python values for the flags of the same name, read ./wsssbench.toml as the commands do, raise
WsssError where those exit, and return plain objects that a notebook shows as tables (`wsssbench.results`).
The work itself is done in `wsssbench.commands`; nothing is computed here, nothing heavy is imported before a
function is called.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Unpack

from wsssbench.results import (
    Benches,
    Cells,
    Comparisons,
    Errors,
    Gate,
    Place,
    Prediction,
    Predictions,
    Report,
    Rows,
    Verifications,
)
from wsssbench.types import plain

if TYPE_CHECKING:
    from wsssbench.nets.inspection import WeightReport
    from wsssbench.plan import Cell
    from wsssbench.plugins import Plugins
    from wsssbench.settings import Settings

Names: TypeAlias = "str | Sequence[str]"  # one name stands for a list of one
Options: TypeAlias = Mapping[str, Any]  # {"rrm.crop": 448, "shapes.preset": "tiny"}
Places: TypeAlias = "Place | Sequence[Place] | None"  # None: `runs` of wsssbench.toml


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
    methods: Names = (),
    datasets: Names = (),
    *,
    quiet: bool = False,
    tensorboard: bool = False,
    **settings: Unpack[RunSettings],
) -> Rows:
    """Train and judge `methods` on `datasets`; what is done already is not done again.

    `run(["cam", "rrm"], "shapes", seeds=(0, 1), options={"shapes.preset": "tiny"})`. A cell that fails is a
    row with its reason (`Rows.failures`) and does not stop the others; WsssError is raised for what cannot be
    planned. Progress goes to stderr; `tensorboard` also writes curves and masks below <runs>/tensorboard.
    Sets the number of torch's threads of this process.
    """
    from wsssbench.commands.run import judged_cells, rows_of_cells, run_cells
    from wsssbench.plan import refreshed
    from wsssbench.screen.board import open_board
    from wsssbench.screen.progress import Progress

    progress = Progress(quiet=quiet)
    used, cells = _planned(methods, datasets, settings)
    run_cells(cells, used, progress, open_board(used.runs, progress.say) if tensorboard else None)
    judged = judged_cells(refreshed(cells))
    return Rows(tuple(rows_of_cells(judged, limited=used.limit is not None)))


def dry_run(methods: Names = (), datasets: Names = (), **settings: Unpack[RunSettings]) -> Cells:
    """The cells that `run` would make of the same arguments, and their states; nothing is run."""
    return Cells(tuple(_planned(methods, datasets, settings)[1]))


def bench(
    methods: Names = (),
    datasets: Names = (),
    *,
    warmup: int = 5,
    repeats: int = 20,
    quiet: bool = False,
    **settings: Unpack[RunSettings],
) -> Benches:
    """How fast `methods` train and predict on `datasets`; records of their own are written, no row.

    The first `warmup` training steps are not counted, the next `repeats` are. Nothing else should run on the
    machine meanwhile. A method that cannot be measured is among `Benches.failures`.
    """
    from wsssbench.bench.record import BenchProtocol
    from wsssbench.commands.bench import bench_trials, measured
    from wsssbench.process import use_machine
    from wsssbench.screen.progress import Progress

    used, plugins = _opened(methods, datasets, settings)
    use_machine()
    failures: dict[str, str] = {}
    records = measured(
        bench_trials(used, plugins), used, BenchProtocol(warmup=warmup, repeats=repeats),
        Progress(quiet=quiet), lambda title, error: failures.update({title: str(error)}),
    )  # fmt: skip
    return Benches(tuple(records), failures)


def _planned(methods: Names, datasets: Names, settings: RunSettings) -> tuple[Settings, list[Cell]]:
    from wsssbench.plan import make_plan

    used, plugins = _opened(methods, datasets, settings)
    return used, make_plan(used, plugins)


def _opened(methods: Names, datasets: Names, settings: RunSettings) -> tuple[Settings, Plugins]:
    from wsssbench.commands.setup import open_settings

    rest: dict[str, Any] = {**settings}
    config, options, weights = (rest.pop(name, None) for name in ("config", "options", "weights"))
    flags = {"method": methods, "dataset": datasets, **rest}
    for name in ("method", "dataset", "stages", "metrics", "seeds", "plugins"):
        if isinstance(flags.get(name, ()), (str, int, Path)):
            flags[name] = (flags[name],)
        flags[name] = tuple(flags.get(name, ()))
    files = [f"{step}={file}" for step, file in (weights or {}).items()]
    return open_settings(flags, _path(config), _texts(options), files)


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
    metrics: str | Sequence[str] = (),
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
        "metrics": (metrics,) if isinstance(metrics, str) else metrics,
        "threshold": threshold, "class_index": class_index, "rescale": rescale, "seed": seed,
        "runs": _path(runs), "limit": limit, "options": _texts(options), "config": _path(config),
    }  # fmt: skip
    record, _ = score_files(Path(folder), flags)
    return Rows(tuple(rows_of([record], limited=True)))


def predict(
    images: Place | Sequence[Place], run: Place, *, device: str = "auto", plugins: Sequence[Place] = ()
) -> Predictions:
    """The labels that the fitted cell in the folder `run` gives to picture files of one's own, without tags.

    BadData for a picture that cannot be read and a cell whose steps are not on disk any more.
    """
    from wsssbench.commands.predict import fitted_run, read_picture

    files = [Path(place) for place in ((images,) if isinstance(images, (str, Path)) else images)]
    pictures = [read_picture(file) for file in files]
    fitted = fitted_run(Path(run), device, [Path(place) for place in plugins])
    names = fitted.card.class_names
    found = zip(files, pictures, strict=True)
    return Predictions(tuple(Prediction(f.stem, image, fitted.labels(image), names) for f, image in found))


def report(
    runs: Places = None,
    format: str = "md",
    *,
    limited: bool = False,
    published: bool = False,
    options: Options | None = None,
) -> Report:
    """The tables of all records below the folders `runs`, as "md", "csv", "json", "tex", or a page: "html".

    `limited` also shows runs with a limit; `published` sets what others report below tables of the same
    terms; `options` are those of data sets, whose images a page shows. BadData where a folder does not
    exist, UnknownName for a format.
    """
    if format == "html":
        from wsssbench.commands.page import page_text

        return Report(page_text(_folders(runs), limited, _texts(options), published), format)
    from wsssbench.commands.sources import stale_keys
    from wsssbench.plugins import Plugins
    from wsssbench.report import report as text_of
    from wsssbench.store import find_records

    folders = _folders(runs)
    stale = stale_keys([found.record for root in folders for found in find_records(root)], Plugins())
    return Report(text_of(folders, format, limited, stale, published), format)


def compare(
    *methods: str, runs: Places = None, stage: str | None = None, resamples: int = 10_000, seed: int = 0
) -> Comparisons:
    """The first of `methods` against each other one, paired by seed and image, with intervals of 95 %.

    `compare("rrm", "cam", stage="seg")`. NotComparable, with the fields that differ, for unlike protocols;
    UnknownName for a method without results.
    """
    from wsssbench.commands.compare import compare_runs

    return Comparisons(tuple(compare_runs(methods, _folders(runs), stage, resamples, seed)))


def find_errors(
    *cells: Place,
    ladder: bool = True,
    resamples: int = 2000,
    options: Options | None = None,
    config: Place | None = None,
) -> Errors:
    """What each kind of error costs in the finished `cells` (folders with records), and where they err.

    Without `ladder` neither masks nor a data set are opened. NotComparable where terms differ.
    """
    from wsssbench.commands.errors import found_errors

    places = [Path(cell) for cell in cells]
    return Errors(
        tuple(found_errors(places, _texts(options), _path(config), resamples=resamples, ladder=ladder))
    )


def verify(
    runs: Places = None,
    *,
    options: Options | None = None,
    weights: Mapping[str, Place] | None = None,
    from_masks: bool = False,
    config: Place | None = None,
) -> Verifications:
    """Judge the records below `runs` again from the files on disk, and compare scores and hashes.

    `from_masks` scores the kept labels without making them again. BadData where there is no record.
    """
    from wsssbench.commands.verifying import records_below, verified

    files, stored = (
        [f"{step}={file}" for step, file in (weights or {}).items()],
        records_below(_folders(runs)),
    )
    return Verifications(
        tuple(verified(stored, _texts(options), files, _path(config), from_masks=from_masks))
    )


def prepare(dataset: str, *, options: Options | None = None, config: Place | None = None) -> Any:
    """The check of a data set's files (`ok`, `faults`, `lines()` to print); None where it has none."""
    from wsssbench.commands.setup import open_settings
    from wsssbench.plan import open_dataset

    settings, plugins = open_settings({}, _path(config), _texts(options))
    survey = getattr(open_dataset(dataset, plugins, settings, settings.seeds[0]), "prepare", None)
    return survey() if survey else None


def inspect_weights(file: Place) -> WeightReport:
    """What a weight file is, and which backbones and heads it fits. BadData for a file that is none."""
    from wsssbench.nets.inspection import inspect_weights as inspect

    return inspect(Path(file))


def gate(baseline: Place, runs: Places = None, *, interval: bool = False) -> Gate:
    """Each row of the file `baseline` against the records below `runs`; `Gate.code` is the exit code.

    `interval` judges by the interval over paired seeds, not by the tolerance. NotComparable without the file.
    """
    from wsssbench.compare import gate_runs

    result = gate_runs(_folders(runs), Path(baseline), interval=interval)
    return Gate(result.lines, result)


def write_baseline(baseline: Place, runs: Places = None, *, tolerance: float = 1.0) -> Path:
    """Write the rows of `runs` as a baseline for `gate`; `tolerance` is the allowed loss in points."""
    from wsssbench.commands.results import gate_command

    gate_command(_folders(runs), Path(baseline), True, tolerance)
    return Path(baseline)


def plot(
    out: Place,
    runs: Places = None,
    *,
    formats: Names = ("png", "svg"),
    methods: Names = (),
    stages: Names = (),
    limited: bool = False,
) -> Path:
    """Write every figure that the records below `runs` allow, and captions.md, to the folder `out`."""
    from wsssbench.commands.plot import plot_command

    plot_command(_folders(runs), Path(out), _names(formats), _names(methods), _names(stages), limited)
    return Path(out)


def paper(
    out: Place,
    runs: Places = None,
    *,
    methods: Names = (),
    stages: Names = (),
    limited: bool = False,
    count: int = 4,
    images: Literal["median", "random"] = "median",
    seed: int = 0,
    options: Options | None = None,
    config: Place | None = None,
) -> Path:
    """Write what a paper needs of `runs` to the folder `out`: LaTeX tables, the protocol in words, hashes, a
    figure of masks with `count` images."""
    from wsssbench.commands.paper import paper_command

    paper_command(
        _folders(runs), Path(out), _names(methods), _names(stages), limited, count, images, seed,
        _texts(options), _path(config),
    )  # fmt: skip
    return Path(out)


def _names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def export_records(out: Place, runs: Places = None) -> Path:
    """Pack the records below `runs`, with the confusion of every image, into the new file `out` (.zip)."""
    from wsssbench.commands.export.records import records_command

    records_command(_folders(runs), Path(out))
    return Path(out)


def export_labels(cell: Place, out: Place, format: Literal["png", "psa"] = "png") -> Path:
    """Write the labels of a cell (palette PNGs) or the maps behind it (PSA dicts) to the new folder `out`."""
    from wsssbench.commands.export import files

    (files.png_command if format == "png" else files.psa_command)(Path(cell), Path(out), quiet=True)
    return Path(out)
