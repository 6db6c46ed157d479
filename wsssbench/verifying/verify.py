"""Whether a record says what its files say: hashes compared, and its cell judged once more.

A cell is rebuilt from its record as it was planned; judging it is `wsssbench.verifying.rejudging`. Nothing is
predicted and nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wsssbench.errors import BadData, NotComparable, WsssError
from wsssbench.files.atomic import safe_name
from wsssbench.files.file_hashes import SUMS, compare_sums, file_sha256, read_sums
from wsssbench.identity import Record, Terms, content_key, plain
from wsssbench.planning.cells import Cell, Trial
from wsssbench.planning.metric_choice import load_metrics
from wsssbench.planning.terms import terms_of
from wsssbench.planning.thresholds import held_out_ids, judged_ids
from wsssbench.plugins.table import Plugins
from wsssbench.records.store import StoredRecord
from wsssbench.scores.counts_table import COUNTS, CountsTable
from wsssbench.types import Dataset, Metric
from wsssbench.verifying.recorded import recorded_stage, recorded_steps, with_recorded_size
from wsssbench.verifying.rejudging import CHOSEN, check_table_alone, judge_again, one_line
from wsssbench.verifying.verification import Verification

KEYED = re.compile(r".+-[0-9a-f]{8}")
SEED = re.compile(r"seed\d+")
Tables = Mapping[str, Mapping[str, Any]]


def verify_record(
    stored: StoredRecord,
    open_data: Callable[[Record], Dataset],
    plugins: Plugins,
    *,
    weights: Mapping[str, str] | None = None,
    custom_stages: Tables | None = None,
    from_masks: bool = False,
) -> Verification:
    """Judge the cell of one record again and compare everything that can be compared.

    `open_data` opens the data set that it was judged on and raises WsssError where it is not there; `weights`
    holds the sha256 of weight files by step. With `from_masks` the labels that the cell keeps are scored and
    not made again from maps or probabilities.
    """
    seen = Verification(stored.path, stored.record)
    _check_record(seen)
    if stored.record.status != "ok":
        seen.unknown.append(f"the cell failed: {stored.record.reason}")
        return seen
    _check_files(seen)
    _check_weights(seen, weights or {})
    metrics, table = _metrics(seen, plugins), _kept_counts(seen)
    data = _opened(seen, open_data)
    cell = _rebuilt(seen, stored, data, metrics, custom_stages or {}) if data is not None else None
    if cell is not None:
        judge_again(seen, cell, table, from_masks=from_masks)
    elif table is not None:
        check_table_alone(seen, table, metrics, len(stored.record.identity.terms.classes))
    return seen


# -------------------------------------------------------------------------------------- hashes of the record


def _check_record(seen: Verification) -> None:
    """The key is the hash of the identity, and the folder is that of the method, the seed and the key."""
    record, folder = seen.record, seen.path.resolve().parent
    seen.compare("record", "protocol key", record.key, content_key(record.identity))
    if not KEYED.fullmatch(folder.name):
        seen.notes.append("the folder does not name the key")
        return
    terms = record.identity.terms
    says = f"{safe_name(terms.stage)}-{safe_name(terms.split)}-{record.key[:8]}"
    lies = folder.name
    if SEED.fullmatch(folder.parent.name):
        says = f"{safe_name(record.method)}/seed{record.identity.seed}/{says}"
        lies = f"{folder.parent.parent.name}/{folder.parent.name}/{lies}"
    seen.compare("record", "folder", says, lies)


def _check_files(seen: Verification) -> None:
    """The files are still those that were judged; of those that are gone the judging will tell."""
    hashes: Mapping[str, str] = seen.record.provenance.get("hashes") or {}
    folder = seen.path.parent
    if not hashes:
        seen.notes.append("no hashes recorded")
        return
    here = {name: digest for name, digest in hashes.items() if (folder / name).is_file()}
    if SUMS in here:
        try:
            here = {**read_sums(folder / SUMS), **here}
        except WsssError as error:
            seen.unknown.append(one_line(error))
    else:
        seen.unknown.append(f"{SUMS} is gone: masks and artifacts cannot be compared by their hashes")
    others, gone = compare_sums(folder, here)
    for name in others:
        seen.compare("files", name, here[name], file_sha256(folder / name))
    seen.checked["files"] = len(here) - len(gone)
    if gone:
        seen.notes.append(f"{len(gone)} files of {SUMS} are gone")


def _check_weights(seen: Verification, weights: Mapping[str, str]) -> None:
    """The weight files that were given are those that the steps began with."""
    for step in seen.record.identity.recipe:
        known = step.config.get("weights")
        if not isinstance(known, Mapping) or "sha256" not in known:
            continue
        if step.name in weights:
            seen.compare("weights", f"weights of {step.name}", known["sha256"], weights[step.name])
        else:
            seen.notes.append(f"weights of {step.name} (sha256 {known['sha256'][:12]}) were not given")


# --------------------------------------------------------------------------------- what it was judged with


def _metrics(seen: Verification, plugins: Plugins) -> tuple[Metric, ...]:
    """The metrics of the record, iou first; one that is not installed cannot be verified."""
    found = []
    for name in (name for name in seen.record.scores if name != CHOSEN):
        try:
            found.append(load_metrics((name,), plugins)[-1])
        except WsssError:
            seen.unknown.append(f"the metric {name} is not installed")
    return tuple(found)


def _kept_counts(seen: Verification) -> CountsTable | None:
    path = seen.path.parent / COUNTS
    if not path.is_file():
        seen.unknown.append(f"{COUNTS} is not there")
        return None
    try:
        return CountsTable.load(path)
    except BadData as error:
        seen.unknown.append(one_line(error))
        return None


def _opened(seen: Verification, open_data: Callable[[Record], Dataset]) -> Dataset | None:
    try:
        return open_data(seen.record)
    except NotComparable as error:
        seen.unknown.append(f"the data set here is another one: {error.where}")
    except WsssError as error:
        seen.unknown.append(f"the data set cannot be opened: {one_line(error)}")
    return None


def _rebuilt(
    seen: Verification, stored: StoredRecord, data: Dataset, metrics: Sequence[Metric], custom: Tables
) -> Cell | None:
    """The cell as it was planned; None where record and data set do not tell, which is said."""
    record, terms = stored.record, stored.record.identity.terms
    data = with_recorded_size(data, record)
    foreign = any(step.name.startswith("import:") for step in record.identity.recipe)
    try:
        stage = recorded_stage(terms, custom)
        policy = terms.threshold_policy
        tuned_on = held_out_ids(data, terms.limit, terms.threshold_rule) if policy == "held-out" else ()
        _check_terms(seen, terms, terms_of(data, stage, policy, terms.limit, earlier=terms.earlier))
        _check_lessons(seen, data, tuned_on)
        return Cell(
            trial=Trial(record.method, data, record.identity.seed, () if foreign else recorded_steps(stored)),
            stage=stage,
            split=terms.split,
            ids=judged_ids(data, terms.split, terms.limit, tuned_on),
            tuned_on=tuned_on,
            identity=record.identity,
            key=record.key,
            folder=stored.path.parent,
            state="done",
            metrics=tuple(metrics),
        )
    except WsssError as error:
        seen.unknown.append(one_line(error))
        return None


def _check_terms(seen: Verification, recorded: Terms, today: Terms) -> None:
    """The stage and the judged split are what they were."""
    own, now = plain(recorded), plain(today)
    if own["stage_version"] != now["stage_version"]:
        what = f"the stage {recorded.stage} is version {today.stage_version} now, it was judged by version "
        raise NotComparable(what + recorded.stage_version)
    for name in own:
        if name == "split_fingerprint":
            seen.compare("data", f"fingerprint of {recorded.split}", own[name], now[name])
        else:
            seen.compare("record", f"terms.{name}", own[name], now[name])


def _check_lessons(seen: Verification, data: Dataset, tuned_on: Sequence[str]) -> None:
    """What was learned from, and what a threshold was tuned on, is what it was."""
    identity, split = seen.record.identity, data.card.fit_split
    if identity.fit_fingerprint:  # of labels that came as files nobody knows
        try:
            here = data.fingerprint(split)
            seen.compare("data", f"fingerprint of {split}, learned from", identity.fit_fingerprint, here)
        except WsssError as error:  # what was judged may be there all the same
            seen.unknown.append(f"what was learned from: {one_line(error)}")
    if tuned_on and identity.threshold is not None:
        drawn = content_key(list(tuned_on))
        seen.compare("threshold", "held-out images", identity.threshold.get("ids"), drawn)
