"""Which competition of the VOC server a row belongs to: comp5 for what has seen VOC data only, comp6 else.

Judged from the record alone, strictly: what is not known counts as outside data.
"""

from __future__ import annotations

from wsssbench.dumps.voc_server import Competition
from wsssbench.errors import WsssError
from wsssbench.identity import Record
from wsssbench.verifying.recorded import recorded_card

VOC, AUGMENTED = "voc12", "SegmentationClassAug"  # the latter are masks of SBD, which VOC does not give
OWN_PRETRAINING = ("none", "voc", "voc12")
OWN_SUPERVISION = ("tags", "class_names", "masks")


def competition_of(record: Record, asked: Competition | None) -> tuple[Competition, list[str]]:
    """The competition, and what speaks against comp5; WsssError where comp5 is `asked` for all the same."""
    reasons = outside_data(record)
    if asked == "comp5" and reasons:
        what = f"comp5 is for methods that have seen VOC data only, and {'; '.join(reasons)}"
        raise WsssError(what, where="--competition", hint="leave it out: this row goes to comp6")
    return asked or ("comp6" if reasons else "comp5"), reasons


def outside_data(record: Record) -> list[str]:
    """What the row has seen beside the VOC data, as far as its record tells; empty where nothing."""
    identity, terms = record.identity, record.identity.terms
    reasons = [] if terms.dataset == VOC else [f"it has learned from {terms.dataset}"]
    for name in dict.fromkeys(step.name for step in identity.recipe):
        card = recorded_card(record, name)
        seen = card.pretraining if card and card.pretraining else "weights of unknown origin"
        if seen not in OWN_PRETRAINING:
            reasons.append(f"{name} starts from {seen}")
    reasons += [f"it uses {s} supervision" for s in identity.supervision if s not in OWN_SUPERVISION]
    if "masks" in identity.supervision and AUGMENTED in _masks_learned_from(record):
        reasons.append("it has learned from SBD's masks")
    return reasons


def _masks_learned_from(record: Record) -> str:
    """The mask folders of the split that was learned from, as the data set's options name them."""
    card = record.provenance.get("dataset", {})
    folders, split = card.get("options", {}).get("masks", {}), card.get("fit_split", "")
    return str(folders.get(split, AUGMENTED) if isinstance(folders, dict) else AUGMENTED)
