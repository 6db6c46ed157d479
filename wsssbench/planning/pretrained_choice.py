"""What weights that are given by name decide: the file, the backbone, and a preset for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WEIGHTS, BACKBONE = "weights", "backbone"


def with_pretrained(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raw options of a step with the file of its named weights; the backbone is theirs unless given."""
    given = options.get(WEIGHTS)
    if not isinstance(given, str) or not given:
        return options
    from wsssbench.nets.pretrained import backbone_of, weights_file

    backbone = backbone_of(given)
    chosen = {BACKBONE: backbone} if backbone else {}
    return {**chosen, **options, WEIGHTS: weights_file(given)}
