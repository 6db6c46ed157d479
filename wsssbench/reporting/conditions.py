"""Under which conditions the rows of a table came about: what all have in common, and what each row has.

Every table says all of it, as a column, as a badge, or in the sentence below: what was learned from, who has
seen masks, where tags come from and whether they are given, how thresholds were chosen, what the weights have
seen, which CRF and filter ran, what the truth is, at which size, with which test-time augmentation, and
whether the split was cut. How a table looks is for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from wsssbench.identity import Terms, plain
from wsssbench.reporting.rows import Row

TAGS = {
    "xml": "the annotated objects of the data set",
    "json": "the instances file of the data set",
    "file": "a file of tags",
    "mask": "the pixel masks",
    "generated": "the generator",
}
SIZES = {"measured": "median", "stated": "stated", "": "assumed"}  # by where a card has image_px from
UNSAID = "unknown"  # what a record does not say
OWN_SCALES = ("scales", "test_scales")  # options of steps for the outputs that are judged


# --------------------------------------------------------------------------------------- of the whole table


def ground_truth(terms: Terms) -> str:
    """Where the masks of the judged split lie: "SegmentationClass", "drawn by the generator"."""
    masks = terms.dataset_options.get("masks")
    if isinstance(masks, Mapping):
        masks = masks.get(terms.split)
    if masks:
        return str(masks)
    return "the data set's own masks" if terms.split_fingerprint else "drawn by the generator"


def crf_words(crf: Mapping[str, Any]) -> str:
    """The parameters of a dense CRF: "G 3/3 B 83/5/4 t 10 xy x0.192"."""
    gauss = f"G {crf.get('gauss_xy')}/{crf.get('gauss_compat')}"
    widths = f"{crf.get('bilateral_xy')}/{crf.get('bilateral_rgb')}/{crf.get('bilateral_compat')}"
    scale = crf.get("xy_scale", 1)
    return f"{gauss} B {widths} t {crf.get('iterations')}" + (f" xy x{scale:.3g}" if scale != 1 else "")


def augmentation(terms: Terms) -> str:
    """What the stage adds at test time: "scales 0.5, 1, flip"."""
    scales = ", ".join(f"{scale:g}" for scale in terms.scales)
    return f"scales {scales}, {'flip' if terms.flip else 'no flip'}"


def judged_size(terms: Terms) -> str:
    """At which size labels and truth are compared."""
    return "at the size of the image" if terms.resolution == "image" else f"at {terms.resolution}"


EARLIER = (
    "judged by an earlier protocol; `wsssbench run` (of foreign files `score`) with the same settings judges "
    "it again without training"
)
OTHER_SIZE = ", but with training where its images are not of the size that was assumed"  # of images of files


LONG_SIDE = "long side of the images"
UNNAMED_SIZE = "500 px, or assumed"  # what terms leave out


def unlike_terms(one: Terms, two: Terms) -> dict[str, tuple[Any, Any]]:
    """The fields in which terms differ, with both values. Where one is of an earlier protocol, that is said:
    its other fields may differ for that reason alone."""
    if one.earlier != two.earlier:
        words = {True: "earlier", False: "current"}
        return {"protocol": (words[one.earlier], words[two.earlier])}
    first, second = ({f.name: plain(getattr(t, f.name)) for f in fields(t)} for t in (one, two))
    found = {name: (own, second[name]) for name, own in first.items() if own != second[name]}
    if "threshold_policy" in found:  # each has versions of its own
        found.pop("threshold_rule", None)
    if "image_px" in found:
        mine, theirs = (f"{px} px" if px else UNNAMED_SIZE for px in found.pop("image_px"))
        found[LONG_SIDE] = (mine, theirs)
    return found


def unlike_words(one: Terms, two: Terms) -> str:
    """`unlike_terms` in words: "threshold_policy: fixed and oracle"; empty for equal ones."""
    return "; ".join(f"{name}: {a} and {b}" for name, (a, b) in sorted(unlike_terms(one, two).items()))


def facts(terms: Terms, images: int | None = None) -> dict[str, str]:
    """What all rows of a table have in common, a phrase each, by what it is about; `images` were judged."""
    crf = terms.crf or {}
    scaled = "; spatial widths in pixels of a VOC image, times xy" * (crf.get("xy_scale", 1) != 1)
    said = {
        "stage": f"stage {terms.stage} (version {terms.stage_version}{', custom' * terms.custom})",
        "data set": f"{terms.dataset} {terms.dataset_version}, {len(terms.classes)} classes and background",
        "split": f"split {terms.split}" + ("" if terms.split_fingerprint else " (drawn for each seed)"),
        "images": "" if images is None else f"{images} images",
        "limit": "" if terms.limit is None else f"limit {terms.limit}: the first {terms.limit} images alone",
        "truth": f"truth: {ground_truth(terms)}",
        "size": f"judged {judged_size(terms)}",
        "tags": f"image tags {'given' if terms.tags_at_evaluation else 'not given'} at evaluation",
        "threshold": f"threshold policy {terms.threshold_policy}",
        "CRF": f"dense CRF by the stage ({crf_words(crf)}{scaled})" if crf else "no CRF by the stage",
        "scales": augmentation(terms),
        "protocol": f"{EARLIER}{OTHER_SIZE * bool(terms.split_fingerprint)}" if terms.earlier else "",
    }
    return {name: phrase for name, phrase in said.items() if phrase}


def shared_conditions(terms: Terms, images: int | None = None) -> str:
    """`facts` as one sentence."""
    text = "; ".join(facts(terms, images).values())
    return f"{text[0].upper()}{text[1:]}."


# ------------------------------------------------------------------------------------------------ of a row


def masks_seen(row: Row) -> str:
    """Which true masks had a part in this row beside judging it."""
    seen = ["learned from them"] if "masks" in row.identity.supervision else []
    chosen = {"oracle": "threshold chosen on the judged", "held-out": "threshold chosen on held-out ones"}
    if row.identity.threshold is not None and row.terms.threshold_policy in chosen:
        seen.append(chosen[row.terms.threshold_policy])
    return ", ".join(seen) or (UNSAID if UNSAID in row.identity.supervision else "none")


def threshold_words(row: Row) -> str:
    """The policy, and the value where this row has one."""
    if row.identity.threshold is None:
        return "none"
    value = row.identity.threshold.get("value")
    shown = "" if value is None or row.terms.threshold_policy != "fixed" else f" {value}"
    return f"{row.terms.threshold_policy}{shown}"


def crf_of_row(row: Row) -> str:
    """The stage's CRF, or where the recipe has one of its own."""
    if row.terms.crf is not None:
        return crf_words(row.terms.crf)
    refined = ["crf" in step.name for step in row.identity.recipe]
    if any(refined[:-1]):
        return "on training labels"  # the network that learned from them is judged as it is
    return "in recipe" if refined[-1] else "no"


