"""What passes between the harness and a plugin: cards, samples, outputs, and the context of a step.

Plain data without torch, pandas or files. Plugins import these names from `wsssbench.types`. Shapes: H, W
image size; K foreground classes; C = K + 1 with 0 = background; T tagged classes of one image; 255 = ignore
in truth, abstain in a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Image: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB
    Mask: TypeAlias = NDArray[np.uint8]  # (H, W) in 0..K or 255
    Tags: TypeAlias = NDArray[np.bool_]  # (K,)

IGNORE = 255
Kind: TypeAlias = Literal["maps", "probs", "labels", "mined", "tag_scores"]
KINDS: tuple[Kind, ...] = ("maps", "probs", "labels", "mined", "tag_scores")
SUPERVISION = ("tags", "class_names", "masks", "text", "saliency", "unknown")  # unknown: of foreign labels


@dataclass(frozen=True)
class DatasetCard:
    """What a data set is. Public: a step may read all of it."""

    name: str
    version: str
    class_names: tuple[str, ...]  # K foreground names; label k + 1 is class_names[k]
    splits: tuple[str, ...]
    fit_split: str  # where methods train
    label_split: str  # where `seed` and `pseudo` are judged
    eval_split: str  # where the `seg` stages are judged
    label_source: Literal["xml", "json", "file", "mask", "generated"]  # where the image tags come from
    licence: str
    source: str
    image_px: int  # median long side in pixels; spatial filter widths are scaled by image_px / 500
    generated: bool = False  # a generated set is drawn again for each run's seed
    options: Mapping[str, Any] = field(default_factory=dict)  # what else names its content (mask folder, ...)
    without_masks: Mapping[str, int] = field(default_factory=dict)  # split -> images that lack one, if any do
    palette: str = ""  # "voc": label k has colour k of VOC's palette, so that colours tell labels
    # split -> those of the options that concern it; a split that is not here is concerned by all of them
    split_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    judged_version: str = ""  # as far as judging depends on it; empty: all of `version`
    # where image_px is from: the median of the judged split's images, or the user; empty: the data set knows
    # it without looking, as a generated one does, and terms and keys of trainings do not name it
    image_px_from: Literal["", "measured", "stated"] = ""

    def options_of(self, split: str) -> Mapping[str, Any]:
        """The options that concern `split`: those of the judged split are part of a row's terms."""
        return self.split_options.get(split, self.options)


@dataclass(frozen=True)
class StepCard:
    """What a step is, what it may see, what it takes and gives (the kinds of Outputs by their names)."""

    name: str
    version: str
    role: Literal["localizer", "refiner", "segmenter", "one-step", "labels", "control"]
    supervision: tuple[str, ...]  # of `fit`: a subset of SUPERVISION
    gives: tuple[Kind, ...]
    takes: tuple[str, ...] = ()  # of the step before, when predicting; "probs|maps": the first that it gives
    learns_from: tuple[str, ...] = ()  # of the step before, when fitting; alternatives likewise
    needs_threshold: bool = False  # its maps become labels by Config.threshold
    tuned_on: str = ""  # images whose masks chose the default threshold
    pretraining: str = "none"  # what the weights have seen: none, imagenet, coco, ...
    paper: str = ""
    reported: Mapping[str, float] = field(default_factory=dict)  # published numbers, never measured here


@dataclass(frozen=True)
class Sample:
    """One image and what its supervision allows; a field that is not allowed is None."""

    id: str
    image: Image
    tags: Tags | None = None
    class_names: tuple[str, ...] | None = None
    mask: Mask | None = None


@dataclass(frozen=True)
class Maps:
    """Class activation maps of one image: no background plane, tagged (or predicted) classes only."""

    classes: NDArray[np.int64]  # (T,) 0-based class indices, ascending
    values: NDArray[np.float32]  # (T, h, w) in [0, 1] at native stride


@dataclass(frozen=True)
class Outputs:
    """What a step says of one image, None where nothing: a map is not a probability, that is not a label."""

    maps: Maps | None = None
    probs: NDArray[np.float32] | None = None  # (C, h, w), sums to 1, native stride
    labels: Mask | None = None  # (H, W) in {0..K, 255}
    mined: Mask | None = None  # (H, W) sparse training labels, mostly 255
    tag_scores: NDArray[np.float32] | None = None  # (K,) in [0, 1]


Predict: TypeAlias = """Callable[
    [Sequence[Tensor], NDArray[np.bool_] | None, Sequence[Outputs], frozenset[Kind]], Sequence[Outputs]
]"""  # what `Step.fit` returns: a `Predictor`, or a function that is called as one

Counts: TypeAlias = "Mapping[str, NDArray[np.int64]]"  # what a metric counts: arrays that add up, by name


class Artifacts(Protocol):
    """What the step before gave, on disk: `given[id]` reads one image's outputs (image size included)."""

    def __getitem__(self, id: str) -> Outputs: ...

    def __len__(self) -> int: ...


class Context(Protocol):
    """What a step may use, and nothing more."""

    device: str  # "cpu", "cuda", "cuda:1"
    precision: str  # "fp32" or "bf16": autocast of the network; filters stay in float32
    filter_backend: str  # "lattice", "exact" or "pydensecrf"
    card: DatasetCard  # the data set's public card: classes, nominal image size
    workdir: Path  # private to the step, survives an interruption
    limit: int | None
    step_limit: int | None  # most steps that a training takes of its schedule, for a measurement; None: all

    def seed(self, purpose: str) -> int:
        """A seed in 0..2**63-1 derived from the run's seed, the step and `purpose`."""

    def shared(self, work: str, identity: Any) -> AbstractContextManager[Context]:
        """A context whose folder belongs to `work`: steps of the same run that ask for equal `work` and
        `identity` (whatever could change its result; data, seed and precision are added) get the same, so
        that what one has trained the other finds."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Time what happens inside under `name` (decode, network, mining, energy, optimizer, ...)."""

    def progress(
        self, done: int, total: int, images: int = 0, losses: Mapping[str, float] | None = None
    ) -> None:
        """Show and log `done` of `total` units, `images` since the last call; on a GPU some steps late."""
