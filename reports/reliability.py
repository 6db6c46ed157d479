"""Are RRM's reliable labels reliable? Precision of the mined labels against coverage, before and after.

The step `reliable` mines the training images from the maps of the classifier (`cam`), of RRM after a fifth of
its joint steps (`early`) and of the fitted RRM (`final`), at several fractions. The numbers come from the
counts that the judge left behind: no mask is read here.

python reports/reliability.py RUNS --seeds 0,1,2,3,4     runs what is missing, prints tables, draws a picture
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from wsssbench.records.finding import find_records
from wsssbench.scores.counts_table import COUNTS, CountsTable

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
SOURCES = {"cam": "", "early": "options.rrm.stop_at = 50\n", "final": ""}
STEP = {"cam": "cam", "early": "rrm", "final": "rrm"}
COLOURS = {"cam": "#888888", "early": "#e69f00", "final": "#0072b2"}
PRESET = "shapes-long"
SEEDS = "0,1,2,3,4"
LEVELS = (30, 40, 50, 60, 70)  # coverages at which the sources are compared

Curve = dict[
    float, np.ndarray
]  # fraction -> (classes + 1, 2): labelled per true pixel, precision; first: all pixels


def settings(seeds: str) -> str:
    """The settings file of the sweep: one method for each source and fraction."""
    names = [f"{source}-at-{fraction}" for source in SOURCES for fraction in FRACTIONS]
    text = f'[run]\nmethod = {names}\ndataset = ["shapes"]\nseeds = [{seeds}]\nstages = ["pseudo"]\n'
    text += "".join(f'[steps.{step}]\npreset = "{PRESET}"\n' for step in ("cam", "rrm"))
    for source, more in SOURCES.items():
        for fraction in FRACTIONS:
            text += f'[methods."{source}-at-{fraction}"]\nsteps = ["{STEP[source]}", "reliable"]\n{more}'
            text += f"options.reliable.fraction = {fraction}\n"
    return text


def run(runs: Path, seeds: str) -> None:
    """Let the harness fit, mine and judge what is not there yet."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "wsssbench.toml"
        config.write_text(settings(seeds))
        command = [sys.executable, "-m", "wsssbench", "run", "--config", config, "--runs", runs, "-q"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def curves(runs: Path, seeds: str) -> tuple[dict[str, list[Curve]], list[str]]:
    """Per source one curve for each seed, and the names of the classes."""
    found: dict[tuple[str, int], Curve] = defaultdict(dict)
    classes: list[str] = []
    for stored in find_records(runs):
        source, _, fraction = stored.record.method.partition("-at-")
        seed = stored.record.identity.seed
        if source in SOURCES and fraction and str(seed) in seeds.split(","):
            table = CountsTable.load(stored.path.parent / COUNTS)
            classes = list(stored.record.identity.terms.classes)
            found[source, seed][float(fraction)] = points(table, len(classes))
    return {source: [found[key] for key in sorted(found) if key[0] == source] for source in SOURCES}, classes


def points(table: CountsTable, classes: int) -> np.ndarray:
    """(classes + 1, 2) in %: pixels labelled per true pixel of each class and the labels' precision.

    The first line is of all pixels, background among them: share that got a label, share of these right.
    """
    total = table.total()
    matrix = np.zeros((256, 256))
    matrix[total["gold"], total["predicted"]] = total["pixels"]
    square, truth = matrix[: classes + 1, : classes + 1], matrix[: classes + 1].sum(1)
    said, hit = square.sum(0), np.diagonal(square)
    lines = [(said.sum() / truth.sum(), hit.sum() / said.sum())]
    lines += [(said[k] / truth[k], hit[k] / max(said[k], 1)) for k in range(1, classes + 1)]
    return 100 * np.array(lines)


def at_level(curve: Curve, line: int, level: float) -> float:
    """Precision of one class where `level` % of its true pixels are labelled, linear between fractions."""
    places = np.array([curve[fraction][line] for fraction in sorted(curve)])
    inside = places[0, 0] <= level <= places[-1, 0]
    return float(np.interp(level, places[:, 0], places[:, 1])) if inside else float("nan")


def level_table(found: dict[str, list[Curve]], classes: list[str]) -> str:
    """Mean precision over the classes at equal shares of labelled pixels: mean and spread over the seeds."""
    rows = []
    for level in LEVELS:
        cells = [
            np.array([[at_level(c, k + 1, level) for k in range(len(classes))] for c in found[source]])
            for source in SOURCES
        ]
        known = [np.isfinite(cell).all() for cell in cells]
        rows.append(
            [
                f"{level} %",
                *(spread(c.mean(1)) if k else "not reached" for c, k in zip(cells, known, strict=True)),
            ]
        )
    return tabulate(rows, ["labelled", *SOURCES], "github", disable_numparse=True)


def sweep_table(found: dict[str, list[Curve]], line: slice) -> str:
    """Labelled share and precision of every fraction: means over the seeds and the lines in `line`."""
    rows = []
    for fraction in FRACTIONS:
        cells = [np.array([curve[fraction][line].mean(0) for curve in found[source]]) for source in SOURCES]
        rows.append(
            [fraction, *(text for cell in cells for text in (spread(cell[:, 0]), spread(cell[:, 1])))]
        )
    heads = [f"{source} {what}" for source in SOURCES for what in ("labelled", "precision")]
    return tabulate(rows, ["fraction", *heads], tablefmt="github", disable_numparse=True)


def class_table(found: dict[str, list[Curve]], classes: list[str], level: float) -> str:
    """Precision of each class where `level` % of its true pixels are labelled."""
    rows = [
        [name, *(spread(np.array([at_level(c, k, level) for c in found[source]])) for source in SOURCES)]
        for k, name in enumerate(classes, 1)
    ]
    return tabulate(rows, ["class", *SOURCES], tablefmt="github", disable_numparse=True)


def spread(values: np.ndarray) -> str:
    """Mean and sample standard deviation over seeds."""
    if not np.isfinite(values).all():
        return "not reached"
    deviation = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{deviation}"


def draw(found: dict[str, list[Curve]], classes: list[str], path: Path) -> None:
    """One panel for each class and one for their mean; thin lines are seeds, a ring is the paper's 0.4."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    panels = figure.subplots(2, (len(classes) + 2) // 2, sharex=True, sharey=True).ravel()
    everything = list(range(1, len(classes) + 1))
    titles = {
        "mean of the classes": everything,
        **{name: [k] for k, name in zip(everything, classes, strict=True)},
    }
    for panel, (name, lines) in zip(panels, titles.items(), strict=False):
        for source, seeds in found.items():
            each = np.array([[c[f][lines].mean(0) for f in FRACTIONS] for c in seeds])
            for one in each:
                panel.plot(*one.T, color=COLOURS[source], alpha=0.25, linewidth=0.8)
            mean = each.mean(0)
            panel.plot(*mean.T, color=COLOURS[source], linewidth=2, label=source)
            panel.plot(
                *mean[FRACTIONS.index(0.4)], "o", color=COLOURS[source], fillstyle="none", markersize=8
            )
        panel.set_title(name)
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.supxlabel("pixels labelled as the class, % of its true pixels")
    figure.supylabel("precision of the mined labels, %")
    figure.savefig(path, dpi=110)


def text_of(runs: Sequence[Path], seeds: str = SEEDS) -> str:
    """All tables of this report, of the one place in `runs`."""
    (place,) = runs
    found, classes = curves(place, seeds)
    return "\n\n".join(
        [
            "Mean precision over the classes, at equal shares of labelled pixels:",
            level_table(found, classes),
            "Each class where 40 % of its pixels are labelled:",
            class_table(found, classes, 40),
            "The sweep, mean of the classes:",
            sweep_table(found, slice(1, None)),
            "The sweep, all pixels, background among them:",
            sweep_table(found, slice(0, 1)),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", default=SEEDS)
    parser.add_argument("--picture", type=Path, default=Path(__file__).with_suffix(".png"))
    given = parser.parse_args()
    run(given.runs, given.seeds)
    print(text_of([given.runs], given.seeds))
    draw(*curves(given.runs, given.seeds), given.picture)


if __name__ == "__main__":
    main()
