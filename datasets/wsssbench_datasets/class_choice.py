"""Some classes of a data set, or several of them as one: the options `classes`, `merge` and `others` of every
data set whose classes have names. A data set itself knows only the whole; `ChosenClasses` stands before it
and maps tags by groups of classes and masks by a table. No file is read here.

Where `classes` is given, an image without any of them leaves every split that has tags, the judged ones too:
what a method says of images without its classes is not part of the question. Pixels of other classes are
background unless `others = "void"`. A merge alone drops nothing. The choice is in the card's class names and
options and in the fingerprint, hence in the terms of a row: it is never ranked beside rows of all classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from wsssbench.errors import BadData, UnknownName, WsssError, is_name, nearest
from wsssbench.identity import content_key
from wsssbench.types import IGNORE, DatasetCard, option
from wsssbench_datasets.survey import FileDataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask, Tags

BACKGROUND = "background"  # no class of a data set is called so


@dataclass(frozen=True)
class ClassOptions:
    """The options of a class choice; a data set's Config inherits them."""

    classes: tuple[str, ...] = option(
        (), "classes to keep, as cat,dog; images without any of them are left out of every split"
    )
    merge: tuple[str, ...] = option((), "several classes as one, as animal:cat+dog,vehicle:car+bus")
    others: Literal["background", "void"] = option(
        "background", "what pixels of classes that are not kept become; void is not judged"
    )


@dataclass(frozen=True)
class ClassChoice:
    """Which of the whole's classes form each chosen class; `order` of both is that of the whole."""

    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]  # 0-based classes of the whole
    whole: tuple[str, ...]
    others: str

    @property
    def drops(self) -> bool:
        """Whether classes are left out, and with them images."""
        return sum(len(group) for group in self.groups) < len(self.whole)

    @cached_property
    def table(self) -> NDArray[np.uint8]:
        """(256,) uint8: label of the whole -> chosen label."""
        table = np.full(256, IGNORE if self.others == "void" else 0, np.uint8)
        table[0], table[IGNORE] = 0, IGNORE
        for k, group in enumerate(self.groups):
            table[[member + 1 for member in group]] = k + 1
        return table

    def tags(self, tags: Tags) -> Tags:
        """(K,) bool of the whole -> (chosen K,) bool: a group is there where one of its classes is."""
        return np.array([tags[list(group)].any() for group in self.groups], bool)

    def options(self) -> dict[str, str]:
        """What the card says of it, in the words of the command line."""
        merged = {n: [self.whole[k] for k in g] for n, g in zip(self.names, self.groups, strict=True)}
        merges = [f"{name}:{'+'.join(members)}" for name, members in merged.items() if members != [name]]
        options = {"classes": ",".join(self.names), "others": self.others} if self.drops else {}
        return options | ({"merge": ",".join(merges)} if merges else {})

    def card(self, card: DatasetCard) -> DatasetCard:
        """The card of the whole with the chosen classes."""
        own = self.options()
        return dataclasses.replace(
            card,
            class_names=self.names,
            options={**card.options, **own},
            split_options={split: {**options, **own} for split, options in card.split_options.items()},
        )


def class_choice(options: ClassOptions, card: DatasetCard) -> ClassChoice | None:
    """The choice that `options` make of the classes of `card`; None where that is all of them as they are.

    UnknownName for a class that does not exist, WsssError for a merge that cannot be read or done. The order
    in which classes are named changes nothing.
    """
    plugin = card.name.partition(":")[0]  # folder:NAME is a data set of the plugin `folder`
    merged = _merged(card.class_names, options.merge, f"{plugin}.merge")
    for name in options.classes:
        if name not in merged:
            where = f"{plugin}.classes"
            raise UnknownName(f"no class {name!r}", where=where, hint=nearest(name, tuple(merged)))
    kept = {name: group for name, group in merged.items() if not options.classes or name in options.classes}
    if tuple(kept) == card.class_names:
        return None
    return ClassChoice(tuple(kept), tuple(kept.values()), card.class_names, options.others)


def _merged(names: Sequence[str], merges: Sequence[str], where: str) -> dict[str, tuple[int, ...]]:
    """Class name -> 0-based members, a merged class at the place of its first member."""
    owner = dict.fromkeys(names, "")
    for text in merges:
        new, members = _parsed(text, where)
        taken = new in owner and new not in members
        if taken or new in owner.values() or new.lower() == BACKGROUND:
            raise WsssError(f"there is a class {new!r} already", where=where, hint="choose another name")
        for name in members:
            if name not in owner:
                raise UnknownName(f"no class {name!r}", where=where, hint=nearest(name, tuple(names)))
            if owner[name]:
                what = f"{name!r} is merged twice, into {owner[name]!r} and {new!r}"
                raise WsssError(what, where=where, hint="put a class into one merge")
            owner[name] = new
    groups: dict[str, tuple[int, ...]] = {}
    for k, (name, new) in enumerate(owner.items()):
        groups[new or name] = (*groups.get(new or name, ()), k)
    return groups


