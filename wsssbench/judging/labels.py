"""From maps or probabilities to labels by a dense CRF: what the CRF stages and the `crf` step share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsssbench.identity import CrfSet
from wsssbench.masks import argmax_labels, resize_bilinear, tagged_maps, threshold_labels
from wsssbench.types import Maps, Outputs

if TYPE_CHECKING:
    from wsssbench.types import Image, Mask

LOWEST = 1e-5  # probabilities are clipped here before the logarithm (RRM code, unary_from_softmax)
TOGETHER = 8  # images of one size in one call of the filter: 21 labels at 500 x 375 are 130 MB of energies


class CrfCase(NamedTuple):
    """What a CRF is asked about one image: (H, W, 3) pixels, (L, h, w) planes of probabilities, and the
    label in 0..254 that each plane stands for."""

    image: Image
    planes: NDArray[np.float32]
    labels: NDArray[np.integer]


@dataclass(frozen=True)
class DenseCrf:
    """A dense CRF: its parameters, the factor that the data set gives its widths, and where it runs."""

    params: CrfSet
    scale: float
    backend: str
    device: str = "cpu"

    def labels(self, cases: Sequence[CrfCase]) -> list[Mask]:
        """(H, W) labels per case. Cases of one size go through the filter together; that changes no label."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for at, case in enumerate(cases):
            groups[(*case.image.shape, len(case.labels))].append(at)
        found: dict[int, Mask] = {}
        for members in groups.values():
            for first in range(0, len(members), TOGETHER):
                some = members[first : first + TOGETHER]
                found.update(zip(some, self._of_one_size([cases[at] for at in some]), strict=True))
        return [found[at] for at in range(len(cases))]

    def _of_one_size(self, cases: Sequence[CrfCase]) -> list[Mask]:
        """Planes are brought to the images' size as logarithms: of a softmax that is resizing its logits."""
        import torch  # late: labels without a CRF are made without torch

        from wsssbench.ops.mean_field import mean_field

        shape = (cases[0].image.shape[0], cases[0].image.shape[1])
        if len(cases[0].labels) == 1:  # nothing to choose from
            return [np.full(shape, case.labels[0], np.uint8) for case in cases]
        energies = [-resize_bilinear(np.log(np.clip(case.planes, LOWEST, 1.0)), shape) for case in cases]
        marginals = mean_field(
            torch.from_numpy(np.stack(energies)).to(self.device),
            torch.from_numpy(np.stack([case.image for case in cases])).to(self.device),
            self.params,
            backend=self.backend,
            scale=self.scale,
        )
        best = marginals.argmax(1).cpu().numpy()
        return [np.asarray(case.labels, np.uint8)[which] for case, which in zip(cases, best, strict=True)]


def planes_of_maps(maps: Maps, background: float) -> NDArray[np.float32]:
    """(T + 1, h, w) planes that sum to 1, a constant background plane first.

    Their argmax is the label that the threshold `background` gives, so a CRF on them starts from there. A
    threshold of 0 stands for LOWEST: where no map says anything there is something to divide by.
    """
    height, width = maps.values.shape[-2:]
    constant = np.full((1, height, width), max(background, LOWEST), np.float32)
    planes = np.concatenate([constant, maps.values.astype(np.float32)])
    result: NDArray[np.float32] = planes / planes.sum(0, keepdims=True)
    return result


def stage_labels(
    found: Sequence[Outputs],
    images: Sequence[Image],
    crf: DenseCrf | None,
    *,
    threshold: float | None,
    tags: NDArray[np.bool_] | None,
) -> list[Mask]:
    """(H, W) labels of each image by a stage's rule, from its labels, else its maps, else its probabilities.

    Maps need the `threshold`; `tags` (B, K), where given, leave background and the tagged classes alone.
    """
    every = [None] * len(images) if tags is None else list(tags)
    if crf is None:
        return [_plain(*each, threshold) for each in zip(found, images, every, strict=True)]
    cases = [_case(*each, threshold) for each in zip(found, images, every, strict=True)]
    refined = iter(crf.labels([case for case in cases if isinstance(case, CrfCase)]))
    return [next(refined) if isinstance(case, CrfCase) else case for case in cases]


def _plain(found: Outputs, image: Image, tags: NDArray[np.bool_] | None, threshold: float | None) -> Mask:
    shape = (image.shape[0], image.shape[1])
    if found.labels is not None:
        return found.labels
    if found.maps is not None:
        return threshold_labels(tagged_maps(found.maps, tags), _known(threshold), shape)
    return argmax_labels(_probs(found), shape, tags)


def _case(
    found: Outputs, image: Image, tags: NDArray[np.bool_] | None, threshold: float | None
) -> CrfCase | Mask:
    """What the CRF is asked; labels, where there are any, stay what they are."""
    if found.labels is not None:
        return found.labels
    if found.maps is not None:
        maps = tagged_maps(found.maps, tags)
        labels = np.concatenate([[0], maps.classes + 1])
        return CrfCase(image, planes_of_maps(maps, _known(threshold)), labels)
    kept = slice(None) if tags is None else np.append(True, tags)
    probs = _probs(found)
    return CrfCase(image, probs[kept], np.arange(len(probs))[kept])


def _known(threshold: float | None) -> float:
    assert threshold is not None, "maps need a threshold to be judged"
    return threshold


def _probs(found: Outputs) -> NDArray[np.float32]:
    assert found.probs is not None, "a stage judges labels, maps or probabilities"
    return found.probs
