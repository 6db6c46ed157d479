"""`wsssbench score`: files of other repositories, judged without torch and kept as a row.

How foreign files become labels is `wsssbench.commands.foreign`, parts of a split `wsssbench.commands.shards`.
"""

from __future__ import annotations

import json
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
from wsssbench.types import SUPERVISION, Dataset

if TYPE_CHECKING:
    from wsssbench.commands.foreign import LabelFiles, Reading
    from wsssbench.judging.kept_scores import Kept
    from wsssbench.scores.counts_table import CountsTable
    from wsssbench.types import Mask, Metric, Outputs

UNKNOWN = "unknown"  # what a foreign method has learned from, where nobody says


def show_record(record: Record, path: Path, *, as_json: bool) -> None:
    """The scores on stdout, and where the record lies."""
    click.echo(_as_json(record, path) if as_json else _as_table(record), nl=False)
    click.echo(f"record: {path}", err=True)


@dataclass(frozen=True)
class Scored:
    """The files of one row after they were judged, and what has come out."""

    name: str
    identity: RowIdentity
    dataset: Mapping[str, Any]  # its card, as plain data
    source: str  # the folder that they came from
    labels: Callable[[str], Mask]  # (H, W) of an image
    metrics: tuple[Metric, ...]
    scores: Mapping[str, Any]
    counts: CountsTable
    judged_by: Mapping[str, str]  # name -> hash of code, as far as it is known
    files: Callable[[], str] = str  # sha256 of the files and how they were read; "" where they are not there

    def cell(self, runs: Path) -> Path:
        """The folder of the cell below `runs`."""
        terms, key = self.identity.terms, content_key(self.identity)
        return cell_folder(runs, terms.dataset, self.name, self.identity.seed, terms.stage, terms.split, key)


def score_files(folder: Path, flags: Mapping[str, Any]) -> tuple[Record, Path]:
    """The record of the files in `folder`, kept as a cell, and where it lies; `flags` as of the command."""
    with judged_files(folder, flags) as (found, runs):
        return keep_scored(found, runs)


@contextmanager
def judged_files(
    folder: Path, flags: Mapping[str, Any], part: Callable[[Sequence[str]], Sequence[str]] = list
) -> Iterator[tuple[Scored, Path]]:
    """The files in `folder` judged as the flags of the command ask, and the folder of runs.

    `part` picks the images out of those of the split. The labels may be gone at the end of the block.
    """
    from wsssbench.commands.foreign import Reading, as_label_maps
    from wsssbench.commands.label_coding import coding_note, proposing_truth
    from wsssbench.planning.made_by import judging_code, reading_code
    from wsssbench.planning.metric_choice import load_metrics
    from wsssbench.planning.plan import open_dataset
    from wsssbench.planning.stages import resolve_stages
    from wsssbench.planning.terms import terms_of

    keep_memory()
    asked = {"runs": flags["runs"], "limit": flags["limit"], "seeds": (flags["seed"],)}
    settings, plugins = open_settings(asked, flags["config"], flags["options"])
    (stage,) = resolve_stages((flags["stage"],), settings.custom_stages, "--stage")
    supervision = _supervision(flags["supervision"])
    if not flags["name"].strip():
        raise WsssError("the row has no name", where="--as", hint="as --as my-method")
    if not is_name(flags["name"]):
        what = f"{flags['name']!r:.80} is no name of a row"
        raise WsssError(what, where="--as", hint="one printable line of at most 200 characters")
    dataset = open_dataset(flags["dataset"], plugins, settings, flags["seed"])
    terms = terms_of(dataset, stage, "fixed", settings.limit)
    identity = foreign_identity(flags["name"], terms, supervision, flags["seed"], flags["threshold"])
    reading = Reading(
        flags["format"], flags["threshold"], flags["class_index"], flags["rescale"], flags["coding"]
    )
    ids = part(dataset.ids(terms.split)[: terms.limit])
    metrics = load_metrics(flags["metrics"] or (), plugins)
    with as_label_maps(folder, dataset, ids, stage, terms.split, reading) as files:
        identity = replace(identity, filter_backend=files.backend)
        with proposing_truth(dataset, reading.coding):
            scores, counts = _judged(files, folder, dataset, ids, terms, metrics, reading)
        if files.folder == folder and (note := coding_note(dataset, reading.coding, counts.predicted)):
            click.echo(note, err=True)
        yield (
            Scored(
                flags["name"],
                identity,
                plain(dataset.card),
                str(folder),
                files.of,
                metrics,
                scores,
                counts,
                {**judging_code(dataset, stage, metrics), "files": reading_code()},
                lambda: files_key(folder, ids, reading),
            ),
            settings.runs,
        )


def _supervision(given: Sequence[str] | None) -> tuple[str, ...]:
    """What the foreign method has learned from; "unknown" where nothing is said."""
    for name in given or ():
        if name not in SUPERVISION:
            hint = nearest(name, SUPERVISION)
            raise UnknownName(f"unknown supervision {name!r}", where="--supervision", hint=hint)
    return tuple(sorted(set(given))) if given else (UNKNOWN,)


