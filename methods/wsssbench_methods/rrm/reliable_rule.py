"""The reliable-label rule of RRM: which pixels of an image may teach, and what.

"Reliability Does Matter" (Zhang et al., AAAI 2020), section 3.2, with the constants of the published code.
CAMs, an image and its tags come in, a sparse label map goes out; networks, training and files must not enter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from wsssbench.identity import CrfSet
from wsssbench.nets.heads import normalise_cam
from wsssbench.ops.mean_field import mean_field
from wsssbench.types import IGNORE, option

PROBABILITY_FLOOR = 1e-5  # pydensecrf.utils.unary_from_softmax, which the published code calls
SMALLEST = 1e-30  # so that no logarithm is infinite
INFINITY = torch.tensor(float("inf"))
EXCLUDED = 1e4  # unary of a label that an image does not have: its marginal is zero

# Published code: the CRF of label mining (spatial width 3, compat 3; bilateral widths 80 and 13, compat 10).
MINING_CRF = CrfSet(
    gauss_xy=3, gauss_compat=3, bilateral_xy=80, bilateral_rgb=13, bilateral_compat=10, iterations=10
)


@dataclass(frozen=True)
class RuleOptions:
    """Options of the rule that chooses reliable pixels."""

    alpha_low: float = option(
        4.0, "background exponent for sure foreground", origin="code, tool/myTool.py", above=0
    )
    alpha_high: float = option(
        32.0, "background exponent for sure background", origin="code, tool/myTool.py", above=0
    )
    fraction: float = option(
        0.4, "share of a class's CAM pixels that is reliable", origin="paper, section 3.2", above=0, high=1
    )
    background_confidence: float = option(
        0.8, "cut on the background plane", origin="code, tool/myTool.py", low=0, high=1
    )
    crf_confidence: float = option(
        0.8, "cut on the CRF marginals", origin="code, tool/myTool.py", low=0, high=1
    )
    agreement: bool = option(
        True, "labels must agree with two CRFs; false: the CAM alone (a control)", origin="paper, section 3.2"
    )
    mining_scale: float = option(
        1.0, "images are scaled by this before the rule, and its labels back; smaller ones take less time",
        origin="own choice; code: 1", above=0, high=1, added=True,
    )  # fmt: skip


@dataclass(frozen=True)
class ReliableRule(RuleOptions):
    """The rule with all of its constants; the sources are the paper (section 3.2) and the published code."""

    min_value: float = 0.1  # code: smaller CAM values are not counted
    crf: CrfSet = MINING_CRF
    variant: Literal["fixed", "faithful"] = "fixed"

    @classmethod
    def of(cls, c: RuleOptions, *, label_padding: bool = False) -> ReliableRule:
        """The rule that these options ask for; with `label_padding` as released (trap B4)."""
        own = {f.name: getattr(c, f.name) for f in fields(RuleOptions)}
        return cls(**own, variant="faithful" if label_padding else "fixed")

    def __post_init__(self) -> None:
        """ValueError for a fraction that no share of pixels can be; at 0 no pixel of a class is reliable."""
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"fraction = {self.fraction} is not a share; it is 0 to 1")


def reliable_labels(
    image: Tensor, cams: Tensor, classes: Tensor, rule: ReliableRule | None = None, *,
    valid: Tensor | None = None, backend: str = "lattice", scale: float = 1.0,
) -> Tensor:  # fmt: skip
    """(H, W) uint8 labels of one image: class + 1, 0 or 255.

    `image` (H, W, 3) uint8; `cams` (T, H, W) in [0, 1] of the tagged `classes` (T,), 0-based and ascending.
    The rest as for `reliable_labels_batch`.
    """
    count = int(classes.max()) + 1 if len(classes) else 1
    planes = cams.new_zeros(count, *image.shape[:2])
    tags = torch.zeros(count, dtype=torch.bool, device=cams.device)
    planes[classes], tags[classes] = cams, True
    mask = None if valid is None else valid[None]
    return reliable_labels_batch(
        image[None], planes[None], tags[None], rule, valid=mask, backend=backend, scale=scale
    )[0]


@torch.no_grad()
def labels_at_scale(
    colours: Tensor, cams: Tensor, tags: Tensor, rule: ReliableRule, valid: Tensor, *,
    backend: str, scale: float, most_tags: int | None,
) -> Tensor:  # fmt: skip
    """(B, H, W) uint8 labels as of `reliable_labels_batch`, found at the rule's `mining_scale`.

    `colours` (B, 3, H, W) uint8 and `valid` (B, H, W) are of the full size, where the labels are drawn again
    by nearest neighbours; `cams` (B, K, h, w), not normalised, of any. Widths shrink with the images.
    """
    full, shrink = colours.shape[-2:], rule.mining_scale
    if shrink != 1:
        size = tuple(max(1, int(side * shrink)) for side in full)
        colours = F.interpolate(colours.float(), size, mode="bilinear", align_corners=False).round()
        inside = F.interpolate(valid[:, None].float(), size, mode="nearest-exact")[:, 0] > 0
    else:
        inside = valid
    planes = F.interpolate(cams.float(), colours.shape[-2:], mode="bilinear", align_corners=False)
    planes = planes * tags[:, :, None, None]
    planes = planes if rule.variant == "faithful" else planes * inside[:, None]
    labels = reliable_labels_batch(
        colours.to(torch.uint8).permute(0, 2, 3, 1).contiguous(), normalise_cam(planes), tags, rule,
        valid=inside, backend=backend, scale=scale * shrink, most_tags=most_tags,
    )  # fmt: skip
    if shrink == 1:
        return labels
    drawn = F.interpolate(labels[:, None].float(), full, mode="nearest-exact")[:, 0].to(torch.uint8)
    return drawn if rule.variant == "faithful" else drawn.masked_fill_(~valid, IGNORE)


@torch.no_grad()
def reliable_labels_batch(
    images: Tensor, cams: Tensor, tags: Tensor, rule: ReliableRule | None = None, *,
    valid: Tensor | None = None, backend: str = "lattice", scale: float = 1.0, most_tags: int | None = None,
) -> Tensor:  # fmt: skip
    """(B, H, W) uint8 labels: class + 1 or 0 where reliable, 255 elsewhere.

    `images` (B, H, W, 3) uint8; `cams` (B, K, H, W) float in [0, 1], each divided by its maximum; `tags`
    (B, K) bool; `valid` (B, H, W) bool, False on padding; `scale` multiplies the CRF's spatial widths. The
    variant "faithful" labels padding like the rest, as published; "fixed" leaves it 255 and ignores it.
    `most_tags` of an image are looked for in `tags`, for which a GPU is waited for, unless they are given.
    """
    rule = rule or ReliableRule()
    padding = None if valid is None or rule.variant == "faithful" else ~valid.to(images.device)
    classes, present = tagged_classes(tags, most_tags)
    classes, present = classes.to(cams.device), present.to(cams.device)
    planes = cams.float().gather(1, classes[:, :, None, None].expand(-1, -1, *cams.shape[2:]))
    planes = planes * present[:, :, None, None]
    log_rest = (1 - planes.amax(1)).clamp_min_(SMALLEST).log_()  # the background is (1 - max CAM)^alpha
    background = (rule.alpha_high * log_rest).exp_()
    if rule.agreement:
        unary = _unary(log_rest, planes, present, (rule.alpha_low, rule.alpha_high))
        q_low, q_high = mean_field(unary, images, rule.crf, backend=backend, scale=scale).unbind(1)
        found, label = first_largest(q_low), _agreed(q_low, q_high, rule)
    else:
        found = first_largest(torch.cat([background[:, None], planes], dim=1))
        label = found.clone()
    label.masked_fill_(~_cam_sure(planes, background, found, rule, padding), IGNORE)
    if padding is not None:
        label.masked_fill_(padding, IGNORE)
    return _named(label, classes)


def tagged_classes(tags: Tensor, most: int | None = None) -> tuple[Tensor, Tensor]:
    """The tagged classes of each image, ascending, in T slots: indices (B, T) and the slots in use (B, T).

    T is the largest number of tags in the batch, at least 1. Give it as `most`, or `tags` on the CPU: else
    a GPU is waited for.
    """
    if most is None:
        most = int(tags.sum(1).max()) if len(tags) else 0
    slots = max(1, most)
    order = torch.argsort((~tags).to(torch.uint8), dim=1, stable=True)[:, :slots]
    return order, tags.gather(1, order)


def _unary(log_rest: Tensor, planes: Tensor, present: Tensor, alphas: tuple[float, ...]) -> Tensor:
    """(B, A, T + 1, H, W) negative logs of [background, CAMs] for A alphas; no sums of 1, as published."""
    batch, slots, height, width = planes.shape
    unary = planes.new_empty(batch, len(alphas), slots + 1, height, width)
    for k, alpha in enumerate(alphas):
        unary[:, k, 0] = (-alpha * log_rest).clamp_(0, -math.log(PROBABILITY_FLOOR))
    energies = planes.clamp(PROBABILITY_FLOOR, 1).log_().neg_()
    unary[:, :, 1:] = energies.masked_fill_(~present[:, :, None, None], EXCLUDED)[:, None]
    return unary


def _agreed(q_low: Tensor, q_high: Tensor, rule: ReliableRule) -> Tensor:
    """Slots (0 = background) where both CRFs allow it and the one that decides is confident, else 255."""
    label, high = first_largest(q_low), first_largest(q_high)
    confidence = torch.maximum(q_high[:, 0], q_low[:, 1:].amax(1))
    label = label.masked_fill_(label == 0, IGNORE).masked_fill_(high == 0, 0)
    return label.masked_fill_(confidence < rule.crf_confidence, IGNORE)


def _cam_sure(
    planes: Tensor, background: Tensor, found: Tensor, rule: ReliableRule, padding: Tensor | None
) -> Tensor:
    """(B, H, W) bool: the CAM alone is sure of some class (or of background) that the low CRF `found`."""
    winner = first_largest(torch.cat([background[:, None], planes], dim=1))
    sure = (winner == 0) & (background > rule.background_confidence) & _occurs(found, 0)
    for slot in range(planes.shape[1]):
        plane = planes[:, slot]
        own = winner == slot + 1
        counted = own & (plane > rule.min_value)
        counted = counted if padding is None else counted & ~padding
        cut = top_fraction_cut(plane.flatten(1), counted.flatten(1), rule.fraction)
        sure |= own & (plane > cut[:, None, None]) & _occurs(found, slot + 1)
    return sure


def first_largest(planes: Tensor) -> Tensor:
    """(B, H, W) uint8 index of the largest of (B, T, H, W) planes, the first among equals.

    For the few planes here, comparing them in turn is several times faster than argmax across a dimension.
    """
    best = planes[:, 0]
    index = torch.zeros(best.shape, dtype=torch.uint8, device=planes.device)
    for t in range(1, planes.shape[1]):
        index.masked_fill_(planes[:, t] > best, t)
        best = torch.maximum(best, planes[:, t])
    return index


def _occurs(labels: Tensor, label: int) -> Tensor:
    return (labels == label).flatten(1).any(1)[:, None, None]


def top_fraction_cut(values: Tensor, counted: Tensor, fraction: float) -> Tensor:
    """(B,) cuts: of the n counted values of each row (B, N), in ascending order, the one at int((1 - f) n).

    At most the last one: at a fraction of 0 nothing is above the cut. A row without counted values gets
    infinity (the published code stops with an IndexError in both cases).
    """
    # On the CPU selecting is much cheaper than sorting; elsewhere a sort spares a wait for the device.
    return (_cut_by_selecting if values.device.type == "cpu" else _cut_by_sorting)(values, counted, fraction)


def _cut_by_selecting(values: Tensor, counted: Tensor, fraction: float) -> Tensor:
    chosen = [row[keep] for row, keep in zip(values, counted, strict=True)]
    places = [min(int((1 - fraction) * len(row)) + 1, len(row)) for row in chosen]
    cuts = [row.kthvalue(k).values if len(row) else INFINITY for row, k in zip(chosen, places, strict=True)]
    return torch.stack(cuts)


def _cut_by_sorting(values: Tensor, counted: Tensor, fraction: float) -> Tensor:
    ordered = values.masked_fill(~counted, float("inf")).sort(dim=1).values
    count = counted.sum(1)
    at = torch.minimum(((1 - fraction) * count.double()).long(), count - 1).clamp_min(0)
    return ordered.gather(1, at[:, None])[:, 0]


def _named(label: Tensor, classes: Tensor) -> Tensor:
    """Slots of (B, H, W) replaced by class + 1, as uint8; 0 and 255 stay."""
    names = label.new_full((len(label), IGNORE + 1), IGNORE)
    names[:, 0] = 0
    names[:, 1 : classes.shape[1] + 1] = (classes + 1).to(torch.uint8)
    return names.gather(1, label.flatten(1).long()).view_as(label)
