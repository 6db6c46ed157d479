"""The protocol of a table in words, for a paper: all of it from the terms and the records, nothing assumed.

Plain text; LaTeX is made of it by `wsssbench.reporting.latex.escaped`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsssbench.identity import Record, Terms
from wsssbench.reporting.conditions import EARLIER, ground_truth, judged_size, row_conditions
from wsssbench.reporting.rows import Row

POLICIES = {
    "fixed": "Thresholds of maps were fixed in advance{values}.",
    "held-out": "Each method's threshold is the one of the highest mIoU on{held} held-out images of the "
    "label split; the masks of these serve nothing else, and no score counts these images.",
    "label-free": "Thresholds of maps were chosen without masks, by Otsu's method on the values of the "
    "largest map.",
    "oracle": "Thresholds of maps were chosen on the judged masks themselves: these numbers are an upper "
    "bound, not results that a method could reach without masks.",
}
MADE_WITH = ("filter backend", "arithmetic", "pretraining", "scales of the steps")


def protocol_text(table: Sequence[Row], records: Sequence[Record]) -> str:
    """One paragraph on the rows of one table; `records` are theirs."""
    terms = table[0].terms
    card: Mapping[str, Any] = next(
        (r.provenance["dataset"] for r in records if r.provenance.get("dataset")), {}
    )
    parts = [
        _data(table, terms),
        _learning(table, terms, card),
        _evaluation(terms),
        _threshold(table, terms),
        _post(terms),
        row_conditions(table, ("CRF", *MADE_WITH) if terms.crf is None else MADE_WITH),
        _score(table, terms),
        _statistics(table),
    ]
    return " ".join(part for part in parts if part)


def _data(table: Sequence[Row], terms: Terms) -> str:
    images = next((row.n_images for row in table if row.n_images is not None), None)
    drawn = (
        "drawn anew from each seed"
        if not terms.split_fingerprint
        else f"sha256 {terms.split_fingerprint[:12]}"
    )
    count = "" if images is None else f" of {images} images"
    options = ", ".join(f"{k} {v}" for k, v in terms.dataset_options.items() if v not in (None, ""))
    shown = f" with the options {options}" if options else ""
    limit = (
        f" It was cut to the first {terms.limit} images: this is no full evaluation." if terms.limit else ""
    )
    earlier = f" This table was {EARLIER}." if terms.earlier else ""
    return (
        f"We report the stage {terms.stage} (version {terms.stage_version}{', custom' * terms.custom}) of "
        f"wsssbench on {terms.dataset} (version {terms.dataset_version}{shown}), "
        f"{len(terms.classes)} classes and background, split {terms.split}{count} ({drawn}).{limit}{earlier}"
    )


def _learning(table: Sequence[Row], terms: Terms, card: Mapping[str, Any]) -> str:
    words = {"tags": "image tags", "masks": "pixel masks", "class_names": "the names of the classes"}
    kinds: dict[str, list[str]] = {}
    for row in table:
        said = " and ".join(words.get(name, name) for name in row.identity.supervision) or "nothing"
        kinds.setdefault(said, []).append(row.title)
    learned = "; ".join(f"{', '.join(names)} from {said}" for said, names in kinds.items())
    split = f" on the split {card['fit_split']}" if card.get("fit_split") else ""
    sources = row_conditions(table, ("image tags from", "masks seen"))
    return f"The methods learned{split} as follows: {learned}. {sources}"


def _evaluation(terms: Terms) -> str:
    given = "are given to the methods" if terms.tags_at_evaluation else "are not given to the methods"
    return (
        f"At evaluation, image tags {given}; labels are judged {judged_size(terms)} against the masks of the "
        f"split: {ground_truth(terms)}."
    )


def _threshold(table: Sequence[Row], terms: Terms) -> str:
    chosen = {row.title: row.identity.threshold for row in table if row.identity.threshold}
    if not chosen or terms.threshold_policy not in POLICIES:
        return ""
    values = ", ".join(f"{name} {known['value']:g}" for name, known in chosen.items() if known.get("value"))
    held = {int(known["images"]) for known in chosen.values() if known.get("images")}
    return POLICIES[terms.threshold_policy].format(
        values=f" ({values})" if values else "", held="".join(f" {n}" for n in sorted(held))
    )


def _post(terms: Terms) -> str:
    scales = ", ".join(f"{s:g}" for s in terms.scales)
    several = (
        "Predictions are averaged over" if len(terms.scales) > 1 or terms.flip else "Predictions are made at"
    )
    flip = " and horizontal flips" if terms.flip else ", without flips"
    test = f"{several} the scale{'s' * (len(terms.scales) > 1)} {scales}{flip}"
    if terms.crf is None:
        return f"{test}; the stage adds no CRF."
    c = terms.crf
    scale = float(c.get("xy_scale", 1))
    widths = f" (widths in pixels of a VOC image, multiplied by {scale:g} here)" if scale != 1 else ""
    return (
        f"{test}, and refined by a fully connected CRF of {c.get('iterations')} mean-field iterations with "
        f"Potts compatibility: a Gaussian kernel of width {c.get('gauss_xy')} px and weight "
        f"{c.get('gauss_compat')}, and a bilateral kernel of widths {c.get('bilateral_xy')} px and "
        f"{c.get('bilateral_rgb')} colour units and weight {c.get('bilateral_compat')}{widths}."
    )


def _score(table: Sequence[Row], terms: Terms) -> str:
    names = ("background", *terms.classes)
    out = sorted({k for row in table for k in row.left_out if k < len(names)})
    left = f" ({', '.join(names[k] for k in out)} had none)" if out else ""
    return (
        "IoU of a class is TP / (TP + FP + FN) with pixels summed over the split; mIoU is its mean over the "
        f"classes with truth pixels{left}, background included. Void pixels are not judged; an abstained "
        "pixel is a miss of its class."
    )


def _statistics(table: Sequence[Row]) -> str:
    counts = sorted({len(row.seeds) for row in table if row.seeds})
    seeds = sorted({seed for row in table for seed in row.seeds})
    if counts in ([], [1]):
        shown = f" (seed {seeds[0]})" if len(seeds) == 1 else ""
        return f"Numbers are of one training each{shown}: no interval can be given."
    number = " to ".join(str(n) for n in sorted({counts[0], counts[-1]}))
    return (
        f"Numbers are means over {number} seeds ({', '.join(map(str, seeds))}), ± the sample standard "
        "deviation; intervals are of 95 % for the mean over seeds (Student's t)."
    )
