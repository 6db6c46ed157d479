"""Parts of a split judged apart, by several machines or one after the other: what a part leaves behind.

A shard lies beside where its cell will be, in `<stage>-<split>-<key8>.shards/2-of-4/`: shard.json (what it is
part of), counts.npz and masks/. No table shows it: it is no record. `wsssbench.commands.merging` makes one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from wsssbench.commands.scoring import Scored, judged_files, keep_counts, keep_masks
from wsssbench.errors import BadData, WsssError
from wsssbench.files.atomic import atomic_write_text, read_json
from wsssbench.files.locks import hold
from wsssbench.files.typed import read_as
from wsssbench.identity import RowIdentity, content_key, plain
from wsssbench.records.store import check_key, replacing

SHARD, SUFFIX, SCHEMA = "shard.json", ".shards", 1
AGAIN = "score this shard again"


@dataclass(frozen=True)
class Part:
    """Part `number` (from 1) of `of` parts of a list: every `of`-th element."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Of "2/4"; WsssError where it is none."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        part = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= part.number <= part.of:
            raise WsssError("not a shard", where=f"--shard {text}", hint="as --shard 2/4, the second of four")
        return part

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def __call__(self, ids: Sequence[str]) -> Sequence[str]:
        if len(ids) < self.of:
            what = f"of {len(ids)} images there are no {self.of} shards"
            raise WsssError(what, where=f"--shard {self}", hint="ask for fewer")
        return ids[self.number - 1 :: self.of]


@dataclass(frozen=True)
class Shard:
    """What shard.json says, and the folder that it lies in."""

    folder: Path
    part: Part
    name: str
    identity: RowIdentity
    metrics: tuple[str, ...]
    source: str
    dataset: Mapping[str, Any]
    images: int  # of the whole split
    ids_key: str  # `content_key` of their ids, in order
    judged_by: Mapping[str, str]  # as of `Scored`

    @property
    def row(self) -> tuple[str, str, int, str, str]:
        """What shards have in common that are meant to be put together."""
        terms = self.identity.terms
        return (terms.dataset, self.name, self.identity.seed, terms.stage, terms.split)


def score_shard(folder: Path, flags: Mapping[str, Any]) -> tuple[Path, int]:
    """Judge one shard of the files in `folder`; where it is kept, and the number of its images.

    WsssError for what is no shard, and a metric whose counts cannot be put together.
    """
    part, whole = Part.parse(flags["shard"]), list[str]()

    def mine(ids: Sequence[str]) -> Sequence[str]:
        whole.extend(ids)
        return part(ids)

    with judged_files(folder, flags, mine) as (found, runs):
        _check_countable(found)
        cell = found.cell(runs)
        place = cell.with_name(cell.name + SUFFIX) / f"{part.number}-of-{part.of}"
        with hold(place, lambda text: click.echo(text, err=True)), replacing(place) as new:
            _refuse_another(place, found)
            keep_masks(found.labels, new / "masks", found.counts.ids)
            keep_counts(found.counts, new)
            _write_shard(new, part, found, whole)
        return place, len(found.counts.ids)


def _refuse_another(place: Path, found: Scored) -> None:
    """WsssError where `place` holds a shard of another key."""
    with suppress(BadData):  # none, or a damaged one
        check_key(place, content_key(read_shard(place).identity), content_key(found.identity))


def _check_countable(found: Scored) -> None:
    from wsssbench.judging.judge import counted_scores

    kept = counted_scores(found.counts, found.metrics, len(found.identity.terms.classes))
    if lost := [metric.name for metric in found.metrics if metric.name not in kept]:
        hint = "leave it out, or score without --shard"
        raise WsssError(f"{lost[0]} cannot be put together from shards", where="--metrics", hint=hint)


def _write_shard(place: Path, part: Part, found: Scored, ids: Sequence[str]) -> None:
    said = {
        "schema": SCHEMA, "part": str(part), "name": found.name, "identity": plain(found.identity),
        "metrics": [metric.name for metric in found.metrics], "source": found.source,
        "dataset": plain(found.dataset), "images": len(ids), "ids_key": content_key(ids),
        "judged_by": dict(found.judged_by),
    }  # fmt: skip
    atomic_write_text(place / SHARD, json.dumps(said, indent=1))


def read_shard(folder: Path) -> Shard:
    """The shard in `folder`; BadData where it is damaged."""
    said = read_json(folder / SHARD, "shard")
    try:
        if said["schema"] != SCHEMA:
            raise ValueError(f"schema {said['schema']!r}")
        return Shard(
            folder, Part.parse(said["part"]), str(said["name"]),
            read_as(said["identity"], RowIdentity, "identity"),
            tuple(map(str, said["metrics"])), str(said["source"]), dict(said["dataset"]),
            int(said["images"]), str(said["ids_key"]),
            {str(name): str(code) for name, code in said.get("judged_by", {}).items()},
        )  # fmt: skip
    except (WsssError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadData(f"shard is damaged ({error})", where=folder / SHARD, hint=AGAIN) from error
