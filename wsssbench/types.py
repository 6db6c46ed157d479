"""The words of the project: samples, views, artifacts, cards, row identity and the four interfaces.

Everything here is plain data. No torch, no pandas, no file access: a plugin author reads this page and
knows the whole contract. Shapes: H, W image size; K foreground classes; C = K + 1 with 0 = background;
T tagged classes of one image; 255 = ignore (in truth) or abstain (in a prediction).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from wsssbench.option_fields import NoConfig as NoConfig
from wsssbench.option_fields import option as option

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


# --------------------------------------------------------------------------------------------- data sets


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
    image_px: int  # typical long side in pixels; spatial filter widths are scaled by image_px / 500
    generated: bool = False  # a generated set is drawn anew from each run's seed
    options: Mapping[str, Any] = field(default_factory=dict)  # what else names its content (mask folder, ...)
    without_masks: Mapping[str, int] = field(default_factory=dict)  # split -> images that lack one, if any do
    palette: str = ""  # "voc": label k has colour k of VOC's palette, so that colours tell labels
    # split -> those of the options that concern it; a split that is not here is concerned by all of them
    split_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    judged_version: str = ""  # as far as judging depends on it; empty: all of `version`

    def options_of(self, split: str) -> Mapping[str, Any]:
        """The options that concern `split`: those of the judged split are part of a row's terms."""
        return self.split_options.get(split, self.options)


class Dataset(Protocol):
    """Images, tags and masks. The judge holds it; a step gets a `View` instead.

    The entry point is a class with `Config` (a frozen dataclass), `presets` (name -> options) and
    `__init__(config, seed)`, `seed` of generated sets; it may have `read_mask`, `coded` (`label_coding`).
    """

    Config: ClassVar[type]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    card: DatasetCard

    def __init__(self, config: Any, seed: int) -> None: ...

    def ids(self, split: str) -> tuple[str, ...]: ...

    def image(self, id: str) -> Image: ...

    def tags(self, id: str) -> Tags: ...

    def mask(self, id: str) -> Mask: ...

    def fingerprint(self, split: str) -> str:
        """sha256 (hex) over ids, tags and the bytes of images and masks of `split`."""


@dataclass(frozen=True)
class Sample:
    """One image and what its supervision allows; a field that is not allowed is None."""

    id: str
    image: Image
    tags: Tags | None = None
    class_names: tuple[str, ...] | None = None
    mask: Mask | None = None


class View(Sequence[Sample]):
    """What a step is handed instead of the data set (in one process: discipline, not a wall)."""

    def __init__(
        self, dataset: Dataset, split: str, supervision: Sequence[str], limit: int | None = None
    ) -> None:
        self.card = dataset.card
        self.split = split
        self.supervision = frozenset(supervision)
        self.ids = dataset.ids(split)[:limit]
        self.__dataset = dataset

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.sample(self.ids[index])

    def __iter__(self) -> Iterator[Sample]:
        return (self.sample(id) for id in self.ids)

    def tags(self, id: str) -> Tags:
        """The (K,) tags of the image `id`, which is not read; for steps that have declared tags."""
        if "tags" not in self.supervision:
            raise LookupError("tags are not among the supervision that this step declares")
        return self.__dataset.tags(id)

    def sample(self, id: str) -> Sample:
        """The sample called `id`, read from the data set now."""
        data, allowed = self.__dataset, self.supervision
        return Sample(
            id=id,
            image=data.image(id),
            tags=data.tags(id) if "tags" in allowed else None,
            class_names=data.card.class_names if "class_names" in allowed else None,
            mask=data.mask(id) if "masks" in allowed else None,
        )


# --------------------------------------------------------------------------------------------- artifacts


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


class Artifacts(Protocol):
    """What the step before gave, on disk: `given[id]` reads one image's outputs (image size included)."""

    def __getitem__(self, id: str) -> Outputs: ...

    def __len__(self) -> int: ...


# ------------------------------------------------------------------------------------------------- steps


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


class Predictor(Protocol):
    """A fitted step. Batched; the images of one call may differ in size."""

    def __call__(
        self,
        images: Sequence[Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> Sequence[Outputs]:
        """Outputs of `images`, uint8 tensors (3, H, W) on the context's device.

        `tags` (B, K) are given when training images are labelled; None asks for plain segmentation. `given`
        holds what the step before said of the same images (empty for a first step). `want` names the kinds
        that will be kept: others may be left out.
        """


@runtime_checkable
class Step(Protocol):
    """One object per configuration; the unit that strangers write.

    The entry point is a class with `Config` (a frozen dataclass of `option`s), `presets` (name -> options;
    that of the data set's name is the default), `__init__(config)`, perhaps `path_option` (what `NAME:PATH`
    fills), `skip(split, ids)` (why it is silent on these, or ""), `ready()` and `ready_on(card,
    filter_backend)` (WsssError if it cannot run, or not on this data set or with this Gaussian filter) and
    `stride_of(kind)` (pixels of the image per cell of its maps or probabilities).
    """

    card: StepCard
    config: Any

    def fit(self, train: View, given: Artifacts, ctx: Context) -> Predictor:
        """Learn from `train` (and the artifacts of the step before); save into `ctx.workdir`."""

    def restore(self, ctx: Context) -> Predictor:
        """Rebuild the predictor from `ctx.workdir`."""


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


# ----------------------------------------------------------------------------------------------- metrics

Counts: TypeAlias = "Mapping[str, NDArray[np.int64]]"


class Metric(Protocol):
    """Two pure functions: additive integer counts of one image, and numbers from summed counts.

    One that scores the triples of `confusion_counts`, counted anyway, says so by `from_confusion = True`; one
    that needs those of every image apart has `score_table(table, classes)` beside `score`.
    """

    name: str
    needs: Kind
    better: Literal["higher", "lower"]
    unit: str

    def count(self, output: Any, gold: Mask, classes: int) -> Counts: ...

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]: ...


# -------------------------------------------------------------------------------------------- row identity
