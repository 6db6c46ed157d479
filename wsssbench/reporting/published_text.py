"""Published numbers -> text: the block below a table, in every format.

Everything here says "reported": no rank, no interval, no seeds. Which numbers may stand in a block is decided
in `wsssbench.reporting.beside`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wsssbench.identity import content_key, plain
from wsssbench.reporting.beside import Beside, beside, fitting_stage
from wsssbench.reporting.conditions import ground_truth
from wsssbench.reporting.published import STRENGTHS, Published
from wsssbench.reporting.rows import Row
from wsssbench.reporting.table_parts import TextTable

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
    "test told by",
    "source",
)
NOTHING = "No published number is known to be of these terms."
TERMS_BY = {"author": "its authors", "code": "its test program", "": ""}


@dataclass(frozen=True)
class ReportedBlock:
    """What stands below one table of measured rows."""

    found: Beside

    def text(self, columns: Collection[str] = ()) -> TextTable:
        """What stands below the measured rows; of `columns` only, where some are named."""
        cells = [reported_cells(entry) for entry in self.found.shown]
        lines = [{n: text for n, text in line.items() if not columns or n in columns} for line in cells]
        return TextTable(HEADING, lines, self.definition(), self.left_out(), level=3)

    def paper_text(self) -> TextTable:
        """The same for LaTeX: few columns, and the name of the table in its title."""
        terms = self.found.terms
        title = f"{terms.dataset}: {terms.stage}, {REPORTED}"
        return replace(self.text(PAPER), title=title, label=content_key(terms)[:8])

    def data(self) -> dict[str, Any]:
        """JSON types, in the form of a table of another kind."""
        terms = self.found.terms
        left = [{"reason": reason, "methods": list(names)} for reason, names in self.found.left_out]
        return {
            "dataset": terms.dataset,
            "stage": f"{terms.stage}, {REPORTED}",
            "rows": [_data(entry) for entry in self.found.shown],
            "left_out": left,
            "definition": self.definition(),
        }

    def lines(self) -> list[dict[str, Any]]:
        """Flat csv lines; their mIoU has a column of its own: nobody shall average it with measured ones."""
        terms = self.found.terms
        head = {"origin": REPORTED, "dataset": terms.dataset, "stage": terms.stage, "split": terms.split}
        return [{**head, **_line(entry)} for entry in self.found.shown]

    def left_out(self) -> list[str]:
        """One line per reason."""
        return [f"left out: {'; '.join(names)} ({reason})" for reason, names in self.found.left_out]

    def definition(self) -> str:
        """What the numbers are and in what they may still differ."""
        if not self.found.shown:
            return NOTHING
        terms, images = self.found.terms, self.found.images
        named = terms.dataset_options.get("masks")
        truth = f" (here: {ground_truth(terms)})" if named else ""
        return (
            "The rows above are measured, these are not: mIoU (%) as its source gives it, background "
            "included, without rank, interval and number of seeds; classes without truth pixels and "
            f"abstaining pixels may be counted otherwise. The same as above are data set, split ({images:,} "
            "images), classes, what is judged, image tags at evaluation, the size at which labels are "
            "compared, and whether one or several scales and a CRF are tested. Which scales, which CRF, "
            f"backbone, pretraining and ground truth{truth} may differ: each line says what is known."
        )


def reported_blocks(
    tables: Iterable[Sequence[Row]], published: Sequence[Published]
) -> list[ReportedBlock | None]:
    """What stands below each table; None everywhere unless published numbers are asked for."""
    return [ReportedBlock(beside(table, published)) if published else None for table in tables]


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
        "test told by": TERMS_BY[entry.terms_by],
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
