"""The command line. A command parses and delegates: its body lives in `wsssbench.commands`, imported when it
runs, so that --help needs neither torch, pandas nor scipy. stdout carries results, stderr talk."""

from __future__ import annotations

import os
import sys

from wsssbench.machine.interrupts import ended_by_signals

with ended_by_signals():  # Ctrl-C and SIGTERM may come early
    from importlib import import_module
    from pathlib import Path
    from typing import Any

    import click

    from wsssbench._version import __version__
    from wsssbench.cli.completion import (
        complete_checked,
        complete_datasets,
        complete_shown,
    )
    from wsssbench.cli.option_groups import (
        A_PATH,
        device,
        options,
        plugin_files,
        runs_argument,
        settings_file,
    )
    from wsssbench.cli.teaching import examples_of, teach, write_sections

    if "_WSSSBENCH_COMPLETE" in os.environ:
        import wsssbench.cli.shells  # noqa: F401  (its corrections of click's scripts)

# torch and numba each keep a pool of threads: one that spins while it waits slows the other, one that sleeps
# at once wakes late for every small operation. So they spin for some microseconds. Only effective before
# either is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")


# command -> the module of wsssbench.cli that holds it, imported when it is asked for
LATER = {
    **dict.fromkeys(("bench", "mined", "run"), "running"),
    **dict.fromkeys(("compare", "errors", "gate", "merge", "score", "verify"), "judging"),
    **dict.fromkeys(("paper", "plot"), "paper_figures"),
    "completion": "shells",
    "export": "export",
    "new": "new",
}


