"""What weights that are given by name decide, unless the user does: the backbone, and a preset for it.

A file says nothing of its purpose, a name does: `--weights efficientnet_lite0` alone makes a method ready for
photographs. Which preset is a matter of the images' size and number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from wsssbench.plugins.options import PRESET, build_config, option_names
from wsssbench.types import Dataset

WEIGHTS, BACKBONE = "weights", "backbone"
SMALL_PX = 200  # long side below which images are small: crops of photographs would be mostly padding
MANY_IMAGES = 5000  # from which on a training is as long as on VOC (10,582 images), and wants a GPU


class ChosenPreset(NamedTuple):
    """A preset that nobody named."""

    name: str
    reason: str  # "efficientnet_lite0, 500 images to learn from, 375 px"


def with_pretrained(
    cls: type, options: Mapping[str, Any], dataset: Dataset, *, offline: bool = False
) -> tuple[Mapping[str, Any], ChosenPreset | None]:
    """Raw options of a step with the file of its named weights, and the preset that was chosen for them.

    What the user gives goes first: with a backbone of his own no preset is chosen. Weights that lie on a
    server are fetched, unless `offline` or in a cache.
    """
    given = options.get(WEIGHTS)
    if not isinstance(given, str) or not given:
        return options, None
    from wsssbench.nets.pretrained import backbone_of, needs_backbone, weights_file

    backbone = backbone_of(given)
    network = _backbone_without(cls, options, dataset) if needs_backbone(given) else ""
    found = {**options, WEIGHTS: weights_file(given, network, offline=offline)}
    if not backbone or options.get(BACKBONE, backbone) != backbone or BACKBONE not in option_names(cls):
        return found, None
    chosen = None if PRESET in options else _preset_for(cls, backbone, dataset)
    return {**({PRESET: chosen.name} if chosen else {}), BACKBONE: backbone, **found}, chosen


def _backbone_without(cls: type, options: Mapping[str, Any], dataset: Dataset) -> str:
    """The backbone of the step whatever its weights: given, of a preset or its default; "" for none."""
    step = getattr(getattr(cls, "card", None), "name", cls.__name__)
    rest = {name: value for name, value in options.items() if name != WEIGHTS}
    return str(getattr(build_config(step, cls, rest, dataset=dataset.card.name), BACKBONE, ""))


def _preset_for(cls: type, backbone: str, dataset: Dataset) -> ChosenPreset | None:
    """The preset of the backbone's family that fits the data set; None where the step has none of it."""
    from wsssbench.nets.backbones import backbone_info

    family, presets = backbone_info(backbone).family, getattr(cls, "presets", {})
    px, images = dataset.card.image_px, len(dataset.ids(dataset.card.fit_split))
    name = f"{family}-small" if px < SMALL_PX else f"{family}-many" if images >= MANY_IMAGES else family
    if not family or name not in presets:
        return None
    return ChosenPreset(name, f"{backbone}, {images} images to learn from, {px} px")
