"""`wsssbench run`: plan, run, then tables and a picture."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsssbench.distributed.launch import find_launch
from wsssbench.errors import WsssError
from wsssbench.files.atomic import atomic_write_bytes, safe_name
from wsssbench.machine.hardware import Hardware, compute_deterministically
from wsssbench.planning.cells import Cell
from wsssbench.planning.plan import refreshed
from wsssbench.planning.pretrained_choice import ChosenPreset
from wsssbench.plugins.options import PRESET
from wsssbench.records.store import read_record
from wsssbench.running.demands import Room, disk_line, rooms, slow_filter, too_little
from wsssbench.running.opening import open_flags
from wsssbench.running.plan_run import Planned, plan_run, run_plan
from wsssbench.running.screen.progress import Progress

MASKS_IN, MASKS_DPI = 300.0, 120  # 180 px for each picture, and all within what a PNG may have

if TYPE_CHECKING:
    from wsssbench.distributed.team import Team
    from wsssbench.reporting.rows import Row


def run_command(flags: Mapping[str, Any]) -> int:
    """Run what the flags ask for; the exit code: 0, or 1 where a cell failed.

    Of several processes that torchrun has started the first one runs it, and the others train with it.
    """
    launch = find_launch()
    if launch is None:
        return run_here(flags)
    from wsssbench.running.together import run_together

    return run_together(flags, launch, lambda team: run_here(flags, team), lambda: open_flags(flags))


def run_here(flags: Mapping[str, Any], team: Team | None = None) -> int:
    """The same in this process, which leads the `team` if there is one."""
    progress, detach = Progress(quiet=flags["quiet"]), bool(flags.get("detach"))
    if flags.get("deterministic"):
        compute_deterministically()
    with progress.live():
        progress.heading("planning")
        settings, plugins = open_flags(flags)
        settings = replace(settings, offline=settings.offline or bool(flags["dry_run"]))
        plan = plan_run(settings, plugins, progress, detach=detach, team=team)
        outputs = rooms(plan.cells)
        warnings = plan_warnings(plan.cells, outputs, plan.settings.runs, plan.hardware)
        if not flags["dry_run"]:
            for warning in warnings:
                progress.say(warning)
            failed = _run(plan, flags, progress, team)
            cells = refreshed(plan.cells)
            progress.heading("drawing a picture of masks")
            said = [] if detach else _said_of_masks(judged_cells(cells), plan.settings.runs)
    if flags["dry_run"]:
        click.echo("\n".join([plan_table(plan.cells), *disk_line(outputs), *warnings]))
        return 0
    rows = rows_of_cells(judged_cells(cells), limited=plan.settings.limit is not None)
    show(rows, plan.settings.runs, progress, as_json=flags["as_json"])
    for text in (*skipped(cells), *said):
        progress.say(text)
    return 1 if failed else 0


def _run(plan: Planned, flags: Mapping[str, Any], progress: Progress, team: Team | None) -> int:
    """The number of cells or trials that failed."""
    from wsssbench.running.executors.request import Switches

    if team:
        team.check_cells(plan.cells)
    switches = Switches(bool(flags.get("deterministic")), bool(flags["tensorboard"]))
    return run_plan(plan, progress, switches, detach=bool(flags.get("detach")), team=team)


def plan_warnings(cells: Sequence[Cell], found: Sequence[Room], runs: Path, hardware: Hardware) -> list[str]:
    """What can run and may not be meant: presets that nobody named, outputs that the disk has no room for,
    filters that take days."""
    open_cells = [cell for cell in cells if cell.state in ("missing", "failed")]
    cards = {cell.trial.dataset.card.name: cell.trial.dataset.card for cell in open_cells}
    slow = [warning for card in cards.values() for warning in slow_filter(card, hardware)]
    return [*presets_told(open_cells), *too_little(found, runs), *slow]


def presets_told(cells: Sequence[Cell]) -> list[str]:
    """A line for each preset that weights given by name have chosen: of which steps, and why."""
    steps: dict[ChosenPreset, dict[str, None]] = {}
    for planned in (planned for cell in cells for planned in cell.trial.steps if planned.preset):
        assert planned.preset is not None
        steps.setdefault(planned.preset, {})[planned.name] = None
    hint = f"another: -o STEP.{PRESET}=NAME, see `wsssbench show STEP`"
    return [f"preset {name} of {', '.join(of)}: {why}; {hint}" for (name, why), of in steps.items()]


def plan_table(cells: Sequence[Cell]) -> str:
    """What would run: a line per cell with its state."""
    from tabulate import tabulate

    lines = [
        [
            cell.trial.dataset.card.name,
            cell.trial.method,
            cell.trial.seed,
            cell.stage.name,
            cell.split,
            cell.key[:8],
            cell.state + (f" ({cell.reason})" if cell.reason else ""),
        ]
        for cell in cells
    ]
    return tabulate(lines, ["data set", "method", "seed", "stage", "split", "key", "state"], "github")


def show(rows: Sequence[Row], runs: Path, progress: Progress, *, as_json: bool) -> None:
    """The rows on stdout: what fits a terminal, elsewhere whole tables."""
    from wsssbench.reporting.tables import render

    if as_json or not sys.stdout.isatty():
        click.echo(render(rows, "json" if as_json else "md"))
        return
    from wsssbench.reporting.terminal import print_rows

    print_rows(rows)
    progress.say(
        f"next: wsssbench report {runs}  (every number; --html report.html: with charts and pictures)"
    )


def skipped(cells: Sequence[Cell]) -> list[str]:
    """Why cells were left out, a line each."""
    found = [f"skipped {cell.title}: {cell.reason}" for cell in cells if cell.state == "skip"]
    return [*found, "nothing was judged: every cell was skipped"] if len(found) == len(cells) else found


def judged_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Those of `cells` that have a record, of a result or of a failure."""
    return [cell for cell in cells if (cell.folder / "record.json").exists() and cell.state != "skip"]


