"""The permutohedral lattice of Adams, Baek and Davis (2010), point by point in float64, and cases for it."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def case(shape: tuple[int, int, int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Random features (B, N, d) a few widths wide and values (B, N, C)."""
    print(f"seed {seed}")
    batch, points, d, channels = shape
    random = torch.Generator().manual_seed(seed)
    features = 1.5 * torch.randn(batch, points, d, generator=random)
    return features, torch.rand(batch, points, channels, generator=random)


def permutohedral(features: Array, values: Array) -> Array:
    """The permutohedral filter of (N, d) features and (N, C) values, point by point, in float64."""
    d = features.shape[1]
    table: dict[tuple[int, ...], Array] = defaultdict(lambda: np.zeros(values.shape[1]))
    homes = []
    for feature, value in zip(features, values, strict=True):
        homes.append(corners(feature))
        for key, weight in homes[-1]:
            table[key] = table[key] + weight * value
    for axis in range(d + 1):
        step = np.full(d + 1, -1)
        step[axis] = d
        around = {k: (tuple(np.add(k, step)), tuple(np.subtract(k, step))) for k in table}
        none = np.zeros(values.shape[1])
        table = {k: v + (table.get(around[k][0], none) + table.get(around[k][1], none)) / 2
                 for k, v in table.items()}  # fmt: skip
    return np.array([sum(w * table[k] for k, w in home) for home in homes]) / (1 + 2.0**-d)


def corners(feature: Array) -> list[tuple[tuple[int, ...], float]]:
    """The d + 1 vertices around one point, with its barycentric weights."""
    d = len(feature)
    i = np.arange(d)
    scaled = feature * np.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2))
    lifted = np.array([scaled[j:].sum() - (j * scaled[j - 1] if j else 0) for j in range(d + 1)])
    nearest = np.floor(lifted / (d + 1) + 0.5) * (d + 1)
    order = np.argsort(-(lifted - nearest), kind="stable")
    excess = round(nearest.sum() / (d + 1))
    if excess > 0:
        nearest[order[d + 1 - excess :]] -= d + 1
    elif excess < 0:
        nearest[order[:-excess]] += d + 1
    offset = lifted - nearest
    order = np.argsort(-offset, kind="stable")
    keys, weights = [], []
    for k in range(d + 1):
        key = nearest + k
        key[order[d + 1 - k :]] -= d + 1
        keys.append(tuple(int(x) for x in key))
        high, low = offset[order[d - k]], offset[order[d + 1 - k]] if k else offset[order[0]] - (d + 1)
        weights.append(float(high - low) / (d + 1))
    return list(zip(keys, weights, strict=True))
