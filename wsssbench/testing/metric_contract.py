"""The contract of a metric: its description, integer counts that add up, and numbers that follow from them.

It is tried on the made-up data set: on a good output, on one of other classes, and on an image without truth.
What a number means is the metric's own; nothing here compares it with another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.metrics import TRIPLES, add_counts
from wsssbench.plugins.contract import complete
from wsssbench.testing.contracts import Contracts
from wsssbench.testing.step_contract import FILE_NAME
from wsssbench.testing.tiny import TinyDataset, made_up_outputs
from wsssbench.types import IGNORE, KINDS, Counts, Kind, Maps, Metric, Outputs

if TYPE_CHECKING:
    from wsssbench.types import Mask

BETTER = ("higher", "lower")
PLAIN = (int, float, str, bool, type(None))  # what a record can keep as JSON


def check_metric(cls: type, name: str = "") -> tuple[str, ...]:
    """The contracts that the metric class `cls` keeps; BrokenContract lists those that it does not.

    `name` is what its entry point calls it.
    """
    contracts = Contracts(name or cls.__name__)
    with contracts.attempt("cls() makes a metric"):
        metric: Any = complete(cls, Metric)()
    _check_description(contracts, metric, name)
    counts, classes = _check_counts(contracts, metric)
    _check_sums(contracts, metric, counts, classes)
    return contracts.settle()


def _check_description(contracts: Contracts, metric: Any, name: str) -> None:
    own = getattr(metric, "name", None)
    named = isinstance(own, str) and bool(FILE_NAME.fullmatch(own)) and own == (name or own)
    contracts.expect(named, f"its name is {name or 'a name for a column'}", f"it is {own!r}")
    for field, known in (("needs", KINDS), ("better", BETTER)):
        value = getattr(metric, field, None)
        contracts.expect(value in known, f"{field} is one of {', '.join(known)}", f"it is {value!r}")
    unit = getattr(metric, "unit", None)
    said = isinstance(unit, str) and bool(unit)
    contracts.expect(said, 'unit is a word, such as "%" or "px"', f"it is {unit!r}")
    for method in ("count", "score"):
        there = callable(getattr(metric, method, None))
        contracts.expect(there, f"it has a method {method}", "it has none")
    if contracts.broken:  # nothing can be counted without these
        contracts.settle()


# ------------------------------------------------------------------------------------------------- counts


def _check_counts(contracts: Contracts, metric: Any) -> tuple[list[Counts], int]:
    """The counts of every image, each checked, with the number of foreground classes."""
    data = TinyDataset()
    classes = len(data.card.class_names)
    counts = []
    for number, id in enumerate((*data.ids("train"), *data.ids("val"))):
        gold = data.scene(id)[1]
        good = _judged(made_up_outputs(data, id, KINDS), metric.needs)
        output = _of_other_classes(good, metric.needs, classes) if number % 2 else good
        counts.append(_count(contracts, metric, output, gold, classes))
    counts.append(_count(contracts, metric, good, np.full_like(gold, IGNORE), classes))
    return counts, classes


def _judged(outputs: Outputs, needs: Kind) -> Any:
    return getattr(outputs, needs)


def _of_other_classes(output: Any, needs: Kind, classes: int) -> Any:
    """`output` that says another class everywhere; labels abstain in a part of the image."""
    if isinstance(output, Maps):
        return Maps(classes - 1 - output.classes[::-1], output.values[::-1])
    if needs in ("labels", "mined"):
        other = np.where(output == IGNORE, output, classes - output).astype(np.uint8)
        other[:, :5] = IGNORE
        return other
    return output[::-1].copy()


def _count(contracts: Contracts, metric: Any, output: Any, gold: Mask, classes: int) -> Counts:
    """`metric.count` of one image, twice; what is wrong with it ends the check."""
    seen, truth = deepcopy(output), gold.copy()
    with contracts.attempt("count takes an output, the truth (0..K or 255) and K"):
        first: Any = metric.count(output, gold, classes)
        again: Any = metric.count(output, gold, classes)
    kept = _equal(seen, output) and np.array_equal(truth, gold)
    contracts.expect(kept, "count leaves output and truth as they are", "it changed them")
    good = isinstance(first, Mapping) and all(isinstance(key, str) for key in first)
    if contracts.expect(good, "counts are a mapping from names to arrays", f"they are {first!r:.60}"):
        for key, array in first.items():
            whole = isinstance(array, np.ndarray) and array.dtype == np.int64
            found = f"{key!r} is {getattr(array, 'dtype', type(array).__name__)}"
            contracts.expect(whole, "counts are int64 arrays", found)
    if contracts.broken:
        contracts.settle()
    contracts.expect(_equal(first, again), "equal outputs have equal counts", "a second count differs")
    return dict(first)


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, Maps):
        return _equal(vars(one), vars(two))
    if isinstance(one, Mapping):
        return set(one) == set(two) and all(np.array_equal(one[key], two[key]) for key in one)
    return bool(np.array_equal(one, two))


# ------------------------------------------------------------------------------------------------- scores


def _check_sums(contracts: Contracts, metric: Any, counts: Sequence[Counts], classes: int) -> None:
    """Counts of any images add up, in any order, and every sum has a score."""
    with contracts.attempt("counts of different images have equal names and shapes, so that they add up"):
        sums = [add_counts(counts), add_counts(counts[::-1])]
        sums.append(add_counts([add_counts(counts[::2]), add_counts(counts[1::2])]))
    scores = [_scored(contracts, metric.score, total, classes) for total in sums]
    same = scores[0] == scores[1] == scores[2]
    contracts.expect(same, "the score does not depend on the order of the images", f"it is {scores[:2]}")
    for part in counts:  # a lone image too: classes without truth, no truth at all
        _scored(contracts, metric.score, part, classes)
    whole = type(metric).score_table is not Metric.score_table
    if whole or metric.from_confusion:
        triples = all(set(part) == TRIPLES for part in counts)
        rule = "from_confusion and score_table go with the counts of confusion_counts"
        if not contracts.expect(triples, rule, f"there are {', '.join(counts[0])}"):
            contracts.settle()
    if whole:
        from wsssbench.scores.counts_table import CountsTable

        ids = [f"image_{number}" for number in range(len(counts))]
        _scored(contracts, metric.score_table, CountsTable.of(ids, list(counts)), classes)


def _scored(
    contracts: Contracts, score: Callable[[Any, int], Any], counts: Any, classes: int
) -> dict[str, Any]:
    """The numbers of summed counts, checked."""
    kept = deepcopy(counts) if isinstance(counts, Mapping) else None
    with contracts.attempt("a score is defined for the counts of any images (None where it has no meaning)"):
        found: Any = score(counts, classes)
    good = isinstance(found, Mapping) and len(found) > 0 and all(isinstance(key, str) for key in found)
    if not contracts.expect(
        good, "a score is a mapping from names to numbers, not empty", f"it is {found!r:.60}"
    ):
        contracts.settle()
    odd = {key: value for key, value in found.items() if not _is_plain(value)}
    rule = "scores are finite numbers, None, or lists of them, in Python's own types"
    contracts.expect(not odd, rule, f"there is {repr(odd).replace(chr(10), ' '):.80}")
    if kept is not None:
        contracts.expect(_equal(kept, counts), "score leaves the counts as they are", "it changed them")
    return dict(found)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return type(value) in PLAIN and not (isinstance(value, float) and not np.isfinite(value))
