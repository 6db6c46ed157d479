"""Options of `rrm`, each with the place that its value comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wsssbench.types import option
from wsssbench_methods.classifier import ClassifierOptions


@dataclass(frozen=True)
class RrmConfig(ClassifierOptions):
    """One-step RRM: a classifier is trained first, then classifier and segmentation head jointly."""

    head_width: int = option(512, "channels of the segmentation head", origin="code, network/RRM.py")
    head_dilation: int = option(12, "dilation of the segmentation head", origin="code, network/RRM.py")
    steps: int = option(20000, "joint steps", origin="code, train_from_cls_weight.py")
    batch: int = option(4, "images per joint step", origin="code, train_from_cls_weight.py")
    lr: float = option(3e-5, "learning rate of the backbone in the joint steps")
    head_factor: float = option(10.0, "learning rate of the heads over the backbone's", origin="code, x10")
    momentum: float = option(0.9, "momentum of sgd", origin="the paper's intent; the code ran 1e-5 (bug B1)")
    cam_scales: tuple[float, ...] = option((1.0, 0.5, 1.5, 2.0), "scales of the training CAM", origin="code")

    alpha_low: float = option(4.0, "background exponent for sure foreground", origin="code, tool/myTool.py")
    alpha_high: float = option(32.0, "background exponent for sure background", origin="code, tool/myTool.py")
    fraction: float = option(
        0.4, "share of a class's CAM pixels that is reliable", origin="paper, section 3.2"
    )
    background_confidence: float = option(0.8, "cut on the background plane", origin="code, tool/myTool.py")
    crf_confidence: float = option(0.8, "cut on the CRF marginals", origin="code, tool/myTool.py")

    energy_weight: float = option(
        1e-7, "weight of the dense energy at 160x160 filtered pixels", origin="code; grows with (25600 / N)^2"
    )
    energy_scale: float = option(0.5, "images are scaled by this before the energy", origin="code")
    energy_sigma_xy: float = option(100.0, "spatial width in pixels of a VOC image", origin="code")
    energy_sigma_rgb: float = option(15.0, "colour width in 0..255", origin="code")
    gradient: Literal["published", "true"] = option(
        "published", "of the energy: as published, or the true derivative", origin="code, DenseEnergyLoss.py"
    )

    threshold: float = option(0.3, "map value above which a pixel is foreground, where maps are judged")
    tag_threshold: float = option(0.5, "tag score above which a class is predicted when no tags are given")
    test_scales: tuple[float, ...] = option((0.5, 1.0, 1.5, 2.0), "scales of the maps of a fitted model")
