"""`wsssbench report`, `gate` and `score`: the judge's path over files, without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from wsssbench.commands.setup import open_settings
from wsssbench.commands.sources import stale_keys
from wsssbench.errors import NotComparable, UnknownName, WsssError, nearest
from wsssbench.plugins import Plugins
from wsssbench.process import keep_memory
from wsssbench.store import atomic_write_text, cell_folder, find_records, write_record
from wsssbench.types import SUPERVISION, Dataset, Record, RowIdentity, StepIdentity, Terms, content_key, plain

UNKNOWN = "unknown"  # what a foreign method has learned from, where nobody says


def report_command(runs: Sequence[Path], format: str, out: Path | None, limited: bool) -> None:
    """Print (or write to `out`) the tables of all records below `runs`."""
    from wsssbench.report import report

    records = [stored.record for root in runs for stored in find_records(root)]
    text = report(runs, format, limited, stale_keys(records, Plugins()))
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
        raise NotComparable("no records to make a baseline of", where=", ".join(map(str, runs)))
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
    from wsssbench.plan import open_dataset, terms_of
    from wsssbench.stages import resolve_stages

    keep_memory()
    asked = {"runs": flags["runs"], "limit": flags["limit"], "seeds": (flags["seed"],)}
    settings, plugins = open_settings(asked, flags["config"], flags["options"])
    (stage,) = resolve_stages((flags["stage"],), settings.custom_stages)
    supervision = _supervision(flags["supervision"])
    if not flags["name"].strip():
        raise WsssError("the row has no name", where="--as", hint="as --as my-method")
    dataset = open_dataset(flags["dataset"], plugins, settings, flags["seed"])
    terms = terms_of(dataset, stage, "fixed", settings.limit)
    identity = foreign_identity(flags["name"], terms, supervision, flags["seed"], flags["threshold"])
    reading = Reading(flags["format"], flags["threshold"], flags["class_index"], flags["rescale"])
    ids = dataset.ids(terms.split)[: terms.limit]
    with as_label_maps(folder, dataset, ids, stage, terms.split, reading) as (masks, backend):
        identity = replace(identity, filter_backend=backend)
        return _score(masks, folder, flags["name"], dataset, identity, settings.runs)


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


def _score(
    masks: Path, folder: Path, name: str, dataset: Dataset, identity: RowIdentity, runs: Path
) -> tuple[Record, Path]:
    """Judge `masks` first, then write them, counts and record: what cannot be scored leaves nothing.

    `folder` is where they came from.
    """
    from wsssbench.judge import COUNTS, score_folder
    from wsssbench.locks import hold

    terms, key = identity.terms, content_key(identity)
    scores, counts = score_folder(dataset, terms.split, masks, limit=terms.limit, threads=2)
    cell = cell_folder(runs, terms.dataset, name, identity.seed, terms.stage, terms.split, key)
    with hold(cell, lambda text: click.echo(text, err=True)):
        digest = _keep_masks(masks, cell / "masks", counts.ids)
        counts.save(cell / COUNTS)
        seen = _provenance(dataset, {"folder": str(folder), "sha256": digest})
        record = Record(key, "ok", name, identity, scores, {}, seen)
        return record, write_record(cell, record)


def _keep_masks(source: Path, target: Path, ids: Sequence[str]) -> str:
    """Copy the labels as palette PNGs; sha256 (hex) over ids and label bytes.

    Copies, not links: what the owner does to the files later must not change the cell.
    """
    from wsssbench.masks import read_labels, write_labels

    whole = hashlib.sha256()
    target.mkdir(parents=True, exist_ok=True)
    for id in ids:
        labels = read_labels(source / f"{id}.png")
        whole.update(f"{id} {labels.shape} ".encode() + labels.tobytes())
        write_labels(target / f"{id}.png", labels)
    return whole.hexdigest()


def _provenance(dataset: Dataset, labels: Mapping[str, str]) -> dict[str, Any]:
    from wsssbench.env import provenance

    finished = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        **provenance("cpu"),
        "code": {},
        "cards": {},
        "labels": labels,
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
