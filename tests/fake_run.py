"""A made-up data set in memory and made-up steps, for the tests of the plan and the engine.

The steps note what happens to them in EVENTS, and FAULTS makes them fail: neither is part of any key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wsssbench.files.file_hashes import file_sha256
from wsssbench.identity import content_key
from wsssbench.machine.hardware import resolve_hardware
from wsssbench.planning.cells import Cell
from wsssbench.planning.plan import make_plan
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Entry, Plugins
from wsssbench.records.store import FAILURE, TRACE, UNFINISHED
from wsssbench.running.engine import Engine
from wsssbench.running.screen.progress import Progress
from wsssbench.running.step_runner import StepRunner
from wsssbench.scores.confusion import Accuracy
from wsssbench.types import DatasetCard, Maps, NoConfig, Outputs, StepCard, View, option

EVENTS: list[tuple[str, Any]] = []  # ("first.fit", view), ("first.predict", number of images), ...
FAULTS: dict[str, Callable[[], None]] = {}  # "first.fit" -> called there; raises what the test wants
SIZES = ((12, 16), (10, 14))  # (H, W), by turns
COUNTS = {"train": 5, "val": 3}


def note(name: str, what: Any) -> None:
    """Remember an event, or fail there."""
    EVENTS.append((name, what))
    if name in FAULTS:
        FAULTS[name]()


def count(name: str) -> int:
    """How often `name` has happened."""
    return sum(event == name for event, _ in EVENTS)


# ------------------------------------------------------------------------------------------------ data set


@dataclass(frozen=True)
class ToyConfig:
    """Options of `toy`."""

    tint: int = option(200, "brightness of objects")
    workers: int = option(1, "changes nothing", key=False)


class Toy:
    """Two classes: class k is where colour channel k is bright."""

    Config = ToyConfig
    presets: ClassVar = {}
    card = DatasetCard(
        name="toy", version="1", class_names=("red", "green"), splits=("train", "val"), fit_split="train",
        label_split="train", eval_split="val", label_source="mask", licence="none", source="made up",
        image_px=16,
    )  # fmt: skip

    def __init__(self, config: ToyConfig, seed: int) -> None:
        self.tint, self.spoilt = config.tint, ""
        self.card = replace(self.card, options={"tint": config.tint})

    def ids(self, split: str) -> tuple[str, ...]:
        return tuple(f"{split}{n}" for n in range(COUNTS[split]))

    def image(self, id: str) -> Any:
        image = np.full((*self.mask(id).shape, 3), 40, np.uint8)
        for k in range(2):
            image[self.mask(id) == k + 1, k] = self.tint
        return image

    def mask(self, id: str) -> Any:
        number = int(id[-1])
        mask = np.zeros(SIZES[number % 2], np.uint8)
        mask[2:8, 2 : 7 + number] = 1 + number % 2
        mask[-1] = 255
        return mask

    def tags(self, id: str) -> Any:
        return np.isin([1, 2], self.mask(id))

    def fingerprint(self, split: str) -> str:
        return content_key(["toy", split, self.tint, self.spoilt])


# --------------------------------------------------------------------------------------------------- steps


class Fake:
    """What the steps share: a file that says what was learned, and notes of every call."""

    Config: ClassVar[type] = NoConfig
    presets: ClassVar = {}
    card: StepCard

    def __init__(self, config: Any) -> None:
        self.config = config

    def fit(self, train: View, given: Any, ctx: Any) -> Any:
        note(f"{self.card.name}.fit", train)
        ctx.progress(1, 1, len(train), {"loss": 0.5})
        (ctx.workdir / "learned.txt").write_text(f"{len(train)} images, {len(given)} given")
        return self._predictor(ctx)

    def restore(self, ctx: Any) -> Any:
        note(f"{self.card.name}.restore", (ctx.workdir / "learned.txt").read_text())
        return self._predictor(ctx)

    def _predictor(self, ctx: Any) -> Any:
        def one(image: Any, tags: Any, before: Outputs, want: Any) -> Outputs:
            note(f"{self.card.name}.image", sorted(want))
            return self.outputs(image.cpu().numpy(), tags, before)

        def predict(images: Any, tags: Any, given: Any, want: Any) -> list[Outputs]:
            note(f"{self.card.name}.predict", len(images))
            tags = np.ones((len(images), 2), bool) if tags is None else tags
            return [one(*each, want) for each in zip(images, tags, given, strict=True)]

        return predict

    def outputs(self, image: Any, tags: Any, before: Outputs) -> Outputs:
        raise NotImplementedError


@dataclass(frozen=True)
class FirstConfig:
    """Options of `first`."""

    threshold: float = option(0.5, "map value above which a pixel is foreground")
    weights: str = option("", "a file", file=True)
    batch: int = option(4, "images per step")
    workers: int = option(1, "changes nothing", key=False)


class First(Fake):
    """A localizer: maps of bright colours, at half the size."""

    Config = FirstConfig
    card = StepCard("first", "1", "localizer", ("tags",), ("maps", "tag_scores"))

    def outputs(self, image: Any, tags: Any, before: Outputs) -> Outputs:
        chosen = np.flatnonzero(tags)
        planes = (image[:2, ::2, ::2] / 255).astype(np.float32)
        return Outputs(maps=Maps(chosen, planes[chosen]), tag_scores=planes.mean((1, 2)))


class Second(Fake):
    """A refiner: labels and probabilities from maps."""

    card = StepCard("second", "1", "refiner", (), ("labels", "probs"), takes=("maps",))

    def outputs(self, image: Any, tags: Any, before: Outputs) -> Outputs:
        assert before.maps is not None
        planes = np.full((3, *before.maps.values.shape[1:]), 0.05, np.float32)
        planes[0] = 0.5
        planes[before.maps.classes + 1] = np.maximum(before.maps.values, 0.05)
        labels = np.argmax(planes, 0).astype(np.uint8).repeat(2, 0).repeat(2, 1)
        return Outputs(labels=labels, probs=planes / planes.sum(0))


class Third(Fake):
    """A segmenter that learns from labels; it gives probabilities alone."""

    card = StepCard("third", "1", "segmenter", ("tags",), ("probs",), learns_from=("labels",))

    def outputs(self, image: Any, tags: Any, before: Outputs) -> Outputs:
        planes = np.concatenate([np.full((1, *image.shape[1:]), 100), image[:2]]).astype(np.float32)
        return Outputs(probs=planes / planes.sum(0))


class Either(Fake):
    """A refiner of probabilities or, where there are none, of maps; it notes what it was given."""

    card = StepCard("either", "1", "refiner", (), ("labels",), takes=("probs|maps",))

    def outputs(self, image: Any, tags: Any, before: Outputs) -> Outputs:
        note("either.given", [kind for kind, value in vars(before).items() if value is not None])
        return Outputs(labels=np.zeros(image.shape[1:], np.uint8))


class Other(Fake):
    """A method of its own, beside the others."""

    card = StepCard("other", "1", "control", (), ("labels",))

    def outputs(self, image: Any, tags: Any, before: Outputs) -> Outputs:
        return Outputs(labels=np.zeros(image.shape[1:], np.uint8))


class MapMetric:
    """A metric of maps: how many there are in the mean."""

    name, needs, better, unit = "map_metric", "maps", "higher", "maps"

    def count(self, output: Maps, gold: Any, classes: int) -> dict[str, Any]:
        return {"maps": np.array([len(output.classes)]), "images": np.array([1])}

    def score(self, counts: Any, classes: int) -> dict[str, float]:
        return {"maps": float(counts["maps"][0] / counts["images"][0])}


STEPS = (First, Second, Third, Either, Other)


class FakePlugins(Plugins):
    """The fakes of this file in the place of what is installed."""

    def _installed(self) -> Iterator[Entry]:
        file = Path(__file__)
        for cls in STEPS:
            yield Entry("steps", cls.card.name, f"fakes:{cls.__name__}", "fakes", "1", file, cls)
        yield Entry("datasets", "toy", "fakes:Toy", "fakes", "1", file, Toy)
        for metric in (Accuracy, MapMetric):
            yield Entry("metrics", metric.name, f"fakes:{metric.__name__}", "fakes", "1", file, metric)


# ----------------------------------------------------------------------------------------------------- run


def settings(runs: Path, *methods: str, **changes: Any) -> Settings:
    """Settings for the data set `toy` on the CPU, stage `seg`."""
    asked: dict[str, Any] = {"datasets": ("toy",), "stages": ("seg",), "device": "cpu", **changes}
    return Settings(methods=methods or ("first",), runs=runs, **asked)


def plan(
    runs: Path, *methods: str, plugins: Plugins | None = None, **changes: Any
) -> tuple[Settings, list[Cell]]:
    """The settings and their cells."""
    asked = settings(runs, *methods, **changes)
    return asked, make_plan(asked, plugins or FakePlugins())


def run(runs: Path, *methods: str, out: Any = None, **changes: Any) -> tuple[int, list[Cell]]:
    """Plan and run; the number of failed cells, and the cells as they were planned."""
    asked, cells = plan(runs, *methods, **changes)
    progress = Progress(out) if out is not None else Progress(quiet=True)
    return Engine(StepRunner(resolve_hardware(asked), asked.limit, progress)).run(cells), cells


def content(folder: Path) -> dict[str, str]:
    """What a result consists of: sha256 of each file, without locks and what tells of failures."""
    left_out = {".lock", ".holder", FAILURE, TRACE, UNFINISHED}
    return {
        str(path.relative_to(folder)): file_sha256(path)
        for path in folder.rglob("*")
        if path.is_file() and left_out.isdisjoint(path.parts)
    }
