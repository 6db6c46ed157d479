"""Training crops: random scale, flip, position and padding of one image (and its mask), batches in a fixed
order that depends on the seed alone, made ahead in threads where the device leaves the cores idle."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wsssbench import distributed
from wsssbench.errors import BadData, WsssError
from wsssbench.types import IGNORE, Sample, View

MEAN_COLOUR = (124, 116, 104)  # ImageNet's mean, in 0..255


@dataclass(frozen=True)
class CropRule:
    """How a training crop is cut and changed."""

    px: int  # side length
    scale: tuple[float, float] = (1.0, 1.0)  # range of the random scale factor
    flip: float = 0.5  # probability of a horizontal flip
    one_scale: bool = False  # one scale factor for a whole batch instead of one for each image
    padding: tuple[int, int, int] = MEAN_COLOUR  # what padding shows
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # brightness, contrast, saturation, hue

    def __post_init__(self) -> None:
        """Raise WsssError for a crop without pixels, or scales that are none."""
        low, high = self.scale
        if self.px < 1 or not 0 < low <= high:
            what = f"no crop has {self.px} pixels a side at scales from {low} to {high}"
            raise WsssError(what, where="CropRule", hint="px is at least 1, scales are above 0 and ascend")


@dataclass(frozen=True)
class Batch:
    """B training crops of side S; where processes share a training, this one's slice of the whole batch."""

    images: Tensor  # (B, 3, S, S) uint8, padded with the mean colour
    valid: Tensor  # (B, S, S) bool, False on padding
    tags: Tensor  # (B, K) float32 in {0, 1}; of the whole image, as the field does
    labels: Tensor | None  # (B, S, S) uint8, 255 on padding; None without masks
    ids: tuple[str, ...]
    slice_of: int = 0  # images of the whole batch where this is a slice of it; 0: this is all
    most_tags: int | None = None  # of one image, so that nobody has to wait for a GPU to know; None: unknown

    @property
    def whole(self) -> int:
        """Images of the whole batch."""
        return self.slice_of or len(self.ids)

    def to(self, device: str) -> Batch:
        """The same batch on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """The same batch in page-locked memory; needs CUDA."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        labels = None if self.labels is None else change(self.labels)
        images, valid, tags = (change(tensor) for tensor in (self.images, self.valid, self.tags))
        return replace(self, images=images, valid=valid, tags=tags, labels=labels)


LabelOf = Callable[[Sample], "np.ndarray | None"]


