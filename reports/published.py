"""Writes published.md, the page of all published numbers: `python reports/published.py`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from wsssbench.reporting.beside import JUDGED, fitting_stage, reported_cells
from wsssbench.reporting.published import Published, load_published
from wsssbench.reporting.table_parts import grid


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
`python reports/published.py`.
None of these numbers was measured here. `wsssbench report --with-published` sets one below a table of
measured rows where data set, classes, split, number of images, what is judged, image tags at evaluation, the
size at which labels are compared and the kind of test (one scale or several, CRF or not) are the same, and
names the others with the reason.

`stage` is the stage whose table a number would stand in; "none" where what must be known for that is not.
"unknown" means that the sources read do not say it. `test described by`: its authors say of this number how
it was tested, or only the released test program does it so. G and B are the Gaussian (width/weight) and the
bilateral kernel (width/colour/weight) of a dense CRF, t its iterations."""

PAGE_END = """## Not here

PuzzleCAM on VOC val (66.9 and 71.9: its README gives `test` alone) and the two-step VGG16 row of RRM (about
60.7 and 61.0) are recollections that nobody checked against a source. Numbers of re-runs by others stand
with the number that they tried to reach, not as results of their own."""


if __name__ == "__main__":
    page = Path(__file__).with_suffix(".md")
    page.write_text(published_page(load_published()), encoding="utf-8")
