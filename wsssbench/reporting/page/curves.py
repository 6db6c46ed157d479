"""The charts of one table: IoU per class, and what optional metrics and counts say more. Means over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from wsssbench.reporting.page.charts import Chart, Panel, Series, mean_of, means
from wsssbench.reporting.page.sections import Line, Section, counts_of
from wsssbench.scores.confusion import ConfusionPairs
from wsssbench.scores.ladder import KINDS

PERFECT = "confidence = accuracy"


def section_charts(section: Section) -> list[Chart]:
    """The charts that the section's records hold anything for."""
    makers = (class_bars, threshold_curves, precision_coverage, ladder, kinds_alone, confusions, calibration)
    return [chart for make in makers if (chart := make(section)) is not None]


def _series(
    section: Section,
    y: Callable[[Line], Sequence[float | None]],
    x: Callable[[Line], Sequence[float]] | None = None,
) -> tuple[Series, ...]:
    """A series for each line that `y` has numbers of; a line has one colour in all charts of its table."""
    found = ((n, line, tuple(y(line))) for n, line in enumerate(section.lines))
    return tuple(
        Series(line.title, values, tuple(x(line)) if x else (), n)
        for n, line, values in found
        if any(v is not None for v in values)
    )


def _chart(title: str, kind: Any, x: str, y: str, panels: Iterable[Panel], **more: Any) -> Chart | None:
    kept = tuple(panel for panel in panels if panel.series)
    return Chart(title, kind, x, y, kept, **more) if kept else None


def class_bars(section: Section) -> Chart | None:
    """IoU of each class that has truth pixels."""
    rows = [line.row.per_class for line in section.lines]
    shown = [k for k in range(len(section.class_names)) if any(k < len(row) and row[k] for row in rows)]

    def values(line: Line) -> list[float | None]:
        own = [line.row.per_class[k] if k < len(line.row.per_class) else None for k in shown]
        return [number.mean if number else None for number in own]

    labels = tuple(section.class_names[k] for k in shown)
    note = "Mean over seeds; classes without truth pixels are left out."
    panels = [Panel(_series(section, values), labels)]
    return _chart("IoU per class", "bar", "class", "IoU (%)", panels, note=note)


def threshold_curves(section: Section) -> Chart | None:
    """mIoU at every background threshold."""
    name = "threshold_curve"

    def grid(line: Line) -> Sequence[float]:
        return next((s["thresholds"] for s in line.scores(name) if s.get("curve")), ())

    def curve(line: Line) -> tuple[float | None, ...]:
        """The mean over the seeds that have the thresholds of the first."""
        return means(
            [s["curve"] for s in line.scores(name) if s.get("curve") and s["thresholds"] == grid(line)]
        )

    note = (
        "What each threshold would give on the judged images themselves, mean over seeds: the top of a curve "
        "is an oracle, no result."
    )
    panels = [Panel(_series(section, curve, grid))]
    return _chart("mIoU by threshold", "line", "threshold", "mIoU (%)", panels, note=note)


def precision_coverage(section: Section) -> Chart | None:
    """How right the labels are where they speak, against how much they say; None if nothing abstains."""

    def seen(line: Line) -> list[tuple[float, float]]:
        scores = [(s.get("coverage"), s.get("pixel_accuracy")) for s in line.scores("iou")]
        return [(c, 100 * a / c) for c, a in scores if c and a is not None]

    if all(c >= 100 for line in section.lines for c, _ in seen(line)):
        return None
    note = (
        "Precision of the labelled pixels (right / labelled) at the coverage (labelled / all pixels with "
        "truth) that each row has, mean over seeds. Up and to the right is better."
    )
    x, y = "coverage (%)", "precision of labelled pixels (%)"
    series = _series(
        section,
        lambda line: [mean_of(p for _, p in seen(line))],
        lambda line: [mean_of(c for c, _ in seen(line)) or 0.0],
    )
    return _chart("Precision at coverage", "scatter", x, y, [Panel(series)], note=note)


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def ladder(section: Section) -> Chart | None:
    """mIoU as one kind of error after the other is repaired."""

    def steps(line: Line) -> tuple[float | None, ...]:
        scores = [s for s in line.scores("error_ladder") if len(s["ladder"]) == len(KINDS)]
        return means([[s["miou"], *(m for _, m in s["ladder"])] for s in scores])

    labels = ("nothing", *(f"+ {_words(kind)}" for kind in KINDS))
    note = (
        "mIoU once every pixel with this kind of error, and those before it, had its true label. The steps "
        "depend on their order."
    )
    panels = [Panel(_series(section, steps), labels)]
    return _chart("Error ladder", "line", "repaired", "mIoU (%)", panels, note=note)


