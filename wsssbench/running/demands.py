"""Which outputs of which steps a plan will make and keep, and how much disk they can take."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsssbench.errors import WsssError, size_text
from wsssbench.machine.hardware import Hardware
from wsssbench.planning.cells import Cell, PlannedStep, artifact_name
from wsssbench.planning.plan import cell_kinds, is_tuned_elsewhere, judged_step
from wsssbench.running.fits import chain_of, read_fit
from wsssbench.types import Dataset, DatasetCard, Kind

SLOW_PX = 250  # a CRF of 100 x 100 pixels and 21 labels took 84 s by the exact filter on two cores: x 39 here
WORDS = {"maps": "maps", "probs": "probabilities"}  # what takes room; pictures of labels are small


@dataclass(frozen=True)
class Demand:
    """Kinds of outputs of a step, of `images` of a split, in the folder `name` of its artifacts."""

    planned: PlannedStep
    name: str
    kinds: frozenset[Kind]
    split: str
    tags_given: bool
    images: int


def judged_demands(cell: Cell) -> Iterator[Demand]:
    """What judging a cell needs: outputs of the judged step, and of the steps that they are made from."""
    stage, planned, kinds = cell.stage, judged_step(cell.trial.steps, cell.stage), cell_kinds(cell)
    if kinds:
        ids = cell.trial.dataset.ids(cell.split)[: cell.identity.terms.limit]
        name = artifact_name(cell.split, stage.tags_given, stage)
        yield Demand(planned, name, frozenset(kinds), cell.split, stage.tags_given, len(ids))
        yield from _taken(planned, cell.split, len(ids), tags_given=stage.tags_given)


def learned_demands(cell: Cell, *, fitted: bool = False) -> Iterator[Demand]:
    """What the steps learn from that are not fitted yet (or also what `fitted` ones learned from), and what
    a threshold is tuned on."""
    card, judged = cell.trial.dataset.card, judged_step(cell.trial.steps, cell.stage)
    images = len(cell.trial.dataset.ids(card.fit_split)[: cell.identity.terms.limit])
    for planned in chain_of(judged):
        if planned.before is not None and planned.learns_from and (fitted or not read_fit(planned)):
            kinds = frozenset(planned.learns_from)
            yield from _whole(planned.before, kinds, card.fit_split, images, tags_given=True)
    if is_tuned_elsewhere(cell):
        maps, given = frozenset[Kind]({"maps"}), cell.stage.tags_given
        yield from _whole(
            judged, maps, card.label_split, len(cell.tuned_on), tags_given=given, part=cell.tuned_on
        )


def _whole(
    planned: PlannedStep, kinds: frozenset[Kind], split: str, images: int,
    *, tags_given: bool, part: Sequence[str] | None = None,
) -> Iterator[Demand]:  # fmt: skip
    """`kinds` of a step, and what they are made from."""
    name = artifact_name(split, tags_given, part=part)
    yield Demand(planned, name, kinds, split, tags_given, images)
    yield from _taken(planned, split, images, tags_given=tags_given, part=part)


def _taken(
    planned: PlannedStep, split: str, images: int, *, tags_given: bool, part: Sequence[str] | None = None
) -> Iterator[Demand]:
    """What a step takes of the one before when it predicts."""
    if planned.before is not None and planned.takes:
        kinds = frozenset(planned.takes)
        yield from _whole(planned.before, kinds, split, images, tags_given=tags_given, part=part)


# --------------------------------------------------------------------------------------------------- disk


@dataclass(frozen=True)
class Room:
    """What one kind of outputs can take at most."""

    bytes: int
    images: int
    what: str  # "probabilities of rrm on val"


def rooms(cells: Sequence[Cell]) -> list[Room]:
    """What the maps and probabilities of the cells that will run can take, the most first.

    Each is counted once, whichever cells share it; what lies there already is not subtracted.
    """
    sizes: dict[tuple[str, str, Kind], Room] = {}
    for cell in cells:
        if cell.state not in ("missing", "failed"):
            continue
        for demand in (*judged_demands(cell), *learned_demands(cell)):
            for kind in sorted(demand.kinds & WORDS.keys()):
                place = (demand.planned.key, demand.name, kind)
                if place not in sizes or sizes[place].images < demand.images:
                    what = f"{WORDS[kind]} of {demand.planned.name} on {demand.name}"
                    sizes[place] = Room(_bytes(cell.trial.dataset, demand, kind), demand.images, what)
    return sorted(sizes.values(), key=lambda room: -room.bytes)


def _bytes(dataset: Dataset, demand: Demand, kind: Kind) -> int:
    """Of squares with the data set's long side, at the stride that the step names or else at full size."""
    card, step = dataset.card, demand.planned.step
    stride = step.stride_of(kind)
    if not stride > 0:
        hint = "it is the number of pixels of the image per cell; without stride_of it is taken for 1"
        raise WsssError(f"stride_of({kind!r}) is {stride!r}", where=demand.planned.name, hint=hint)
    cells, classes = math.ceil(card.image_px / stride) ** 2, len(card.class_names)
    if kind == "probs" or not demand.tags_given:
        planes = demand.images * (classes + (kind == "probs"))
    else:
        planes = sum(int(dataset.tags(id).sum()) for id in dataset.ids(demand.split)[: demand.images])
    from wsssbench.artifacts import most_bytes

    return most_bytes(kind, demand.images, planes, cells)


def disk_line(found: Sequence[Room]) -> list[str]:
    """How much disk the plan can take, and what takes the most; [] where it makes nothing that takes room."""
    total = sum(room.bytes for room in found)
    if not total:
        return []
    most = f"{size_text(found[0].bytes)} for {found[0].what}" if len(found) > 1 else found[0].what
    return [f"disk: at most {size_text(total)} for maps and probabilities ({most})"]


def too_little(found: Sequence[Room], runs: Path) -> list[str]:
    """A warning where the disk of `runs` has less free than the plan can take."""
    total = sum(room.bytes for room in found)
    there = next(place for place in (runs.resolve(), *runs.resolve().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free >= total:
        return []
    return [f"warning: {size_text(free)} are free in {there}; `wsssbench clean --artifacts` makes room later"]


def slow_filter(card: DatasetCard, hardware: Hardware) -> list[str]:
    """A warning where a filter would take an hour and more for one image of the data set."""
    if hardware.filter_backend != "exact" or hardware.device != "cpu" or card.image_px < SLOW_PX:
        return []
    what = "--filter exact sums over all pairs of pixels: on a CPU the CRF of one image of"
    return [f"warning: {what} {card.name} ({card.image_px} px) takes an hour or more; lattice takes seconds"]
