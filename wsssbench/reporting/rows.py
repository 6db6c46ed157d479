"""Records -> rows: one row per method (and configuration) under equal terms, over seeds, ranked.

The rules that keep a table honest live here: rows are ranked within one group of equal terms only (so never
across stages, splits, threshold policies or custom stages), failures stay visible, limited runs stay out.
How a row looks is `wsssbench.reporting.tables`; nothing here reads files.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from wsssbench.identity import Record, RowIdentity, StepIdentity, Terms, content_key, plain
from wsssbench.split_rules import without_mask

STAGES = ("seed", "pseudo", "seg", "seg+crf", "seg+ms", "seg+ms+crf")  # order of the tables
CEILING = "full"  # the recipe that other rows are a percentage of
MAIN = "iou"  # numbers of this metric carry no prefix
TIMES = ("train_images_per_s", "predict_images_per_s")
USUAL_WEIGHTS = ("", "none", "imagenet")  # anything else has seen more than image tags of other images
SHORT = 4  # letters of an abbreviation: coco, clip, sam


@dataclass(frozen=True)
class Number:
    """One number over seeds, unrounded, in the metric's unit."""

    values: tuple[float, ...]  # by seed, of the cells that have it

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation (n - 1), or None for one value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """Of 95 % for the mean over seeds, or None for one value."""
        from wsssbench.statistics.paired import student_interval

        return student_interval(self.values) if len(self.values) > 1 else None

    @property
    def n(self) -> int:
        return len(self.values)


LATER = "a later attempt; the result before it is shown; `wsssbench clean --failed` forgets the attempt"


@dataclass(frozen=True)
class Row:
    """One line of a table: the cells of one method and configuration that differ by their seed alone."""

    method: str
    variant: str  # what distinguishes rows of one method, such as "rrm.crop=448"; mostly empty
    identity: RowIdentity  # of the first cell
    terms_hash: str
    seeds: tuple[int, ...]  # of the cells that count
    keys: tuple[str, ...]  # of their records, in the same order
    numbers: Mapping[str, Number]
    per_class: tuple[Number | None, ...]  # IoU in %, background first
    left_out: tuple[int, ...]  # classes without truth pixels, in any seed
    judged: tuple[int, ...]  # number of classes in the means; several where seeds draw their own data
    n_images: int | None
    pretraining: str
    badges: tuple[str, ...]  # what is not as usual: oracle, masks seen, COCO weights, limit 8, 1 failed ...
    reasons: tuple[str, ...] = ()  # of failed cells
    later: tuple[str, ...] = ()  # why later attempts at cells that have a result failed
    rank: int | None = None  # within equal terms; None for failures and the ceiling
    of_full: float | None = None  # mIoU in % of the `full` row with the same backbone
    label_source: str = ""  # where image tags come from, of the data set's card: xml, file, mask, generated
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # metrics' words, by name
    versions: tuple[str, ...] = ()  # of wsssbench, that judged the cells
    image_px: int | None = None  # long side of the images, by which widths in pixels were scaled
    image_px_from: str = ""  # measured, stated, or empty: assumed without looking, in any of the cells

    @property
    def terms(self) -> Terms:
        return self.identity.terms

    @property
    def failed(self) -> bool:
        return not self.seeds

    @property
    def title(self) -> str:
        return f"{self.method} ({self.variant})" if self.variant else self.method

    @property
    def failures(self) -> tuple[str, ...]:
        """What failed, with its row: cells, and later attempts at cells whose result stays."""
        later = (f"{reason} ({LATER})" for reason in self.later)
        return tuple(f"{self.title}: {reason}" for reason in (*self.reasons, *later))


