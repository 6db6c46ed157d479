"""What a plugin may define, on one page: a data set, a step, its predictor, a metric.

Each is a class to inherit from. Methods marked abstract must be written; all else has a default. A class that
does not inherit gets the defaults when it is loaded. What passes between the harness and a plugin (cards,
samples, outputs with their shapes, a step's context) stands in `wsssbench.exchange`; import it from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

# isort: off
from wsssbench.exchange import (
    IGNORE, KINDS, SUPERVISION, Artifacts, Context, Counts, DatasetCard, Kind, Maps, Outputs, Predict,
    Sample, StepCard,
)  # fmt: skip

# isort: on
from wsssbench.option_fields import NoConfig, option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from wsssbench.exchange import Image as Image
    from wsssbench.exchange import Mask as Mask
    from wsssbench.exchange import Tags as Tags

__all__ = [
    "IGNORE", "KINDS", "SUPERVISION", "Artifacts", "Context", "Counts", "Dataset", "DatasetCard", "Kind",
    "Maps", "Metric", "NoConfig", "Outputs", "Predict", "Predictor", "Sample", "Step", "StepCard", "View",
    "option",
]  # fmt: skip


class Dataset(ABC):
    """Images, tags and masks. The judge holds it; a step gets a `View` instead."""

    Config: ClassVar[type] = NoConfig  # a frozen dataclass of `option`s
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # name -> options
    card: DatasetCard
    coded: str = ""  # what masks on disk hold if not class numbers from 0: "numbers" (others) or "colours"
    bare_splits: tuple[str, ...] = ()  # those that have images only

    @abstractmethod
    def __init__(self, config: Any, seed: int) -> None:
        """`config` is a `Config`; `seed` is for generated sets."""

    @abstractmethod
    def ids(self, split: str) -> tuple[str, ...]:
        """The ids of a split, always in the same order; WsssError for a split that the card does not name."""

    @abstractmethod
    def image(self, id: str) -> Image: ...

    @abstractmethod
    def tags(self, id: str) -> Tags: ...

    @abstractmethod
    def mask(self, id: str) -> Mask: ...

    @abstractmethod
    def fingerprint(self, split: str) -> str:
        """sha256 (hex) over ids, tags and the bytes of images and masks of `split`."""

    def read_mask(self, path: Path) -> Mask:
        """The labels in any file that is coded as the masks are; for `wsssbench score --coding truth`."""
        raise NotImplementedError

    def prepare(self) -> Any:
        """A report of every file for `wsssbench prepare` (`str` of it is printed); None: nothing to check."""
        return None


class View(Sequence[Sample]):
    """What a step is handed instead of the data set: samples of one split with the declared supervision."""

    def __init__(
        self, dataset: Dataset, split: str, supervision: Sequence[str], limit: int | None = None
    ) -> None:
        self.card, self.split, self.supervision = dataset.card, split, frozenset(supervision)
        self.ids = dataset.ids(split)[:limit]
        self.__dataset = dataset

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.sample(self.ids[index])

    def __iter__(self) -> Iterator[Sample]:
        return map(self.sample, self.ids)  # by ids: an IndexError of the data set must not end it

    def tags(self, id: str) -> Tags:
        """The (K,) tags of the image `id`, which is not read; LookupError where tags are not declared."""
        if "tags" not in self.supervision:
            raise LookupError("tags are not among the supervision that this step declares")
        return self.__dataset.tags(id)

    def sample(self, id: str) -> Sample:
        """The sample called `id`, read from the data set now."""
        data, allowed = self.__dataset, self.supervision
        tags = data.tags(id) if "tags" in allowed else None
        names = data.card.class_names if "class_names" in allowed else None
        return Sample(id, data.image(id), tags, names, data.mask(id) if "masks" in allowed else None)


class Predictor(ABC):
    """A fitted step. Batched; the images of one call may differ in size. A function will do as well."""

    images_per_call: int = 16

    @abstractmethod
    def __call__(
        self,
        images: Sequence[Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> Sequence[Outputs]:
        """Outputs of `images`, uint8 tensors (3, H, W) on the context's device.

        `tags` (B, K) are given when training images are labelled, else None. `given` holds what the step
        before said of these images (empty for a first step), `want` names the kinds that will be kept.
        """

    def look_up(self, ids: Sequence[str], images: Sequence[Tensor]) -> Sequence[Outputs] | None:
        """Outputs made elsewhere, by the images' ids (`images` to check sizes by); None: ask for them."""
        return None


class Step(ABC):
    """One object per configuration; the unit that plugin authors write."""

    card: StepCard
    Config: ClassVar[type] = NoConfig  # a frozen dataclass of `option`s; `threshold` turns maps into labels
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # the one named as the data set is the default
    path_option: ClassVar[str] = ""  # the option that NAME:PATH fills
    trains_together: ClassVar[bool] = False  # `fit` may run in several processes, and shares work by `train`

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def fit(self, train: View, given: Artifacts, ctx: Context) -> Predict:
        """Learn from `train` (and the artifacts of the step before); save into `ctx.workdir`."""

    @abstractmethod
    def restore(self, ctx: Context) -> Predict:
        """Rebuild the predictor from `ctx.workdir`."""

    def ready(self) -> None:  # noqa: B027
        """WsssError where the step cannot run here (a program or a file is missing)."""

    def ready_on(self, card: DatasetCard, filter_backend: str) -> None:  # noqa: B027
        """WsssError where it cannot run on this data set, or with this Gaussian filter."""

    def skip(self, split: str, ids: Sequence[str]) -> str:
        """Why the step says nothing of these images; "" where it answers."""
        return ""

    def stride_of(self, kind: Kind) -> float:
        """Pixels of the image per cell of its maps or probabilities."""
        return 1

    def default_threshold(self) -> float | None:
        """Where the policy `fixed` cuts its maps, in 0..1; None where it has none."""
        return getattr(self.config, "threshold", None)

    def batches(self) -> Mapping[str, int]:
        """Option -> images of a training's batch, which processes started together share."""
        c = self.config
        return {"batch": c.batch} if hasattr(c, "batch") and getattr(c, "steps", True) else {}


class Metric(ABC):
    """Two pure functions: additive integer counts of one image, and numbers from summed counts."""

    name: str
    needs: Kind
    better: Literal["higher", "lower"]
    unit: str
    from_confusion: bool = False  # its counts are those of `confusion_counts`, which are counted anyway

    @abstractmethod
    def count(self, output: Any, gold: Mask, classes: int) -> Counts: ...

    @abstractmethod
    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]: ...

    def score_table(self, table: Any, classes: int) -> Mapping[str, Any]:
        """Numbers from the confusions of all images, each apart (a `CountsTable`)."""
        return self.score(table.total(), classes)
