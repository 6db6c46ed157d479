"""Prediction over images of different sizes: equal sizes go through the network together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def by_size(images: Sequence[Tensor], run: Callable[[Tensor, list[int]], Sequence[Result]]) -> list[Result]:
    """Call `run(stacked images (b, 3, H, W), their positions)` once per image size; results in order."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        groups[tuple(image.shape)].append(index)
    found: dict[int, Result] = {}
    for members in groups.values():
        results = run(torch.stack([images[i] for i in members]), members)
        found.update(zip(members, results, strict=True))
    return [found[i] for i in range(len(images))]
