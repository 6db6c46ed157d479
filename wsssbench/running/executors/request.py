"""What a worker is asked to do, as job.json in its folder: settings, switches and where the run was started.

Plain JSON, written whole or not at all; no object of ours is pickled. How a worker is started is not known
here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from wsssbench.errors import BadData
from wsssbench.files.atomic import atomic_write_text, read_json
from wsssbench.identity import plain
from wsssbench.planning.settings import Settings
from wsssbench.plugins.options import coerce

REQUEST = "job.json"
VERSION = 1


@dataclass(frozen=True)
class Switches:
    """What a run is asked for beside its settings."""

    deterministic: bool = False
    tensorboard: bool = False


@dataclass(frozen=True)
class Request:
    """One trial to run."""

    settings: Settings
    keys: tuple[str, ...]  # of its cells, as they were planned where the run was started
    place: Path  # the working folder, where relative paths start
    command: tuple[str, ...] = ()  # what was typed, for the records
    switches: Switches = field(default_factory=Switches)
    renewed: Path | None = None  # notes of what --rerun has made anew


def write_request(folder: Path, request: Request) -> None:
    """Write folder/job.json."""
    text = json.dumps({"version": VERSION, **plain(request)}, indent=1, sort_keys=True)
    atomic_write_text(folder / REQUEST, text + "\n")


def read_request(folder: Path) -> Request:
    """What `write_request` wrote; BadData where it is damaged or of another version."""
    path = folder / REQUEST
    content = read_json(path, "job")
    try:
        if content.pop("version") != VERSION:
            raise ValueError("it was written by another version of wsssbench")
        settings = _settings(content.pop("settings"))
        switches = Switches(**content.pop("switches"))
        rest = _fields(Request, {**content, "settings": settings, "switches": switches}, str(path))
        return Request(**rest)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadData(f"this job cannot be read ({error})", where=path, hint="start the run again") from error


def _settings(content: Mapping[str, Any]) -> Settings:
    """Settings from their JSON; WsssError where a value is of the wrong type."""
    recipes = {name: tuple(steps) for name, steps in content["recipes"].items()}
    return Settings(**_fields(Settings, {**content, "recipes": recipes}, "settings"))


def _fields(kind: type, content: Mapping[str, Any], where: str) -> dict[str, Any]:
    kinds = get_type_hints(kind)
    if content.keys() != {f.name for f in dataclasses.fields(kind)}:
        raise ValueError("its keys are those of another version")
    return {name: coerce(value, kinds[name], f"{where}: {name}") for name, value in content.items()}