def rows_of_cells(judged: Sequence[Cell], *, limited: bool) -> list[Row]:
    """The rows of judged cells; those with a limit only where `limited`."""
    from wsssbench.reporting.rows import rows_of

    stale = {cell.key for cell in judged if cell.state == "stale"}
    return rows_of([read_record(cell.folder) for cell in judged], limited=limited, stale=stale)


def _said_of_masks(judged: Sequence[Cell], runs: Path) -> list[str]:
    """Where the pictures of masks lie, or why there are none: the results are shown all the same."""
    try:
        return [f"picture of masks: {path}" for path in draw_masks(judged, runs)]
    except WsssError as error:
        return [f"no picture of masks: {error}"]


def draw_masks(cells: Sequence[Cell], runs: Path, count: int = 6) -> list[Path]:
    """One picture per data set: image, truth and each method's masks of the first `count` judged images."""
    from wsssbench.masks import overlay, read_labels
    from wsssbench.reporting.figures.mask_sheet import masks_figure
    from wsssbench.reporting.figures.style import file_bytes

    pictures = []
    judged = [c for c in cells if c.stage.judged == "seg" and c.state in ("done", "stale")]
    for name in dict.fromkeys(c.trial.dataset.card.name for c in judged):
        first = next(c for c in judged if c.trial.dataset.card.name == name)
        mine = [
            c
            for c in judged
            if c.trial.dataset.card.name == name
            and c.trial.seed == first.trial.seed
            and c.split == first.split
        ]
        data = first.trial.dataset
        ids = [id for id in first.ids if all(id in set(cell.ids) for cell in mine)][:count]
        images = [data.image(id) for id in ids]
        columns = [("image", images)]
        columns.append(("truth", [overlay(i, data.mask(id)) for i, id in zip(images, ids, strict=True)]))
        for cell in mine:
            labels = [read_labels(cell.folder / "masks" / f"{id}.png") for id in ids]
            title = f"{cell.trial.method} ({cell.stage.name})"
            columns.append((title, [overlay(i, m) for i, m in zip(images, labels, strict=True)]))
        legend = {k + 1: v for k, v in enumerate(data.card.class_names)}
        path = runs / safe_name(name) / "masks.png"
        figure = masks_figure(columns, legend, most_in=MASKS_IN)
        atomic_write_bytes(path, file_bytes(figure, "png", MASKS_DPI))
        pictures.append(path)
    return pictures
