"""What names a row: its stage, terms, steps and record, and the hash of such plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from wsssbench.option_fields import NoConfig as NoConfig
from wsssbench.option_fields import option as option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB
    Mask: TypeAlias = NDArray[np.uint8]  # (H, W) in 0..K or 255
    Tags: TypeAlias = NDArray[np.bool_]  # (K,)

FilterBackend: TypeAlias = Literal["lattice", "exact", "pydensecrf"]  # of the Gaussian filter
BACKENDS: tuple[FilterBackend, ...] = get_args(FilterBackend)


@dataclass(frozen=True)
class CrfSet:
    """Parameters of one dense CRF: Potts compatibilities, widths in pixels (and 0..255 colour units)."""

    gauss_xy: float = option(MISSING, "width of the smoothness kernel, pixels", above=0)
    gauss_compat: float = option(MISSING, "its weight", low=0)
    bilateral_xy: float = option(MISSING, "width of the appearance kernel, pixels", above=0)
    bilateral_rgb: float = option(MISSING, "its width in colours of 0..255", above=0)
    bilateral_compat: float = option(MISSING, "its weight", low=0)
    iterations: int = option(10, "of mean field", low=1)


@dataclass(frozen=True)
class Stage:
    """A named protocol: what is judged, where, with which help."""

    name: str
    version: str
    judged: Literal["maps", "pseudo", "seg"]
    split: Literal["label", "eval"]  # which split of the data set's card
    tags_given: bool
    crf: CrfSet | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    question: str = ""
    custom: bool = False

    @property
    def multi_scale(self) -> bool:
        """Whether images are looked at scaled or mirrored, beside or in place of as they are."""
        return self.scales != (1.0,) or self.flip


ADDED = {"added": True}  # a field that older records lack: where it has its default, no key knows of it


@dataclass(frozen=True)
class Terms:
    """The part of a row's identity that must be equal for rows to be ranked or compared."""

    stage: str
    stage_version: str
    custom: bool
    dataset: str
    dataset_version: str
    dataset_options: Mapping[str, Any]  # those that concern the judged split
    classes: tuple[str, ...]
    split: str
    split_fingerprint: str  # of the judged split; empty for a generated set, whose options stand instead
    tags_at_evaluation: bool
    threshold_policy: str  # none, fixed, held-out, label-free, oracle
    crf: Mapping[str, Any] | None
    scales: tuple[float, ...]
    flip: bool
    resolution: str  # "image": labels are judged at the size of the truth
    limit: int | None
    judged: str = field(default="", metadata=ADDED)  # maps, pseudo or seg; empty in rows of before: `earlier`
    threshold_rule: str = field(default="", metadata=ADDED)  # version of what the policy does
    # long side of the images where it was looked at and is not VOC's 500, which widths in pixels are made for
    image_px: int = field(default=0, metadata=ADDED)

    @property
    def earlier(self) -> bool:
        """Whether the row was judged by the protocol of before: its terms say less, and some else."""
        return not self.judged


@dataclass(frozen=True)
class StepIdentity:
    """One step of a recipe as it enters a key."""

    name: str
    version: str
    config: Mapping[str, Any]  # key options only; files by their sha256


@dataclass(frozen=True)
class RowIdentity:
    """Everything that could change a row's numbers; its hash is the row's key."""

    terms: Terms
    recipe: tuple[StepIdentity, ...]
    supervision: tuple[str, ...]
    fit_fingerprint: str  # of the split that the recipe learned from
    threshold: Mapping[str, Any] | None  # value and the ids it was tuned on
    seed: int  # of training, and of a generated data set
    batch: int | Mapping[str, int]  # "step.option" -> images a step, of every training; older: the first's
    precision: str
    filter_backend: str
    # options of a generated data set that concern the split that the recipe learned from
    fit_options: Mapping[str, Any] = field(default_factory=dict, metadata=ADDED)


@dataclass(frozen=True)
class Record:
    """One cell's result as it stands in record.json (docs in `wsssbench.records.store`)."""

    key: str
    status: Literal["ok", "failed"]
    method: str
    identity: RowIdentity
    scores: Mapping[str, Any] = field(default_factory=dict)  # metric name -> {number name: value or list}
    timing: Mapping[str, Any] = field(default_factory=dict)  # seconds, images, by step and phase
    provenance: Mapping[str, Any] = field(default_factory=dict)  # code, versions, hardware, command, time
    reason: str = ""  # of a failure, one line; of a result that was read: why a later attempt failed
    schema: int = 1


def plain(value: Any) -> Any:
    """`value` as JSON types: dataclasses become dicts, tuples lists, paths strings, numpy scalars numbers."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: (getattr(value, f.name), f) for f in dataclasses.fields(value)}
        return {name: plain(own) for name, (own, f) in fields.items() if own or "added" not in f.metadata}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    value = value.tolist() if hasattr(value, "tolist") else value
    return str(value) if isinstance(value, Path) else value


def content_key(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`: equal content, equal key."""
    import hashlib
    import json

    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
