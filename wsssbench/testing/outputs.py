"""The contract of a predictor: which outputs come back, of which shape, type and range."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.testing.contracts import Contracts
from wsssbench.testing.tiny import TinyDataset, made_up_outputs
from wsssbench.types import IGNORE, KINDS, Kind, Maps, Outputs, Predictor, StepCard

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME_FLOATS, SAME_LABELS = 1e-4, 0.999  # how close a restored predictor must come: values, share of pixels


def ask_all(
    contracts: Contracts, predictor: Predictor, data: TinyDataset, card: StepCard, who: str
) -> list[Outputs]:
    """Outputs for images of different sizes: with tags, without, each kind alone, each alternative given."""
    ids = data.ids("val")
    found: list[Outputs] = []
    for tagged, takes in product((True, False), alternatives(card.takes)):
        kinds: list[Kind] = [k for k in card.gives if tagged or k != "mined"]  # mining needs tags
        for want in [kinds, *([kind] for kind in kinds if len(kinds) > 1)]:
            when = f"{who} was asked for {', '.join(want)} {'with' if tagged else 'without'} tags"
            when += f" and given {', '.join(takes)}" if takes else ""
            outputs = _ask(contracts, predictor, data, takes, ids, tagged, want, when)
            found += outputs if want is kinds else []
    return found


def alternatives(needs: Sequence[str]) -> list[tuple[Kind, ...]]:
    """What a step before may give for `needs`: ("probs|maps", "labels") is two, with labels each."""
    chosen = product(*([kind for kind in KINDS if kind in need.split("|")] for need in needs))
    return list(chosen)


def _ask(
    contracts: Contracts,
    predictor: Predictor,
    data: TinyDataset,
    takes: Sequence[Kind],
    ids: Sequence[str],
    tagged: bool,
    want: Sequence[Kind],
    when: str,
) -> Sequence[Outputs]:
    import torch

    from wsssbench.running.predicting import outputs_of

    images = [torch.from_numpy(data.scene(id)[0].transpose(2, 0, 1).copy()) for id in ids]
    copies = [image.clone() for image in images]
    tags = np.stack([data.scene(id)[2] for id in ids]) if tagged else None
    given = [made_up_outputs(data, id, takes) for id in ids]
    with contracts.attempt("the predictor takes images of different sizes, with tags and without"):
        own = None if tags is None else tags.copy()
        outputs = outputs_of(predictor, ids, images, own, given, frozenset(want))
    unchanged = all(torch.equal(a, b) for a, b in zip(images, copies, strict=True))
    contracts.expect(unchanged, "the predictor leaves its images as they are", f"{when} and changed them")
    if not contracts.expect(
        len(outputs) == len(ids),
        "the predictor returns one Outputs per image",
        f"{when}: {len(outputs)} for {len(ids)}",
    ):
        contracts.settle()
    for i, output in enumerate(outputs):
        shape = data.scene(ids[i])[1].shape
        for kind in want:
            allowed = None if tags is None else tags[i]
            _check_kind(
                contracts, kind, getattr(output, kind), shape, len(data.card.class_names), allowed, when
            )
    return outputs


def _check_kind(
    contracts: Contracts,
    kind: Kind,
    value: Any,
    shape: tuple[int, ...],
    classes: int,
    tags: NDArray[np.bool_] | None,
    when: str,
) -> None:
    if not contracts.expect(
        value is not None, f"{kind} are returned where they are wanted", f"{when} and returned none"
    ):
        return
    rule, ok = RULES[kind]
    sentence = rule.format(K=classes, C=classes + 1)
    contracts.expect(ok(value, shape, classes, tags), sentence, f"{when} and returned {_words(value)}")


Rule = Callable[[Any, tuple[int, ...], int, "NDArray[np.bool_] | None"], bool]


def _is(value: Any, ndim: int, dtype: Any) -> bool:
    """Whether `value` is an array of `ndim` axes whose type is `dtype` or below it (np.floating)."""
    return isinstance(value, np.ndarray) and value.ndim == ndim and bool(np.issubdtype(value.dtype, dtype))


def _in_unit(value: NDArray[np.float32]) -> bool:
    return bool(np.all((value >= 0) & (value <= 1)))  # false for NaN


def _good_maps(value: Any, shape: tuple[int, ...], classes: int, tags: NDArray[np.bool_] | None) -> bool:
    if not (
        isinstance(value, Maps) and _is(value.classes, 1, np.integer) and _is(value.values, 3, np.floating)
    ):
        return False
    own = value.classes
    allowed = np.arange(classes) if tags is None else np.flatnonzero(tags)
    ascending = bool(np.all(np.diff(own) > 0)) and bool(np.isin(own, allowed).all())
    return ascending and len(own) == len(value.values) and _in_unit(value.values)


def _good_probs(value: Any, shape: tuple[int, ...], classes: int, tags: Any) -> bool:
    fits = _is(value, 3, np.floating) and len(value) == classes + 1
    return fits and _in_unit(value) and bool(np.allclose(value.sum(0), 1, atol=1e-2))


def _good_labels(value: Any, shape: tuple[int, ...], classes: int, tags: Any) -> bool:
    fits = _is(value, 2, np.uint8) and value.shape == shape
    return fits and bool(np.all((value <= classes) | (value == IGNORE)))


def _good_scores(value: Any, shape: tuple[int, ...], classes: int, tags: Any) -> bool:
    return _is(value, 1, np.floating) and len(value) == classes and _in_unit(value)


LABELS = "(H, W) uint8 of the image's size, in 0..{K} or 255"
RULES: Mapping[Kind, tuple[str, Rule]] = {
    "maps": (
        "maps are Maps of ascending (and tagged) classes in 0..{K}-1 and values (T, h, w) in [0, 1]",
        _good_maps,
    ),
    "probs": ("probs are ({C}, h, w) floats that sum to 1", _good_probs),
    "labels": (f"labels are {LABELS}", _good_labels),
    "mined": (f"mined labels are {LABELS}", _good_labels),
    "tag_scores": ("tag_scores are ({K},) floats in [0, 1]", _good_scores),
}


def _words(value: Any) -> str:
    """What a value is, in one phrase."""
    if isinstance(value, Maps):
        return f"Maps of classes {np.asarray(value.classes).tolist()} and values {_words(value.values)}"
    if isinstance(value, np.ndarray):
        span = f" in {value.min():g}..{value.max():g}" if value.size and value.dtype != object else ""
        return f"{value.shape} {value.dtype}{span}"
    return f"a {type(value).__name__}"


def same(one: Any, two: Any) -> bool:
    if one is None or two is None:
        return one is two
    if isinstance(one, Maps):
        return np.array_equal(one.classes, two.classes) and same(one.values, two.values)
    if one.shape != two.shape:
        return False
    if one.dtype == np.uint8:
        return float(np.mean(one == two)) >= SAME_LABELS
    return bool(np.allclose(one, two, atol=SAME_FLOATS))
