"""Published numbers -> text: the block below a table, in every format, and the page of all of them.

Everything here says "reported": no rank, no interval, no seeds. Which numbers may stand in a block is decided
in `wsssbench.reporting.beside`. `python -m wsssbench.reporting.published_text` prints the page.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from wsssbench.identity import content_key, plain
from wsssbench.reporting.beside import JUDGED, Beside, beside, fitting_stage
from wsssbench.reporting.conditions import ground_truth
from wsssbench.reporting.published import STRENGTHS, Published, load_published
from wsssbench.reporting.rows import Row
from wsssbench.reporting.table_parts import TextTable, grid

MEASURED, REPORTED = "measured", "reported"
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


def reported_blocks(tables: Iterable[Sequence[Row]], published: Sequence[Published]) -> list[ReportedBlock]:
    """One block per table, in their order."""
    return [ReportedBlock(beside(table, published)) for table in tables]


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


# ------------------------------------------------------------------------------------------------ the page


def published_page(published: Sequence[Published]) -> str:
    """All published numbers as one markdown page."""
    parts = [PAGE_HEAD]
    ordered = sorted(
        published, key=lambda e: (e.dataset != "voc12", e.dataset, [*JUDGED][::-1].index(e.judged))
    )
    for (dataset, judged), group in groupby(ordered, key=lambda e: (e.dataset, e.judged)):
        lines = [_page_cells(entry) for entry in group]
        parts += [f"## {dataset}: {JUDGED[judged]}", grid(lines)]
    parts += ["## Papers and code", grid(_papers(published))]
    return "\n\n".join([*parts, PAGE_END]) + "\n"


def _page_cells(entry: Published) -> dict[str, str]:
    cells = reported_cells(entry)
    images = f" ({entry.images:,})" if entry.images else ""
    first = {"method": cells.pop("method"), "split (images)": f"{entry.split}{images}"}
    tags = "" if entry.tags_at_evaluation == (entry.judged != "seg") else "given at evaluation"
    del cells["rank"]
    stage = fitting_stage(entry) if entry.resolution == "image" and not tags else ""
    return {**first, "mIoU": cells.pop("mIoU"), "stage": stage or "none", **cells, "image tags": tags}


def _papers(published: Sequence[Published]) -> list[dict[str, str]]:
    """One line per paper, with the methods of this page that it is the paper of."""
    methods: dict[tuple[str, str, str], list[str]] = {}
    for entry in published:
        methods.setdefault((entry.paper, entry.code, entry.licence), []).append(entry.name)
    return [
        {
            "method": "; ".join(dict.fromkeys(names)),
            "paper": paper,
            "code": code,
            "licence of the code": licence,
        }
        for (paper, code, licence), names in methods.items()
    ]


PAGE_HEAD = """# Published results

Made of [published.toml](../wsssbench/reporting/published.toml) by
`python -m wsssbench.reporting.published_text`.
None of these numbers was measured here. `wsssbench report --with-published` sets one below a table of
measured rows where data set, classes, split, number of images, what is judged, image tags at evaluation, the
size at which labels are compared and the kind of test (one scale or several, CRF or not) are the same, and
names the others with the reason.

`stage` is the stage whose table a number would stand in; "none" where what must be known for that is not.
"unknown" means that the sources read do not say it. `test told by`: its authors say of this number how
it was tested, or only the released test program does it so. G and B are the Gaussian (width/weight) and the
bilateral kernel (width/colour/weight) of a dense CRF, t its iterations."""

PAGE_END = """## Not here

PuzzleCAM on VOC val (66.9 and 71.9: its README gives `test` alone) and the two-step VGG16 row of RRM (about
60.7 and 61.0) are recollections that nobody checked against a source. Numbers of re-runs by others stand
with the number that they tried to reach, not as results of their own."""


if __name__ == "__main__":
    print(published_page(load_published()), end="")
