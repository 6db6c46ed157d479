"""The protocol of a table in words, for a paper: all of it from the terms and the records, nothing assumed.

Plain text; LaTeX is made of it by `wsssbench.reporting.latex.escaped`.
"""

from __future__ import annotations

from collections.abc import Sequence

from wsssbench.identity import Record, Terms
from wsssbench.reporting.conditions import FACTS
from wsssbench.reporting.rows import Row
from wsssbench.reporting.table_parts import definition

POLICIES = {
    "fixed": "Thresholds of maps were fixed in advance{values}.",
    "held-out": "Each method's threshold is the one of the highest mIoU on{held} held-out images of the "
    "label split; the masks of these serve nothing else, and no score counts these images.",
    "label-free": "Thresholds of maps were chosen without masks, by Otsu's method on the values of the "
    "largest map.",
    "oracle": "Thresholds of maps were chosen on the judged masks themselves: these numbers are an upper "
    "bound, not results that a method could reach without masks.",
}


def protocol_text(table: Sequence[Row], records: Sequence[Record]) -> str:
    """One paragraph on the rows of one table; `records` are theirs."""
    terms = table[0].terms
    parts = [
        definition(table, FACTS),
        _data(terms, records),
        _threshold(table, terms),
        _crf(terms),
        _seeds(table),
    ]
    return " ".join(part for part in parts if part)


def _data(terms: Terms, records: Sequence[Record]) -> str:
    """What makes the data set the same elsewhere, and what was learned from."""
    options = ", ".join(f"{k} {v}" for k, v in terms.dataset_options.items() if v not in (None, ""))
    cards = (record.provenance.get("dataset") or {} for record in records)
    learned = next((card["fit_split"] for card in cards if card.get("fit_split")), "")
    said = [
        f"options {options}" if options else "",
        f"judged split sha256 {terms.split_fingerprint[:12]}" if terms.split_fingerprint else "",
        f"methods learned on the split {learned}" if learned else "",
        "not a full evaluation, as the split was cut" if terms.limit is not None else "",
    ]
    text = "; ".join(filter(None, said))
    return f"Data set: {text}." if text else ""


def _threshold(table: Sequence[Row], terms: Terms) -> str:
    chosen = {row.title: row.identity.threshold for row in table if row.identity.threshold}
    if not chosen or terms.threshold_policy not in POLICIES:
        return ""
    values = ", ".join(f"{name} {known['value']:g}" for name, known in chosen.items() if known.get("value"))
    held = {int(known["images"]) for known in chosen.values() if known.get("images")}
    return POLICIES[terms.threshold_policy].format(
        values=f" ({values})" if values else "", held="".join(f" {n}" for n in sorted(held))
    )


def _crf(terms: Terms) -> str:
    """What the letters of a CRF's parameters stand for."""
    if terms.crf is None:
        return ""
    c = terms.crf
    return (
        f"The CRF is fully connected, of {c.get('iterations')} mean-field iterations with Potts "
        f"compatibility: a Gaussian kernel of width {c.get('gauss_xy')} px and weight "
        f"{c.get('gauss_compat')}, and a bilateral kernel of widths {c.get('bilateral_xy')} px and "
        f"{c.get('bilateral_rgb')} colour units and weight {c.get('bilateral_compat')}."
    )


def _seeds(table: Sequence[Row]) -> str:
    counts = sorted({len(row.seeds) for row in table if row.seeds})
    seeds = ", ".join(map(str, sorted({seed for row in table for seed in row.seeds})))
    if not counts:
        return ""
    if counts == [1]:
        return f"Numbers are of one training each (seeds {seeds}): no interval can be given."
    number = " to ".join(str(n) for n in sorted({counts[0], counts[-1]}))
    return f"Numbers are means over {number} seeds ({seeds})."
