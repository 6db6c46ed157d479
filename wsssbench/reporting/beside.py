"""Which published numbers may stand beside the rows of a table, why others may not, and how they are shown.

Same means: data set, classes, split and number of images, what is judged, image tags at evaluation, the size
at which labels are compared, and the kind of test (one scale or several, CRF or not). What a paper chose
within these (which scales, which CRF, which network) is shown in its line instead. Everything here says
"reported": no rank, no interval, no seeds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wsssbench.identity import Terms, content_key, plain
from wsssbench.planning.stages import STAGES
from wsssbench.reporting.conditions import ground_truth
from wsssbench.reporting.published import STRENGTHS, Published
from wsssbench.reporting.rows import Row
from wsssbench.reporting.table_parts import TextTable

JUDGED = {"maps": "maps", "pseudo": "pseudo masks", "seg": "segmentations"}
REPORTED = "reported"
HEADING = "Reported by others, not measured here"
PAPER = (
    "method",
    "mIoU",
    "backbone",
    "second stage",
    "pretraining",
    "scales",
    "CRF",
    "test described by",
    "source",
)
NOTHING = "No published number is known under these terms."
TERMS_BY = {"author": "its authors", "code": "its test program", "": ""}


@dataclass(frozen=True)
class Beside:
    """The published numbers of one table: those that fit, best first, and why the others do not."""

    terms: Terms
    images: int | None  # that the measured rows judged
    shown: tuple[Published, ...]
    left_out: tuple[tuple[str, tuple[str, ...]], ...]  # reason, and the methods it keeps away

    def text(self, columns: Collection[str] = ()) -> TextTable:
        """What stands below the measured rows; of `columns` only, where some are named."""
        cells = [reported_cells(entry) for entry in self.shown]
        lines = [{n: text for n, text in line.items() if not columns or n in columns} for line in cells]
        return TextTable(HEADING, lines, self.definition(), self.remarks(), level=3)

    def paper_text(self) -> TextTable:
        """The same for LaTeX: few columns, and the name of the table in its title."""
        terms = self.terms
        title = f"{terms.dataset}: {terms.stage}, {REPORTED}"
        return replace(self.text(PAPER), title=title, label=content_key(terms)[:8])

    def data(self) -> dict[str, Any]:
        """JSON types, in the form of a table of another kind."""
        terms = self.terms
        left = [{"reason": reason, "methods": list(names)} for reason, names in self.left_out]
        return {
            "dataset": terms.dataset,
            "stage": f"{terms.stage}, {REPORTED}",
            "rows": [_data(entry) for entry in self.shown],
            "left_out": left,
            "definition": self.definition(),
        }

    def lines(self) -> list[dict[str, Any]]:
        """Flat csv lines; their mIoU has its own column, so that it is not averaged with measured ones."""
        terms = self.terms
        head = {"origin": REPORTED, "dataset": terms.dataset, "stage": terms.stage, "split": terms.split}
        return [{**head, **_line(entry)} for entry in self.shown]

    def remarks(self) -> list[str]:
        """One line per reason."""
        return [f"left out: {'; '.join(names)} ({reason})" for reason, names in self.left_out]

    def definition(self) -> str:
        """What the numbers are and in what they may still differ."""
        if not self.shown:
            return NOTHING
        terms, images = self.terms, self.images
        named = terms.dataset_options.get("masks")
        truth = f" (here: {ground_truth(terms)})" if named else ""
        return (
            "The rows above are measured, these are not: mIoU (%) is as its source reports it, background "
            "included, without rank, interval and number of seeds; classes without truth pixels and "
            "abstaining pixels may be counted differently. These are the same as above: data set, split "
            f"({images:,} images), classes, what is judged, image tags at evaluation, the size at which "
            "labels are compared, and whether one or several scales and a CRF are tested. Scales, CRF, "
            f"backbone, pretraining and ground truth{truth} may differ: each line says what is known."
        )


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


# --------------------------------------------------------------------------------------------- one number


def reported_cells(entry: Published) -> dict[str, str]:
    """One line of a block, in the order of its columns."""
    return {
        "rank": REPORTED,
        "method": entry.title,
        "mIoU": miou_text(entry.miou),
        "backbone": entry.backbone,
        "second stage": entry.second_stage,
        "pretraining": entry.pretraining,
        "supervision": ", ".join(entry.supervision),
        "scales": scales_text(entry),
        "CRF": entry.crf_set if entry.crf_set else entry.crf,
        "test described by": TERMS_BY[entry.terms_by],
        "threshold": entry.threshold,
        "ground truth": entry.truth,
        "re-runs by others": entry.reruns,
        "source": f"{entry.source} ({STRENGTHS[entry.strength]})",
        "note": entry.note,
    }


def miou_text(miou: float) -> str:
    """With as many digits as the source has, one at least."""
    return f"{miou:.1f}" if round(miou, 1) == miou else f"{miou:.2f}"


def scales_text(entry: Published) -> str:
    """ "0.5, 1, 1.5, flip", or what is known of them."""
    scales = ", ".join(f"{s:g}" for s in entry.scales)
    several = {"yes": "several", "no": "one", "unknown": "unknown"}[entry.multi_scale]
    return (scales or several) + (", flip" if entry.flip == "yes" else "")


def _data(entry: Published) -> dict[str, Any]:
    """JSON types: all fields, and in `scales` and `crf` what a reader of a table wants to see."""
    raw = {name: value for name, value in plain(entry).items() if value not in ("", [], 0)}
    return {"origin": REPORTED, **raw, "method": entry.name, "stage_that_fits": fitting_stage(entry)}


def _line(entry: Published) -> dict[str, Any]:
    cells = reported_cells(entry)
    wanted = ("pretraining", "backbone", "second stage", "scales", "CRF", "ground truth", "source", "note")
    named = {"method": entry.name, "variant": entry.variant, "miou_reported": entry.miou}
    named |= {"tags_at_evaluation": entry.tags_at_evaluation, "n_images": entry.images}
    named |= {"supervision": "; ".join(entry.supervision)}
    return named | {name.replace(" ", "_"): cells[name] for name in wanted}
