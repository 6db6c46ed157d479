"""Figures of one number against another: thresholds, coverage, confidence, and losses against steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain, takewhile
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsssbench.identity import content_key
from wsssbench.reporting.figures.style import (
    COLOURS,
    DASHES,
    GREY,
    MOST_LINES,
    lines_of,
    literal,
    new_figure,
    styled,
)
from wsssbench.reporting.rows import configuration
from wsssbench.reporting.sections import Line, Section

THIN = {"linewidth": 0.6, "alpha": 0.35}  # single seeds
FULL = 99.995  # % of coverage that is all of it in a table


@styled
def threshold_figure(section: Section) -> Figure | None:
    """mIoU at each threshold of the maps: bold the mean, thin the seeds; a ring is the threshold in use.

    None where no record has the metric `threshold_curve`.
    """
    lines = [line for line in section.finished if line.lists("threshold_curve", "curve").size][:MOST_LINES]
    if not lines:
        return None
    figure, (panel,) = new_figure(height=2.8, width=4.6)
    for number, line in enumerate(lines):
        curves = line.lists("threshold_curve", "curve", grid="thresholds")
        x = line.lists("threshold_curve", "thresholds")[0]
        look = {**lines_of(number), "marker": ""}
        panel.plot(x, curves.T, **{**look, **THIN})
        mean = curves.mean(0)
        panel.plot(x, mean, label=literal(line.title), **look)
        used = (line.row.identity.threshold or {}).get("value")
        if used is not None and x[0] <= used <= x[-1]:
            height = float(np.interp(used, x, mean))
            panel.plot(used, height, "o", color=look["color"], fillstyle="none", markersize=7, zorder=5)
    panel.set_xlabel("threshold")
    panel.set_ylabel("mIoU (%)")
    panel.set_xlim(0, 1)
    panel.legend()
    return figure


# ---------------------------------------------------------------------------------- precision and coverage


@styled
def coverage_figure(section: Section) -> Figure | None:
    """Precision against coverage of labels that may abstain; rows that differ in one number are joined.

    Each mark is the mean over seeds. None where every row labels every pixel.
    """
    key = ("precision_at_coverage.precision_of_labelled_pixels", "precision_at_coverage.coverage")
    label = "precision of the labelled pixels (%)"
    if not any(set(key) <= set(line.row.numbers) for line in section.finished):
        key, label = ("precision", "coverage"), "precision, mean over classes (%)"
    lines = [line for line in section.finished if set(key) <= set(line.row.numbers)]
    if all(line.row.numbers[key[1]].mean >= FULL for line in lines):
        return None
    figure, (panel,) = new_figure(height=3.2, width=4.6)
    for number, (name, option, group) in enumerate(_families(lines)):
        y, x = ([line.row.numbers[k].mean for line in group] for k in key)
        look = lines_of(number) if len(group) > 1 else {**lines_of(number), "linestyle": ""}
        panel.plot(x, y, label=literal(name), **look)
        for end in (0, len(group) - 1) if option else ():
            text = f"{configuration(group[end].records[0])[option]:g}"
            offset, colour = (4, (4, -9)[number % 2]), look["color"]
            panel.annotate(
                text, (x[end], y[end]), offset, textcoords="offset points", fontsize=7, color=colour
            )
    panel.set_xlabel("coverage (% of pixels)")
    panel.set_ylabel(label)
    figure.legend(loc="outside right upper")
    return figure


def _families(lines: Sequence[Line]) -> list[tuple[str, str, list[Line]]]:
    """(name, option, lines): three lines or more that differ in the number `option` alone, by its value;
    the others each alone, with "" for the option."""
    left = list(lines)
    families: list[tuple[str, str, list[Line]]] = []
    known = {id(line): configuration(line.records[0]) for line in lines}
    for option in sorted({name for own in known.values() for name, v in own.items() if _is_number(v)}):
        groups: dict[str, list[Line]] = {}
        for line in (line for line in left if _is_number(known[id(line)].get(option))):
            rest = {name: value for name, value in known[id(line)].items() if name != option}
            groups.setdefault(content_key(rest), []).append(line)
        for group in (g for g in groups.values() if len(g) > 2):
            if len({known[id(line)][option] for line in group}) == len(group):
                group.sort(key=lambda line: float(known[id(line)][option]))
                families.append((_common_name(group, option), option, group))
                left = [line for line in left if line not in group]
    return [*families, *((line.title, "", [line]) for line in left)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _common_name(group: Sequence[Line], option: str) -> str:
    """What the names begin with, and the option."""
    letters = zip(*(line.title for line in group), strict=False)
    shared = "".join(some[0] for some in takewhile(lambda some: len(set(some)) == 1, letters))
    name = shared.rstrip(" -_.=(,@0123456789")
    return f"{name.removesuffix('-at')}: {option}" if option not in name else name


# ------------------------------------------------------------------------------------------- calibration


@styled
def reliability_figure(section: Section) -> Figure | None:
    """Accuracy against confidence, left over all pixels, right over those called foreground.

    Below: the share of pixels in each bin. Means over seeds; None where no record has `calibration`.
    """
    known = (line for line in section.finished if np.isfinite(line.lists("calibration", "accuracy")).any())
    lines = list(known)[:MOST_LINES]
    if not lines:
        return None
    figure, panels = new_figure(2, 2, height=3.7, width=5.6, sharex=True, height_ratios=[3, 1])
    for column, (suffix, name) in enumerate((("", "all pixels"), ("_foreground", "called foreground"))):
        top, below = panels[column], panels[2 + column]
        top.plot([0, 100], [0, 100], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        for number, line in enumerate(lines):
            _calibration_line(top, below, line, number, suffix)
        top.set_ylim(0, 100)
        below.set_xlabel(f"confidence (%), {name}")
        below.set_xlim(0, 100)
        below.set_yscale("log")
        below.yaxis.set_major_formatter("{x:g}")  # the usual one sets each number as a formula, slowly
        below.minorticks_off()
    panels[0].set_ylabel("accuracy (%)")
    panels[2].set_ylabel("pixels (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(lines)))
    return figure


def _calibration_line(top: Axes, below: Axes, line: Line, number: int, suffix: str) -> None:
    accuracy, confidence, share = (
        line.lists("calibration", f"{name}{suffix}") for name in ("accuracy", "confidence", "share")
    )
    filled = ~np.isnan(accuracy).all(0)
    if not filled.any():  # of foreground there may be none
        return
    x, y = np.nanmean(confidence[:, filled], axis=0), np.nanmean(accuracy[:, filled], axis=0)
    look = lines_of(number)
    top.plot(x, y, label=literal(line.title), clip_on=False, **look)
    below.plot(x, np.nanmean(share[:, filled], axis=0), **{**look, "linewidth": 1.0, "markersize": 2.5})


# --------------------------------------------------------------------------------------------- training


Log = Mapping[str, Sequence[tuple[int, float]]]  # name of a loss -> (step, value)
Curve = np.ndarray[Any, np.dtype[np.float64]]  # (n, 2) step and value
FEW = 3  # most trainings whose seeds are shown separately


@styled
def training_figure(trainings: Mapping[str, Sequence[Log]]) -> Figure | None:
    """Losses against training steps, a panel for each loss; by label one training for each seed.

    Bold: the median over seeds of running means over a twentieth of the training; thin: each seed's, where
    there are few labels. The frame leaves out the heights of the first steps. None without any loss.
    """
    names = list(dict.fromkeys(n for logs in trainings.values() for log in logs for n in log))
    if not names:
        return None
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    width = {1: 3.6, 2: 5.2, 3: 6.8}[columns]
    figure, panels = new_figure(rows, columns, height=0.4 + 1.7 * rows, width=width, sharex=True)
    for panel, name in zip(panels, names, strict=False):
        for number, (label, logs) in enumerate(trainings.items()):
            curves = [_running_mean(np.array(log[name], np.float64)) for log in logs if log.get(name)]
            _training_lines(panel, curves, label, number, thin=len(trainings) <= FEW)
        _frame(panel)
        panel.set_ylabel(literal(name))
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel in panels[len(names) - columns : len(names)]:  # the lowest of each column
        panel.set_xlabel("step")
        panel.tick_params(labelbottom=True)
    if len(trainings) > 1:
        found = [zip(*panel.get_legend_handles_labels()[::-1], strict=True) for panel in panels]
        known = dict(chain.from_iterable(found))  # some trainings lack the first loss
        figure.legend(known.values(), known, loc="outside upper center", ncols=min(4, len(trainings)))
    return figure


def _training_lines(panel: Axes, curves: Sequence[Curve], label: str, number: int, *, thin: bool) -> None:
    """The median where all have the same steps, and each one."""
    look = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}
    same = len({tuple(curve[:, 0]) for curve in curves}) == 1
    for curve in curves if thin or not same else ():
        panel.plot(*curve.T, **{**look, **THIN})
    if curves:
        middle: Any = np.median([curve[:, 1] for curve in curves], axis=0) if same else []
        panel.plot(curves[0][:, 0] if same else [], middle, label=literal(label), linewidth=1.2, **look)


def _frame(panel: Axes) -> None:
    """Fit the height to what comes after the first tenth of each curve: losses fall from far above."""
    late = [np.asarray(line.get_ydata())[len(np.asarray(line.get_ydata())) // 10 :] for line in panel.lines]
    values = np.concatenate([np.zeros(0), *late])
    values = values[np.isfinite(values)]
    if len(values) and values.min() < values.max():
        margin = 0.08 * (values.max() - values.min())
        panel.set_ylim(values.min() - margin, values.max() + 3 * margin)


def _running_mean(curve: Curve) -> Curve:
    """(n, 2) step and value -> the same with values averaged over the twentieth of all that ends there."""
    size = max(1, len(curve) // 20)
    sums = np.cumsum(np.concatenate([[0.0], curve[:, 1]]))
    values = (sums[size:] - sums[:-size]) / size
    return np.stack([curve[size - 1 :, 0], values], axis=1)
