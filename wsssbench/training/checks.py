"""Checks of a training while it goes on: numbers that are none, a classifier that has died, mining that finds
nothing. They look at losses, which lie on the host by then, and at weights, and know no loop."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Iterable
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from wsssbench import distributed
from wsssbench.errors import TrainingFailed

NOTHING_MINED = 100  # batches; an epoch of a small data set
PATIENCE_EPOCHS = 10  # a sound classifier of 58 rare tags took three of 704 images to beat guessing
LEAST_PATIENCE, MOST_PATIENCE = 240, 2000  # steps; and no more than half of the training
WARNED = LEAST_PATIENCE // 2  # steps without progress after which there is a warning
CHANCE = 0.01  # of a mean loss: what the draw of the batches can make of it

Losses = dict[str, Tensor]  # named scalars; "total" is what is minimised, "gradient" is the loop's own name


class AliveCheck:
    """Stops a run whose classifier has died, no better than guessing every tag by its frequency, and one
    whose mining, where it has some, finds no pixel to learn from in NOTHING_MINED batches in a row.

    Guessing costs the entropy of the tag frequencies, the loss of a constant answer. Where tags are many and
    rare that is little, and a sound classifier may stay near it for a while; so it counts as dead only where
    the classification loss of the last `patience` steps (`patience_of`) is not below that cost in either half
    of them and does not fall from one half to the other. After WARNED such steps there is a word on stderr.
    `mined` among the losses is the share of pixels that mining has labelled.
    """

    def __init__(self, frequencies: Tensor, *, patience: int) -> None:
        p = frequencies.double().clamp(1e-6, 1 - 1e-6)
        self.guess = float(-(p * p.log() + (1 - p) * (1 - p).log()).mean())
        self.varied = bool(((frequencies > 0) & (frequencies < 1)).any())  # else nothing can beat guessing
        self.losses: deque[float] = deque(maxlen=max(2, patience))  # of the last steps, the last one last
        self.empty, self.warned = 0, False  # batches in a row without a mined pixel

    @property
    def memory(self) -> list[float]:
        """What a resumed training must know, as plain numbers."""
        return [float(self.empty), *self.losses]

    @memory.setter
    def memory(self, known: list[float]) -> None:
        self.empty = int(known[0])
        self.losses = deque(known[1:], self.losses.maxlen)

    def __call__(self, losses: Losses, step: int) -> None:
        self._mined(losses, step)
        self.losses.append(float(losses["cls"]))
        seen = list(self.losses)
        if len(seen) == self.losses.maxlen and self._guesses(seen):
            raise TrainingFailed(
                f"the classifier died: {self._seen(seen)}",
                where=f"step {step}",
                hint="lower the learning rate (option lr) or check the tags",
            )
        if not self.warned and len(seen) >= WARNED and self._guesses(seen[-WARNED:]):
            self.warned = True
            warn(
                f"the classifier is no better than guessing yet: {self._seen(seen[-WARNED:])} [step {step}]; "
                f"the training stops where {self.losses.maxlen} steps go by like that"
            )

    def _guesses(self, losses: list[float]) -> bool:
        """Whether both halves cost no less than guessing, and the later one no less than the earlier."""
        before, after = _halves(losses)
        floor = self.guess * (1 - CHANCE)
        return self.varied and before >= floor and after >= max(floor, before * (1 - CHANCE))

    def _seen(self, losses: list[float]) -> str:
        before, after = _halves(losses)
        return (
            f"its loss over the last {len(losses)} steps is {before:.3f} in the first half and "
            f"{after:.3f} in the second, guessing tag frequencies costs {self.guess:.3f}"
        )

    def _mined(self, losses: Losses, step: int) -> None:
        self.empty = self.empty + 1 if "mined" in losses and not losses["mined"] else 0
        if self.empty >= NOTHING_MINED:
            raise TrainingFailed(
                f"mining found no reliable pixel in {self.empty} batches in a row",
                where=f"step {step}",
                hint="look at the maps of the classifier (`--stages seed`), or ease the rule of mining",
            )


def patience_of(images: int, batch: int, steps: int) -> int:
    """Steps without progress after which a classifier counts as dead: of a training of `steps` steps of
    `batch` on so many images."""
    epochs = math.ceil(PATIENCE_EPOCHS * images / batch)
    return max(LEAST_PATIENCE, min(epochs, MOST_PATIENCE, steps // 2))


def _halves(losses: list[float]) -> tuple[float, float]:
    middle = len(losses) // 2
    return fmean(losses[:middle]), fmean(losses[middle:])


def warn(text: str) -> None:
    """One line on stderr, from the first of the processes that share a training."""
    if distributed.leads():
        print(f"warning: {text}", file=sys.stderr, flush=True)


def tag_frequencies(tags: Iterable[Any]) -> Tensor:
    """(K,) share of images that carry each tag."""
    import numpy as np

    return torch.from_numpy(np.mean([np.asarray(t, np.float64) for t in tags], axis=0))


def check_finite(values: Losses, name: str, step: int) -> None:
    """TrainingFailed where a loss is not a number."""
    bad = [key for key, value in values.items() if not bool(torch.isfinite(value))]
    if bad:
        raise TrainingFailed(
            f"not finite: {', '.join(bad)}",
            where=f"{name}, step {step}",
            hint="lower the learning rate (option lr), or look at the images of this step in log.jsonl",
        )


def check_weights(model: nn.Module, name: str, step: int) -> None:
    """TrainingFailed, before they are saved, where an update has carried weights beyond all numbers."""
    bad = [key for key, value in model.state_dict().items() if not bool(torch.isfinite(value).all())]
    if bad:
        what = f"not finite: {len(bad)} tensors of weights ({', '.join(bad[:3])})"
        raise TrainingFailed(what, where=f"{name}, step {step}", hint="lower the learning rate (option lr)")
