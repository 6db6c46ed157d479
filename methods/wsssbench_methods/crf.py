"""A dense CRF as a step of its own: it refines the maps or the probabilities of the step before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.errors import WsssError
from wsssbench.identity import CrfSet
from wsssbench.judging.labels import LOWEST, CrfCase, DenseCrf, planes_of_maps
from wsssbench.masks import tagged_maps
from wsssbench.planning.stages import sigma_scale
from wsssbench.types import Artifacts, Context, Kind, Outputs, Predictor, Step, StepCard, View, option

MINING = "RRM code, tool/imutils.py, crf_inference"


@dataclass(frozen=True)
class CrfConfig:
    """Options of `crf`; widths are pixels of a VOC image (long side 500) and shrink with smaller ones."""

    background: float = option(
        0.3, "constant plane beside maps (not probabilities); the localizer's threshold", low=0, high=1
    )
    gauss_xy: float = option(3.0, "spatial kernel: width in pixels", origin=MINING, above=0)
    gauss_compat: float = option(3.0, "spatial kernel: weight", origin=MINING, low=0)
    bilateral_xy: float = option(80.0, "bilateral kernel: spatial width in pixels", origin=MINING, above=0)
    bilateral_rgb: float = option(13.0, "bilateral kernel: colour width in 0..255", origin=MINING, above=0)
    bilateral_compat: float = option(10.0, "bilateral kernel: weight", origin=MINING, low=0)
    iterations: int = option(10, "mean-field iterations", origin=MINING, low=1)


class CrfPredictor(Predictor):
    """Labels from what the step before said of an image."""

    def __init__(self, config: CrfConfig, ctx: Context) -> None:
        self.ctx, self.background = ctx, config.background
        params = CrfSet(**{f.name: getattr(config, f.name) for f in fields(CrfSet)})
        self.crf = DenseCrf(params, sigma_scale(ctx.card), ctx.filter_backend, ctx.device)

    def __call__(
        self,
        images: Sequence[Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> Sequence[Outputs]:
        with self.ctx.phase("crf"):
            every = [None] * len(images) if tags is None else list(tags)
            pixels = [image.permute(1, 2, 0).cpu().numpy() for image in images]
            planes = [self._planes(*each) for each in zip(given, every, strict=True)]
            cases = [CrfCase(image, *each) for image, each in zip(pixels, planes, strict=True)]
            return [Outputs(labels=labels) for labels in self.crf.labels(cases)]

    def _planes(
        self, given: Outputs, tags: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Planes (L, h, w) that sum to 1 and the labels (L,) that they stand for, background first."""
        if given.probs is not None:
            return tagged_probs(given.probs, tags)
        if given.maps is not None:
            maps = tagged_maps(given.maps, tags)
            return planes_of_maps(maps, self.background), np.concatenate([[0], maps.classes + 1])
        raise WsssError(
            "the crf step was given neither maps nor probabilities",
            where="crf",
            hint="put a step that gives one of them before it",
        )


def tagged_probs(
    probs: NDArray[np.float32], tags: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Of (C, h, w) the planes of background and the tagged classes, brought to sum 1 again; and their labels.

    Without `tags` (K,) all planes stay. Where the kept planes are next to nothing they are alike.
    """
    labels = np.arange(len(probs)) if tags is None else np.flatnonzero(np.append(True, tags))
    kept = np.maximum(probs[labels], LOWEST)
    return kept / kept.sum(0, keepdims=True), labels


class Crf(Step):
    """Dense CRF (Krahenbuhl and Koltun, NIPS 2011) on probabilities, or else on the maps of a localizer."""

    Config = CrfConfig
    card = StepCard(
        name="crf",
        version="1",
        role="refiner",
        supervision=(),
        takes=("probs|maps",),
        gives=("labels",),
        paper="Krahenbuhl and Koltun, Efficient Inference in Fully Connected CRFs, NIPS 2011",
    )

    def fit(self, train: View, given: Artifacts, ctx: Context) -> CrfPredictor:
        return CrfPredictor(self.config, ctx)

    def restore(self, ctx: Context) -> CrfPredictor:
        return CrfPredictor(self.config, ctx)
