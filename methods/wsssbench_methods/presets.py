"""Option sets: sizes, lengths and rates that fit a data set or a purpose.

The preset called like the data set is applied by default; `-o NAME.preset=none` leaves the defaults alone.
`shapes-long` is what `shapes` was before it was made to take half the time, and what the controls were run
with; `tiny` is for tests. `lite` is the CPU tier of real images (an hour on two cores), which weights given
by name choose, as `lite-small` and `lite-many`; `mobilenet` is the one of before. `paper` and
`paper-from-init` are the two recipes of the released RRM code (`paper` of the segmenter: DeepLab-v2's),
`small` is minutes on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Preset = Mapping[str, Any]

SMALL_NETWORK: Preset = {"backbone": "small", "output_stride": 8, "dropout": 0.0}
SMALL_HEAD: Preset = {"head_kind": "detail", "head_width": 64, "head_dilation": 3}
SHAPES_CROPS: Preset = {"crop": 96, "scale_low": 0.8, "scale_high": 1.25}
SHAPES_NETWORK: Preset = {**SMALL_NETWORK, "backbone": "compact"}

# Heads, rates, lengths, stride and threshold were chosen on generator seed 1000, which no table reports.
TUNED_ON = "shapes, generator seed 1000"
SHAPES_CLASSIFIER: Preset = {"steps": 260, "batch": 16, "lr": 3e-3, "head_factor": 3.0}
SHAPES_JOINT: Preset = {"steps": 260, "batch": 8, "lr": 5e-4, "head_factor": 6.0}  # rrm and full alike
LONG_CLASSIFIER: Preset = {"steps": 400, "batch": 16, "lr": 3e-3, "head_factor": 10.0}
LONG_JOINT: Preset = {**SHAPES_JOINT, "steps": 250}

MOBILENET: Preset = {"backbone": "mobilenet_v2_folded", "output_stride": 16, "crop": 257}
MOBILENET_CLASSIFIER: Preset = {"steps": 330, "batch": 16, "lr": 1e-4, "head_factor": 10.0}
THREE_SCALES = (0.5, 1.0, 1.5)  # scale 2, the fourth of the field's, costs more than these together
MOBILENET_HEAD: Preset = {"head_width": 256, "head_dilation": 6}

# Chosen on 300 images of VOC's train_aug, six classes, that no table reports: reports/voc6_tune.txt. There a
# classifier trained at stride 32 had better maps than one at 16, and a mean with scale 0.5 worse ones.
LITE: Preset = {"backbone": "efficientnet_lite0", "output_stride": 16, "classifier_stride": 32, "crop": 257}
LITE_SMALL: Preset = {**LITE, "crop": 129}
LITE_CLASSIFIER: Preset = {"steps": 330, "batch": 16, "lr": 1e-4, "head_factor": 10.0}
LITE_MAPS: Preset = {"scales": (1.0, 1.5)}
LITE_JOINT: Preset = {"steps": 400, "batch": 8, "lr": 3e-5, "head_factor": 10.0}
MANY_CLASSIFIER: Preset = {**LITE_CLASSIFIER, "steps": 3300}
MANY_JOINT: Preset = {**LITE_JOINT, "steps": 8000}


# RRM code, train_from_cls_weight.py: start from PSA's classifier (res38_cls.pth, given by --weights).
PAPER: Preset = {
    "variant": "faithful",
    "backbone": "wrn38",
    "output_stride": 8,
    "classifier_steps": 0,
    "crop": 321,
    "optimizer": "sgd",
    "weight_decay": 1e-5,
    "clip": 0.0,
    "bias_factor": 2.0,
    "steps": 20000,
    "batch": 4,
    "lr": 7e-4,
    "head_factor": 10.0,
}
# RRM code, train_from_init.py: 24 epochs of 10,582 images at batch 8, the first half with the tag loss alone;
# in the second half one rate for all (B3), and images are not rescaled (B2).
PAPER_FROM_INIT: Preset = {
    **PAPER,
    "classifier_steps": 15873,
    "classifier_batch": 8,
    "classifier_optimizer": "sgd",
    "classifier_lr": 0.01,
    "classifier_head_factor": 10.0,
    "crop": 448,
    "scale_low": 1.0,
    "scale_high": 1.0,
    "padding": "black",
    "jitter": (0.3, 0.3, 0.3, 0.1),
    "weight_decay": 5e-4,
    "steps": 15873,
    "batch": 8,
    "flat_rates": True,
}


def of_classifier(preset: Preset) -> dict[str, Any]:
    """The same training, under the names that a step with a classifier inside gives it."""
    return {f"classifier_{name}": value for name, value in preset.items()}


CLASSIFIER_PRESETS: Mapping[str, Preset] = {
    "shapes": {**SHAPES_NETWORK, **SHAPES_CROPS, **SHAPES_CLASSIFIER, "scales": (0.75, 1.0, 1.5)},
    "shapes-long": {**SMALL_NETWORK, **SHAPES_CROPS, **LONG_CLASSIFIER, "scales": (0.75, 1.0, 1.5)},
    "mobilenet": {**MOBILENET, **MOBILENET_CLASSIFIER, "scales": THREE_SCALES},
    "lite": {**LITE, **LITE_CLASSIFIER, **LITE_MAPS},
    "lite-small": {**LITE_SMALL, **LITE_CLASSIFIER, **LITE_MAPS},
    "lite-many": {**LITE, **MANY_CLASSIFIER, **LITE_MAPS},
    "tiny": {**SMALL_NETWORK, "crop": 32, "steps": 4, "batch": 4, "scales": (1.0,)},
}

FULL_PRESETS: Mapping[str, Preset] = {
    "shapes": {
        **SHAPES_NETWORK,
        **SMALL_HEAD,
        **SHAPES_CROPS,
        **of_classifier(SHAPES_CLASSIFIER),
        **SHAPES_JOINT,
    },
    "shapes-long": {
        **SMALL_NETWORK,
        **SMALL_HEAD,
        **SHAPES_CROPS,
        **of_classifier(LONG_CLASSIFIER),
        **LONG_JOINT,
    },
    "mobilenet": {
        **MOBILENET,
        **MOBILENET_HEAD,
        **of_classifier(MOBILENET_CLASSIFIER),
        "steps": 400,
        "batch": 8,
        "lr": 3e-5,
        "head_factor": 10.0,
    },
    "lite": {**LITE, **MOBILENET_HEAD, **of_classifier(LITE_CLASSIFIER), **LITE_JOINT},
    "lite-small": {**LITE_SMALL, **MOBILENET_HEAD, **of_classifier(LITE_CLASSIFIER), **LITE_JOINT},
    "lite-many": {**LITE, **MOBILENET_HEAD, **of_classifier(MANY_CLASSIFIER), **MANY_JOINT},
    "tiny": {
        **SMALL_NETWORK,
        **SMALL_HEAD,
        "crop": 32,
        **of_classifier({"steps": 4, "batch": 4}),
        "steps": 2,
        "batch": 2,
    },
}

# `rrm` with the networks and trainings of `full`; it also looks at images at several scales.
# A mean over scales is zero only where all of them are, and 0.5 is hardly anywhere: see reports/voc6.md.
LITE_VIEWS: Preset = {"cam_scales": (1.0,), "mining_scale": 0.5, "test_scales": (1.0, 1.5)}
SHAPES_SCALES: Preset = {"cam_scales": (1.0, 0.75, 1.25), "test_scales": (0.75, 1.0, 1.5)}
RRM_PRESETS: Mapping[str, Preset] = {
    "shapes": {**FULL_PRESETS["shapes"], **SHAPES_SCALES},
    "shapes-long": {**FULL_PRESETS["shapes-long"], **SHAPES_SCALES},
    "mobilenet": {**FULL_PRESETS["mobilenet"], "cam_scales": THREE_SCALES, "test_scales": THREE_SCALES},
    "lite": {**FULL_PRESETS["lite"], **LITE_VIEWS},
    "lite-small": {**FULL_PRESETS["lite-small"], **LITE_VIEWS},
    "lite-many": {**FULL_PRESETS["lite-many"], **LITE_VIEWS},
    "paper": PAPER,
    "paper-from-init": PAPER_FROM_INIT,
    "small": {
        "backbone": "resnet50",
        "output_stride": 8,
        "head_width": 256,
        "head_dilation": 12,
        "classifier_lr": 3e-5,
        "classifier_steps": 2000,
        "steps": 4000,
        "batch": 8,
    },
    "tiny": {**FULL_PRESETS["tiny"], "cam_scales": (1.0, 1.5), "test_scales": (1.0,)},
}

# The second step with the network and the training of `full`, so that labels alone separate the two rows.
SEGMENTER_PRESETS: Mapping[str, Preset] = {
    **FULL_PRESETS,
    "paper": {  # the official settings of DeepLab-v2, as deeplab-pytorch has them in configs/voc12.yaml
        "backbone": "resnet101",  # from ImageNet; the official start is COCO's, see `pretraining`
        "output_stride": 8,
        "classifier_steps": 0,
        "head_kind": "aspp",
        "head_dilation": 12,  # rates 6, 12, 18, 24
        "loss_scales": (1.0, 0.75, 0.5),  # and the maximum of the three
        "crop": 321,
        "scale_low": 0.5,  # drawn evenly; the official steps are 0.5, 0.75, 1, 1.25, 1.5
        "scale_high": 1.5,
        "steps": 20000,
        "batch": 10,  # there 5, gradients of two batches summed
        "lr": 2.5e-4,
        "head_factor": 10.0,
        "bias_factor": 2.0,  # the head's biases learn 20 times faster and do not decay
        "optimizer": "sgd",
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "clip": 0.0,  # gradients are not clipped there
    },
}
