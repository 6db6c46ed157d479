"""Which metrics judge a cell: IoU always, those that are asked for, and those that its record has already."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from wsssbench.errors import WsssError
from wsssbench.identity import Record, Stage
from wsssbench.metrics import Iou
from wsssbench.plugins.table import Plugins
from wsssbench.types import KINDS, Kind, Metric


def load_metrics(names: Sequence[str], plugins: Plugins) -> tuple[Metric, ...]:
    """The metrics called `names`, iou first."""
    others = [name for name in dict.fromkeys(names) if name != Iou.name]
    return (Iou(), *(plugins.load("metrics", name)() for name in others))


def applicable(metrics: Sequence[Metric], gives: Collection[Kind], stage: Stage) -> tuple[Metric, ...]:
    """Those of `metrics` that have something to judge where a step gives `gives`.

    Labels there are always; of several scales and mirror images only probabilities are kept, and labels are
    mined only where tags are given.
    """
    kept = {"probs"} if stage.multi_scale else set(KINDS)
    kept = kept if stage.tags_given else kept - {"mined"}
    return tuple(m for m in metrics if m.needs == "labels" or (m.needs in gives and m.needs in kept))


def check_used(asked: Sequence[str], judged: Sequence[Sequence[Metric]], plugins: Plugins) -> None:
    """Raise WsssError for a metric that was asked for and judges none of the planned cells."""
    used = {metric.name for metrics in judged for metric in metrics}
    for name in asked:
        if judged and name not in used:
            needs = plugins.load("metrics", name)().needs
            hint = f"leave it out, or name a method whose judged step outputs {needs}"
            hint += ", and a stage with tags given (seed, pseudo)" if needs == "mined" else ""
            raise WsssError(
                f"metric {name} needs {needs}, which no row of this run has", where="--metrics", hint=hint
            )


def judged_before(record: Record | None, plugins: Plugins) -> list[str]:
    """Metrics of the cell's `record` that are installed: judging again must not lose them."""
    return sorted(set(record.scores if record else ()) & set(plugins.names("metrics")))
