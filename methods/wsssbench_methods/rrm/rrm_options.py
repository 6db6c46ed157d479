"""Options of `rrm`, each with the place that its value comes from, and the traps of the released code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from wsssbench.train import Schedule
from wsssbench.training.crops import MEAN_COLOUR, CropRule
from wsssbench.types import option
from wsssbench_methods.network_options import ClassifierOptions, EnergyOptions, HeadOptions, MapOptions
from wsssbench_methods.rrm.losses import check_energy
from wsssbench_methods.rrm.reliable_rule import RuleOptions

BY_VARIANT = "; by default as the variant"
MOST_HUE = 0.5  # of the circle of colours, in both directions
TRAPS = ("momentum_from_decay", "label_padding", "one_scale", "truncate_colours", "recompute_scale")


@dataclass(frozen=True)
class RrmConfig(EnergyOptions, MapOptions, HeadOptions, RuleOptions, ClassifierOptions):
    """One-step RRM: a classifier is trained first, then classifier and segmentation head jointly."""

    variant: Literal["fixed", "faithful"] = option(
        "fixed", "faithful switches on each of the five traps that follow, unless one is set by hand"
    )
    # B1: SGD's third positional argument is momentum, and the released optimizer hands it the weight decay.
    momentum_from_decay: bool | None = option(
        None, "momentum = weight_decay" + BY_VARIANT, origin="code, tool/torchutils.py:13 (B1)"
    )
    # B4: padding is never set to 255 in the mined labels, so it can be taught as background.
    label_padding: bool | None = option(
        None, "padding is mined like the rest" + BY_VARIANT, origin="code, tool/myTool.py:23-76 (B4)"
    )
    # B9: the factor is drawn before the loop over the images of a batch.
    one_scale: bool | None = option(
        None, "one random scale for a whole batch" + BY_VARIANT, origin="code, tool/myTool.py:198 (B9)"
    )
    # B13: the image of CRF and energy is the network's input turned back, cut to integers, not rounded.
    truncate_colours: bool | None = option(
        None, "colours of CRF and energy are truncated" + BY_VARIANT, origin="code, tool/myTool.py:216 (B13)"
    )
    # B14: torch before 1.6 resized the energy's planes by the ratio of the sizes, not by the factor given.
    recompute_scale: bool | None = option(
        None, "ratio of the sizes as the energy's scale" + BY_VARIANT, origin="code, DenseEnergyLoss.py (B14)"
    )

    steps: int = option(20000, "joint steps", origin="code, train_from_cls_weight.py", low=1)
    stop_at: int = option(0, "joint steps to take of them; 0: all", origin="for an early checkpoint", low=0)
    batch: int = option(4, "images per joint step", origin="code, train_from_cls_weight.py", low=1)
    flat_rates: bool = option(
        False, "every parameter learns at lr in the joint steps", origin="code, tool/torchutils.py:33 (B3)"
    )
    padding: Literal["mean", "black"] = option("mean", "colour of padding", origin="code; black from init")
    jitter: tuple[float, float, float, float] = option(
        (0.0, 0.0, 0.0, 0.0),
        "random brightness, contrast, saturation, hue (at most 0.5)",
        origin="code; .3/.3/.3/.1 from init",
        low=0,
        high=1,
    )
    cam_scales: tuple[float, ...] = option(
        (1.0, 0.5, 1.5, 2.0), "scales of the training CAM", origin="code", above=0, filled=True
    )
    test_scales: tuple[float, ...] = option(
        (0.5, 1.0, 1.5, 2.0),
        "scales, mirrored too, of maps and probabilities where tags are given",
        origin="PSA",
        above=0,
        filled=True,
    )

    def __post_init__(self) -> None:
        """Settle the traps, so that the options in a row's key are what ran."""
        super().__post_init__()
        if self.energy_weight:
            check_energy(self.crop, self.energy_scale)
        if self.jitter[3] > MOST_HUE:
            raise ValueError(f"the jitter of hue is {self.jitter[3]}; {MOST_HUE} reaches every hue")
        if not 0 <= self.stop_at <= self.steps:
            raise ValueError(f"stop_at = {self.stop_at} is not within the {self.steps} steps")
        for name in TRAPS:
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.variant == "faithful")
        if self.momentum_from_decay:
            object.__setattr__(self, "momentum", self.weight_decay)

    def crop_rule(self) -> CropRule:
        """How crops are cut in the joint training."""
        padding = MEAN_COLOUR if self.padding == "mean" else (0, 0, 0)
        cut = super().crop_rule()
        return replace(cut, one_scale=bool(self.one_scale), padding=padding, jitter=self.jitter)

    def joint_schedule(self) -> Schedule:
        """Length and rates of the joint training."""
        plan = self.schedule(self.steps, self.lr, self.head_factor, self.optimizer)
        plan = replace(plan, stop_at=self.stop_at)
        return replace(plan, head_factor=1.0, bias_factor=1.0) if self.flat_rates else plan