def rows_of(records: Iterable[Record], *, limited: bool = False, stale: Collection[str] = ()) -> list[Row]:
    """Rows of `records`, ordered by data set, stage, terms and rank.

    Runs with a limit are left out unless `limited`. `stale` holds keys of records made by code that has
    changed since. The same key twice (a copied folder) counts once; a result beats a failure.
    """
    single: dict[str, Record] = {}
    for record in records:
        wanted = limited or record.identity.terms.limit is None
        if wanted and (record.key not in single or record.status == "ok"):
            single[record.key] = record
    groups: dict[str, list[Record]] = {}
    for record in single.values():
        groups.setdefault(content_key(record.identity.terms), []).append(record)
    rows = [row for hash, group in groups.items() for row in _ranked(_aggregate(hash, group, stale))]
    return sorted(rows, key=_table_order)  # stable: keeps the order within a table


def _table_order(row: Row) -> tuple[Any, ...]:
    terms = row.terms
    place = STAGES.index(terms.stage) if terms.stage in STAGES else len(STAGES)
    policy = terms.threshold_policy == "oracle"
    size, before = terms.limit or 0, terms.earlier
    return (terms.dataset, terms.custom, place, terms.stage, policy, size, before, row.terms_hash)


# --------------------------------------------------------------------------------------------- aggregation


def configuration(record: Record) -> dict[str, Any]:
    """What must be equal for cells to be seeds of one row, by name."""
    identity = record.identity
    flat: dict[str, Any] = {"precision": identity.precision, "filters": identity.filter_backend}
    flat |= {"batch": identity.batch} if isinstance(identity.batch, int) else {}  # else among the options
    flat["supervision"] = "+".join(identity.supervision)
    flat |= step_options(identity.recipe) | _learned_from(record)
    if identity.terms.threshold_policy == "fixed":  # other policies may choose one per seed
        flat["threshold"] = identity.threshold["value"] if identity.threshold else None
    return flat


def step_options(steps: Sequence[StepIdentity]) -> dict[str, Any]:
    """Version and options of every step: "cam version", "cam.crop"; a step that comes twice is numbered."""
    flat: dict[str, Any] = {}
    for number, step in enumerate(steps):
        twice = [s.name for s in steps].count(step.name) > 1
        name = f"{step.name}#{number + 1}" if twice else step.name
        flat[f"{name} version"] = step.version
        flat |= {f"{name}.{key}": value for key, value in plain(step.config).items()}
    return flat


def _learned_from(record: Record) -> dict[str, Any]:
    """What names the images that a recipe learned from, for any seed; {} where that is not recorded."""
    identity = record.identity
    if identity.terms.split_fingerprint:
        return {"learned from": identity.fit_fingerprint[:8]} if identity.fit_fingerprint else {}
    return {f"data {name}": value for name, value in plain(identity.fit_options).items()}


def _aggregate(terms_hash: str, records: Sequence[Record], stale: Collection[str]) -> list[Row]:
    """One row per method and configuration."""
    groups: dict[tuple[str, str], tuple[dict[str, Any], list[Record]]] = {}
    for record in records:
        options = configuration(record)
        groups.setdefault((record.method, content_key(options)), (options, []))[1].append(record)
    rows, others = [], [own for _, cells in groups.values() if (own := _learned_from(cells[0]))]
    for (method, _), (options, cells) in groups.items():
        siblings = [other for (name, _), (other, _) in groups.items() if name == method]
        row = _row(terms_hash, cells, difference(options, siblings), stale)
        apart = difference(learned, others) if (learned := _learned_from(cells[0])) else ""
        rows.append(row if apart in row.variant else replace(row, badges=(*row.badges, apart)))
    if len({version for row in rows for version in row.versions}) > 1:  # then every row says its own
        said = [(f"wsssbench {', '.join(row.versions)}",) if row.versions else () for row in rows]
        rows = [replace(row, badges=(*row.badges, *own)) for row, own in zip(rows, said, strict=True)]
    return rows


