"""`wsssbench merge`: the shards of `wsssbench score --shard` put together to rows.

Counts are integers and add up: the rows are exactly those of a single pass. Neither the data set nor the
files that were scored are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from wsssbench.commands.scoring import Scored, keep_scored, show_record
from wsssbench.commands.shards import AGAIN, SHARD, Part, Shard, read_shard
from wsssbench.errors import BadData, NotComparable
from wsssbench.identity import Record, content_key
from wsssbench.records.store import searched
from wsssbench.running.opening import open_settings

if TYPE_CHECKING:
    from wsssbench.plugins.table import Plugins
    from wsssbench.scores.counts_table import CountsTable

SHOWN = 8  # missing shards that are named
ALIKE = ("metrics", "images", "ids_key")  # of two shards of one row, beside what the key is made of
WORDS = {"images": "the number of images", "ids_key": "the list of images"}


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
        rows.setdefault(shard.row, []).append(shard)
    if not rows:
        hint = "`wsssbench score FOLDER --dataset NAME --as ROW --shard 1/4` makes the first of four"
        raise BadData("no shards here", where=", ".join(map(str, folders)), hint=hint)
    whole = [put_together(shards, plugins) for shards in rows.values()]
    return [keep_scored(one, settings.runs) for one in whole]


def find_shards(folders: Sequence[Path]) -> list[Shard]:
    """All shards below `folders`, each once; BadData for a folder that does not exist, a damaged shard."""
    found: dict[Path, Shard] = {}
    for folder in folders:
        if not folder.is_dir():
            raise BadData(
                "no such folder of shards", where=folder, hint="give the --runs folders of `score --shard`"
            )
        for place in sorted(place for place, files in searched(folder) if SHARD in files):
            found.setdefault(place.resolve(), read_shard(place))
    return list(found.values())


def put_together(shards: Sequence[Shard], plugins: Plugins) -> Scored:
    """The row of all its shards, in any order; errors as of `merged`."""
    from wsssbench.judging.judge import counted_scores
    from wsssbench.masks import read_labels
    from wsssbench.planning.metric_choice import load_metrics
    from wsssbench.scores.counts_table import COUNTS, CountsTable

    _check_alike(shards)
    _check_whole(shards)
    shards = sorted(shards, key=lambda shard: shard.part.number)
    first, tables = shards[0], [CountsTable.load(shard.folder / COUNTS) for shard in shards]
    table, metrics = (
        CountsTable.concatenate(tables, _ids(shards, tables)),
        load_metrics(first.metrics, plugins),
    )
    scores = counted_scores(table, metrics, len(first.identity.terms.classes))
    if lost := [metric.name for metric in metrics if metric.name not in scores]:
        what = f"{lost[0]} has counted unlike things in these shards"
        raise BadData(what, where=first.folder, hint="score without --shard")
    masks = {
        id: shard.folder / "masks" / f"{id}.png"
        for shard, part in zip(shards, tables, strict=True)
        for id in part.ids
    }
    source = ", ".join(dict.fromkeys(shard.source for shard in shards))
    used = {n: code for n, code in first.judged_by.items() if all(s.judged_by.get(n) == code for s in shards)}
    return Scored(
        first.name,
        first.identity,
        first.dataset,
        source,
        lambda id: read_labels(masks[id]),
        metrics,
        scores,
        table,
        used,
    )


def _check_alike(shards: Sequence[Shard]) -> None:
    """NotComparable where two shards of a row were not judged alike: what differs, and where."""
    for other in shards[1:]:
        if unlike := [WORDS.get(name, name) for name in _unlike(shards[0], other)]:
            what = f"these shards of {other.name} differ in {', '.join(unlike)}"
            hint = "give the shards of one scoring alone, or score them again with the same words"
            raise NotComparable(what, where=f"{shards[0].folder}, {other.folder}", hint=hint)


def _unlike(one: Shard, two: Shard) -> Iterator[str]:
    """Names of what differs between two shards, beside their place."""
    a, b = one.identity, two.identity
    yield from (f.name for f in fields(a.terms) if getattr(a.terms, f.name) != getattr(b.terms, f.name))
    yield from (f.name for f in fields(a) if f.name != "terms" and getattr(a, f.name) != getattr(b, f.name))
    yield from (name for name in ALIKE if getattr(one, name) != getattr(two, name))
    if one.part.of != two.part.of:
        yield "the number of shards"


def _check_whole(shards: Sequence[Shard]) -> None:
    """BadData where a shard is missing or there twice."""
    name, of, places = shards[0].name, shards[0].part.of, dict[int, Path]()
    for shard in shards:
        if shard.part.number in places:
            where = f"{places[shard.part.number]}, {shard.folder}"
            what = f"shard {shard.part} of {name} is there twice"
            raise BadData(what, where=where, hint="give one of them")
        places[shard.part.number] = shard.folder
    if missing := [str(Part(n, of)) for n in range(1, of + 1) if n not in places]:
        named = ", ".join(missing[:SHOWN]) + (" ..." if len(missing) > SHOWN else "")
        hint = f"`wsssbench score ... --shard {missing[0]}` makes it; or name the folder where it lies"
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
