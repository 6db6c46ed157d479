"""Draws voc6.png: what RRM's rule mines from the maps of one classifier, and what the training makes of it.

Left the share of pixels that are mined as background and as objects, and how many of these are right, for the
rows of voc6_mined.toml. Right the share of cells that the segmentation head calls an object while RRM trains,
with and without its energy, for rows of voc6_screen.toml; the lines are means over 20 steps.

python reports/voc6.py RUNS     where RUNS is the folder that both settings files were run into
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from wsssbench.records.finding import find_records
from wsssbench.reporting.figures.drawn import LOG, read_log, step_folders
from wsssbench.scores.mined import Mined

MINED = ("scale-1", "scales-1-1.5", "scales-0.5-1-1.5", "stride-8", "stride-32")
TRAINED = {"rrm": "#0072b2", "rrm-no-energy": "#e69f00"}
SIDES = {"background": "#999999", "objects": "#cc79a7"}
WINDOW = 20  # steps


def scores_and_logs(runs: Path) -> tuple[dict[str, Mapping[str, Any]], dict[str, Sequence[float]]]:
    """The numbers of the metric `mined` by method, and the shares of objects by step of the trainings."""
    scores, objects = {}, {}
    for stored in find_records(runs):
        method = stored.record.method
        if method in MINED and Mined.name in stored.record.scores:
            scores[method] = stored.record.scores[Mined.name]
        if method in TRAINED:
            log = read_log(dict(step_folders(stored))["rrm"] / LOG)
            objects[method] = [value for _, value in log["objects"]]
    return scores, objects


def draw(scores: Mapping[str, Mapping[str, Any]], objects: Mapping[str, Sequence[float]], path: Path) -> None:
    """Both panels, in %; the dotted line is the share of objects in the truth."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = [name for name in MINED if name in scores]
    for side, (name, colour) in enumerate(SIDES.items()):
        places = np.arange(len(rows)) + 0.4 * side
        shares = [scores[row][f"share_{name}"] for row in rows]
        left.barh(places, shares, 0.38, color=colour, label=name)
        for place, share, row in zip(places, shares, rows, strict=True):
            left.text(
                share + 0.4, place, f"{scores[row][f'precision_{name}']:.0f} % right", va="center", fontsize=8
            )
    left.set_yticks(np.arange(len(rows)) + 0.2, rows)
    left.invert_yaxis()
    left.set_xlabel("share of pixels that are mined (%)")
    left.margins(x=0.25)
    left.legend(loc="upper right")
    for name, values in objects.items():
        smooth = np.convolve(np.array(values) * 100, np.ones(WINDOW) / WINDOW, mode="valid")
        right.plot(np.arange(len(smooth)) + WINDOW, smooth, color=TRAINED[name], label=name)
    if scores:
        truth = 100 - next(iter(scores.values()))["true_background"]
        right.axhline(truth, color="black", linestyle=":", label="truth, whole images of tune")
    right.set_xlabel("joint step")
    right.set_ylabel("share that the head calls an object (%)")
    right.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path)
    draw(*scores_and_logs(parser.parse_args().runs), Path(__file__).resolve().parent / "voc6.png")


if __name__ == "__main__":
    main()
