"""`wsssbench report`, `gate` and `score`: the judge's path over files, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsssbench.commands.setup import open_settings
from wsssbench.commands.sources import stale_keys
from wsssbench.errors import NotComparable, UnknownName, WsssError, nearest
from wsssbench.files.printable import is_name
from wsssbench.plugins import Plugins
from wsssbench.process import keep_memory
from wsssbench.store import atomic_write_text, cell_folder, find_records, write_record
from wsssbench.types import SUPERVISION, Dataset, Record, RowIdentity, StepIdentity, Terms, content_key, plain

if TYPE_CHECKING:
    from wsssbench.commands.foreign import Reading
    from wsssbench.judging.judge import CountsTable
    from wsssbench.types import Mask, Metric, Outputs

NOTHING = "next: `wsssbench run --method constant --dataset shapes` makes a first row"
UNKNOWN = "unknown"  # what a foreign method has learned from, where nobody says


def report_command(
    runs: Sequence[Path], format: str, out: Path | None, limited: bool, published: bool = False
) -> None:
    """Print (or write to `out`) the tables of the records below `runs`; `published`: what others report."""
    from wsssbench.report import report

    records = [stored.record for root in runs for stored in find_records(root)]
    text = report(runs, format, limited, stale_keys(records, Plugins()), published)
    if not records:
        click.echo(NOTHING, err=True)
    if out is None:
        click.echo(text, nl=False)
    else:
        atomic_write_text(out, text)
        click.echo(f"wrote {out}", err=True)


def gate_command(
    runs: Sequence[Path], baseline: Path, write: bool, tolerance: float, interval: bool = False
) -> int:
    """Judge `runs` by `baseline` and return the exit code; with `write`, make the baseline from them."""
    from wsssbench.compare import gate_runs, write_baseline

    if not write:
        result = gate_runs(runs, baseline, interval=interval)
        click.echo(str(result), nl=False)
        return result.code
    if not 0 <= tolerance < 100:
        raise WsssError("a tolerance is a number of points", where="--tolerance", hint="as --tolerance 1.5")
    content = write_baseline([s.record for root in runs for s in find_records(root)], tolerance)
    if not content["rows"]:
        raise NotComparable(
            "no records to make a baseline of",
            where=", ".join(map(str, runs)),
            hint="`wsssbench run` makes them",
        )
    atomic_write_text(baseline, json.dumps(content, indent=1) + "\n")
    click.echo(f"wrote {len(content['rows'])} rows to {baseline}", err=True)
    return 0


# --------------------------------------------------------------------------------------------------- score


def score_command(folder: Path, flags: Mapping[str, Any]) -> None:
    """Score the files <folder>/<image id>.* as the row `flags["name"]`, keep it as a cell, print it."""
    record, path = score_files(folder, flags)
    click.echo(_as_json(record, path) if flags["as_json"] else _as_table(record), nl=False)
    click.echo(f"record: {path}", err=True)


def score_files(folder: Path, flags: Mapping[str, Any]) -> tuple[Record, Path]:
    """The record of the files in `folder`, kept as a cell, and where it lies; `flags` as of the command."""
    from wsssbench.commands.foreign import Reading, as_label_maps
    from wsssbench.judging.metric_choice import load_metrics
    from wsssbench.plan import open_dataset, terms_of
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
    ids, metrics = dataset.ids(terms.split)[: terms.limit], load_metrics(flags["metrics"] or (), plugins)
    with as_label_maps(folder, dataset, ids, stage, terms.split, reading) as (masks, backend):
        identity = replace(identity, filter_backend=backend)
        scores, counts = _judged(masks, folder, dataset, ids, terms, metrics, reading)
        return _kept(masks, folder, flags["name"], dataset, identity, settings.runs, scores, counts)


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
        batch=0,
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


def _kept(
    masks: Path,
    folder: Path,
    name: str,
    dataset: Dataset,
    identity: RowIdentity,
    runs: Path,
    scores: Mapping[str, Any],
    counts: CountsTable,
) -> tuple[Record, Path]:
    """Write the masks, counts and record of what has been judged: what cannot be scored leaves nothing.

    `folder` is where they came from.
    """
    from wsssbench.files.file_hashes import write_sums
    from wsssbench.files.locks import hold
    from wsssbench.judging.judge import COUNTS

    terms, key = identity.terms, content_key(identity)
    cell = cell_folder(runs, terms.dataset, name, identity.seed, terms.stage, terms.split, key)
    with hold(cell, lambda text: click.echo(text, err=True)):
        digest = _keep_masks(masks, cell / "masks", counts.ids)
        counts.save(cell / COUNTS)
        kept = [cell / "masks" / f"{id}.png" for id in counts.ids]
        hashes = write_sums(cell, [*kept, cell / COUNTS], [COUNTS])
        seen = _provenance(dataset, {"folder": str(folder), "sha256": digest}, hashes)
        record = Record(key, "ok", name, identity, scores, {}, seen)
        return record, write_record(cell, record)


def _keep_masks(source: Path, target: Path, ids: Sequence[str]) -> str:
    """Copy the labels as palette PNGs; `labels_sha256` of them.

    Copies, not links: what the owner does to the files later must not change the cell.
    """
    from wsssbench.files.file_hashes import labels_sha256
    from wsssbench.masks import read_labels, write_labels

    def kept(id: str) -> Mask:
        labels = read_labels(source / f"{id}.png")
        write_labels(target / f"{id}.png", labels)
        return labels

    target.mkdir(parents=True, exist_ok=True)
    return labels_sha256(ids, kept)


def _provenance(dataset: Dataset, labels: Mapping[str, str], hashes: Mapping[str, str]) -> dict[str, Any]:
    from wsssbench.env import provenance

    finished = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        **provenance("cpu"),
        "code": {},
        "cards": {},
        "labels": labels,
        "hashes": dict(hashes),
        "dataset": plain(dataset.card),
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
