"""The options of the generated set `shapes`: their defaults, limits and presets. No drawing here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from wsssbench.errors import BadData, UnknownName, nearest
from wsssbench.option_fields import Range, range_of
from wsssbench.types import option
from wsssbench_datasets.shapes.forms import PATTERNS

BODIES = ("random", "two-tone", "camouflage", "class")
PART_COLOURS = ("class", "random")
CHOSEN = "set by the design, before any method ran on it"
NUMBERS: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (int, float)}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "two-tone": {"body": "two-tone"},
    "camouflage": {"body": "camouflage"},
    "class-body": {"body": "class"},
    "context": {"context": 1.0},
    "tiny": {"image_px": 48, "classes": 3, "part": 0.5, "max_objects": 1, "train": 48, "val": 24},
}


@dataclass(frozen=True)
class ShapesConfig:
    """What is drawn and how hard it is; BadData or UnknownName where a value is out of its limits."""

    image_px: int = option(96, "height and width of an image in pixels", origin=CHOSEN, low=32, high=1024)
    classes: int = option(5, "number of classes", origin=CHOSEN, low=2, high=len(PATTERNS))
    min_objects: int = option(1, "fewest objects in an image", origin=CHOSEN, low=1, high=4)
    max_objects: int = option(
        2, "most objects in an image; later ones may cover earlier ones", origin=CHOSEN, low=1, high=4
    )
    part: float = option(
        0.30,
        "diameter of the class-defining part, in diameters of the body's circle",
        origin=CHOSEN,
        low=0.1,
        high=0.7,
    )
    context: float = option(
        0.0, "probability that an object brings its class's own background", origin=CHOSEN, low=0, high=1
    )
    contrast: float = option(
        1.0,
        "colour difference of body and background, 1 = full, 0 = none; a camouflage has none",
        origin=CHOSEN,
        low=0,
        high=1,
    )
    body: str = option("random", f"colours of the body: {', '.join(BODIES)}", origin=CHOSEN)
    part_colour: str = option(
        "class",
        "colours of the part: its class's own and white, or random (then the pattern alone tells)",
        origin="a small network from scratch does not learn random ones from 480 images",
    )
    train: int = option(480, "images in `train`", origin=CHOSEN, low=1, high=100_000)
    val: int = option(160, "images in `val`", origin=CHOSEN, low=1, high=100_000)

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.type in NUMBERS:
                _check(f.name, getattr(self, f.name), range_of(f.metadata), str(f.type))
        for name, known in (("body", BODIES), ("part_colour", PART_COLOURS)):
            value = getattr(self, name)
            if value not in known:
                raise UnknownName(
                    f"unknown {name} {value!r}", where=f"shapes.{name}", hint=nearest(str(value), known)
                )
        if self.min_objects > self.max_objects:
            raise BadData(
                f"min_objects {self.min_objects} is above max_objects {self.max_objects}",
                where="shapes.min_objects",
                hint="raise shapes.max_objects or lower shapes.min_objects",
            )


def _check(name: str, value: Any, allowed: Range, kind: str) -> None:
    """BadData unless `value` is a number of `kind` in its range (NaN and bool are not, 1 is a float too)."""
    fits = isinstance(value, NUMBERS[kind]) and not isinstance(value, bool)
    if not fits or not allowed.holds(value):
        noun = "a whole number" if kind == "int" else "a number"
        raise BadData(
            f"{name} = {value!r} is not {noun} of {allowed}",
            where=f"shapes.{name}",
            hint=f"choose shapes.{name} from {allowed}",
        )
