"""`wsssbench score`: files of other repositories, judged without torch and kept as a row.

How foreign files are read is `wsssbench.commands.foreign`, parts of a split `wsssbench.commands.shards`; the
judging itself is that of every cell (`wsssbench.judging.cell_judging`).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsssbench.errors import BadData, UnknownName, WsssError, is_name, nearest
from wsssbench.identity import Record, RowIdentity, StepIdentity, Terms, content_key, plain
from wsssbench.machine.process import keep_memory
from wsssbench.records.store import (
    RECORD,
    cell_folder,
    check_key,
    forget_failure,
    read_record,
    replacing,
    set_aside_damaged,
    write_record,
)
from wsssbench.running.opening import open_settings
from wsssbench.types import SUPERVISION

if TYPE_CHECKING:
    from wsssbench.commands.foreign import ForeignFiles
    from wsssbench.planning.cells import Cell
    from wsssbench.planning.settings import Settings
    from wsssbench.plugins.table import Plugins
    from wsssbench.scores.counts_table import CountsTable
    from wsssbench.types import Metric

UNKNOWN = "unknown"  # what a foreign method has learned from, where it is not given


def score_command(folder: Path, flags: Mapping[str, Any]) -> None:
    """Score the files <folder>/<image id>.* as the row `flags["name"]`, keep it as a cell, print it."""
    record, path = score_files(folder, flags)
    show_record(record, path, as_json=flags["as_json"])


def show_record(record: Record, path: Path, *, as_json: bool) -> None:
    """The scores on stdout, and where the record lies."""
    click.echo(_as_json(record, path) if as_json else _as_table(record), nl=False)
    click.echo(f"record: {path}", err=True)


def say(text: str) -> None:
    """One line on stderr."""
    click.echo(text, err=True)


@dataclass(frozen=True)
class JudgedFiles:
    """A row of files that were judged: its record, its counts, and where its labels lie for now."""

    record: Record
    metrics: tuple[Metric, ...]
    counts: CountsTable
    masks: Mapping[str, Path]  # id -> a palette PNG
    files: Callable[[], str] = str  # sha256 of the files and how they were read; "" where they are not there

    def cell(self, runs: Path) -> Path:
        """The folder of the cell below `runs`."""
        identity, terms = self.record.identity, self.record.identity.terms
        name, key = self.record.method, self.record.key
        return cell_folder(runs, terms.dataset, name, identity.seed, terms.stage, terms.split, key)


def score_files(folder: Path, flags: Mapping[str, Any]) -> tuple[Record, Path]:
    """The record of the files in `folder`, kept as a cell, and where it lies; `flags` as of the command."""
    with judged_files(folder, flags) as (found, runs):
        return keep_row(found, runs)


@contextmanager
def judged_files(
    folder: Path, flags: Mapping[str, Any], part: Callable[[Sequence[str]], Sequence[str]] = list
) -> Iterator[tuple[JudgedFiles, Path]]:
    """The files in `folder` judged as the flags of the command ask, and the folder of runs.

    `part` picks the images out of those of the split. The labels are gone at the end of the block.
    """
    keep_memory()
    asked = {"runs": flags["runs"], "limit": flags["limit"], "seeds": (flags["seed"],)}
    settings, plugins = open_settings(asked, flags["config"], flags["options"])
    cell, files = _opened(folder, flags, part, settings, plugins)
    with tempfile.TemporaryDirectory(prefix="wsssbench-") as place:
        yield _judged(cell, files, Path(place)), settings.runs


def _opened(
    folder: Path,
    flags: Mapping[str, Any],
    part: Callable[[Sequence[str]], Sequence[str]],
    settings: Settings,
    plugins: Plugins,
) -> tuple[Cell, ForeignFiles]:
    """The cell that the files are a row of, without steps, and the files."""
    from wsssbench.commands.foreign import ForeignFiles, Reading
    from wsssbench.planning.cells import Cell, Trial
    from wsssbench.planning.metric_choice import load_metrics
    from wsssbench.planning.plan import open_dataset
    from wsssbench.planning.stages import resolve_stages
    from wsssbench.planning.terms import terms_of

    (stage,) = resolve_stages((flags["stage"],), settings.custom_stages, "--stage")
    name, seed, supervision = flags["name"], flags["seed"], _supervision(flags["supervision"])
    if not is_name(name):
        what = f"{name!r:.80} cannot be the name of a row" if name.strip() else "the row has no name"
        hint = "one printable line of at most 200 characters, as --as my-method"
        raise WsssError(what, where="--as", hint=hint)
    dataset = open_dataset(flags["dataset"], plugins, settings, seed)
    terms = terms_of(dataset, stage, "fixed", settings.limit)
    read = ("format", "threshold", "class_index", "rescale", "coding")
    reading = Reading(**{option: flags[option] for option in read})
    ids = part(dataset.ids(terms.split)[: terms.limit])
    metrics = load_metrics(flags["metrics"] or (), plugins)
    files = ForeignFiles(folder, dataset, ids, terms.split, reading)
    identity = foreign_identity(name, terms, supervision, seed, reading.threshold, files.filter_of(stage))
    return Cell(
        Trial(name, dataset, seed, ()), stage, terms.split, files.ids, (), identity, content_key(identity),
        folder, "missing", metrics=metrics,
    ), files  # fmt: skip


def _supervision(given: Sequence[str] | None) -> tuple[str, ...]:
    """What the foreign method has learned from; "unknown" where nothing is said."""
    for name in given or ():
        if name not in SUPERVISION:
            hint = nearest(name, SUPERVISION)
            raise UnknownName(f"unknown supervision {name!r}", where="--supervision", hint=hint)
    return tuple(sorted(set(given))) if given else (UNKNOWN,)


def foreign_identity(
    name: str,
    terms: Terms,
    supervision: tuple[str, ...],
    seed: int,
    threshold: float | None = None,
    filter_backend: str = "",
) -> RowIdentity:
    """The identity of labels that came as files: how they were made is not known here.

    The files' content stays out, so that the seeds of one method make one row; it is in the provenance, and
    scoring again replaces the record.
    """
    return RowIdentity(
        terms=terms,
        recipe=(StepIdentity(f"import:{name}", "1", {}),),
        supervision=supervision,
        fit_fingerprint="",
        threshold=None if threshold is None else {"value": threshold, "ids": []},
        seed=seed,
        batch={},
        precision="",
        filter_backend=filter_backend,
    )


def _judged(cell: Cell, files: ForeignFiles, masks: Path) -> JudgedFiles:
    """Write the labels into `masks` and judge them; metrics that ask for more judge the files themselves."""
    from wsssbench.commands.label_coding import coding_note, proposing_truth
    from wsssbench.dumps import find_dump
    from wsssbench.judging.cell_judging import cell_scores
    from wsssbench.planning.made_by import reading_code

    dataset, coding = cell.trial.dataset, files.reading.coding
    with proposing_truth(dataset, coding):
        digest = files.write_labels(cell, masks)
        try:
            scores, counts = cell_scores(cell, masks, files, files.reading.threshold)
        except BadData as error:
            if Path(error.where).parent != masks:
                raise
            place = find_dump(files.folder, Path(error.where).stem)  # the file that its owner knows
            raise BadData(error.what, where=place, hint=error.hint) from error
    if files.first.format == "index" and (note := coding_note(dataset, coding, counts.predicted)):
        say(note)
    judged_by = {**cell.judged_by, "files": reading_code()}
    record = foreign_record(
        cell.trial.method, cell.identity, scores, str(files.folder), digest, plain(dataset.card), judged_by
    )
    return JudgedFiles(record, cell.metrics, counts, {id: masks / f"{id}.png" for id in cell.ids}, files.key)


def foreign_record(
    name: str,
    identity: RowIdentity,
    scores: Mapping[str, Any],
    source: str,
    digest: str,
    dataset: Mapping[str, Any],
    judged_by: Mapping[str, str],
) -> Record:
    """The record of labels that came as files from `source`; `digest` is `labels_sha256` of them."""
    from wsssbench.machine.env import provenance

    seen = {
        **provenance("cpu"),
        "code": {},
        "judged_by": dict(judged_by),
        "cards": {},
        "labels": {"folder": source, "sha256": digest, "files": ""},
        "dataset": dict(dataset),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Record(content_key(identity), "ok", name, identity, scores, {}, seen)


def keep_row(found: JudgedFiles, runs: Path) -> tuple[Record, Path]:
    """Write the masks, counts and record of what has been judged: what cannot be scored changes nothing.

    Scores of metrics that were not asked for now stay where the files are the same.
    """
    from wsssbench.files.locks import hold
    from wsssbench.judging.kept_scores import kept_scores

    cell, record, seen = found.cell(runs), found.record, found.record.provenance
    with hold(cell, say), replacing(cell) as new:
        refuse_another(cell, RECORD, record.key)
        if damage := set_aside_damaged(cell):
            say(damage)
        labels = {**seen["labels"], "files": _files_judged(found, cell)}
        kept = kept_scores(cell, record.scores, lambda name, before: _is_alike(name, before, labels))
        for line in kept.lines():
            say(f"{record.method}: {line}")
        judged_by = {**seen["judged_by"], **kept.judged_by}
        record = replace(
            record,
            scores={**record.scores, **kept.scores},
            provenance={**seen, "labels": labels, "judged_by": judged_by},
        )
        record = write_row(record, kept.joined(found.counts), found.masks, new, RECORD)
        forget_failure(cell)
    return record, cell / RECORD


def write_row(
    record: Record, counts: CountsTable, masks: Mapping[str, Path], folder: Path, name: str
) -> Record:
    """Write copies of the masks, the counts and the record into `folder`; the record with their hashes.

    Copies, not links: what the owner does to the files later must not change the cell.
    """
    from wsssbench.files.file_hashes import write_sums
    from wsssbench.scores.counts_table import COUNTS

    (folder / "masks").mkdir()
    kept = [folder / "masks" / f"{id}.png" for id in masks]
    for source, target in zip(masks.values(), kept, strict=True):
        shutil.copyfile(source, target)
    counts.save(folder / COUNTS)
    hashes = write_sums(folder, [*kept, folder / COUNTS], [COUNTS])
    record = replace(record, provenance={**record.provenance, "hashes": hashes})
    write_record(folder, record, name)
    return record


def refuse_another(folder: Path, name: str, key: str) -> None:
    """WsssError where `folder` holds the record `name` of another key."""
    with suppress(BadData):  # none, or a damaged one
        check_key(folder, read_record(folder / name).key, key)


def _files_judged(found: JudgedFiles, cell: Path) -> str:
    """`JudgedFiles.files` where a metric judges, or has judged, more of them than labels; else ""."""
    before: Mapping[str, Any] = {}
    with suppress(BadData):
        before = read_record(cell).provenance.get("labels", {})
    more = before.get("files") or any(metric.needs != "labels" for metric in found.metrics)
    return found.files() if more else ""


def _is_alike(metric: str, record: Record, labels: Mapping[str, str]) -> bool:
    """Whether the metric would count the same in these `labels` and files as it has for that record."""
    from wsssbench.planning.metric_choice import load_metrics
    from wsssbench.plugins.table import Plugins

    before = record.provenance.get("labels", {})
    if before.get("sha256") != labels["sha256"]:
        return False
    if "files" in before:
        return before["files"] in ("", labels["files"])
    with suppress(WsssError):  # an older record: a metric of maps judged files that it does not name
        return load_metrics((metric,), Plugins())[-1].needs == "labels"
    return False


def _as_table(record: Record) -> str:
    from wsssbench.reporting.rows import rows_of
    from wsssbench.reporting.tables import render

    table = render(rows_of([record], limited=True), "md")
    return f"{table}\n{details}" if (details := _details(record)) else table


def _details(record: Record) -> str:
    """All that metrics beside IoU say of the whole split; lists by class are in the record and in --json."""
    from wsssbench.reporting.rows import MAIN, flat_scores
    from wsssbench.reporting.table_parts import grid

    lines = [
        {"metric": metric, "number": name, "value": text}
        for metric, scores in record.scores.items()
        for name, text in _texts(flat_scores(scores))
        if metric not in (MAIN, "compatible")  # these have tables of their own
    ]
    return f"Other metrics\n\n{grid(lines)}\n" if lines else ""


def _texts(flat: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values; of a list of [what, ..., number] its entries."""
    for name, value in flat.items():
        if value in ([], ()):
            yield name, "none"
        elif isinstance(value, (list, tuple)):
            entries = [one for one in value if isinstance(one, (list, tuple)) and len(one) > 1]
            yield from ((f"{name}: {', '.join(map(str, one[:-1]))}", _text(one[-1])) for one in entries)
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    return "not defined" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def _as_json(record: Record, path: Path) -> str:
    terms = record.identity.terms
    found: dict[str, Any] = {
        "method": record.method,
        "dataset": terms.dataset,
        "stage": terms.stage,
        "split": terms.split,
    }
    found |= {"seed": record.identity.seed, "scores": record.scores, "record": str(path)}
    return json.dumps(found, indent=1, allow_nan=False) + "\n"
