"""`wsssbench clean`: what a runs folder takes on disk, and removal of parts of it by rule.

Only what has the form of a run is counted and removed: runs/<dataset>/steps/<step>-<key8> and
runs/<dataset>/<method>/seed<N>/<cell>-<key8>; of isolated steps, what they share in steps/.isolated, and
the images there that a run which was killed has left. Symbolic links are not followed. Records and counts of
cells that did not fail always stay.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from wsssbench.errors import BadData, WsssError, size_text
from wsssbench.files.locks import hold, is_held
from wsssbench.records.store import FAILURE, RECORD, TRACE, UNFINISHED, read_record
from wsssbench.running.isolation.marks import SHARED, STAGED

KEYED = re.compile(r".+-[0-9a-f]{8}")
SEED = re.compile(r"seed\d+")
STEPS, ARTIFACTS, FITTED = "steps", "artifacts", "fitted.json"
KEPT = (".lock", ".holder")  # removing the lock of a folder would let two processes in
KINDS = ("artifacts", "checkpoints", "staged images", "cells", "failed cells", "failed attempts")
LEFT = (FAILURE, TRACE, UNFINISHED)  # by an attempt that failed
STEP_MARKS = (FITTED, ".holder")  # one of them says that a run made this folder


@dataclass(frozen=True)
class Removable:
    """One thing that can be shown and removed: `paths` within the folder `owner`."""

    kind: str  # one of KINDS
    owner: Path
    paths: tuple[Path, ...]
    whole: bool = False  # the owner goes, too

    @property
    def bytes(self) -> int:
        """What the files take; a file with several names (a mask shared with its artifact) counts once."""
        found = {(s.st_dev, s.st_ino): s.st_size for path in self.paths for s in _file_stats(path)}
        return sum(found.values())


def clean_command(runs: Path, *, artifacts: bool, checkpoints: bool, failed: bool, yes: bool) -> None:
    """Print what `runs` takes by kind; remove the kinds asked for if `yes`."""
    parts = find_parts(runs)
    outputs = artifacts or checkpoints
    chosen = {
        "artifacts": outputs,
        "staged images": outputs,
        "checkpoints": checkpoints,
        "failed cells": failed,
        "failed attempts": failed,
    }
    going = [part for part in parts if chosen.get(part.kind)]
    click.echo(_table(runs, parts, going))
    if not any(chosen.values()):
        return
    if not yes:
        click.echo(f"\nnothing is removed yet: add --yes to remove {size_text(_total(going))}", err=True)
        return
    size = size_text(_total(going))
    for part in going:
        remove(part)
    click.echo(f"\nremoved {size}", err=True)


def find_parts(runs: Path) -> list[Removable]:
    """The parts of all steps and cells below `runs`; BadData where nothing there has the form of a run."""
    if not runs.is_dir():
        raise BadData("no such folder of runs", where=runs, hint="`wsssbench run` makes one")
    parts: list[Removable] = []
    for dataset in _folders(runs):
        for method in _folders(dataset):
            if method.name == STEPS:
                parts += [part for step in _folders(method, KEYED) for part in _step_parts(step)]
                parts += _isolated_parts(method / SHARED)
            else:
                seeds = _folders(method, SEED)
                parts += [p for seed in seeds for cell in _folders(seed, KEYED) for p in _cell_parts(cell)]
    if not parts:
        hint = "give the folder that `wsssbench run --runs` wrote to; nothing else is touched"
        raise BadData("this folder holds no runs", where=runs, hint=hint)
    return parts


def _step_parts(step: Path) -> Iterator[Removable]:
    if not any((step / name).is_file() for name in STEP_MARKS):
        return
    outputs = step / ARTIFACTS
    if outputs.is_dir() and not outputs.is_symlink():
        yield from (Removable("artifacts", folder, _contents(folder)) for folder in _folders(outputs))
    # fitted.json goes first: without it the step counts as not fitted, whatever else is left
    rest = sorted(_contents(step), key=lambda path: (path.name != FITTED, path.name))
    yield Removable("checkpoints", step, tuple(path for path in rest if path.name != ARTIFACTS))


def _isolated_parts(place: Path) -> Iterator[Removable]:
    """What isolated steps share, by supervision, and staged images whose run is over."""
    if not place.is_dir() or place.is_symlink():
        return
    for supervision in _folders(place):
        yield from (part for work in _folders(supervision, KEYED) for part in _step_parts(work))
    for folder in sorted(place.glob(f"{STAGED}*")):
        if folder.is_dir() and not folder.is_symlink() and not is_held(folder):
            yield Removable("staged images", folder, _contents(folder), whole=True)


def _cell_parts(cell: Path) -> Iterator[Removable]:
    if not (cell / RECORD).is_file():
        return
    try:
        broken = read_record(cell).status == "failed"
    except BadData:
        broken = False  # damaged: a person should look at it
    failure = [path for name in LEFT if (path := cell / name).exists()] if not broken else []
    if failure:  # of a later attempt, beside a result that stays
        yield Removable("failed attempts", cell, tuple(failure))
    rest = tuple(path for path in _contents(cell) if path not in failure)
    yield Removable("failed cells" if broken else "cells", cell, rest)


def remove(part: Removable) -> None:
    """Remove the part's paths while its folder is held, so that no run loses what it works on."""
    with hold(part.owner, lambda text: click.echo(text, err=True)):
        try:
            for path in part.paths:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            if part.whole:
                shutil.rmtree(part.owner)
        except OSError as error:
            place = error.filename or part.owner
            raise WsssError(
                f"cannot remove: {error.strerror}", where=place, hint="check who owns it"
            ) from error


# -------------------------------------------------------------------------------------------------- on disk


def _folders(parent: Path, form: re.Pattern[str] | None = None) -> list[Path]:
    """The real folders in `parent` whose name has the form."""
    with os.scandir(parent) as entries:
        found = [e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
    return [parent / name for name in sorted(found) if form is None or form.fullmatch(name)]


def _contents(folder: Path) -> tuple[Path, ...]:
    """What lies in `folder`, links among it, without the lock."""
    return tuple(sorted(path for path in folder.iterdir() if path.name not in KEPT))


def _file_stats(path: Path) -> Iterator[os.stat_result]:
    """lstat of every file at or below `path`."""
    if path.is_symlink() or not path.is_dir():
        yield path.lstat()
        return
    for folder, _, files in os.walk(path):  # does not enter links
        for name in files:
            yield (Path(folder) / name).lstat()


# -------------------------------------------------------------------------------------------------- tables


def _table(runs: Path, parts: Sequence[Removable], going: Sequence[Removable]) -> str:
    from tabulate import tabulate

    gone, lines = {id(part) for part in going}, []
    for dataset in dict.fromkeys(part.owner.relative_to(runs).parts[0] for part in parts):
        for kind in KINDS:
            mine = [p for p in parts if p.kind == kind and p.owner.relative_to(runs).parts[0] == dataset]
            if any(part.paths for part in mine):
                goes = "goes" if all(id(part) in gone for part in mine) else "stays"
                lines.append([dataset, kind, sum(bool(p.paths) for p in mine), size_text(_total(mine)), goes])
    return str(tabulate(lines, ["data set", "what", "folders", "size", ""], "github", disable_numparse=True))


def _total(parts: Sequence[Removable]) -> int:
    return sum(part.bytes for part in parts)
