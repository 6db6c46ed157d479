"""The contract of a data set: its card, its ids, the arrays that it returns, and its fingerprint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import numpy as np

from wsssbench.errors import WsssError
from wsssbench.plugins.contract import complete
from wsssbench.testing.contracts import Contracts
from wsssbench.testing.step_contract import FILE_NAME, check_config
from wsssbench.types import IGNORE, Dataset, DatasetCard

if TYPE_CHECKING:
    from wsssbench.types import Mask, Tags

TAG_SOURCES = get_args(get_type_hints(DatasetCard)["label_source"])
READ = 6  # images of each split that are looked at


def check_dataset(cls: type, options: Mapping[str, Any] | None = None, name: str = "") -> tuple[str, ...]:
    """The contracts that the data set class `cls` keeps; BrokenContract lists those that it does not.

    `options` (its folder, ...) go over its defaults and over its preset `tiny`; a few images of each judged
    split are read. `name` is what its entry point calls it. WsssError where its files cannot be used.
    """
    contracts = Contracts(name or cls.__name__)
    complete(cls, Dataset)
    config = check_config(contracts, cls, options or {}, name)
    data, twin = cls(config, 0), cls(config, 0)
    if not _check_card(contracts, getattr(data, "card", None), name):
        contracts.settle()
    card = data.card
    splits = tuple(dict.fromkeys((card.fit_split, card.label_split, card.eval_split)))
    for split in splits:
        if _check_ids(contracts, data, split):
            for id in data.ids(split)[:READ]:
                _check_image(contracts, data, id, masked=not card.without_masks.get(split))
    contracts.settle()
    with contracts.attempt("an unknown split is a WsssError"):
        _check_unknown_split(contracts, data)
    shared = set(data.ids(card.fit_split)) & set(data.ids(card.eval_split))
    contracts.expect(
        not shared, "no image of the fit split is judged in the eval split", f"{min(shared, default='')!r} is"
    )
    _check_fingerprints(contracts, data, twin, cls(config, 1), splits)
    return contracts.settle()


def _check_card(contracts: Contracts, card: Any, name: str) -> bool:
    if not contracts.expect(
        isinstance(card, DatasetCard), "it has card = DatasetCard(...)", f"it is {card!r}"
    ):
        return False
    plugin, colon, own = card.name.partition(":")
    named = bool(FILE_NAME.fullmatch(plugin)) and plugin == (name or plugin)
    named = named and (bool(FILE_NAME.fullmatch(own)) or not colon)
    what = f"card.name is the name {name or 'of the data set'}, which names a folder, or begins with it and :"
    contracts.expect(named, what, f"it is {card.name!r}")
    names = card.class_names
    good = isinstance(names, tuple) and 0 < len(set(names)) == len(names) < IGNORE
    contracts.expect(good, "card.class_names is a tuple of 1 to 254 different names", f"it is {names!r}")
    roles = {card.fit_split, card.label_split, card.eval_split}
    contracts.expect(
        roles <= set(card.splits),
        "fit_split, label_split and eval_split are splits",
        f"they are {sorted(roles)}",
    )
    strange = sorted(set(card.split_options) - set(card.splits))
    contracts.expect(not strange, "card.split_options names splits", f"it names {strange}")
    known = card.label_source in TAG_SOURCES
    contracts.expect(
        known, f"label_source is one of {', '.join(TAG_SOURCES)}", f"it is {card.label_source!r}"
    )
    return contracts.expect(card.image_px > 0, "image_px is a size in pixels", f"it is {card.image_px}")


def _check_ids(contracts: Contracts, data: Dataset, split: str) -> bool:
    with contracts.attempt("ids(split) returns the ids of a split"):
        ids = data.ids(split)
    good = isinstance(ids, tuple) and len(ids) > 0 and all(isinstance(id, str) for id in ids)
    whole = contracts.expect(
        good, "ids(split) is a tuple of strings, not empty", f"of {split} it is {ids!r:.80}"
    )
    if whole:
        contracts.expect(len(set(ids)) == len(ids), "the ids of a split differ", f"those of {split} do not")
        odd = next((id for id in ids if not FILE_NAME.fullmatch(id)), "")
        contracts.expect(not odd, "ids can name files", f"there is {odd!r}")
        contracts.expect(data.ids(split) == ids, "ids keep their order", f"those of {split} do not")
    return whole


def _check_image(contracts: Contracts, data: Dataset, id: str, *, masked: bool) -> None:
    with contracts.attempt("image, mask and tags of an id can be read"):
        image, mask, tags = data.image(id), data.mask(id) if masked else None, data.tags(id)
    classes = len(data.card.class_names)
    good = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    contracts.expect(good, "images are (H, W, 3) uint8", f"{id} is {image.shape} {image.dtype}")
    good = tags.dtype == np.bool_ and tags.shape == (classes,)
    tagged = contracts.expect(good, f"tags are ({classes},) bool", f"{id} has {tags.shape} {tags.dtype}")
    if mask is not None:
        _check_mask(contracts, data.card, id, mask, image.shape[:2], tags if tagged else None)
    kept = image.copy()
    if image.flags.writeable:
        image[:] = 0
    contracts.expect(
        np.array_equal(data.image(id), kept), "each call of image returns a new array", f"{id} changed"
    )


def _check_mask(
    contracts: Contracts, card: DatasetCard, id: str, mask: Mask, size: tuple[int, ...], tags: Tags | None
) -> None:
    classes = len(card.class_names)
    good = mask.dtype == np.uint8 and mask.shape == size
    contracts.expect(good, "masks are (H, W) uint8 of the image's size", f"{id} is {mask.shape} {mask.dtype}")
    present = np.setdiff1d(np.unique(mask), [IGNORE])
    contracts.expect(
        bool(np.all(present <= classes)), f"masks hold 0..{classes} or 255", f"{id} holds {present.tolist()}"
    )
    if tags is not None and card.label_source in ("mask", "generated"):
        agrees = np.array_equal(np.flatnonzero(tags) + 1, present[present > 0])
        rule = "tags that come from the mask are its classes"
        contracts.expect(agrees, rule, f"{id} has tags {np.flatnonzero(tags).tolist()}")


def _check_unknown_split(contracts: Contracts, data: Dataset) -> None:
    try:
        found: Any = data.ids("no-such-split")
    except WsssError:
        return
    contracts.expect(False, "an unknown split is a WsssError", f"it gave {found!r:.80}")


def _check_fingerprints(
    contracts: Contracts, data: Dataset, twin: Dataset, other: Dataset, splits: Sequence[str]
) -> None:
    """Same data, same fingerprint; a generated set changes with the seed, another one does not."""
    for split in splits:
        with contracts.attempt("every split has a fingerprint"):
            own, same, seeded = (d.fingerprint(split) for d in (data, twin, other))
        contracts.expect(
            bool(re.fullmatch(r"[0-9a-f]{64}", own)), "a fingerprint is a sha256 in hex", f"it is {own!r}"
        )
        contracts.expect(own == same, "equal data has equal fingerprints", f"those of {split} differ")
        if data.card.generated:
            rule = "a generated set is another one for another seed"
            contracts.expect(own != seeded, rule, f"the fingerprint of {split} is the same")
        else:
            rule = "a set on disk does not depend on the seed"
            contracts.expect(own == seeded, rule, f"the fingerprint of {split} changed")
    several = len({data.fingerprint(split) for split in splits}) == len(splits)
    contracts.expect(several, "different splits have different fingerprints", "two are equal")
