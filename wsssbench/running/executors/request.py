"""What a worker is asked to do, as job.json in its folder: settings, switches and where the run was started.

Plain JSON, written whole or not at all; no object of ours is pickled. How a worker is started is not known
here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from wsssbench.errors import BadData
from wsssbench.files.atomic import atomic_write_text, read_json
from wsssbench.files.typed import read_as
from wsssbench.identity import plain
from wsssbench.planning.settings import Settings

REQUEST = "job.json"
VERSION = 2


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
    renewed: Path | None = None  # notes of what --rerun has made again
    version: int = VERSION


def write_request(folder: Path, request: Request) -> None:
    """Write folder/job.json."""
    text = json.dumps(plain(request), indent=1, sort_keys=True)
    atomic_write_text(folder / REQUEST, text + "\n")


def read_request(folder: Path) -> Request:
    """What `write_request` wrote; BadData where it is damaged or of another version."""
    path = folder / REQUEST
    content = read_json(path, "job")
    try:
        if not isinstance(content, dict) or content.get("version") != VERSION:
            raise ValueError("it was written by another version of wsssbench")
        return read_as(content, Request, "job")
    except ValueError as error:
        raise BadData(f"this job cannot be read ({error})", where=path, hint="start the run again") from error
