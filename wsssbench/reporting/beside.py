"""Which published numbers may stand beside the rows of one table, and why the others may not.

Same means: data set, classes, split and number of images, what is judged, image tags at evaluation, the size
at which labels are compared, and the kind of test (one scale or several, CRF or not). What a paper chose
within these (which scales, which CRF, which network) is shown in its line instead. Text is not made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from wsssbench.identity import Terms
from wsssbench.planning.stages import STAGES
from wsssbench.reporting.published import Published
from wsssbench.reporting.rows import Row

JUDGED = {"maps": "maps", "pseudo": "pseudo masks", "seg": "segmentations"}


@dataclass(frozen=True)
class Beside:
    """The published numbers of one table: those that fit, best first, and why the others do not."""

    terms: Terms
    images: int | None  # that the measured rows judged
    shown: tuple[Published, ...]
    left_out: tuple[tuple[str, tuple[str, ...]], ...]  # reason, and the methods it keeps away


def beside(table: Sequence[Row], published: Iterable[Published]) -> Beside:
    """What of `published` stands beside the rows of `table`, all of equal terms."""
    terms = table[0].terms
    images = next((row.n_images for row in table if row.n_images is not None), None)
    shown: list[Published] = []
    left: dict[str, list[str]] = {}
    for entry in published:
        reason = next(reasons(entry, terms, images), "")
        if reason:
            left.setdefault(reason, []).append(entry.title)
        else:
            shown.append(entry)
    shown.sort(key=lambda entry: (-entry.miou, entry.title))
    named = tuple((reason, tuple(dict.fromkeys(names))) for reason, names in left.items())
    return Beside(terms, images, tuple(shown), named)


def reasons(entry: Published, terms: Terms, images: int | None) -> Iterator[str]:
    """Why `entry` may not stand in a table of `terms` over `images` images, the plainest first."""
    if entry.dataset != terms.dataset:
        yield f"of {entry.dataset}, not of {terms.dataset}"
    if entry.split != terms.split:
        yield f"on the split {entry.split}, not on {terms.split}"
    if terms.custom or terms.stage not in STAGES:
        yield "this stage is custom: no published number was made by it"
        return
    if terms.limit is not None:
        yield f"the whole split; here are the first {terms.limit:,} images of it"
    yield from _of_other_images(entry, terms, images)
    judged = STAGES[terms.stage].judged
    if entry.judged != judged:
        yield f"of {JUDGED[entry.judged]}, not of {JUDGED[judged]}"
    if entry.tags_at_evaluation != terms.tags_at_evaluation:
        yield f"image tags {'were' if entry.tags_at_evaluation else 'were not'} given at evaluation"
    if entry.resolution != terms.resolution:
        yield "the size at which labels were compared is not known"
    yield from _tested_otherwise(entry, terms) if judged == "seg" else ()
    yield from _thresholded_otherwise(entry, terms)


def _of_other_images(entry: Published, terms: Terms, images: int | None) -> Iterator[str]:
    """The same name of a split may stand for a part of it, or for another list."""
    if len(terms.classes) != entry.classes:
        yield f"over {entry.classes} classes and background; here are {len(terms.classes)}"
    if not entry.images:
        yield f"which list of {entry.dataset} {entry.split} was judged is not known"
    elif images is None:
        yield "no row here has been measured"
    elif images != entry.images:
        yield f"over {entry.images:,} images of {entry.split}; here are {images:,}"


def _tested_otherwise(entry: Published, terms: Terms) -> Iterator[str]:
    """One scale against several, and no CRF against one; how many scales and which CRF is not asked."""
    unknown = {"several scales": entry.multi_scale, "a CRF": entry.crf}
    open_questions = [what for what, known in unknown.items() if known == "unknown"]
    if open_questions:
        yield f"whether it was tested with {' and with '.join(open_questions)} is not known"
    elif fitting_stage(entry) != _stage_name(len(terms.scales) > 1 or terms.flip, terms.crf is not None):
        yield f"tested as in {fitting_stage(entry)}"


def _thresholded_otherwise(entry: Published, terms: Terms) -> Iterator[str]:
    """A threshold chosen on the judged masks makes an upper bound, which stands among its like only."""
    if entry.threshold == "unknown":
        yield "how its threshold was chosen is not known"
    elif entry.threshold == "oracle" and terms.threshold_policy != "oracle":
        yield "its threshold was chosen on the judged masks"
    elif entry.threshold != "oracle" and terms.threshold_policy == "oracle":
        yield "here thresholds were chosen on the judged masks"


def fitting_stage(entry: Published) -> str:
    """The stage whose table a number would stand in; "" where how it was tested is not known."""
    if entry.judged != "seg":
        return {"maps": "seed", "pseudo": "pseudo"}[entry.judged]
    if "unknown" in (entry.multi_scale, entry.crf):
        return ""
    return _stage_name(entry.multi_scale == "yes", entry.crf == "yes")


def _stage_name(several_scales: bool, crf: bool) -> str:
    return "seg" + "+ms" * several_scales + "+crf" * crf
