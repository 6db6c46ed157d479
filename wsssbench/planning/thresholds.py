"""How the threshold that turns maps into labels is chosen. The policy is part of a row's terms, so that a row
tuned on masks is never ranked with one that was not; what was chosen stands among its scores.

fixed: the step's own option. held-out: the best on a few masks of the label split, the same ones for
everybody, and not judged. label-free: a rule that sees maps alone. oracle: the best on the judged masks,
flagged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from wsssbench.errors import BadData, WsssError
from wsssbench.identity import content_key
from wsssbench.option_fields import Range
from wsssbench.planning.settings import Policy
from wsssbench.plugins.options import check_range
from wsssbench.split_rules import require_masks
from wsssbench.types import Dataset, Maps, Step

HELD_OUT = 100  # images at most, and at most every fifth of the split
PART = 5
IN_MAPS = Range(low=0, high=1)  # what a step's own option may leave open: maps are in 0..1
RULES = {
    "held-out": "best mIoU on held-out masks",
    "label-free": "Otsu on the largest map's values",
    "oracle": "best mIoU on the judged masks",
}
# part of the terms: raise one where its policy would choose other thresholds, or hold out other images
RULE_VERSIONS: Mapping[str, str] = {"fixed": "1", "held-out": "2", "label-free": "1", "oracle": "1"}


def held_out_ids(dataset: Dataset, limit: int | None, rule: str = "2") -> tuple[str, ...]:
    """The images of the label split that `held-out` tunes on, in the split's order: the same for everybody.

    They are those whose ids have the lowest sha256. `rule` is the version that a row's terms name; earlier
    rows ("" or "1") were tuned on images that numpy's generator drew. BadData where the split has too few
    to leave any out, or lacks masks.
    """
    split = dataset.card.label_split
    require_masks(dataset.card, split, "thresholds are tuned on some of them")
    ids = dataset.ids(split)[:limit]
    count = min(HELD_OUT, len(ids) // PART)
    if not count:
        hint = "choose another threshold policy, or judge more images"
        raise BadData(f"{len(ids)} images are too few to hold some out", where=split, hint=hint)
    if rule == RULE_VERSIONS["held-out"]:
        chosen = set(sorted(ids, key=lambda id: hashlib.sha256(id.encode()).digest())[:count])
        return tuple(id for id in ids if id in chosen)
    drawn = np.random.default_rng(0).choice(len(ids), count, replace=False)
    return tuple(ids[k] for k in sorted(drawn.tolist()))


def planned_threshold(step: Step, name: str, policy: Policy, tuned_on: Sequence[str]) -> dict[str, Any]:
    """What a row's identity says of its threshold: a value, or the rule and the ids it will be tuned on."""
    if policy == "held-out":
        return {"rule": RULES[policy], "images": len(tuned_on), "ids": content_key(list(tuned_on))}
    if policy != "fixed":
        return {"rule": RULES[policy]}
    value = step.default_threshold()
    if value is None:
        raise WsssError(
            "maps are judged, but the step has no option `threshold`",
            where=name,
            hint="add `threshold: float = option(...)` to its Config",
        )
    check_range(value, IN_MAPS, f"{name}.threshold")
    default = step.config.__dataclass_fields__["threshold"].default
    return {"value": value, "tuned_on": step.card.tuned_on if value == default else "not known: an option"}


def judged_ids(dataset: Dataset, split: str, limit: int | None, tuned_on: Sequence[str]) -> tuple[str, ...]:
    """The images of `split` that a row reports: all but those that its threshold was tuned on."""
    left_out = frozenset(tuned_on)
    return tuple(id for id in dataset.ids(split)[:limit] if id not in left_out)


def chosen_threshold(
    policy: str, dataset: Dataset, ids: Sequence[str], maps_of: Callable[[str], Maps]
) -> float:
    """The threshold by a policy that is not fixed, from the maps (and masks, unless label-free) of `ids`."""
    if policy == "label-free":
        from wsssbench.scores.otsu import histogram, otsu

        histograms = (histogram(maps_of(id), dataset.image(id).shape[:2]) for id in ids)
        return otsu(reduce(np.add, histograms))
    from wsssbench.metrics import add_counts
    from wsssbench.scores.threshold_curve import ThresholdCurve, best_threshold

    curve, classes = ThresholdCurve(), len(dataset.card.class_names)
    many = (curve.count(maps_of(id), dataset.mask(id), classes) for id in ids)
    return float(best_threshold(reduce(lambda a, b: add_counts([a, b]), many), classes))
