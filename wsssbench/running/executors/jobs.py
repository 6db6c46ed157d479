"""Trials cut out of a plan: which cells each has to run, in which folder, with which settings. No process is
started and nothing is written here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from wsssbench.files.atomic import safe_name
from wsssbench.identity import content_key
from wsssbench.planning.cells import Cell
from wsssbench.planning.plan import planned_recipes
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins
from wsssbench.running.fits import read_fit
from wsssbench.running.renewal import Renewed

FOLDER = ".jobs"  # below the folder of runs
PENDING = ("missing", "failed")


@dataclass(frozen=True)
class Job:
    """One trial that has cells to run."""

    title: str  # shapes cam seed 0
    settings: Settings  # those of the run, cut down to this trial
    cells: tuple[Cell, ...]  # all that are not skipped
    folder: Path

    @property
    def pending(self) -> list[Cell]:
        """The cells that were not done when it was planned."""
        return [cell for cell in self.cells if cell.state in PENDING]

    @property
    def family(self) -> tuple[str, int]:
        """Trials of one data set and seed: they may share work that a plan does not show."""
        trial = self.cells[0].trial
        return trial.dataset.card.name, trial.seed

    def unfitted(self, renewed: Renewed) -> frozenset[Path]:
        """Folders of its steps that are to be fitted, or fitted again."""
        again = self.settings.rerun == "all"
        return frozenset(
            step.folder
            for step in self.cells[0].trial.steps
            if not read_fit(step) or (again and step.folder not in renewed)
        )


def jobs_of(cells: Sequence[Cell], settings: Settings, plugins: Plugins) -> list[Job]:
    """A job for each trial of the plan `cells` that has something to run, in the order of the plan."""
    trials: dict[int, list[Cell]] = {}
    for cell in cells:
        trials.setdefault(id(cell.trial), []).append(cell)
    texts = [text for text, _ in planned_recipes(settings, plugins)]
    asked = product(dict.fromkeys(settings.datasets), settings.seeds, texts)
    jobs = (_job(mine, settings, *names) for names, mine in zip(asked, trials.values(), strict=True))
    return [job for job in jobs if job.pending]


def _job(cells: Sequence[Cell], settings: Settings, dataset: str, seed: int, method: str) -> Job:
    """The job of one trial: what the run asks for of this trial alone."""
    kept = tuple(cell for cell in cells if cell.state != "skip")
    used = {metric.name for cell in kept for metric in cell.metrics}
    own = replace(
        settings,
        methods=(method,), datasets=(dataset,), seeds=(seed,), jobs=1, executor="here", executor_options={},
        metrics=tuple(name for name in settings.metrics if name in used) or ("iou",),
    )  # fmt: skip
    trial = cells[0].trial
    title = f"{trial.dataset.card.name} {trial.method} seed {seed}"
    name = safe_name(f"{trial.dataset.card.name}-{trial.method}-seed{seed}")
    key = content_key(sorted(cell.key for cell in kept))[:8]
    return Job(title, own, kept, settings.runs / FOLDER / f"{name}-{key}")
