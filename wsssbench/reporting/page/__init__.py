"""One self-contained HTML page of records: tables, figures, training and a gallery, readable offline.

This package turns rows, records and files on disk into what `template.py` fills in; it judges and ranks
nothing (`wsssbench.reporting.rows` does).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from wsssbench.identity import Record
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.beside import beside
from wsssbench.reporting.figures.drawn import table_figures, training_figures
from wsssbench.reporting.page import grids
from wsssbench.reporting.page.figures import drawn
from wsssbench.reporting.page.gallery import Gallery, gallery_of
from wsssbench.reporting.page.template import Page, PageSection, fill
from wsssbench.reporting.published import Published
from wsssbench.reporting.sections import Section, sections_of
from wsssbench.reporting.throughput import ThroughputTable, throughput_tables
from wsssbench.throughput.record import BenchRecord
from wsssbench.types import Dataset

GALLERY_BYTES = 10_000_000  # of all pictures: a page stays under 15 MB


def html_page(
    cells: Sequence[StoredRecord],
    benches: Iterable[BenchRecord] = (),
    *,
    open_data: Callable[[Record], Dataset],
    limited: bool = False,
    stale: Collection[str] = (),
    published: Sequence[Published] = (),
) -> str:
    """The page of all `cells` and `benches` as one HTML document.

    `open_data` opens the data set that a record was judged on and raises WsssError where it is not there:
    then the page says so in the gallery's place. `limited` and `stale` as in `wsssbench.reporting.report`; of
    `published` what fits stands below each table.
    BadData where counts or masks on disk are damaged.
    """
    sections = sections_of(cells, limited=limited, stale=stale)
    parts = [*_table_parts(sections, open_data, published), *_training_parts(cells, sections)]
    parts += _bench_parts(throughput_tables(benches))
    hidden = 0 if sections else len({cell.record.key for cell in cells})
    newest = max((str(cell.record.provenance.get("finished", "")) for cell in cells), default="")
    return fill(Page(tuple(parts), len({cell.record.key for cell in cells}), newest, hidden))


def _table_parts(
    sections: Sequence[Section], open_data: Callable[[Record], Dataset], published: Sequence[Published]
) -> list[PageSection]:
    """A part per table, with its figures, and its gallery as long as the page may hold more pictures."""
    parts, spent = [], 0
    full = Gallery(
        note=f"No gallery: those above fill the {GALLERY_BYTES / 1e6:.0f} MB that a page may hold."
    )
    for number, section in enumerate(sections):
        gallery = gallery_of(section, open_data) if spent < GALLERY_BYTES else full
        spent += gallery.size
        rows = section.rows
        parts.append(
            PageSection(
                f"table-{number + 1}",
                section.heading,
                badges=tuple(grids.protocol_badges(rows)),
                grids=tuple(grids.section_tables(section)),
                failures=tuple(failure for row in rows for failure in row.failures),
                reported=beside(rows, published).text() if published else None,
                figures=tuple(drawn(kind, figure) for kind, figure in table_figures(section)),
                gallery=gallery,
            )
        )
    return parts


def _training_parts(cells: Sequence[StoredRecord], sections: Sequence[Section]) -> list[PageSection]:
    """A part per data set: curves of training, and where its time went."""
    parts = []
    for number, name in enumerate(dict.fromkeys(section.terms.dataset for section in sections)):
        own = [section for section in sections if section.terms.dataset == name]
        figures = tuple(drawn("training", figure, step) for _, step, figure in training_figures(cells, own))
        phases = grids.phase_table([line for section in own for line in section.lines])
        if figures or phases:
            own_grids = (phases,) if phases else ()
            title = f"{name}: training"
            parts.append(PageSection(f"training-{number + 1}", title, grids=own_grids, figures=figures))
    return parts


def _bench_parts(tables: Iterable[ThroughputTable]) -> list[PageSection]:
    """A part per machine and data set that was measured."""
    shown = [tuple(table.texts()) for table in tables]
    return [PageSection(f"bench-{n + 1}", texts[0].title, grids=texts) for n, texts in enumerate(shown)]
