"""Which metrics judge a cell: IoU always, those that are asked for, and those that its record has already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsssbench.errors import BadData, WsssError
from wsssbench.metrics import Iou
from wsssbench.plugins import Plugins
from wsssbench.store import read_record
from wsssbench.types import Metric


def load_metrics(names: Sequence[str], plugins: Plugins) -> tuple[Metric, ...]:
    """The metrics called `names`, iou first; WsssError for one that does not judge labels."""
    others = [name for name in dict.fromkeys(names) if name != Iou.name]
    found: list[Metric] = [Iou(), *(plugins.load("metrics", name)() for name in others)]
    for metric in found:
        if metric.needs != "labels":
            hint = "a stage judges labels: name metrics that need them"
            raise WsssError(f"metric {metric.name} needs {metric.needs}", where="--metrics", hint=hint)
    return tuple(found)


def judged_before(folder: Path, plugins: Plugins) -> list[str]:
    """Metrics of the cell's record that are installed: judging again must not lose them."""
    try:
        scores = read_record(folder).scores if (folder / "record.json").exists() else {}
    except BadData:
        return []
    return sorted(set(scores) & set(plugins.names("metrics")))
