"""Which steps have to run for an output, and one batch of images through one of them: what fitting and
inference both need. No time is taken here, and nothing goes to disk."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from wsssbench.planning.cells import PlannedStep
from wsssbench.running.predicting import outputs_of
from wsssbench.types import Dataset, Kind, Outputs, Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class Link(NamedTuple):
    """A step and what it is asked for."""

    planned: PlannedStep
    want: frozenset[Kind]


def links_of(planned: PlannedStep, kinds: Collection[Kind]) -> tuple[Link, ...]:
    """The steps that have to run for `kinds` of `planned`, the first one first."""
    own = (Link(planned, frozenset(kinds)),)
    if planned.before is None or not planned.takes:
        return own
    return (*links_of(planned.before, planned.takes), *own)


class Pictures(NamedTuple):
    """A batch of images and what is known of it."""

    ids: tuple[str, ...]
    images: Sequence[Tensor]  # uint8 (3, H, W)
    tags: NDArray[np.bool_] | None  # (B, K)

    def to(self, device: str) -> Pictures:
        """The same with its images on `device`."""
        return self._replace(images=[image.to(device) for image in self.images])


def read_pictures(dataset: Dataset, ids: Sequence[str], *, tags_given: bool) -> Pictures:
    """The images called `ids`, read from the data set now."""
    arrays = (np.ascontiguousarray(dataset.image(id).transpose(2, 0, 1)) for id in ids)
    images = [torch.from_numpy(array) for array in arrays]
    tags = np.stack([dataset.tags(id) for id in ids]) if tags_given else None
    return Pictures(tuple(ids), images, tags)


def run_link(
    link: Link, predictor: Predictor, pictures: Pictures, before: Sequence[Outputs]
) -> Sequence[Outputs]:
    """What the step says of `pictures`, given of `before` what its card takes."""
    takes = link.planned.takes
    given = [Outputs(**{kind: getattr(outputs, kind) for kind in takes}) for outputs in before]
    return outputs_of(predictor, pictures.ids, pictures.images, pictures.tags, given, link.want)


def run_links(
    links: Sequence[Link], predictors: Mapping[str, Predictor], pictures: Pictures
) -> Sequence[Outputs]:
    """What the last of `links` says of `pictures`; `predictors` by the keys of their steps."""
    found: Sequence[Outputs] = [Outputs()] * len(pictures.ids)
    for link in links:
        found = run_link(link, predictors[link.planned.key], pictures, found)
    return found
