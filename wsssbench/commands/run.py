"""`wsssbench run`: plan, run, then tables and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from wsssbench.commands.setup import open_settings
from wsssbench.engine import Engine
from wsssbench.hardware import resolve_hardware
from wsssbench.plan import Cell, make_plan, refreshed
from wsssbench.process import use_machine
from wsssbench.progress import Progress
from wsssbench.report.rows import Row, rows_of
from wsssbench.report.tables import render
from wsssbench.settings import Settings
from wsssbench.store import read_record


def run_command(flags: Mapping[str, Any]) -> int:
    """Run what the flags ask for; the exit code: 0, or 1 where a cell failed."""
    settings, plugins = open_settings(
        _settings_flags(flags), flags["config"], flags["options"], flags["weights"]
    )
    progress = Progress(quiet=flags["quiet"])
    use_machine()
    cells = make_plan(settings, plugins)
    if flags["dry_run"]:
        click.echo(plan_table(cells))
        return 0
    failed = Engine(resolve_hardware(settings), settings.limit, progress).run(cells)
    cells = refreshed(cells)
    _show(cells, settings, progress, as_json=flags["as_json"])
    return 1 if failed else 0


def _settings_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "methods": "method",
        "datasets": "dataset",
        "filter_backend": "filter",
    }
    kept = ("methods", "datasets", "seeds", "stages", "metrics", "runs", "device", "precision")
    return {
        names.get(k, k): flags[k]
        for k in (*kept, "threshold_policy", "filter_backend", "limit", "plugins", "rerun")
    }


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


def _show(cells: Sequence[Cell], settings: Settings, progress: Progress, *, as_json: bool) -> None:
    kept = judged_cells(cells)
    click.echo(render(rows_of_cells(kept, limited=settings.limit is not None), "json" if as_json else "md"))
    for cell in cells:
        if cell.state == "skip":
            progress.say(f"skipped {cell.title}: {cell.reason}")
    for picture in draw_masks(kept, settings.runs):
        progress.say(f"picture of masks: {picture}")


def judged_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Those of `cells` that have a record, of a result or of a failure."""
    return [cell for cell in cells if (cell.folder / "record.json").exists() and cell.state != "skip"]


def rows_of_cells(judged: Sequence[Cell], *, limited: bool) -> list[Row]:
    """The rows of judged cells; those with a limit only where `limited`."""
    stale = {cell.key for cell in judged if cell.state == "stale"}
    return rows_of([read_record(cell.folder) for cell in judged], limited=limited, stale=stale)


def draw_masks(cells: Sequence[Cell], runs: Path, count: int = 6) -> list[Path]:
    """One picture per data set: image, truth and each method's masks of the first `count` judged images."""
    from wsssbench.masks import read_labels
    from wsssbench.report.montage import montage, overlay

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
        path = runs / name / "masks.png"
        legend = {k + 1: v for k, v in enumerate(data.card.class_names)}
        montage(path, columns, legend=legend)
        pictures.append(path)
    return pictures
