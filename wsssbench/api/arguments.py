"""What the functions of `wsssbench.api` take, and how that becomes what commands take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from wsssbench.api.results import Place
from wsssbench.identity import plain

Names: TypeAlias = str | Sequence[str]  # one name stands for a list of one
Options: TypeAlias = Mapping[str, Any]  # {"rrm.crop": 448, "shapes.preset": "tiny"}
Places: TypeAlias = Place | Sequence[Place] | None  # None: `runs` of wsssbench.toml


def as_path(place: Place | None) -> Path | None:
    return None if place is None else Path(place)


def as_texts(options: Options | None) -> list[str]:
    """`options` as the command line has them: NAME.KEY=VALUE with a TOML value."""
    plainly = {name: "none" if value is None else plain(value) for name, value in (options or {}).items()}
    return [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in plainly.items()]


def as_files(weights: Mapping[str, Place] | None) -> list[str]:
    """`weights` as the command line has them: STEP=FILE."""
    return [f"{step}={file}" for step, file in (weights or {}).items()]


def as_folders(runs: Places) -> tuple[Path, ...]:
    from wsssbench.running.opening import default_runs

    return (default_runs(),) if runs is None else as_paths(runs)


def as_paths(places: Place | Sequence[Place]) -> tuple[Path, ...]:
    return (Path(places),) if isinstance(places, (str, Path)) else tuple(map(Path, places))


def as_names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def as_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with every list, range and the like as a tuple."""
    listed = {n: v for n, v in settings.items() if isinstance(v, Sequence) and not isinstance(v, str)}
    return {**settings, **{name: tuple(value) for name, value in listed.items()}}
