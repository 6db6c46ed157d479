"""The options that steps with a network of their own share, each spelled once, and the plans they stand for.

A step's Config inherits what it needs and adds or restates what is its own. A default that changes here
changes the key of every step that has the option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wsssbench.nets.segment_heads import HeadPlan
from wsssbench.nets.weights import weights_digest
from wsssbench.train import Schedule
from wsssbench.training.crops import CropRule
from wsssbench.types import option
from wsssbench_methods.presets import TUNED_ON

RRM_CODE = "RRM code"
HEAD_CODE, ENERGY_CODE = f"{RRM_CODE}, network/RRM.py", f"{RRM_CODE}, DenseEnergyLoss.py"


@dataclass(frozen=True)
class NetworkOptions:
    """The backbone, its crops and its optimizer: what every step that trains a network has."""

    backbone: str = option(
        "resnet50",
        "network: compact, small, mobilenet_v2, mobilenet_v2_folded, resnet18/34/50/101, wrn38, "
        "efficientnet_lite0/1/2, timm:NAME",
    )
    weights: str = option(
        "", "ImageNet weights: a file, efficientnet_lite0/1/2, timm:NAME or torchvision:TAG", file=True
    )
    pretraining: str = option("imagenet", "what the weights in the file have seen; shown in the row")
    output_stride: int = option(
        16,
        "pixels of the image per cell of features, and of the maps made of them",
        origin="IRN: ResNet-50, 16; RRM's WRN-38: 8",
        low=1,
    )
    classifier_stride: int = option(
        0,
        "the same while the classifier is trained; 0: output_stride. A coarser one trains faster",
        origin="own choice; dilation keeps what a layer sees",
        low=0,
        added=True,
    )
    dropout: float = option(
        0.5,
        "dropout before the classifier's pooling",
        origin=f"PSA; {HEAD_CODE}",
        low=0,
        below=1,
    )
    crop: int = option(
        321,
        "side of a training crop in pixels",
        origin="RRM, section 4; its code, train_from_cls_weight.py",
        low=1,
    )
    scale_low: float = option(
        0.7, "smallest random scale", origin=f"{RRM_CODE}, U(0.7, 1.3); here per image", above=0
    )
    scale_high: float = option(
        1.3, "largest random scale", origin=f"{RRM_CODE}, U(0.7, 1.3); here per image", above=0
    )
    optimizer: Literal["adamw", "sgd"] = option(
        "adamw", "optimizer of the main training", origin="own choice; IRN and RRM code: sgd"
    )
    lr: float = option(
        3e-5,
        "learning rate of the backbone in the main training; heads learn head_factor times faster",
        origin="own choice, for AdamW; RRM code, sgd: 7e-4",
        above=0,
    )
    head_factor: float = option(
        10.0, "learning rate of heads over that of the backbone", origin="PSA, DeepLab-v2, RRM code", above=0
    )
    weight_decay: float = option(1e-4, "weight decay", origin="IRN, run_sample.py; RRM code: 1e-5", low=0)

    def __post_init__(self) -> None:
        if self.scale_low > self.scale_high:
            raise ValueError(f"scale_low = {self.scale_low} is above scale_high = {self.scale_high}")

    def crop_rule(self) -> CropRule:
        """How crops are cut."""
        return CropRule(self.crop, (self.scale_low, self.scale_high))


@dataclass(frozen=True)
class MapOptions:
    """What maps become where they are judged, and where no tags are given."""

    threshold: float = option(
        0.3,
        "map value above which a pixel is foreground, where maps are judged",
        origin=f"chosen for cam on {TUNED_ON}",
        low=0,
        high=1,
    )
    tag_threshold: float = option(
        0.5,
        "tag score above which a class is predicted when no tags are given",
        origin="own choice",
        low=0,
        high=1,
    )


@dataclass(frozen=True)
class HeadOptions:
    """The segmentation head beside (or instead of) the classifier's."""

    head_kind: Literal["dilated", "detail", "aspp"] = option(
        "dilated",
        "segmentation head: dilated as in RRM, aspp as in DeepLab-v2, or detail (small images)",
        origin=HEAD_CODE,
    )
    head_width: int = option(512, "channels of the segmentation head; aspp has none", origin=HEAD_CODE, low=1)
    head_dilation: int = option(12, "dilation of the segmentation head", origin=HEAD_CODE, low=1)

    def head_plan(self) -> HeadPlan:
        """The head that these options ask for."""
        return HeadPlan(self.head_kind, self.head_width, self.head_dilation)


