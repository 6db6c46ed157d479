"""Whether the classes of maps are the tags that were given of the images, judged over many files.

A method that was given tags may leave one out, and one that was not may err in an image. But where in most
images no map is of a tag, the files number their classes differently, or belong to another data set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.errors import BadData

if TYPE_CHECKING:
    from wsssbench.artifacts import ArtifactFolder
    from wsssbench.types import Dataset, Kind, Maps, Tags

LOOKED_AT = 50  # files, spread evenly: to read all would double the time
FEWEST = 2  # files with maps that say anything


def check_tagged(artifacts: ArtifactFolder, dataset: Dataset, kinds: Collection[Kind]) -> None:
    """`check_classes` of what a step was given tags for, if it has maps and `kinds` names them."""
    if "maps" in kinds:
        folder = artifacts.folder
        check_classes(artifacts.ids, lambda id: artifacts.read(id, ["maps"]).maps, dataset.tags, folder)


def check_classes(
    ids: Sequence[str], maps_of: Callable[[str], Maps | None], tags_of: Callable[[str], Tags], where: object
) -> None:
    """BadData, naming `where`, if in most images no class of the maps is a tag, or a tag has no map and the
    classes less one are exactly the tags."""
    files = without = from_one = 0
    for id in ids[:: -(-len(ids) // LOOKED_AT) or 1]:
        maps = maps_of(id)
        own = set() if maps is None else set(maps.classes[(maps.values > 0).any((1, 2))].tolist())
        if not own:  # a map of zeros claims nothing
            continue
        given = set(np.flatnonzero(tags_of(id)).tolist())
        files += 1
        without += not own & given
        from_one += not given <= own and {k - 1 for k in own if k} == given
    wrong = max(without, from_one)
    if files < FEWEST or 2 * wrong <= files:
        return
    if 2 * from_one > files:
        what = "the classes of the maps, less one, are exactly the tags: they count from 1"
        hint = "write the classes from 0, without the background and its map"
    else:
        what = "no class of the maps is a tag of its image"
        hint = "classes count from 0, without the background; or are these files of another data set?"
    raise BadData(f"in {wrong} of {files} files {what}", where=where, hint=hint)
