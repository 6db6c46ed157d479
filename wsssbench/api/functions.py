"""What the commands do, as functions: `wsssbench.run(...)`, `dry_run`, `mined`, `score`, `predict`, `bench`,
`report`, `compare`, `find_errors` (the command `errors`), `gate`, `write_baseline`, `verify`, `prepare`,
`inspect_weights`, `plot`, `paper`, `export_records`, `export_labels`.

They take Python values for the flags of the same name, read ./wsssbench.toml as the commands do, raise
WsssError where those exit, and return plain objects that a notebook shows as tables
(`wsssbench.api.results`).

The work itself is done in `wsssbench.commands`; nothing is computed here, nothing heavy is imported before a
function is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from wsssbench.api.arguments import (
    Names,
    Options,
    Places,
    as_files,
    as_folders,
    as_names,
    as_path,
    as_paths,
    as_texts,
    as_tuples,
)
from wsssbench.api.publishing import export_labels, export_records, paper, plot  # noqa: F401 (part of this module, too)
from wsssbench.api.results import (
    Benches,
    Cells,
    Comparisons,
    Errors,
    Gate,
    MinedRows,
    Place,
    Prediction,
    Predictions,
    Report,
    Rows,
    Verifications,
)
from wsssbench.identity import FilterBackend
from wsssbench.planning.settings import Executor, Policy, Precision, Rerun

if TYPE_CHECKING:
    from wsssbench.nets.inspection import WeightReport
    from wsssbench.planning.settings import Settings
    from wsssbench.plugins.table import Plugins


class RunSettings(TypedDict, total=False):
    """What `run` and `dry_run` take beside methods and data sets: the fields of `Settings`, what they set for
    steps and data sets, and the settings file. What is not given comes from that file."""

    seeds: Sequence[int]
    stages: Names
    metrics: Names
    threshold_policy: Policy
    runs: Place
    device: str  # auto, cpu, cuda, cuda:N
    precision: Precision
    filter: FilterBackend
    limit: int  # the first N images of every split
    jobs: int  # trials at a time, each in a process of its own
    executor: Executor
    plugins: Place | Sequence[Place]
    rerun: Rerun
    offline: bool  # weights are taken from the cache, and never fetched
    isolate: bool  # every step in a sandbox
    options: Options
    weights: Mapping[str, Place]  # step -> file, or timm:NAME, torchvision:TAG
    config: Place  # ./wsssbench.toml


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
    from wsssbench.commands.run import judged_cells, rows_of_cells
    from wsssbench.planning.plan import refreshed
    from wsssbench.running.executors.request import Switches
    from wsssbench.running.plan_run import plan_run, run_plan
    from wsssbench.running.screen.progress import Progress

    progress = Progress(quiet=quiet)
    plan = plan_run(*_opened(methods, datasets, settings), progress)
    run_plan(plan, progress, Switches(tensorboard=tensorboard))
    judged = judged_cells(refreshed(plan.cells))
    return Rows(rows_of_cells(judged, limited=plan.settings.limit is not None))


def dry_run(methods: Names = (), datasets: Names = (), **settings: Unpack[RunSettings]) -> Cells:
    """The cells that `run` would make of the same arguments, and their states; nothing is run or fetched."""
    from wsssbench.running.plan_run import plan_run
    from wsssbench.running.screen.progress import Progress

    asked, plugins = _opened(methods, datasets, settings)
    return Cells(plan_run(replace(asked, offline=True), plugins, Progress(quiet=True)).cells)


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
    from wsssbench.commands.bench import bench_trials, measured
    from wsssbench.machine.process import use_machine
    from wsssbench.running.screen.progress import Progress
    from wsssbench.throughput.record import BenchProtocol

    used, plugins = _opened(methods, datasets, settings)
    use_machine()
    failures: dict[str, str] = {}
    records = measured(
        bench_trials(used, plugins), used, BenchProtocol(warmup=warmup, repeats=repeats),
        Progress(quiet=quiet), lambda title, error: failures.update({title: str(error)}),
    )  # fmt: skip
    benches = Benches(records)
    benches.failures = failures
    return benches


def mined(
    methods: Names = (), datasets: Names = (), *, quiet: bool = False, **settings: Unpack[RunSettings]
) -> MinedRows:
    """What the mined labels of `methods` teach on `datasets`: share, precision and recall of background and
    objects, in % (`wsssbench.commands.mined.MinedLabels`), judged on training images with their masks.

    The stage and the metrics are the command's own. A localizer's maps are mined by the step `reliable`;
    WsssError for a method that gives neither mined labels nor maps.
    """
    from wsssbench.commands.mined import mined_labels
    from wsssbench.running.screen.progress import Progress

    found, _ = mined_labels(*_opened(methods, datasets, settings), Progress(quiet=quiet))
    return MinedRows(found)


def _opened(methods: Names, datasets: Names, settings: RunSettings) -> tuple[Settings, Plugins]:
    from wsssbench.running.opening import open_settings

    rest: dict[str, Any] = as_tuples(settings)
    config, options, weights = (rest.pop(name, None) for name in ("config", "options", "weights"))
    plugins = as_paths(rest.pop("plugins", ()))
    flags = {"methods": as_names(methods), "datasets": as_names(datasets), "plugins": plugins, **rest}
    return open_settings(flags, as_path(config), as_texts(options), as_files(weights))


# ----------------------------------------------------------------------------------- what is on disk already


def score(
    folder: Place,
    dataset: str,
    name: str,
    *,
    stage: str = "seg",
    supervision: Names | None = None,
    metrics: Names = (),
    format: str = "auto",
    coding: Literal["classes", "truth"] | None = None,
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
    from wsssbench.commands.scoring import score_files
    from wsssbench.reporting.rows import rows_of

    seen = None if supervision is None else as_names(supervision)
    flags = {
        "dataset": dataset, "name": name, "stage": stage, "supervision": seen, "format": format,
        "coding": coding, "metrics": as_names(metrics),
        "threshold": threshold, "class_index": class_index, "rescale": rescale, "seed": seed,
        "runs": as_path(runs), "limit": limit, "options": as_texts(options), "config": as_path(config),
    }  # fmt: skip
    record, _ = score_files(Path(folder), flags)
    return Rows(rows_of([record], limited=True))


def merge(folders: Place | Sequence[Place], runs: Place | None = None) -> Rows:
    """The rows of all shards below `folders` that `wsssbench score --shard` left, kept below `runs`.

    BadData for a shard that is missing, damaged or there twice, NotComparable for unlike terms.
    """
    from wsssbench.commands.shards import merged
    from wsssbench.reporting.rows import rows_of

    kept = merged(as_folders(folders), as_path(runs))
    return Rows(rows_of([record for record, _ in kept], limited=True))


def predict(
    images: Place | Sequence[Place], run: Place, *, device: str = "auto", plugins: Sequence[Place] = ()
) -> Predictions:
    """The labels that the fitted cell in the folder `run` gives to your own picture files, without tags.

    BadData for a picture that cannot be read and a cell whose steps are not on disk any more.
    """
    from wsssbench.commands.predict import fitted_run, read_picture

    files = as_paths(images)
    pictures = [read_picture(file) for file in files]
    fitted = fitted_run(Path(run), device, as_paths(plugins))
    names = fitted.card.class_names
    found = zip(files, pictures, fitted.labels(pictures), strict=True)
    return Predictions(Prediction(f.stem, image, labels, names) for f, image, labels in found)


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

        return Report(page_text(as_folders(runs), limited, as_texts(options), published), format)
    from wsssbench.reporting import report as text_of

    return Report(text_of(as_folders(runs), format, limited, published), format)


def compare(
    *methods: str, runs: Places = None, stage: str | None = None, resamples: int = 10_000, seed: int = 0
) -> Comparisons:
    """The first of `methods` against each other one, paired by seed and image, with intervals of 95 %.

    `compare("rrm", "cam", stage="seg")`. NotComparable, with the fields that differ, for unlike protocols;
    UnknownName for a method without results.
    """
    from wsssbench.commands.compare import compare_runs

    return Comparisons(compare_runs(methods, as_folders(runs), stage, resamples, seed))


def find_errors(
    *rows: Place,
    runs: Places = None,
    stage: str | None = None,
    ladder: bool = True,
    resamples: int = 2000,
    options: Options | None = None,
    config: Place | None = None,
) -> Errors:
    """What each kind of error costs in the finished cells of `rows`, and where they err.

    `rows` are methods with results below `runs`, as those of `compare`, or folders with records. Without
    `ladder` neither masks nor a data set are opened. NotComparable where terms differ.
    """
    from wsssbench.commands.error_analysis import found_errors

    names, folders, given = [str(row) for row in rows], as_folders(runs), as_texts(options)
    found = found_errors(names, folders, stage, given, as_path(config), resamples=resamples, ladder=ladder)
    return Errors(tuple(found))


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
    from wsssbench.commands.named_rows import records_below
    from wsssbench.commands.verifying import verified

    stored, files = records_below(as_folders(runs)), as_files(weights)
    found = verified(stored, as_texts(options), files, as_path(config), from_masks=from_masks)
    return Verifications(found)


def prepare(dataset: str, *, options: Options | None = None, config: Place | None = None) -> Any:
    """The check of a data set's files (`ok`, `faults`, `lines()` to print); None where it has none."""
    from wsssbench.planning.plan import open_dataset
    from wsssbench.running.opening import open_settings

    settings, plugins = open_settings({}, as_path(config), as_texts(options))
    return open_dataset(dataset, plugins, settings, settings.seeds[0]).prepare()


def inspect_weights(file: Place) -> WeightReport:
    """What a weight file is, and which backbones and heads it fits. BadData for a file that is none."""
    from wsssbench.nets.inspection import inspect_weights as inspect

    return inspect(Path(file))


def gate(baseline: Place, runs: Places = None, *, interval: bool = False) -> Gate:
    """Each row of the file `baseline` against the records below `runs`; `Gate.code` is the exit code.

    `interval` judges by the interval over paired seeds, not by the tolerance. NotComparable without the file.
    """
    from wsssbench.reporting.gate import gate_runs

    result = gate_runs(as_folders(runs), Path(baseline), interval=interval)
    gate = Gate(result.lines)
    gate.result = result
    return gate


def write_baseline(baseline: Place, runs: Places = None, *, tolerance: float = 1.0) -> Path:
    """Write the rows of `runs` as a baseline for `gate`; `tolerance` is the allowed loss in points."""
    from wsssbench.commands.report import gate_command

    gate_command(as_folders(runs), Path(baseline), True, tolerance)
    return Path(baseline)