def _parsed(text: str, where: str) -> tuple[str, list[str]]:
    """ "animal:cat+dog" as ("animal", ["cat", "dog"])."""
    new, _, rest = text.partition(":")
    members = [name.strip() for name in rest.split("+")]
    if not new.strip() or not all(members):
        raise WsssError(f"{text!r} is not a merge", where=where, hint="write NEW:OLD+OLD, as animal:cat+dog")
    if not is_name(new) or set(new) & set("|;,"):
        what = f"{new!r:.80} cannot be the name of a class"
        raise WsssError(what, where=where, hint="one short line of text, without | ; and ,")
    return new.strip(), members


class ChosenClasses(FileDataset):
    """A data set, `Whole`, behind its class choice: the base of the class that an entry point names.

    A subclass names `Whole`, a data set class, and its `Config`, which inherits ClassOptions. Splits that
    have neither tags nor masks, `bare_splits` of the whole, stay as they are.
    """

    Config: ClassVar[type] = ClassOptions
    Whole: ClassVar[Callable[[Any, int], FileDataset]]

    def __init__(self, config: Any, seed: int = 0) -> None:
        """Open the whole and choose; raises what `Whole` and `class_choice` raise."""
        self.whole = type(self).Whole(config, seed)
        whole = self.whole.card
        self.choice = class_choice(config, whole)
        self.card = self.choice.card(whole) if self.choice else whole
        self.bare_splits = self.whole.bare_splits
        self.coded = self.whole.coded or ("numbers" if self.choice else "")
        self._ids: dict[str, tuple[str, ...]] = {}
        self._fingerprints: dict[str, str] = {}

    def ids(self, split: str) -> tuple[str, ...]:
        """The ids of `split` in the whole's order, those with a chosen tag; BadData where none is left."""
        ids = self.whole.ids(split)
        if self.choice is None or not self.choice.drops or split in self.bare_splits:
            return ids
        if split not in self._ids:
            self._ids[split] = tuple(id for id in ids if self.tags(id).any())
        if not self._ids[split]:
            what = f"no image of {split} has one of the classes {', '.join(self.card.class_names)}"
            raise BadData(what, where=f"{self.card.name}.classes", hint="choose others, or more of them")
        return self._ids[split]

    def tags(self, id: str) -> Tags:
        """(K,) bool over the chosen classes."""
        tags = self.whole.tags(id)
        return self.choice.tags(tags) if self.choice else tags

    def read_mask(self, path: Path) -> Mask:
        return self._chosen(self.whole.read_mask(path))

    def mask_of_size(self, id: str, size: tuple[int, int] | None) -> Mask:
        return self._chosen(self.whole.mask_of_size(id, size))

    def _chosen(self, mask: Mask) -> Mask:
        chosen: Mask = self.choice.table[mask] if self.choice else mask
        return chosen

    def fingerprint(self, split: str) -> str:
        """sha256 (hex): the whole's, and with a choice over that, the ids that are left and the choice."""
        if split not in self._fingerprints:
            whole = self.whole.fingerprint(split)
            chosen = self.choice and [whole, self.ids(split), self.choice.names, self.choice.table]
            self._fingerprints[split] = content_key(chosen) if chosen else whole
        return self._fingerprints[split]

    # ------------------------------------------------------------------ what `wsssbench prepare` looks at

    def image_path(self, id: str) -> Path:
        return self.whole.image_path(id)

    def mask_source(self, id: str) -> str:
        return self.whole.mask_source(id)

    def split_has(self, split: str) -> tuple[bool, bool]:
        return self.whole.split_has(split)

    def void_hint(self) -> str:
        return self.whole.void_hint()

    def unused(self) -> Sequence[str]:
        return self.whole.unused()

    @property
    def whole_counts(self) -> Mapping[str, int]:
        """Images of each split in full; nothing is known of that for a choice of classes."""
        return {} if self.choice and self.choice.drops else self.whole.whole_counts

    def places(self) -> list[str]:
        """Where things were found and what was chosen, for people."""
        return self.whole.places() + ([f"classes: {self._sentence()}"] if self.choice else [])

    def _sentence(self) -> str:
        assert self.choice is not None
        names = f"{', '.join(self.choice.names)}, of {len(self.choice.whole)}"
        if not self.choice.drops:
            return names
        left = [
            f"{s} {len(self.ids(s)):,} of {len(self.whole.ids(s)):,} images"
            for s in self.card.splits
            if s not in self.bare_splits
        ]
        return f"{names}; pixels of others are {self.choice.others}; {', '.join(left)}"
