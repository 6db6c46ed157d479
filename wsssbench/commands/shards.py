"""Parts of a split judged apart, by several machines or one after the other, and `wsssbench merge`.

A shard lies beside where its cell will be, in `<stage>-<split>-<key8>.shards/2-of-4/`: masks/, counts.npz and
shard.json, a record of that part which no table shows. Counts are integers and add up: the rows are exactly
those of a single pass, and neither the data set nor the files that were scored are needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsssbench.commands.scoring import (
    JudgedFiles,
    foreign_record,
    judged_files,
    keep_row,
    refuse_another,
    say,
    show_record,
    write_row,
)
from wsssbench.errors import BadData, NotComparable, WsssError, first_names
from wsssbench.files.locks import hold
from wsssbench.identity import Record, content_key
from wsssbench.records.store import read_record, replacing, searched
from wsssbench.running.opening import open_settings

if TYPE_CHECKING:
    from wsssbench.plugins.table import Plugins
    from wsssbench.scores.counts_table import CountsTable

SHARD, SUFFIX = "shard.json", ".shards"
AGAIN = "score this shard again"
SHOWN = 8  # missing shards that are named


@dataclass(frozen=True)
class ShardPart:
    """Part `number` (from 1) of `of` parts of a list: every `of`-th element."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> ShardPart:
        """Of "2/4"; WsssError for another text."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        part = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= part.number <= part.of:
            raise WsssError("not a shard", where=f"--shard {text}", hint="as --shard 2/4, the second of four")
        return part

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def __call__(self, ids: Sequence[str]) -> Sequence[str]:
        if len(ids) < self.of:
            what = f"{len(ids)} images cannot be divided into {self.of} shards"
            raise WsssError(what, where=f"--shard {self}", hint="ask for fewer")
        return ids[self.number - 1 :: self.of]


@dataclass(frozen=True)
class Shard:
    """A shard on disk: its folder, its record, and what it is part of."""

    folder: Path
    record: Record
    part: ShardPart
    images: int  # of the whole split
    ids_key: str  # `content_key` of their ids, in order

    @classmethod
    def read(cls, folder: Path) -> Shard:
        """The shard in `folder`; BadData where it is damaged, or left by an earlier version."""
        try:
            record = read_record(folder / SHARD)
            said = record.provenance["shard"]
            part = ShardPart.parse(said["part"])
            return cls(folder, record, part, int(said["images"]), str(said["ids_key"]))
        except (WsssError, KeyError, TypeError, ValueError, AttributeError) as error:
            why = error.what if isinstance(error, WsssError) else str(error)
            raise BadData(f"shard cannot be read ({why})", where=folder / SHARD, hint=AGAIN) from error

    def terms(self) -> dict[str, object]:
        """What has to be equal in the shards of one row, by the words for it."""
        identity = self.record.identity
        own = {f.name: getattr(identity.terms, f.name) for f in fields(identity.terms)}
        own |= {f.name: getattr(identity, f.name) for f in fields(identity) if f.name != "terms"}
        return own | {
            "metrics": [*self.record.scores],
            "the number of images": self.images,
            "the list of images": self.ids_key,
            "the number of shards": self.part.of,
        }


def shard_command(folder: Path, flags: Mapping[str, Any]) -> None:
    """Score one shard of the files in `folder` and say where it is kept."""
    path, images = score_shard(folder, flags)
    click.echo(f"shard {flags['shard']} of {flags['name']}: {images} images, kept in {path}")
    say("next: wsssbench merge puts the shards together when all are there")


def score_shard(folder: Path, flags: Mapping[str, Any]) -> tuple[Path, int]:
    """Judge one shard of the files in `folder`; where it is kept, and the number of its images.

    WsssError for a malformed --shard, and for a metric whose counts cannot be put together.
    """
    part, whole = ShardPart.parse(flags["shard"]), list[str]()

    def mine(ids: Sequence[str]) -> Sequence[str]:
        whole.extend(ids)
        return part(ids)

    with judged_files(folder, flags, mine) as (found, runs):
        if lost := _lost_metrics(found):
            hint = "leave it out, or score without --shard"
            raise WsssError(f"{lost} cannot be put together from shards", where="--metrics", hint=hint)
        cell = found.cell(runs)
        place = cell.with_name(cell.name + SUFFIX) / f"{part.number}-of-{part.of}"
        said = {"part": str(part), "images": len(whole), "ids_key": content_key(whole)}
        record = replace(found.record, provenance={**found.record.provenance, "shard": said})
        with hold(place, say), replacing(place) as new:
            refuse_another(place, SHARD, record.key)
            write_row(record, found.counts, found.masks, new, SHARD)
        return place, len(found.counts.ids)


def _lost_metrics(found: JudgedFiles) -> str:
    """The first metric that cannot be scored from the counts alone; "" without one."""
    from wsssbench.judging.judge import counted_scores

    kept = counted_scores(found.counts, found.metrics, len(found.record.identity.terms.classes))
    return next((metric.name for metric in found.metrics if metric.name not in kept), "")


# --------------------------------------------------------------------------------------------------- merge


def merge_command(folders: Sequence[Path], runs: Path | None, *, as_json: bool) -> None:
    """Put the shards below `folders` together, keep the rows below `runs` and print them."""
    for record, path in merged(folders, runs):
        show_record(record, path, as_json=as_json)


def merged(folders: Sequence[Path], runs: Path | None) -> list[tuple[Record, Path]]:
    """The records of all rows whose shards lie below `folders`, kept below `runs`; none where one row fails.

    BadData for a shard that is missing, damaged or there twice, NotComparable for unlike terms.
    """
    settings, plugins = open_settings({"runs": runs}, None, ())
    rows: dict[tuple[object, ...], list[Shard]] = {}
    for shard in find_shards(folders):
        identity, terms = shard.record.identity, shard.record.identity.terms
        row = (terms.dataset, shard.record.method, identity.seed, terms.stage, terms.split)
        rows.setdefault(row, []).append(shard)
    if not rows:
        hint = "`wsssbench score FOLDER --dataset NAME --as ROW --shard 1/4` makes the first of four"
        raise BadData("no shards here", where=", ".join(map(str, folders)), hint=hint)
    whole = [put_together(shards, plugins) for shards in rows.values()]
    return [keep_row(one, settings.runs) for one in whole]


def find_shards(folders: Sequence[Path]) -> list[Shard]:
    """All shards below `folders`, each once; BadData for a folder that does not exist, a damaged shard."""
    found: dict[Path, Shard] = {}
    for folder in folders:
        if not folder.is_dir():
            hint = "give the --runs folders of `score --shard`"
            raise BadData("no such folder of shards", where=folder, hint=hint)
        for place in sorted(place for place, files in searched(folder) if SHARD in files):
            found.setdefault(place.resolve(), Shard.read(place))
    return list(found.values())


def put_together(shards: Sequence[Shard], plugins: Plugins) -> JudgedFiles:
    """The row of all its shards, in any order; errors as of `merged`."""
    from wsssbench.files.file_hashes import labels_sha256
    from wsssbench.judging.judge import counted_scores
    from wsssbench.masks import read_labels
    from wsssbench.planning.metric_choice import load_metrics
    from wsssbench.scores.counts_table import COUNTS, CountsTable

    _check_alike(shards)
    _check_whole(shards)
    shards = sorted(shards, key=lambda shard: shard.part.number)
    records, first = [shard.record for shard in shards], shards[0].record
    tables = [CountsTable.load(shard.folder / COUNTS) for shard in shards]
    table = CountsTable.concatenate(tables, _ids(shards, tables))
    metrics = load_metrics(tuple(first.scores), plugins)
    scores = counted_scores(table, metrics, len(first.identity.terms.classes))
    if lost := [metric.name for metric in metrics if metric.name not in scores]:
        what = f"{lost[0]} has counted unlike things in these shards"
        raise BadData(what, where=shards[0].folder, hint="score without --shard")
    places = {id: s.folder for s, own in zip(shards, tables, strict=True) for id in own.ids}
    masks = {id: places[id] / "masks" / f"{id}.png" for id in table.ids}
    digest = labels_sha256(table.ids, lambda id: read_labels(masks[id]))
    source = ", ".join(dict.fromkeys(record.provenance["labels"]["folder"] for record in records))
    code = [record.provenance["judged_by"] for record in records]
    used = {name: own for name, own in code[0].items() if all(other.get(name) == own for other in code)}
    data = first.provenance["dataset"]
    record = foreign_record(first.method, first.identity, scores, source, digest, data, used)
    return JudgedFiles(record, metrics, table, masks)


def _check_alike(shards: Sequence[Shard]) -> None:
    """NotComparable where two shards of a row were not judged alike: what differs, and where."""
    for other in shards[1:]:
        one, two = shards[0].terms(), other.terms()
        if unlike := [name for name in one if one[name] != two[name]]:
            what = f"these shards of {other.record.method} differ in {', '.join(unlike)}"
            hint = "give the shards of one scoring alone, or score them again with the same options"
            raise NotComparable(what, where=f"{shards[0].folder}, {other.folder}", hint=hint)


def _check_whole(shards: Sequence[Shard]) -> None:
    """BadData where a shard is missing or there twice."""
    name, of, places = shards[0].record.method, shards[0].part.of, dict[int, Path]()
    for shard in shards:
        if shard.part.number in places:
            where = f"{places[shard.part.number]}, {shard.folder}"
            what = f"shard {shard.part} of {name} is there twice"
            raise BadData(what, where=where, hint="give one of them")
        places[shard.part.number] = shard.folder
    if missing := [str(ShardPart(n, of)) for n in range(1, of + 1) if n not in places]:
        hint = f"`wsssbench score ... --shard {missing[0]}` makes it; or name the folder where it lies"
        named = first_names(missing, SHOWN)
        what = f"of {of} shards of {name} {len(missing)} are missing: {named}"
        raise BadData(what, where=shards[0].folder.parent, hint=hint)


def _ids(shards: Sequence[Shard], tables: Sequence[CountsTable]) -> list[str]:
    """The ids of the split in order; BadData where the counts are not those of the shards."""
    images, of = shards[0].images, len(shards)
    for shard, table in zip(shards, tables, strict=True):
        if len(table.ids) != len(range(shard.part.number - 1, images, of)):
            raise BadData("these counts are of other images than the shard", where=shard.folder, hint=AGAIN)
    ids = [tables[n % of].ids[n // of] for n in range(images)]
    if content_key(ids) != shards[0].ids_key:
        what = "the images of these shards are not those that were to be scored"
        raise BadData(what, where=shards[0].folder.parent, hint="score the shards again")
    return ids
