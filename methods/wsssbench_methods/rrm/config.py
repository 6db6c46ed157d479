"""Options of `rrm`, each with the place that its value comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wsssbench.types import option


@dataclass(frozen=True)
class RrmConfig:
    """One-step RRM: a classifier is trained first, then classifier and segmentation head jointly."""

    backbone: str = option(
        "resnet50", "network: small, mobilenet_v2, mobilenet_v2_folded, resnet18/34/50/101"
    )
    weights: str = option("", "file with ImageNet weights of the backbone", file=True)
    pretraining: str = option("imagenet", "what the weights in the file have seen; shown in the row")
    output_stride: int = option(16, "pixels of the image per cell of features (the paper's WRN-38 has 8)")
    head_width: int = option(512, "channels of the segmentation head", origin="code, network/RRM.py")
    head_dilation: int = option(12, "dilation of the segmentation head", origin="code, network/RRM.py")
    dropout: float = option(0.5, "dropout before the classifier's pooling", origin="code, network/RRM.py")

    classifier_steps: int = option(3300, "steps with the classification loss alone, before the joint ones")
    classifier_batch: int = option(16, "images per step of the classifier")
    classifier_lr: float = option(3e-5, "learning rate of the classifier's training")
    classifier_head_factor: float = option(10.0, "the same for its head, over the backbone's")
    steps: int = option(20000, "joint steps", origin="code, train_from_cls_weight.py")
    batch: int = option(4, "images per joint step", origin="code, train_from_cls_weight.py")
    optimizer: Literal["adamw", "sgd"] = option("adamw", "optimizer of both trainings")
    lr: float = option(3e-5, "learning rate of the backbone in the joint steps")
    head_factor: float = option(10.0, "learning rate of the heads over the backbone's", origin="code, x10")
    weight_decay: float = option(1e-4, "weight decay")
    momentum: float = option(0.9, "momentum of sgd", origin="the paper's intent; the code ran 1e-5 (bug B1)")
    crop: int = option(321, "side of a training crop in pixels", origin="code, train_from_cls_weight.py")
    scale_low: float = option(0.7, "smallest random scale", origin="code, U(0.7, 1.3); here per image")
    scale_high: float = option(1.3, "largest random scale", origin="code, U(0.7, 1.3); here per image")
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
