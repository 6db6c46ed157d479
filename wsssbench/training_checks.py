"""Checks of a training while it goes on: numbers that are none, a classifier that has died, mining that finds
nothing. They look at losses, which lie on the host by then, and at weights, and know no loop."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from wsssbench.errors import TrainingFailed

NOTHING_MINED = 100  # batches; an epoch of a small data set

Losses = dict[str, Tensor]  # named scalars; "total" is what is minimised, "gradient" is the loop's own name


class AliveCheck:
    """Stops a run whose classifier has died, no better than guessing every tag by its frequency, and one
    whose mining, where it has some, finds no pixel to learn from in NOTHING_MINED batches in a row.

    The mean classification loss of the last `window` steps is compared with the entropy of the tag
    frequencies, the loss of a constant answer; steps before `patience` are not judged. `mined` among the
    losses is the share of pixels that mining has labelled.
    """

    def __init__(self, frequencies: Tensor, *, patience: int, window: int = 40) -> None:
        p = frequencies.double().clamp(1e-6, 1 - 1e-6)
        self.guess = float(-(p * p.log() + (1 - p) * (1 - p).log()).mean())
        self.patience, self.window = patience, window
        self.losses: list[float] = []  # of the window, the last one last
        self.empty = 0  # batches in a row without a mined pixel

    @property
    def memory(self) -> list[float]:
        """What a resumed training must know, as plain numbers."""
        return [float(self.empty), *self.losses]

    @memory.setter
    def memory(self, known: list[float]) -> None:
        self.empty, self.losses = int(known[0]), list(known[1:])

    def __call__(self, losses: Losses, step: int) -> None:
        self._mined(losses, step)
        self.losses = [*self.losses[-self.window + 1 :], float(losses["cls"])]
        mean = math.fsum(self.losses) / len(self.losses)
        if step >= self.patience and len(self.losses) == self.window and mean > self.guess:
            raise TrainingFailed(
                f"the classifier died: its loss over the last {self.window} steps is {mean:.3f}, "
                f"guessing tag frequencies costs {self.guess:.3f}",
                where=f"step {step}",
                hint="lower the learning rate (option lr) or check the tags",
            )

    def _mined(self, losses: Losses, step: int) -> None:
        self.empty = self.empty + 1 if "mined" in losses and not losses["mined"] else 0
        if self.empty >= NOTHING_MINED:
            raise TrainingFailed(
                f"mining found no reliable pixel in {self.empty} batches in a row",
                where=f"step {step}",
                hint="look at the maps of the classifier (`--stages seed`), or ease the rule of mining",
            )


def tag_frequencies(tags: Iterable[Any]) -> Tensor:
    """(K,) share of images that carry each tag."""
    import numpy as np

    return torch.from_numpy(np.mean([np.asarray(t, np.float64) for t in tags], axis=0))


def check_finite(values: Losses, name: str, step: int) -> None:
    """TrainingFailed where a loss is no number."""
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
