"""What the splits of a data set must be like: no image is both learned from and judged, and masks are there
where they are needed."""

from __future__ import annotations

from collections.abc import Iterable

from wsssbench.errors import BadData, first_names
from wsssbench.types import DatasetCard


def refuse_overlap(
    fit_split: str, learned: Iterable[str], eval_split: str, judged: Iterable[str], where: object
) -> None:
    """BadData where images are both learned from and judged in the `seg` stages.

    The label split may share images with the fit split: there methods label what they learned from.
    """
    known = set(learned)
    shared = [id for id in judged if id in known]
    if shared:
        count = f"{len(shared):,} images are" if len(shared) > 1 else "1 image is"
        what = f"{count} in {fit_split} and in {eval_split}: {first_names(shared)}"
        hint = "give each split its own list: methods are not judged on what they learned from"
        raise BadData(what, where=where, hint=hint)


def require_masks(card: DatasetCard, split: str, purpose: str) -> None:
    """BadData where images of `split` have no masks, which `purpose` needs: "full learns from them"."""
    lacking = card.without_masks.get(split, 0)
    if lacking:
        what = f"{without_mask(lacking, f'{card.name}:{split}')}, and {purpose}"
        name = card.name.partition(":")[0]
        hint = f"add them (wsssbench prepare {name} counts them); methods that learn from tags, judged on a "
        raise BadData(what, where=f"masks of {split}", hint=f"{hint}split that has masks, need none")


def without_mask(count: int, split: str) -> str:
    """ "3 images of train have no mask"."""
    return f"1 image of {split} has no mask" if count == 1 else f"{count:,} images of {split} have no mask"
