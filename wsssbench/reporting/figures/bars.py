"""Figures of one number a method: mIoU with its spread, IoU of each class, what each kind of error costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsssbench.reporting.figures.style import (
    BLUE,
    GREY,
    MOST_LINES,
    bars_of,
    literal,
    new_figure,
    styled,
)
from wsssbench.reporting.sections import Line, Section
from wsssbench.scores.ladder import KINDS

ROW_IN, FRAME_IN = 0.19, 0.3  # height of a line of bars, and of what is around a panel
GROUPS = 8  # classes side by side in one panel
SEEDS_APART = 0.16  # of a row: dots of seeds stand beside one another


@styled
def miou_figure(sections: Sequence[Section]) -> Figure | None:
    """mIoU of each method: a mark for the mean, its interval of 95 %, a dot for each seed; a panel a table.

    Hollow marks are rows that are not ranked. None where no row has an mIoU.
    """
    known = ((section, [li for li in section.lines if "miou" in li.row.numbers]) for section in sections)
    shown = [(section, lines) for section, lines in known if lines]
    if not shown:
        return None
    heights = [len(lines) * ROW_IN + FRAME_IN for _, lines in shown]
    figure, panels = new_figure(len(shown), height=sum(heights) + 0.35, height_ratios=heights, sharex=True)
    for panel, (section, lines) in zip(panels, shown, strict=True):
        _miou_panel(panel, lines)
        if len(shown) > 1:
            panel.set_title(literal(section.heading, 90), loc="left")
    panels[-1].set_xlabel("mIoU (%)")
    panels[-1].set_xlim(right=min(100.0, panels[-1].get_xlim()[1]))
    return figure


def _miou_panel(panel: Axes, lines: Sequence[Line]) -> None:
    for y, line in enumerate(lines):
        number, ranked = line.row.numbers["miou"], line.row.rank is not None
        if number.interval is not None:
            panel.plot(number.interval, [y, y], color=BLUE, linewidth=2.2, alpha=0.45, solid_capstyle="butt")
        offsets = SEEDS_APART * np.linspace(-1, 1, number.n) if number.n > 1 else np.zeros(1)
        panel.plot(number.values, y + offsets, ".", color=GREY, markersize=3.5, zorder=3)
        panel.plot(number.mean, y, "|", color=BLUE, markersize=9, markeredgewidth=1.8, zorder=4)
        if not ranked:
            panel.plot(number.mean, y, "D", color=BLUE, markerfacecolor="white", markersize=5, zorder=5)
    panel.set_yticks(range(len(lines)), [literal(line.title) for line in lines])
    panel.set_ylim(len(lines) - 0.5, -0.5)
    panel.grid(axis="y", visible=False)


@styled
def class_figure(section: Section) -> Figure | None:
    """IoU of each class as bars, one colour for each of the best methods; whiskers are intervals of 95 %.

    None where no class has a number; of more than eight methods the first eight are drawn.
    """
    lines = [line for line in section.finished if any(line.row.per_class)][:MOST_LINES]
    if not lines:
        return None
    names = section.class_names
    classes = [k for k in range(len(names)) if any(line.row.per_class[k] for line in lines)]
    rows = math.ceil(len(classes) / GROUPS)
    size = math.ceil(len(classes) / rows)  # of each panel, as even as can be
    figure, panels = new_figure(rows, height=0.5 + 1.55 * rows, sharey=True)
    for number, panel in enumerate(panels):
        _class_panel(panel, lines, classes[number * size : (number + 1) * size], names, size)
    panels[0].set_ylim(0, 100)
    figure.supylabel("IoU (%)", fontsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(lines)))
    return figure


def _class_panel(
    panel: Axes, lines: Sequence[Line], classes: Sequence[int], names: Sequence[str], size: int
) -> None:
    width = 0.84 / len(lines)
    for number, line in enumerate(lines):
        values = [line.row.per_class[k] for k in classes]
        x = np.arange(len(classes)) + (number - (len(lines) - 1) / 2) * width
        means = [0.0 if v is None else v.mean for v in values]
        panel.bar(x, means, width, label=literal(line.title), **bars_of(number))
        for at, value in zip(x, values, strict=True):
            if value is not None and value.interval is not None:
                low, high = np.clip(value.interval, 0, 100)
                panel.plot([at, at], [low, high], color="black", linewidth=0.7)
    panel.set_xticks(range(len(classes)), [literal(names[k], 16) for k in classes])
    panel.set_xlim(-0.6, size - 0.4)
    panel.tick_params(axis="x", length=0)
    panel.grid(axis="x", visible=False)


@styled
def ladder_figure(section: Section) -> Figure | None:
    """From mIoU to 100 %: what is gained as one kind of error after the other is repaired, a bar a method.

    Means over the seeds that have the metric `error_ladder`; None without any.
    """
    steps = [(line, ladder) for line in section.finished if len(ladder := _ladder(line))]
    if not steps:
        return None
    figure, (panel,) = new_figure(height=1.0 + (ROW_IN + 0.06) * len(steps))
    y = np.arange(len(steps))
    ladders = np.array([ladder for _, ladder in steps])
    panel.barh(y, ladders[:, 0], 0.72, color="#d9d9d9", label="mIoU")
    for number, kind in enumerate(KINDS):
        gained = ladders[:, number + 1] - ladders[:, number]
        label = kind.replace("_", " ")
        panel.barh(y, gained, 0.72, left=ladders[:, number], label=label, **bars_of(number))
    panel.set_yticks(y, [literal(line.title) for line, _ in steps])
    panel.set_ylim(len(steps) - 0.5, -0.5)
    panel.set_xlim(0, 100)
    panel.grid(axis="y", visible=False)
    panel.set_xlabel("mIoU (%) once errors of these kinds are repaired, from left to right")
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def _ladder(line: Line) -> list[float]:
    """mIoU, and after each repair; the mean over seeds, empty without any."""
    found = [
        [scores["miou"], *(miou for _, miou in scores["ladder"])]
        for scores in line.scores("error_ladder")
        if scores.get("miou") is not None and len(scores["ladder"]) == len(KINDS)
    ]
    return [float(value) for value in np.mean(found, axis=0)] if found else []
