"""The judge of scores: metrics that need maps, probabilities or tag scores, counted image by image.

The counterpart of `wsssbench.judging.judge` for what is not a label map. It streams: one image's outputs and
the sums are held. Labels, files and methods are unknown here; what the numbers mean is each metric's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wsssbench.errors import BadData, WsssError
from wsssbench.judging.judge import counts_of
from wsssbench.masks import tagged_maps
from wsssbench.metrics import add_counts
from wsssbench.types import Counts, Dataset, Metric, Outputs

if TYPE_CHECKING:
    from wsssbench.types import Mask, Tags


def score_outputs(
    dataset: Dataset, ids: Sequence[str], read: Callable[[str], Outputs], metrics: Sequence[Metric]
) -> dict[str, dict[str, Any]]:
    """Scores by metric name of the outputs that `read(id)` returns, each with `n_images`.

    Outputs and mask of an image are read once; a metric gets the kind that its `needs` names. WsssError where
    the outputs lack it; BadData for an empty split, and for outputs or masks that a metric refuses, with the
    image's name.
    """
    if not ids:
        hint = "check the split's list, or --limit"
        raise BadData("no images to judge", where=dataset.card.name, hint=hint)
    classes = len(dataset.card.class_names)
    sums: dict[str, Counts] = {}
    for id in ids if metrics else ():
        outputs, gold = read(id), dataset.mask(id)
        for metric in metrics:
            counts = _counted(metric, outputs, gold, classes, f"{dataset.card.name} {id}")
            sums[metric.name] = add_counts([sums[metric.name], counts] if metric.name in sums else [counts])
    return {m.name: {**m.score(sums[m.name], classes), "n_images": len(ids)} for m in metrics}


def tagged_outputs(outputs: Outputs, tags: Tags | None) -> Outputs:
    """`outputs` with the maps of the tagged classes alone, as a stage that gives tags judges them."""
    if outputs.maps is None or tags is None:
        return outputs
    return replace(outputs, maps=tagged_maps(outputs.maps, tags))


def _counted(metric: Metric, outputs: Outputs, gold: Mask, classes: int, where: str) -> Counts:
    """The metric's counts of one image; `where` names it in errors that name no place of their own."""
    value = getattr(outputs, metric.needs)
    if value is None:
        hint = "leave the metric out, or have the step give what it needs"
        what = f"metric {metric.name} needs {metric.needs}, and the step gave no {metric.needs}"
        raise WsssError(what, where=where, hint=hint)
    try:
        return counts_of(metric, value, gold, classes)
    except BadData as error:
        raise BadData(error.what, where=error.where or where, hint=error.hint) from error