@dataclass(frozen=True)
class EnergyOptions:
    """The constants of RRM's gated dense energy."""

    energy_weight: float = option(
        1e-7,
        "weight of the dense energy at 160x160 filtered pixels; 0: none",
        origin=f"{ENERGY_CODE}; grows with (25600 / N)^2",
        low=0,
    )
    energy_scale: float = option(
        0.5, "images are scaled by this before the energy", origin=ENERGY_CODE, above=0
    )
    energy_sigma_xy: float = option(
        100.0, "energy: spatial width in pixels of a VOC image", origin=ENERGY_CODE, above=0
    )
    energy_sigma_rgb: float = option(15.0, "energy: colour width in 0..255", origin=ENERGY_CODE, above=0)
    gradient: Literal["published", "true"] = option(
        "published", "of the energy: as published, or the true derivative", origin=ENERGY_CODE
    )


@dataclass(frozen=True)
class ClassifierOptions(NetworkOptions):
    """Options of a step whose network starts from a tag classifier."""

    momentum: float = option(
        0.9, "momentum of sgd", origin="the usual; RRM code: 1e-5 by a slip (B1)", low=0, below=1
    )
    clip: float = option(
        1.0, "largest norm of the gradient; 0: no clipping", origin="own choice; RRM code: none", low=0
    )
    bias_factor: float = option(
        1.0,
        "rate of biases over that of weights; not 1: no decay either",
        origin="own choice; RRM code: 2",
        low=0,
    )
    classifier_optimizer: Literal["adamw", "sgd"] = option(
        "adamw", "optimizer of the classifier's training", origin="own choice; RRM code: sgd"
    )
    classifier_steps: int = option(
        3300,
        "steps with the classification loss alone, first; 0: the file of weights holds a trained classifier",
        origin="IRN: 5 epochs of train_aug at batch 16",
        low=0,
    )
    classifier_batch: int = option(
        16, "images per step of the classifier", origin="IRN, run_sample.py", low=1
    )
    classifier_lr: float = option(
        3e-5, "learning rate of the classifier's training", origin="own choice, for AdamW", above=0
    )
    classifier_head_factor: float = option(
        10.0, "the same for its head, over the backbone's", origin="PSA", above=0
    )

    def schedule(self, steps: int, lr: float, head_factor: float, optimizer: str) -> Schedule:
        """A training of `steps` steps; AdamW has no momentum, so that of another value is one key."""
        momentum = self.momentum if optimizer == "sgd" else Schedule.momentum
        return Schedule(
            steps, lr, head_factor, self.weight_decay, optimizer, momentum, self.clip, self.bias_factor
        )


@dataclass(frozen=True)
class ClassifierPlan:
    """Everything that decides what the trained classifier is; steps with equal plans share one training."""

    backbone: str
    stride: int
    weights_sha256: str
    dropout: float
    crop: CropRule
    batch: int
    schedule: Schedule

    @classmethod
    def of(cls, c: NetworkOptions, crop: CropRule, batch: int, schedule: Schedule) -> ClassifierPlan:
        """A classifier on the network that `c` names."""
        digest, stride = weights_digest(c.weights), c.classifier_stride or c.output_stride
        return cls(c.backbone, stride, digest, c.dropout, crop, batch, schedule)