class Group(click.Group):
    """Turns every WsssError into one message and its exit code; Ctrl-C and SIGTERM into 130. Its help has
    sections."""

    def main(self, *args: Any, **more: Any) -> Any:
        with ended_by_signals():
            return super().main(*args, **more)

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        with ended_by_signals():  # click would take Ctrl-C for itself
            return super().make_context(*args, **more)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *LATER})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in LATER and name not in self.commands:
            command: click.Command = getattr(import_module(f"wsssbench.cli.{LATER[name]}"), name)
            teach(command)
            self.add_command(command)
        return super().get_command(ctx, name)

    def load(self) -> None:
        """Import every command, so that `commands` holds them all."""
        for name in LATER:
            self.get_command(click.Context(self), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_sections(ctx, self, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        from wsssbench.errors import WsssError

        try:
            with ended_by_signals():
                return super().invoke(ctx)
        except click.UsageError as error:
            known = examples_of(error.ctx.command) if error.ctx and error.ctx is not ctx else []
            if not known:
                raise
            raise click.UsageError(f"{error.format_message()}\n  as: {known[0]}", error.ctx) from None
        except WsssError as error:
            if ctx.params.get("verbose"):
                import traceback

                traceback.print_exc()
            click.echo(f"error: {error}", err=True)
            sys.exit(error.code)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wsssbench")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error.")
def main(verbose: bool) -> None:
    """Benchmark weakly supervised semantic segmentation under one protocol.

    Examples:
      wsssbench doctor
      wsssbench run --method constant --method cam --dataset shapes
      wsssbench report --html report.html

    Next: `wsssbench COMMAND --help` has examples of each command.
    """


@main.command()
@runs_argument
@click.option(
    "--format",
    type=click.Choice(["md", "csv", "json", "tex"]),
    default="md",
    show_default=True,
    help="Format of the tables.",
)
@click.option("--out", type=A_PATH, help="Write to this file instead of stdout.")
@click.option("--limited", is_flag=True, help="Also show runs made with --limit.")
@click.option("--html", type=A_PATH, help="Write one page with charts and pictures to this file instead.")
@options("With --html: an option of a data set, as voc12.root=FOLDER. Repeatable.")
@click.option(
    "--with-published",
    "published",
    is_flag=True,
    help="Below each table, published numbers of the same terms, and why others are left out.",
)
@click.option(
    "--compatible", is_flag=True, help="Show the mIoU as other repositories' evaluators count it instead."
)
def report(
    runs: tuple[Path, ...],
    html: Path | None,
    compatible: bool,
    options: tuple[str, ...],
    out: Path | None,
    **flags: Any,
) -> None:
    """Print the tables of RUNS (folders of records; default: `runs` of wsssbench.toml).

    Examples:
      wsssbench report
      wsssbench report runs --format csv --out rows.csv
      wsssbench report runs --html report.html -o voc12.root=FOLDER

    Next: `wsssbench compare A B` says whether a difference is more than chance.
    """
    if compatible:
        from wsssbench.commands.compatible_table import compatible_command

        compatible_command(runs, flags["limited"])
        return
    if html is not None:
        from wsssbench.commands.page import page_command

        page_command(runs, html, flags["limited"], options, flags["published"])
    if html is None or out is not None:
        from wsssbench.commands.report import report_command

        report_command(runs, out=out, **flags)


@main.command(name="list")
@click.option(
    "--check", is_flag=True, help="Import every plugin in a process of its own and show what is broken."
)
@plugin_files
def list_(check: bool, plugins: tuple[Path, ...]) -> None:
    """List methods, steps, data sets, metrics and stages.

    Examples:
      wsssbench list
      wsssbench list --check

    Next: `wsssbench show NAME` has the page of one of them.
    """
    from wsssbench.commands.catalogue import list_command

    sys.exit(list_command(check, plugins))


@main.command()
@click.argument("name", shell_complete=complete_shown)
@plugin_files
def show(name: str, plugins: tuple[Path, ...]) -> None:
    """Show a method, step, data set or stage: card, options, defaults and where each comes from.

    Examples:
      wsssbench show rrm
      wsssbench show shapes
      wsssbench show seg+crf

    Next: an option is set with -o, as `wsssbench run --method rrm --dataset shapes -o rrm.steps=100`.
    """
    from wsssbench.commands.show import show_command

    show_command(name, plugins)


@main.command()
@click.argument("name", shell_complete=complete_checked)
@plugin_files
@options()
def check(name: str, plugins: tuple[Path, ...], options: tuple[str, ...]) -> None:
    """Test a step, data set or metric against its contract, on tiny data, in under a minute.

    Examples:
      wsssbench check cam
      wsssbench check my --plugin my.py

    Next: `wsssbench run --plugin my.py --method my --dataset shapes`.
    """
    from wsssbench.commands.catalogue import check_command

    sys.exit(check_command(name, plugins, options))


@main.command()
@click.argument("dataset", shell_complete=complete_datasets)
@options()
@settings_file
def prepare(dataset: str, options: tuple[str, ...], config: Path | None) -> None:
    """Check the files of a data set: counts, missing or damaged files, masks, tags.

    Examples:
      wsssbench prepare shapes
      wsssbench prepare voc12 -o voc12.root=FOLDER

    Next: `wsssbench run --method cam --dataset voc12 -o voc12.root=FOLDER --limit 8` tries it.
    """
    from wsssbench.commands.catalogue import prepare_command

    sys.exit(prepare_command(dataset, options, config))


@main.command()
def doctor() -> None:
    """Say what this installation has and what it lacks.

    Examples:
      wsssbench doctor

    Next: `wsssbench run --method constant --dataset shapes`.
    """
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
def clean(runs: Path | None, **flags: bool) -> None:
    """Show what RUNS takes on disk, and remove parts of it by rule.

    Records and counts of cells that did not fail always stay.

    Examples:
      wsssbench clean
      wsssbench clean runs --artifacts
      wsssbench clean runs --artifacts --yes

    Next: what was removed is made again by the next `wsssbench run` that needs it.
    """
    from wsssbench.commands.clean import clean_command
    from wsssbench.running.opening import default_runs

    clean_command(runs or default_runs(), **flags)


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
@device
@plugin_files
def predict(images: tuple[Path, ...], cell: Path, **flags: Any) -> None:
    """Segment your own IMAGES with a fitted run: a mask and an overlay each.

    Examples:
      wsssbench predict photo.jpg --run runs/shapes/cam/seed0/seg-val-1a2b3c4d --out predictions

    Next: look at predictions/photo_overlay.png.
    """
    from wsssbench.commands.predict import predict_command

    predict_command(images, cell, **flags)


@main.group()
def weights() -> None:
    """Look into weight files, and fetch those of timm and torchvision.

    Examples:
      wsssbench weights inspect resnet50.pth
      wsssbench weights fetch timm:resnet18.a1_in1k

    Next: `wsssbench run ... --weights cam=resnet50.pth`.
    """


@weights.command()
@click.argument("file", type=A_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def inspect(file: Path, as_json: bool) -> None:
    """Say what a weight FILE is, which backbones it fits, and which heads it holds.

    It may be a torch checkpoint, a safetensors file or an MXNet .params file, or the name of weights that
    are installed or in a cache; no code in it runs.

    Examples:
      wsssbench weights inspect resnet50.pth
      wsssbench weights inspect ilsvrc.params --json
      wsssbench weights inspect efficientnet_lite0

    Next: `wsssbench run ... -o cam.backbone=resnet50 --weights cam=resnet50.pth`.
    """
    from wsssbench.commands.inspect_weights import inspect_command

    inspect_command(file, as_json)


@weights.command()
@click.argument("name")
@click.option("--backbone", default="", help="With torchvision:TAG: the network, as resnet50.")
def fetch(name: str, backbone: str) -> None:
    """Fetch the weights NAME into the cache of their package, and print the file and its sha256.

    NAME is timm:NETWORK.TAG, or torchvision:TAG with --backbone. A file in the cache is not fetched again.

    Examples:
      wsssbench weights fetch timm:resnet18.a1_in1k
      wsssbench weights fetch torchvision:IMAGENET1K_V2 --backbone resnet50

    Next: `wsssbench run ... --weights cam=timm:resnet18.a1_in1k --offline`.
    """
    from wsssbench.commands.inspect_weights import fetch_command

    fetch_command(name, backbone)


teach(main)


if __name__ == "__main__":
    main()