def difference(own: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> str:
    """The options in which some differ, as `own` has them: "crop=448, seed=1"."""
    names = {name for other in others for name in {**own, **other} if own.get(name) != other.get(name)}
    return ", ".join(f"{name}={own.get(name)}" for name in sorted(names))


def _row(terms_hash: str, cells: Sequence[Record], variant: str, stale: Collection[str]) -> Row:
    cells = sorted(cells, key=lambda record: (record.identity.seed, record.key))
    good = [record for record in cells if record.status == "ok"]
    main = [record.scores.get(MAIN, {}) for record in good]
    count = len(cells[0].identity.terms.classes) + 1
    return Row(
        method=cells[0].method,
        variant=variant,
        identity=(good or cells)[0].identity,
        terms_hash=terms_hash,
        seeds=tuple(record.identity.seed for record in good),
        keys=tuple(record.key for record in good),
        numbers=_numbers(good),
        per_class=tuple(_number(_at(scores.get("per_class"), k) for scores in main) for k in range(count)),
        judged=tuple(sorted({count - len(scores.get("left_out", ())) for scores in main})),
        left_out=tuple(sorted({int(k) for scores in main for k in scores.get("left_out", ())})),
        n_images=next((int(scores["n_images"]) for scores in main if "n_images" in scores), None),
        pretraining=_pretraining(cells[0]),
        badges=(*_unusual(cells[0]), *_badges(cells, good, stale)),
        reasons=tuple(dict.fromkeys(record.reason for record in cells if record.status == "failed")),
        later=tuple(dict.fromkeys(record.reason for record in good if record.reason)),
        label_source=", ".join(dict.fromkeys(filter(None, map(_label_source, cells)))),
        notes=_notes(good),
        versions=tuple(sorted({v for record in good if (v := _version(record))})),
        image_px=next(filter(None, (_data(record).get("image_px") for record in cells)), None),
        image_px_from=min(map(_image_px_from, cells)),
    )


def _data(record: Record) -> Mapping[str, Any]:
    """The card of the data set; empty where the record has not kept it."""
    card: Mapping[str, Any] = record.provenance.get("dataset", {})
    return card


def _image_px_from(record: Record) -> str:
    return str(_data(record).get("image_px_from", ""))


def _pretraining(record: Record) -> str:
    """What the weights of any step have seen, from the cards in the record's provenance."""
    cards = record.provenance.get("cards", {}).values()
    seen = dict.fromkeys(card["pretraining"] for card in cards if card.get("pretraining"))
    return ", ".join(name for name in seen if name != "none") or ("none" if seen else "")


def _version(record: Record) -> str:
    """The version of wsssbench that judged a cell; empty where the record does not say."""
    versions = record.provenance.get("versions")
    return str(versions.get("wsssbench", "")) if isinstance(versions, Mapping) else ""


def _label_source(record: Record) -> str:
    """Where the image tags of the data set come from; empty where the record does not say."""
    return str(_data(record).get("label_source", ""))


def _at(values: Any, index: int) -> Any:
    return values[index] if isinstance(values, (list, tuple)) and index < len(values) else None


def _number(values: Iterable[Any]) -> Number | None:
    """The finite numbers among `values`, or None without any."""
    real = (v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool))
    finite = tuple(float(v) for v in real if math.isfinite(v))
    return Number(finite) if finite else None


def _numbers(good: Sequence[Record]) -> dict[str, Number]:
    """Every number of every metric, and the throughput, by name."""
    flat: list[dict[str, Any]] = []
    for record in good:
        numbers = {name: record.timing.get(name) for name in TIMES}
        for metric, scores in record.scores.items():
            prefix = "" if metric == MAIN else f"{metric}."
            numbers |= {f"{prefix}{name}": value for name, value in flat_scores(scores).items()}
        flat.append(numbers)
    names = dict.fromkeys(name for numbers in flat for name in numbers)
    found = {name: _number(numbers.get(name) for numbers in flat) for name in names}
    return {name: number for name, number in found.items() if number is not None}