def own_scales(row: Row) -> str:
    """Test-time augmentation that the steps themselves do, where tags are given: elsewhere they use one."""
    if not row.terms.tags_at_evaluation:
        return ""
    said = []
    for step in row.identity.recipe:
        for name in OWN_SCALES:
            scales = step.config.get(name)
            if isinstance(scales, (list, tuple)) and scales:
                shown = ", ".join(f"{scale:g}" for scale in scales)
                said.append(f"{step.name} {shown}" + " + flip" * bool(step.config.get("flip")))
    return "; ".join(said)


def image_size(row: Row) -> str:
    """How large images of files are: "long side 500 px (median)"; empty for generated ones."""
    if not row.terms.split_fingerprint:
        return ""
    return f"long side {row.image_px} px ({SIZES[row.image_px_from]})" if row.image_px else UNSAID


FACTS: Mapping[str, Callable[[Row], str]] = {
    "supervision": lambda row: ", ".join(row.identity.supervision) or "none",
    "masks seen": masks_seen,
    "image size": image_size,
    "image tags from": lambda row: TAGS.get(row.label_source, UNSAID),
    "threshold": threshold_words,
    "CRF": crf_of_row,
    "filter backend": lambda row: row.identity.filter_backend or UNSAID,
    "arithmetic": lambda row: row.identity.precision or UNSAID,
    "pretraining": lambda row: row.pretraining or UNSAID,
    "scales of the steps": own_scales,
}


def row_conditions(rows: Sequence[Row], names: Iterable[str] = tuple(FACTS)) -> str:
    """What each row has, said once where all have the same: "Pretraining: imagenet. Threshold: fixed 0.3
    (cam), none (full)."; empty facts are left out."""
    said = []
    for name in names:
        groups: dict[str, list[str]] = {}
        for row in rows:
            groups.setdefault(FACTS[name](row), []).append(row.title)
        if set(groups) == {""}:
            continue
        shown = [f"{fact or 'none'} ({', '.join(dict.fromkeys(titles))})" for fact, titles in groups.items()]
        text = next(iter(groups)) if len(groups) == 1 else "; ".join(shown)
        said.append(f"{name[0].upper()}{name[1:]}: {text}.")
    return " ".join(said)
