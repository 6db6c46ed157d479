"""The options of the generated set `shapes`: their defaults, limits and presets. No drawing here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsssbench.errors import BadData, UnknownName, nearest
from wsssbench.types import option
from wsssbench_datasets.shapes_forms import PATTERNS

BODIES = ("random", "two-tone", "camouflage", "class")
PART_COLOURS = ("class", "random")
CHOSEN = "set by the design, before any method ran on it"
WHOLE: Mapping[str, tuple[int, int]] = {
    "image_px": (32, 1024),
    "classes": (2, len(PATTERNS)),
    "min_objects": (1, 4),
    "max_objects": (1, 4),
    "train": (1, 100_000),
    "val": (1, 100_000),
}
REAL: Mapping[str, tuple[float, float]] = {"part": (0.1, 0.7), "context": (0.0, 1.0), "contrast": (0.0, 1.0)}
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

    image_px: int = option(96, "height and width of an image in pixels", origin=CHOSEN)
    classes: int = option(5, f"number of classes, at most {len(PATTERNS)}", origin=CHOSEN)
    min_objects: int = option(1, "fewest objects in an image", origin=CHOSEN)
    max_objects: int = option(2, "most objects in an image; later ones may cover earlier ones", origin=CHOSEN)
    part: float = option(
        0.30, "diameter of the class-defining part, in diameters of the body's circle", origin=CHOSEN
    )
    context: float = option(
        0.0, "probability that an object brings its class's own background", origin=CHOSEN
    )
    contrast: float = option(
        1.0,
        "colour difference of body and background, 1 = full, 0 = none; a camouflage has none",
        origin=CHOSEN,
    )
    body: str = option("random", f"colours of the body: {', '.join(BODIES)}", origin=CHOSEN)
    part_colour: str = option(
        "class",
        "colours of the part: its class's own and white, or random (then the pattern alone tells)",
        origin="a small network from scratch does not learn random ones from 480 images",
    )
    train: int = option(480, "images in `train`", origin=CHOSEN)
    val: int = option(160, "images in `val`", origin=CHOSEN)

    def __post_init__(self) -> None:
        for name, (low, high) in WHOLE.items():
            _check(name, getattr(self, name), low, high, int)
        for name, (least, most) in REAL.items():
            _check(name, getattr(self, name), least, most, float)
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


def _check(name: str, value: Any, low: float, high: float, kind: type[int] | type[float]) -> None:
    """BadData unless `value` is a number of `kind` in low..high (NaN and bool are not, 1 is a float too)."""
    fits = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if not fits or not low <= value <= high:
        noun = "a whole number" if kind is int else "a number"
        raise BadData(
            f"{name} = {value!r} is not {noun} in {low}..{high}",
            where=f"shapes.{name}",
            hint=f"choose shapes.{name} between {low} and {high}",
        )