def flat_scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of one metric; those that are numbers by a name stand as `score.name`."""
    flat: dict[str, Any] = {}
    for name, value in scores.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": number for key, number in value.items()}
        elif name != "n_images":
            flat[name] = value
    return flat


def _notes(good: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    """What metrics say in words, by metric and name, as of a number that is not defined; each text once."""
    found: dict[str, dict[str, None]] = {}
    for record in good:
        for metric, scores in record.scores.items():
            for name, text in scores.items():
                if isinstance(text, str) and text:
                    found.setdefault(f"{metric}.{name}", {})[text] = None
    return {name: tuple(texts) for name, texts in found.items()}


def _unusual(cell: Record) -> Iterator[str]:
    """What had a part in a row that image tags and ImageNet weights alone would not have."""
    supervision, terms = cell.identity.supervision, cell.identity.terms
    if "masks" in supervision:
        yield "masks seen"
    yield from (name for name in supervision if name in ("saliency", "text"))
    if "unknown" in supervision:
        yield "supervision unknown"
    if terms.threshold_policy == "held-out" and cell.identity.threshold is not None:
        yield "held-out masks"
    if "tags" in supervision and _label_source(cell) == "mask":
        yield "tags from masks"
    for name in _pretraining(cell).split(", "):
        if name.lower() not in USUAL_WEIGHTS:
            yield f"{name.upper() if len(name) <= SHORT else name} weights"


def _badges(cells: Sequence[Record], good: Sequence[Record], stale: Collection[str]) -> Iterator[str]:
    terms = cells[0].identity.terms
    seeds = [record.identity.seed for record in good]
    if terms.threshold_policy == "oracle" and cells[0].identity.threshold is not None:
        yield "oracle threshold"
    if terms.custom:
        yield "custom stage"
    if terms.limit is not None:
        yield f"limit {terms.limit}"
    if any(record.key in stale for record in good):
        yield "stale"
    if len(good) < len(cells):
        yield f"{len(cells) - len(good)} of {len(cells)} failed"
    if any(record.reason for record in good):
        yield "a later attempt failed"
    if len(set(seeds)) < len(seeds):
        yield "a seed twice"
    if terms.split_fingerprint and not all(map(_image_px_from, cells)):  # of images that were not drawn
        yield "image size assumed"
    data = _data(cells[0])
    fit = data.get("fit_split", "")
    lacking = data.get("without_masks", {}).get(fit, 0)
    if lacking and cells[0].identity.fit_fingerprint:  # of labels that came as files nobody knows
        yield without_mask(lacking, fit)
    if good and all(record.provenance.get("isolation") for record in good):
        drawn = _data(good[0]).get("generated")
        yield "isolated; its data can be drawn from the seed" if drawn else "isolated"


# ------------------------------------------------------------------------------------------------- ranking


def _backbone(row: Row) -> Any:
    """Backbone of the last step that names one."""
    named = [step.config["backbone"] for step in row.identity.recipe if "backbone" in step.config]
    return named[-1] if named else None


def _miou(row: Row) -> float:
    return row.numbers["miou"].mean if "miou" in row.numbers else -math.inf


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Rows of equal terms, best mean mIoU first, with rank and percentage of the ceiling; failures last.

    Rows that learned from masks are shown in their place and not ranked: they are the ceiling.
    """
    ordered = sorted(rows, key=lambda row: (row.failed, -_miou(row), row.title))
    weak = [_miou(row) for row in ordered if _is_ranked(row)]
    ceilings = [row for row in ordered if row.method == CEILING and "miou" in row.numbers]
    return [
        replace(
            row,
            rank=weak.index(_miou(row)) + 1 if _is_ranked(row) else None,
            of_full=_share(row, [c for c in ceilings if _backbone(c) == _backbone(row) is not None]),
        )
        for row in ordered
    ]


def _is_ranked(row: Row) -> bool:
    return "miou" in row.numbers and "masks" not in row.identity.supervision


def _share(row: Row, ceilings: Sequence[Row]) -> float | None:
    """mIoU in percent of the one ceiling that fits; None without one or with several."""
    if len(ceilings) != 1 or "miou" not in row.numbers or not _miou(ceilings[0]):
        return None
    return 100.0 * _miou(row) / _miou(ceilings[0])
