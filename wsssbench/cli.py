"""The command line. A command parses and delegates: its body lives in `wsssbench.commands`, imported when it
runs, so that --help needs neither torch, pandas nor scipy. stdout carries results, stderr talk."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from wsssbench import __version__
from wsssbench.commands.export.cli import export
from wsssbench.commands.new import new
from wsssbench.commands.publishing import paper, plot

INTERRUPTED = 130
# torch and numba each keep a pool of threads: one that spins while it waits slows the other, one that sleeps
# at once wakes late for every small operation. So they spin for some microseconds. Only effective before
# either is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")


class Group(click.Group):
    """Turns every WsssError into one message and its exit code; Ctrl-C into 130."""

    def invoke(self, ctx: click.Context) -> Any:
        from wsssbench.errors import WsssError

        try:
            return super().invoke(ctx)
        except WsssError as error:
            if ctx.params.get("verbose"):
                import traceback

                traceback.print_exc()
            click.echo(f"error: {error}", err=True)
            sys.exit(error.code)
        except KeyboardInterrupt:
            click.echo("interrupted; what is done is kept, the same command goes on from there", err=True)
            sys.exit(INTERRUPTED)


def comma_list(kind: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A callback that splits `a,b,c`; a value that `kind` refuses is a usage error."""

    def split(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        if value is None:
            return None
        try:
            return tuple(kind(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            raise click.BadParameter(f"{value!r} is no comma-separated list of {kind.__name__}s") from None

    return split


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wsssbench")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error.")
def main(verbose: bool) -> None:
    """Benchmark weakly supervised semantic segmentation under one protocol.

    \b
    wsssbench run --method cam --method rrm --dataset shapes
    wsssbench report
    """


OPTION_HELP = "An option of a step or data set, as rrm.crop=448. Repeatable."
A_PATH = click.Path(path_type=Path)
plugin_files = click.option(
    "--plugin", "plugins", multiple=True, type=A_PATH, help="A Python file with steps."
)


@main.command()
@click.option("--method", "methods", multiple=True, help='A method, or steps as "cam > crf". Repeatable.')
@click.option("--dataset", "datasets", multiple=True, help="A data set. Repeatable.")
@click.option("--seeds", callback=comma_list(int), help="Training seeds, as 0,1,2.")
@click.option("--stages", callback=comma_list(str), help="Stages to judge, as pseudo,seg,seg+crf.")
@click.option("--metrics", callback=comma_list(str), help="Metrics beside iou, as boundary_iou,activation.")
@click.option(
    "--threshold-policy",
    type=click.Choice(["fixed", "held-out", "label-free", "oracle"]),
    help="How the threshold of maps is chosen; rows of each policy are ranked apart.",
)
@click.option("--runs", type=A_PATH, help="Folder for artifacts and records.")
@click.option("--device", help="auto, cpu, cuda or cuda:N.")
@click.option("--precision", help="auto, fp32 or bf16.")
@click.option("--filter", "filter_backend", help="Gaussian filter: lattice, exact or pydensecrf.")
@click.option("--limit", type=int, help="Only the first N images of every split; kept out of tables.")
@plugin_files
@click.option("-o", "options", multiple=True, metavar="NAME.KEY=VALUE", help=OPTION_HELP)
@click.option("--weights", multiple=True, metavar="[STEP=]FILE", help="Weights of a step's backbone.")
@click.option("--rerun", type=click.Choice(["stale", "all"]), help="Also run cells that are done.")
@click.option("--config", type=A_PATH, help="Settings file (default: ./wsssbench.toml).")
@click.option("--dry-run", is_flag=True, help="Show what would run and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON instead of tables.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def run(**flags: Any) -> None:
    """Train and judge methods; what is done already is not done again."""
    from wsssbench.commands.run import run_command

    sys.exit(run_command(flags))


@main.command()
@click.option("--method", "methods", multiple=True, help='A method, or steps as "cam > crf". Repeatable.')
@click.option("--dataset", "datasets", multiple=True, help="A data set. Repeatable.")
@click.option("--seed", type=int, help="Training seed; draws a generated data set.")
@click.option("--runs", type=A_PATH, help="Folder for records.")
@click.option("--device", help="auto, cpu, cuda or cuda:N.")
@click.option("--precision", help="auto, fp32 or bf16.")
@click.option("--filter", "filter_backend", help="Gaussian filter: lattice, exact or pydensecrf.")
@click.option(
    "--warmup",
    type=click.IntRange(1, 10_000),
    default=5,
    show_default=True,
    help="Training steps to discard; the first one compiles.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Training steps, and batches of predictions, to measure.",
)
@plugin_files
@click.option("-o", "options", multiple=True, metavar="NAME.KEY=VALUE", help=OPTION_HELP)
@click.option("--weights", multiple=True, metavar="[STEP=]FILE", help="Weights of a step's backbone.")
@click.option("--config", type=A_PATH, help="Settings file (default: ./wsssbench.toml).")
@click.option("--json", "as_json", is_flag=True, help="Print the tables as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def bench(**flags: Any) -> None:
    """Measure how fast methods train and predict, and where the time goes.

    The first steps of each training are measured; what is fitted is thrown away. Nothing else should run on
    the machine meanwhile. The records have tables of their own in `report`.
    """
    from wsssbench.commands.bench import bench_command

    sys.exit(bench_command(flags))


@main.command()
@click.argument("runs", nargs=-1, type=A_PATH)
@click.option(
    "--format",
    type=click.Choice(["md", "csv", "json", "tex"]),
    default="md",
    show_default=True,
    help="Of the tables.",
)
@click.option("--out", type=A_PATH, help="Write to this file instead of stdout.")
@click.option("--limited", is_flag=True, help="Also show runs made with --limit.")
@click.option("--html", type=A_PATH, help="Write one page with charts and pictures to this file instead.")
@click.option("-o", "options", multiple=True, metavar="NAME.KEY=VALUE", help="With --html: of a data set.")
def report(
    runs: tuple[Path, ...],
    format: str,
    out: Path | None,
    limited: bool,
    html: Path | None,
    options: tuple[str, ...],
) -> None:
    """Print the tables of RUNS (folders of records; default: `runs` of wsssbench.toml)."""
    from wsssbench.commands.results import report_command
    from wsssbench.commands.setup import default_runs

    if html is not None:
        from wsssbench.commands.page import page_command

        page_command(runs or (default_runs(),), html, limited, options)
    if html is None or out is not None:
        report_command(runs or (default_runs(),), format, out, limited)


@main.command()
@click.argument("methods", nargs=-1, required=True)
@click.option("--runs", multiple=True, type=A_PATH, help="A folder of records. Repeatable.")
@click.option("--stage", help="One stage only, as seg.")
@click.option("--resamples", type=int, default=10_000, show_default=True, help="Draws of the bootstrap.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap's draws.")
@click.option("--json", "as_json", is_flag=True, help="Print every number as JSON.")
def compare(
    methods: tuple[str, ...],
    runs: tuple[Path, ...],
    stage: str | None,
    resamples: int,
    seed: int,
    as_json: bool,
) -> None:
    """Say whether the first of METHODS is better than each other one: differences with intervals.

    Cells are paired by seed and image; unlike protocols are refused, with the fields that differ.
    Example: wsssbench compare rrm cam cam+crf --stage seg
    """
    from wsssbench.commands.compare import compare_command
    from wsssbench.commands.setup import default_runs

    compare_command(methods, runs or (default_runs(),), stage, resamples, seed, as_json)


@main.command()
@click.argument("cells", nargs=-1, required=True, type=A_PATH)
@click.option("-o", "options", multiple=True, metavar="NAME.KEY=VALUE", help=OPTION_HELP)
@click.option("--config", type=A_PATH, help="Settings file.")
@click.option("--no-ladder", is_flag=True, help="Slices alone: no masks and no data set are opened.")
@click.option("--json", "as_json", is_flag=True, help="Print every number as JSON.")
def errors(**flags: Any) -> None:
    """Say what each kind of error costs in finished CELLS, and where they err.

    A cell is a folder with a record. Those of one table need equal terms.
    """
    from wsssbench.commands.errors import errors_command

    errors_command(**flags)


@main.command()
@click.argument("runs", nargs=-1, type=A_PATH)
@click.option("--baseline", required=True, type=A_PATH, help="A file of expected rows.")
@click.option("--write", is_flag=True, help="Write the baseline from RUNS instead of judging them.")
@click.option(
    "--tolerance", type=float, default=1.0, show_default=True, help="With --write: allowed loss, points."
)
@click.option(
    "--interval", is_flag=True, help="Judge by the interval over paired seeds, not by the tolerance."
)
def gate(runs: tuple[Path, ...], baseline: Path, write: bool, tolerance: float, interval: bool) -> None:
    """Judge RUNS (default: `runs` of wsssbench.toml) against a baseline.

    Exit code 0: no regression, 1: a regression, 2: bad input, 3: not comparable or no baseline.
    """
    from wsssbench.commands.results import gate_command
    from wsssbench.commands.setup import default_runs

    sys.exit(gate_command(runs or (default_runs(),), baseline, write, tolerance, interval))


@main.command()
@click.argument("folder", type=A_PATH)
@click.option("--dataset", required=True, help="The data set that the labels belong to.")
@click.option("--stage", default="seg", show_default=True, help="The protocol that they were made under.")
@click.option("--as", "name", required=True, help="Name of the row.")
@click.option("--supervision", callback=comma_list(str), help="What the method learned from, as tags.")
@click.option("--format", default="auto", show_default=True, help="Of the files; --format help lists them.")
@click.option("--threshold", type=float, help="For maps: the value above which a pixel is foreground.")
@click.option("--class-index", type=int, help="For files with one bare map: its class, from 0.")
@click.option("--rescale", is_flag=True, help="For maps beyond 0..1: divide each by its largest value.")
@click.option("--seed", type=int, default=0, show_default=True, help="Its seed; draws a generated data set.")
@click.option("--runs", type=A_PATH, help="Folder for records.")
@click.option("--limit", type=int, help="Only the first N images of the split.")
@click.option("-o", "options", multiple=True, metavar="NAME.KEY=VALUE", help=OPTION_HELP)
@click.option("--config", type=A_PATH, help="Settings file.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def score(folder: Path, **flags: Any) -> None:
    """Score a FOLDER with one file per image, named by its id, and record it as a row.

    Label PNGs, or what other repositories write: class maps, probabilities, logits (.npy, .npz, .pt).
    Pickles in them are read without executing anything.
    Example: wsssbench score out/cam --dataset voc12 --stage seed --as irn --threshold 0.15 --supervision tags
    """
    if flags["format"] == "help":
        from wsssbench.dumps import list_formats

        click.echo("\n".join(map(str, list_formats())))
        return
    from wsssbench.commands.results import score_command

    score_command(folder, flags)


@main.command(name="list")
@click.option(
    "--check", is_flag=True, help="Import every plugin in a process of its own and show what is broken."
)
@plugin_files
def list_(check: bool, plugins: tuple[Path, ...]) -> None:
    """List methods, steps, data sets, metrics and stages."""
    from wsssbench.commands.catalogue import list_command

    sys.exit(list_command(check, plugins))


@main.command()
@click.argument("name")
@plugin_files
def show(name: str, plugins: tuple[Path, ...]) -> None:
    """Show a method, step, data set or stage: card, options, defaults and where each comes from."""
    from wsssbench.commands.catalogue import show_command

    show_command(name, plugins)


@main.command()
@click.argument("name")
@plugin_files
@click.option("-o", "options", multiple=True, metavar="NAME.KEY=VALUE", help=OPTION_HELP)
def check(name: str, plugins: tuple[Path, ...], options: tuple[str, ...]) -> None:
    """Test a step, data set or metric against its contract, on tiny data, in under a minute."""
    from wsssbench.commands.catalogue import check_command

    sys.exit(check_command(name, plugins, options))


@main.command()
@click.argument("dataset")
@click.option("-o", "options", multiple=True, metavar="NAME.KEY=VALUE", help=OPTION_HELP)
@click.option("--config", type=A_PATH, help="Settings file.")
def prepare(dataset: str, options: tuple[str, ...], config: Path | None) -> None:
    """Check the files of a data set: counts, missing or damaged files, masks, tags."""
    from wsssbench.commands.catalogue import prepare_command

    sys.exit(prepare_command(dataset, options, config))


@main.command()
def doctor() -> None:
    """Say what this installation has and what it lacks."""
    from wsssbench.commands.doctor import doctor_command

    sys.exit(doctor_command())


@main.command()
@click.argument("runs", type=A_PATH, required=False)
@click.option("--artifacts", is_flag=True, help="Remove the steps' artifacts (maps, probabilities, labels).")
@click.option(
    "--checkpoints", is_flag=True, help="Remove the steps' checkpoints as well; they must be fitted again."
)
@click.option("--failed", is_flag=True, help="Remove the cells that failed.")
@click.option("--yes", is_flag=True, help="Remove; without it, only show what would go.")
def clean(runs: Path | None, artifacts: bool, checkpoints: bool, failed: bool, yes: bool) -> None:
    """Show what RUNS takes on disk, and remove parts of it by rule.

    Records and counts of cells that did not fail always stay.
    """
    from wsssbench.commands.clean import clean_command
    from wsssbench.commands.setup import default_runs

    clean_command(
        runs or default_runs(), artifacts=artifacts, checkpoints=checkpoints, failed=failed, yes=yes
    )


@main.command()
@click.argument("images", nargs=-1, required=True, type=A_PATH)
@click.option("--run", "cell", required=True, type=A_PATH, help="A cell's folder or record.json.")
@click.option(
    "--out",
    type=A_PATH,
    default=Path("predictions"),
    show_default=True,
    help="Folder for masks and overlays.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@plugin_files
def predict(images: tuple[Path, ...], cell: Path, out: Path, device: str, plugins: tuple[Path, ...]) -> None:
    """Segment your own IMAGES with a fitted run: a mask and an overlay each."""
    from wsssbench.commands.predict import predict_command

    predict_command(images, cell, out, device, plugins)


@main.group()
def weights() -> None:
    """Look into weight files."""


@weights.command()
@click.argument("file", type=A_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def inspect(file: Path, as_json: bool) -> None:
    """Say what a weight FILE is, which backbones it fits, and which heads it holds.

    It may be a torch checkpoint, a safetensors file or an MXNet .params file; no code in it runs.
    """
    from wsssbench.commands.weights import inspect_command

    inspect_command(file, as_json)


main.add_command(export)
main.add_command(new)
main.add_command(paper)
main.add_command(plot)


if __name__ == "__main__":
    main()