def kinds_alone(section: Section) -> Chart | None:
    """What repairing one kind of error alone would gain."""

    def gains(line: Line) -> tuple[float | None, ...]:
        return means([[s["alone"].get(kind) for kind in KINDS] for s in line.scores("error_ladder")])

    labels = tuple(_words(kind) for kind in KINDS)
    note = "Points of mIoU gained if this kind alone were repaired; they do not add up, as mIoU is no sum."
    panels = [Panel(_series(section, gains), labels)]
    return _chart("What each kind of error costs", "bar", "kind", "points of mIoU", panels, note=note)


def confusions(section: Section) -> Chart | None:
    """The most frequent confusions of each row, as its records say, else counted from one seed's counts."""
    names = section.class_names
    panels = []
    for n, line in enumerate(section.lines):
        pairs = _pairs(section, line)
        labels = tuple(f"{names[gold]} → {names[said]}" for gold, said, _ in pairs)
        shares = Series("share of the class's pixels (%)", tuple(share for *_, share in pairs), colour=n)
        panels += [Panel((shares,), labels, line.title)] if pairs else []
    note = f"truth → prediction, the ten largest shares of the truth's pixels, seed {section.seed}."
    x, y = "pair", "share of the truth's pixels (%)"
    title = "Confusion pairs"
    return _chart(title, "bar", x, y, panels, note=note, horizontal=True, choice="method")


def _pairs(section: Section, line: Line) -> list[tuple[int, int, float]]:
    cell = None if section.seed is None else line.cell(section.seed)
    if cell is None:
        return []
    known = cell.record.scores.get(ConfusionPairs.name)
    counts = None if known else counts_of(cell)
    if counts is not None:
        known = ConfusionPairs().score(counts.total(), len(section.terms.classes))
    return [(int(g), int(p), float(share)) for g, p, share in (known or {}).get("pairs", ())]


def calibration(section: Section) -> Chart | None:
    """The reliability diagram: accuracy against confidence, bin by bin."""
    note = (
        "Of the pixels held right with this confidence, how many are; on the line a model means what it says."
    )
    panels = [
        Panel(series and (*series, Series(PERFECT, (0.0, 100.0), (0.0, 100.0), -1, True)), name=title)
        for title, suffix in (("all pixels", ""), ("foreground predictions", "_foreground"))
        for series in [_reliability(section, suffix)]
    ]
    return _chart("Calibration", "line", "confidence (%)", "accuracy (%)", panels, note=note, choice="pixels")


def _reliability(section: Section, suffix: str) -> tuple[Series, ...]:
    """Bins that every seed has pixels in."""
    found = []
    for n, line in enumerate(section.lines):
        scores = [s for s in line.scores("calibration") if f"accuracy{suffix}" in s]
        both = [means([s[f"{name}{suffix}"] for s in scores]) for name in ("confidence", "accuracy")]
        points = [(x, y) for x, y in zip(*both, strict=True) if x is not None and y is not None]
        if points:
            x, y = zip(*points, strict=True)
            found.append(Series(line.title, y, x, n))
    return tuple(found)
