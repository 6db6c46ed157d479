"""The terms of a row: what must be equal before two rows are ranked or compared. Only what concerns the
judged split enters: what a method learned from is part of its key, but not of its terms."""

from __future__ import annotations

from typing import Any

from wsssbench.identity import Stage, Terms, plain
from wsssbench.planning.stages import VOC_PX, sigma_scale
from wsssbench.planning.thresholds import RULE_VERSIONS
from wsssbench.split_rules import require_masks
from wsssbench.types import Dataset, DatasetCard


def terms_of(
    dataset: Dataset, stage: Stage, policy: str, limit: int | None, *, earlier: bool = False
) -> Terms:
    """What rows of `stage` on `dataset` must have in common to be ranked together.

    `earlier` gives them as rows of an earlier protocol have them, so that such a row can still be verified.
    """
    card = dataset.card
    split = card.label_split if stage.split == "label" else card.eval_split
    require_masks(card, split, f"the stage {stage.name} is judged by them")
    return Terms(
        **named_data(card, split, earlier=earlier),
        stage=stage.name,
        stage_version=stage.version,
        custom=stage.custom,
        classes=card.class_names,
        split=split,
        split_fingerprint="" if card.generated else dataset.fingerprint(split),
        tags_at_evaluation=stage.tags_given,
        threshold_policy=policy,
        crf={**plain(stage.crf), "xy_scale": sigma_scale(card)} if stage.crf else None,
        scales=stage.scales,
        flip=stage.flip,
        resolution="image",
        limit=limit,
        judged="" if earlier else stage.judged,
        threshold_rule="" if earlier else RULE_VERSIONS.get(policy, ""),
        image_px=0 if earlier else named_px(card),
    )


def named_data(card: DatasetCard, split: str, *, earlier: bool = False) -> dict[str, Any]:
    """Name, version and options by which terms know the data of a split; `earlier`: all that a card says."""
    if earlier:
        return {"dataset": card.name, "dataset_version": card.version, "dataset_options": plain(card.options)}
    version, options = card.judged_version or card.version, plain(card.options_of(split))
    return {"dataset": card.name, "dataset_version": version, "dataset_options": options}


def named_px(card: DatasetCard) -> int:
    """The long side of the images as terms and keys of trainings name it.

    0 where it is VOC's, or where the card does not say that it was measured or stated: such rows and
    trainings keep the keys that they had.
    """
    return card.image_px if card.image_px_from and card.image_px != VOC_PX else 0