def foreign_identity(
    name: str, terms: Terms, supervision: tuple[str, ...], seed: int, threshold: float | None = None
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
        filter_backend="",
    )


def _judged(
    files: LabelFiles,
    folder: Path,
    dataset: Dataset,
    ids: Sequence[str],
    terms: Terms,
    metrics: Sequence[Metric],
    reading: Reading,
) -> tuple[dict[str, Any], CountsTable]:
    """Scores by metric, and counts; metrics of maps and probabilities judge the files themselves."""
    from wsssbench.dumps import find_dump
    from wsssbench.judging.judge import score_folder, score_outputs, tagged_outputs

    def outputs(id: str) -> Outputs:
        found = reading.of(find_dump(folder, id), dataset, id).outputs()
        return tagged_outputs(found, dataset.tags(id) if terms.tags_at_evaluation else None)

    by_labels = [metric for metric in metrics if metric.needs == "labels"]
    others = [metric for metric in metrics if metric.needs != "labels"]
    try:
        scores, counts = score_folder(
            dataset, terms.split, files.folder, by_labels, ids=ids, threads=2, read=files.read
        )
    except BadData as error:
        place = Path(error.where)
        if files.folder == folder or place.parent != files.folder:
            raise
        # labels that were made of arrays lie in a folder of ours: the array is what its owner knows
        raise BadData(error.what, where=find_dump(folder, place.stem), hint=error.hint) from error
    return {**scores, **score_outputs(dataset, ids, outputs, others)}, counts


def keep_scored(found: Scored, runs: Path) -> tuple[Record, Path]:
    """Write the masks, counts and record of what has been judged: what cannot be scored changes nothing.

    Scores of metrics that were not asked for now stay where the files are the same.
    """
    from wsssbench.files.locks import hold
    from wsssbench.judging.kept_scores import kept_scores

    cell, key = found.cell(runs), content_key(found.identity)

    def say(text: str) -> None:
        click.echo(text, err=True)

    with hold(cell, say), replacing(cell) as new:
        _refuse_another(cell, key)
        if damage := set_aside_damaged(cell):
            say(damage)
        digest = keep_masks(found.labels, new / "masks", found.counts.ids)
        labels = {"folder": found.source, "sha256": digest, "files": _files_judged(found, cell)}
        kept = kept_scores(cell, found.scores, lambda name, record: _is_alike(name, record, labels))
        for line in kept.lines():
            say(f"{found.name}: {line}")
        hashes = keep_counts(kept.joined(found.counts), new)
        seen, scores = _provenance(found, labels, hashes, kept), {**found.scores, **kept.scores}
        record = Record(key, "ok", found.name, found.identity, scores, {}, seen)
        write_record(new, record)
        forget_failure(cell)
    return record, cell / RECORD


def _refuse_another(cell: Path, key: str) -> None:
    """WsssError where `cell` holds the record of another key."""
    with suppress(BadData):  # none, or a damaged one
        check_key(cell, read_record(cell).key, key)


def _files_judged(found: Scored, cell: Path) -> str:
    """`Scored.files` where a metric judges, or has judged, more of them than labels; else ""."""
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


def files_key(folder: Path, ids: Sequence[str], reading: Reading) -> str:
    """sha256 (hex) of the files of the images in `folder`, and of how they are read."""
    from wsssbench.dumps import find_dump
    from wsssbench.files.file_hashes import sha256_of

    return content_key([plain(reading), sha256_of([find_dump(folder, id) for id in ids])])


def keep_masks(source: Callable[[str], Mask], target: Path, ids: Sequence[str]) -> str:
    """Keep the labels as palette PNGs; `labels_sha256` of them.

    Copies, not links: what the owner does to the files later must not change the cell.
    """
    from wsssbench.files.file_hashes import labels_sha256
    from wsssbench.masks import write_labels

    def kept(id: str) -> Mask:
        labels = source(id)
        write_labels(target / f"{id}.png", labels)
        return labels

    target.mkdir(parents=True, exist_ok=True)
    return labels_sha256(ids, kept)


def keep_counts(counts: CountsTable, folder: Path) -> dict[str, str]:
    """Write the counts into `folder`, beside their masks; the sums of these files."""
    from wsssbench.files.file_hashes import write_sums
    from wsssbench.scores.counts_table import COUNTS

    counts.save(folder / COUNTS)
    masks = [folder / "masks" / f"{id}.png" for id in counts.ids]
    return write_sums(folder, [*masks, folder / COUNTS], [COUNTS])


def _provenance(
    found: Scored, labels: Mapping[str, str], hashes: Mapping[str, str], kept: Kept
) -> dict[str, Any]:
    from wsssbench.machine.env import provenance

    finished = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        **provenance("cpu"),
        "code": {},
        "judged_by": {**found.judged_by, **kept.judged_by},
        "cards": {},
        "labels": labels,
        "hashes": dict(hashes),
        "dataset": dict(found.dataset),
        "finished": finished,
    }


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
