"""Option sets that a data set brings with it: sizes, lengths and rates that fit its images.

The preset called like the data set is applied by default; `-o NAME.preset=none` leaves the defaults alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Preset = Mapping[str, Any]

SMALL_NETWORK: Preset = {"backbone": "small", "output_stride": 4, "crop": 96}

# Rates, lengths and the threshold were chosen on generator seeds 1000 and 1001, which no table reports.
SHAPES_CLASSIFIER: Preset = {
    **SMALL_NETWORK,
    "steps": 300,
    "batch": 16,
    "lr": 3e-3,
    "head_factor": 10.0,
    "dropout": 0.0,
    "scale_low": 0.8,
    "scale_high": 1.25,
    "scales": (0.75, 1.0, 1.5),
    "threshold": 0.3,
}

CLASSIFIER_PRESETS: Mapping[str, Preset] = {"shapes": SHAPES_CLASSIFIER}

RRM_PRESETS: Mapping[str, Preset] = {
    "shapes": {
        **SMALL_NETWORK,
        "head_width": 128,
        "head_dilation": 3,
        "classifier_steps": 300,
        "classifier_batch": 16,
        "classifier_lr": 3e-3,
        "dropout": 0.0,
        "steps": 200,
        "batch": 8,
        "lr": 5e-4,
        "head_factor": 2.0,
        "scale_low": 0.8,
        "scale_high": 1.25,
        "test_scales": (0.75, 1.0, 1.5),
        "cam_scales": (1.0, 0.75, 1.5),
    }
}

FULL_PRESETS: Mapping[str, Preset] = {
    "shapes": {
        **SMALL_NETWORK,
        "head_width": 128,
        "head_dilation": 3,
        "steps": 600,
        "batch": 16,
        "lr": 2e-3,
        "head_factor": 1.0,
        "scale_low": 0.8,
        "scale_high": 1.25,
    }
}