class CropBatches:
    """Batches of a view by step number: `batches(step)` is the same whenever and wherever it is asked for.

    `batch` is the size of the whole batch. Processes that share a training cut the very batch that one would
    draw into slices, each as large as the others or one larger: no image counts twice, none is left out.
    """

    def __init__(
        self, view: View, rule: CropRule, batch: int, seed: int, label_of: LabelOf | None = None
    ) -> None:
        if not len(view):
            hint = "check the split's list"
            raise BadData("no images to train on", where=f"{view.card.name} {view.split}", hint=hint)
        if batch < 1:
            raise WsssError(f"a batch of {batch} has no image", where="CropBatches", hint="at least 1")
        self.view, self.rule, self.batch, self.seed = view, rule, batch, seed
        self.label_of = label_of or (lambda sample: sample.mask)
        self._order: tuple[int, np.ndarray] | None = None
        self._slice = self._own_slice()

    def __call__(self, step: int) -> Batch:
        own = stack_crops([self._crop(position) for position in self._positions(step)])
        return own if len(own.ids) == self.batch else replace(own, slice_of=self.batch)

    def run(self, first: int, last: int, ahead: int = 0, *, pinned: bool = False) -> Iterator[Batch]:
        """The batches of steps `first` to `last` - 1, `ahead` of them under way in as many threads.

        `pinned` puts them into page-locked memory, from which a GPU copies while it computes. Where the
        network itself needs the cores, `ahead` is better 0: a second thread that uses torch brings a second
        team of OpenMP threads, and the teams' waiting for cores made a training step 1.3 times as long.
        """
        if not ahead:
            yield from (self(step) for step in range(first, last))
            return
        with ThreadPoolExecutor(ahead, "crops") as pool:
            steps = iter(range(first, last))
            pending = deque(pool.submit(self._made, step, pinned) for step in islice(steps, ahead))
            while pending:
                batch = pending.popleft().result()
                pending.extend(pool.submit(self._made, step, pinned) for step in islice(steps, 1))
                yield batch

    def _made(self, step: int, pinned: bool) -> Batch:
        return self(step).pinned() if pinned else self(step)

    def _positions(self, step: int) -> range:
        return range(step * self.batch + self._slice[0], step * self.batch + self._slice[1])

    def _own_slice(self) -> tuple[int, int]:
        group = distributed.group()
        if group is None:
            return 0, self.batch
        if self.batch < group.size:
            what = f"a batch of {self.batch} cannot be shared by {group.size} processes"
            raise WsssError(what, hint=f"start at most {self.batch} processes, or raise the batch")
        return group.slice_of(self.batch)

    def _crop(self, position: int) -> tuple[str, Tensor, Tensor, Tensor, Tensor | None]:
        epoch, index = divmod(position, len(self.view))
        sample = self.view[int(self._permutation(epoch)[index])]
        draw = np.random.default_rng((self.seed, position))
        factor = self._batch_factor(position // self.batch) if self.rule.one_scale else None
        return random_crop(sample, self.label_of(sample), self.rule, draw, factor)

    def _batch_factor(self, step: int) -> float:
        return float(np.random.default_rng((self.seed, 2 << 32, step)).uniform(*self.rule.scale))

    def _permutation(self, epoch: int) -> np.ndarray:
        known = self._order  # read once: another thread may be at another epoch
        if known is None or known[0] != epoch:
            draw = np.random.default_rng((self.seed, 1 << 32, epoch))
            known = self._order = (epoch, draw.permutation(len(self.view)))
        return known[1]


def random_crop(
    sample: Sample,
    label: np.ndarray | None,
    rule: CropRule,
    draw: np.random.Generator,
    factor: float | None = None,
) -> tuple[str, Tensor, Tensor, Tensor, Tensor | None]:
    """Id, crop (3, S, S) uint8, valid (S, S) bool, tags (K,), labels (S, S) uint8 or None.

    `factor` scales the image where it is not drawn here. Raises BadData where the mask has another size than
    the image.
    """
    if label is not None and label.shape != sample.image.shape[:2]:
        raise BadData(f"the mask is {label.shape}, the image {sample.image.shape[:2]}", where=sample.id)
    image = torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1)))
    mask = None if label is None else torch.from_numpy(np.ascontiguousarray(label))[None]
    if rule.scale != (1.0, 1.0):
        factor = float(draw.uniform(*rule.scale)) if factor is None else factor
        size = [max(1, round(side * factor)) for side in image.shape[1:]]
        image = interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        mask = None if mask is None else interpolate(mask[None], size, mode="nearest-exact")[0]
    if draw.random() < rule.flip:
        image = image.flip(-1)
        mask = None if mask is None else mask.flip(-1)
    image = _jittered(image, rule.jitter, draw) if any(rule.jitter) else image
    crop, valid, labels = _place(image, mask, rule, draw)
    tags = (
        torch.from_numpy(np.asarray(sample.tags, np.float32)) if sample.tags is not None else torch.empty(0)
    )
    return sample.id, crop, valid, tags, labels


def _jittered(image: Tensor, amounts: tuple[float, ...], draw: np.random.Generator) -> Tensor:
    """Brightness, contrast, saturation by a factor in 1 +- amount, hue by +- amount, in a random order."""
    from torchvision.transforms.v2 import functional as F  # seconds to import, and few recipes jitter

    changes = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    for k in draw.permutation(len(changes)):
        middle = 0.0 if changes[k] is F.adjust_hue else 1.0
        image = changes[k](image, float(draw.uniform(middle - amounts[k], middle + amounts[k])))
    return image


def _place(
    image: Tensor, mask: Tensor | None, rule: CropRule, draw: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cut a random window, or set the whole side at a random place of the padded square."""
    px = rule.px
    crop = torch.tensor(rule.padding, dtype=torch.uint8).view(3, 1, 1).repeat(1, px, px)
    valid = torch.zeros(px, px, dtype=torch.bool)
    labels = None if mask is None else torch.full((px, px), IGNORE, dtype=torch.uint8)
    source, target = [], []
    for side in image.shape[1:]:
        offset = int(draw.integers(abs(side - px) + 1))
        start, end = (offset, offset + px) if side > px else (0, side)
        source.append(slice(start, end))
        target.append(slice(0, px) if side > px else slice(offset, offset + side))
    crop[:, target[0], target[1]] = image[:, source[0], source[1]]
    valid[target[0], target[1]] = True
    if labels is not None and mask is not None:
        labels[target[0], target[1]] = mask[0, source[0], source[1]]
    return crop, valid, labels


def stack_crops(crops: list[tuple[str, Tensor, Tensor, Tensor, Tensor | None]]) -> Batch:
    """Single crops as one batch."""
    ids, images, valid, tags, labels = zip(*crops, strict=True)
    stacked = None if labels[0] is None else torch.stack(labels)
    every = torch.stack(tags)
    most = int(every.sum(1).max())
    return Batch(torch.stack(images), torch.stack(valid), every, stacked, ids, most_tags=most)
