"""`wsssbench score`: files of other repositories, judged without torch and kept as a row.

How foreign files become labels is `wsssbench.commands.foreign`, parts of a split `wsssbench.commands.shards`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsssbench.commands.setup import open_settings
from wsssbench.errors import UnknownName, WsssError, nearest
from wsssbench.files.printable import is_name
from wsssbench.process import keep_memory
from wsssbench.store import cell_folder, write_record
from wsssbench.types import SUPERVISION, Dataset, Record, RowIdentity, StepIdentity, Terms, content_key, plain

if TYPE_CHECKING:
    from wsssbench.commands.foreign import Reading
    from wsssbench.judging.judge import CountsTable
    from wsssbench.types import Mask, Metric, Outputs

UNKNOWN = "unknown"  # what a foreign method has learned from, where nobody says


def score_command(folder: Path, flags: Mapping[str, Any]) -> None:
    """Score the files <folder>/<image id>.* as the row `flags["name"]`, keep it as a cell, print it."""
    if flags["shard"]:
        from wsssbench.commands.shards import score_shard

        path, images = score_shard(folder, flags)
        click.echo(f"shard {flags['shard']} of {flags['name']}: {images} images, kept in {path}")
        click.echo("next: wsssbench merge puts the shards together when all are there", err=True)
        return
    record, path = score_files(folder, flags)
    show_record(record, path, as_json=flags["as_json"])


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
    mask: Callable[[str], Path]  # where an image's labels lie
    metrics: tuple[Metric, ...]
    scores: Mapping[str, Any]
    counts: CountsTable
    judged_by: Mapping[str, str]  # name -> hash of code, as far as it is known

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
    from wsssbench.judging.metric_choice import load_metrics
    from wsssbench.judging.terms import terms_of
    from wsssbench.made_by import judging_code, reading_code
    from wsssbench.plan import open_dataset
    from wsssbench.stages import resolve_stages

    keep_memory()
    asked = {"runs": flags["runs"], "limit": flags["limit"], "seeds": (flags["seed"],)}
    settings, plugins = open_settings(asked, flags["config"], flags["options"])
    (stage,) = resolve_stages((flags["stage"],), settings.custom_stages)
    supervision = _supervision(flags["supervision"])
    if not flags["name"].strip():
        raise WsssError("the row has no name", where="--as", hint="as --as my-method")
    if not is_name(flags["name"]):
        what = f"{flags['name']!r:.80} is no name of a row"
        raise WsssError(what, where="--as", hint="one printable line of at most 200 characters")
    dataset = open_dataset(flags["dataset"], plugins, settings, flags["seed"])
    terms = terms_of(dataset, stage, "fixed", settings.limit)
    identity = foreign_identity(flags["name"], terms, supervision, flags["seed"], flags["threshold"])
    reading = Reading(flags["format"], flags["threshold"], flags["class_index"], flags["rescale"])
    ids = part(dataset.ids(terms.split)[: terms.limit])
    metrics = load_metrics(flags["metrics"] or (), plugins)
    with as_label_maps(folder, dataset, ids, stage, terms.split, reading) as (masks, backend):
        identity = replace(identity, filter_backend=backend)
        scores, counts = _judged(masks, folder, dataset, ids, terms, metrics, reading)
        yield (
            Scored(
                flags["name"],
                identity,
                plain(dataset.card),
                str(folder),
                lambda id: masks / f"{id}.png",
                metrics,
                scores,
                counts,
                {**judging_code(dataset, stage, metrics), "files": reading_code()},
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
    masks: Path,
    folder: Path,
    dataset: Dataset,
    ids: Sequence[str],
    terms: Terms,
    metrics: Sequence[Metric],
    reading: Reading,
) -> tuple[dict[str, Any], CountsTable]:
    """Scores by metric, and counts; metrics of maps and probabilities judge the files themselves."""
    from wsssbench.dumps import find_dump
    from wsssbench.judging.judge import score_folder
    from wsssbench.judging.soft_judge import score_outputs

    def outputs(id: str) -> Outputs:
        return reading.of(find_dump(folder, id), len(terms.classes)).outputs()

    by_labels = [metric for metric in metrics if metric.needs == "labels"]
    others = [metric for metric in metrics if metric.needs != "labels"]
    scores, counts = score_folder(dataset, terms.split, masks, by_labels, ids=ids, threads=2)
    return {**scores, **score_outputs(dataset, ids, outputs, others)}, counts


def keep_scored(found: Scored, runs: Path) -> tuple[Record, Path]:
    """Write the masks, counts and record of what has been judged: what cannot be scored leaves nothing."""
    from wsssbench.files.locks import hold

    cell = found.cell(runs)
    with hold(cell, lambda text: click.echo(text, err=True)):
        digest, hashes = keep_files(found, cell)
        seen = _provenance(found, {"folder": found.source, "sha256": digest}, hashes)
        key = content_key(found.identity)
        record = Record(key, "ok", found.name, found.identity, found.scores, {}, seen)
        return record, write_record(cell, record)


def keep_files(found: Scored, folder: Path) -> tuple[str, dict[str, str]]:
    """Write the masks and counts into `folder`; `labels_sha256`, and the sums of the files."""
    from wsssbench.files.file_hashes import write_sums
    from wsssbench.judging.judge import COUNTS

    digest = _keep_masks(found.mask, folder / "masks", found.counts.ids)
    found.counts.save(folder / COUNTS)
    kept = [folder / "masks" / f"{id}.png" for id in found.counts.ids]
    return digest, write_sums(folder, [*kept, folder / COUNTS], [COUNTS])


def _keep_masks(source: Callable[[str], Path], target: Path, ids: Sequence[str]) -> str:
    """Copy the labels as palette PNGs; `labels_sha256` of them.

    Copies, not links: what the owner does to the files later must not change the cell.
    """
    from wsssbench.files.file_hashes import labels_sha256
    from wsssbench.masks import read_labels, write_labels

    def kept(id: str) -> Mask:
        labels = read_labels(source(id))
        write_labels(target / f"{id}.png", labels)
        return labels

    target.mkdir(parents=True, exist_ok=True)
    return labels_sha256(ids, kept)


def _provenance(found: Scored, labels: Mapping[str, str], hashes: Mapping[str, str]) -> dict[str, Any]:
    from wsssbench.env import provenance

    finished = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        **provenance("cpu"),
        "code": {},
        "judged_by": dict(found.judged_by),
        "cards": {},
        "labels": labels,
        "hashes": dict(hashes),
        "dataset": dict(found.dataset),
        "finished": finished,
    }


def _as_table(record: Record) -> str:
    from wsssbench.report.rows import rows_of
    from wsssbench.report.tables import render

    return render(rows_of([record], limited=True), "md")


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
