"""The judge: reads masks and labels image by image, counts, and turns the sum into scores.

Only here are predictions compared with true masks. It streams (memory does not grow with the split, but for
a few numbers per image), needs neither torch nor a GPU, and knows nothing of methods: labels come as files or
from a function, maps, probabilities and tag scores as outputs. What the numbers mean is each metric's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsssbench.errors import BadData, WsssError
from wsssbench.judging.in_order import in_order
from wsssbench.masks import lacking_masks, missing_masks, read_labels, tagged_maps
from wsssbench.metrics import Iou, add_counts, confusion_counts
from wsssbench.scores.counts_table import CountsTable
from wsssbench.scores.image_counts import image_arrays, sparse_counts
from wsssbench.types import Counts, Dataset, Metric, Outputs

if TYPE_CHECKING:
    from wsssbench.types import Mask, Tags


def score_split(
    dataset: Dataset,
    ids: Sequence[str],
    read: Callable[[str], Mask],
    metrics: Sequence[Metric] = (Iou(),),
    *,
    where: Callable[[str], object] = str,
    threads: int = 1,
) -> tuple[dict[str, dict[str, Any]], CountsTable]:
    """Scores by metric name, and the confusion of each image, for the labels that `read(id)` returns.

    `read` gives (H, W) uint8 in {0..K, 255}; `where(id)` names its source in errors. Images that take
    long are read ahead in `threads` threads (`in_order`). Each metric's scores also hold `n_images`.
    BadData for an empty split, a size that differs from the truth's, a label out of range.
    """
    _require_images(dataset, ids)
    for metric in metrics:
        if metric.needs != "labels":
            raise WsssError(
                f"metric {metric.name} needs {metric.needs}, but labels were given", where=metric.name
            )
    classes = len(dataset.card.class_names)
    others = [metric for metric in metrics if not is_of_counts(metric)]

    def count(id: str) -> tuple[Counts, list[Counts]]:
        gold, labels = dataset.mask(id), read(id)
        confusion = confusion_counts(gold, labels, classes, where(id), f"{dataset.card.name} mask {id}")
        return confusion, [counts_of(metric, labels, gold, classes) for metric in others]

    sums: dict[str, Counts] = {}
    each: dict[str, list[Any]] = {metric.name: [] for metric in others}

    def confusions() -> Iterator[Counts]:
        for confusion, more in in_order(count, ids, threads):
            for metric, counts in zip(others, more, strict=True):
                _add(sums, metric.name, counts)
                each[metric.name].append(sparse_counts(counts))
            yield confusion

    table = CountsTable.of(ids, confusions())
    table = replace(table, more={name: image_arrays(many) for name, many in each.items()})
    scores = table_scores(table, [metric for metric in metrics if is_of_counts(metric)], classes)
    for metric in others:
        scores[metric.name] = {**metric.score(sums[metric.name], classes), "n_images": len(ids)}
    return {metric.name: scores[metric.name] for metric in metrics}, table


def is_of_counts(metric: Metric) -> bool:
    """Whether the confusions of the images, counted anyway, are all that the metric scores."""
    return type(metric) is Iou or metric.from_confusion or type(metric).score_table is not Metric.score_table


def counts_of(metric: Metric, value: Any, gold: Mask, classes: int) -> Counts:
    """What a metric counts in one image; an error of its own code says which metric it was."""
    try:
        return metric.count(value, gold, classes)
    except Exception as error:
        error.add_note(f"in the metric {metric.name}")
        raise


def table_scores(table: CountsTable, metrics: Sequence[Metric], classes: int) -> dict[str, dict[str, Any]]:
    """Scores by metric name of those that follow from the counts alone, each with `n_images`."""
    return {
        metric.name: {**metric.score_table(table, classes), "n_images": len(table.ids)} for metric in metrics
    }


def counted_scores(table: CountsTable, metrics: Sequence[Metric], classes: int) -> dict[str, dict[str, Any]]:
    """Scores by metric name of all that the table has counts for: those of counts, and those in `more`."""
    scores = table_scores(table, [metric for metric in metrics if is_of_counts(metric)], classes)
    for metric in metrics:
        if parts := table.more.get(metric.name):
            total = {name: arrays.total() for name, arrays in parts.items()}
            scores[metric.name] = {**metric.score(total, classes), "n_images": len(table.ids)}
    return scores


def score_folder(
    dataset: Dataset,
    split: str,
    folder: Path | str,
    metrics: Sequence[Metric] = (Iou(),),
    *,
    limit: int | None = None,
    ids: Sequence[str] | None = None,
    threads: int = 1,
    read: Callable[[Path], Mask] = read_labels,
) -> tuple[dict[str, dict[str, Any]], CountsTable]:
    """`score_split` of the files <folder>/<id>.png, as `read` reads them, for `ids` of `split` (default: its
    first `limit`).

    BadData lists the first ids without a file.
    """
    root, ids = Path(folder), dataset.ids(split)[:limit] if ids is None else ids
    missing = missing_masks(root, ids)
    if missing:
        raise lacking_masks(root, missing, len(ids), f"{dataset.card.name}:{split}")

    def path(id: str) -> Path:
        return root / f"{id}.png"

    return score_split(dataset, ids, lambda id: read(path(id)), metrics, where=path, threads=threads)


# ------------------------------------------------------------ maps, probabilities and tag scores


def score_outputs(
    dataset: Dataset, ids: Sequence[str], read: Callable[[str], Outputs], metrics: Sequence[Metric]
) -> dict[str, dict[str, Any]]:
    """Scores by metric name of the outputs that `read(id)` returns, each with `n_images`.

    Outputs and mask of an image are read once; a metric gets the kind that its `needs` names. WsssError where
    the outputs lack it; BadData for an empty split, and for outputs or masks that a metric refuses, with the
    image's name.
    """
    _require_images(dataset, ids)
    classes = len(dataset.card.class_names)
    sums: dict[str, Counts] = {}
    for id in ids if metrics else ():
        outputs, gold = read(id), dataset.mask(id)
        for metric in metrics:
            counts = _counted(metric, outputs, gold, classes, f"{dataset.card.name} {id}")
            _add(sums, metric.name, counts)
    return {m.name: {**m.score(sums[m.name], classes), "n_images": len(ids)} for m in metrics}


def tagged_outputs(outputs: Outputs, tags: Tags | None) -> Outputs:
    """`outputs` with the maps of the tagged classes alone, as a stage that gives tags judges them."""
    if outputs.maps is None or tags is None:
        return outputs
    return replace(outputs, maps=tagged_maps(outputs.maps, tags))


def _require_images(dataset: Dataset, ids: Sequence[str]) -> None:
    if not ids:
        hint = "check the split's list, or --limit"
        raise BadData("there are no images to judge", where=dataset.card.name, hint=hint)


def _add(sums: dict[str, Counts], name: str, counts: Counts) -> None:
    sums[name] = add_counts([sums[name], counts] if name in sums else [counts])


def _counted(metric: Metric, outputs: Outputs, gold: Mask, classes: int, where: str) -> Counts:
    """The metric's counts of one image; `where` names it in errors that name no place of their own."""
    value = getattr(outputs, metric.needs)
    if value is None:
        hint = f"leave the metric out, or choose a step that outputs {metric.needs}"
        what = f"metric {metric.name} needs {metric.needs}, which the step did not output"
        raise WsssError(what, where=where, hint=hint)
    try:
        return counts_of(metric, value, gold, classes)
    except BadData as error:
        raise BadData(error.what, where=error.where or where, hint=error.hint) from error
