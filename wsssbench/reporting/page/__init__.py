"""One self-contained HTML page of records: tables, curves, training and a gallery, readable offline.

This room turns rows, records and files on disk into what `template.py` fills in; it judges and ranks nothing
(`wsssbench.reporting.rows` does). Heavy imports stay below this page, so that `--help` never pays for them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsssbench.identity import Record
    from wsssbench.records.store import StoredRecord
    from wsssbench.reporting.page.sections import Section
    from wsssbench.reporting.page.template import Part
    from wsssbench.reporting.published import Published
    from wsssbench.reporting.throughput import ThroughputTable
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
    from wsssbench.reporting.page.sections import sections_of
    from wsssbench.reporting.page.template import Page, fill
    from wsssbench.reporting.throughput import throughput_tables

    sections = sections_of(cells, limited=limited, stale=stale)
    parts = [*_table_parts(sections, open_data, published), *_training_parts(sections)]
    parts += _bench_parts(throughput_tables(benches))
    hidden = 0 if sections else len({cell.record.key for cell in cells})
    return fill(Page(tuple(parts), len({c.record.key for c in cells}), _newest(cells), hidden))


def _table_parts(
    sections: Sequence[Section], open_data: Callable[[Record], Dataset], published: Sequence[Published]
) -> list[Part]:
    """A part per table, with its charts and its gallery while there is room."""
    from wsssbench.reporting.page import grids
    from wsssbench.reporting.page.curves import section_charts
    from wsssbench.reporting.page.gallery import Gallery, gallery_of
    from wsssbench.reporting.page.reported import reported_part
    from wsssbench.reporting.page.template import Part

    parts, spent = [], 0
    full = Gallery(
        note=f"No gallery: those above hold the {GALLERY_BYTES / 1e6:.0f} MB that a page may have."
    )
    for section in sections:
        gallery = gallery_of(section, open_data) if spent < GALLERY_BYTES else full
        spent += gallery.size
        classes = grids.class_grid(section)
        parts.append(
            Part(
                section.anchor,
                section.heading,
                badges=tuple(grids.protocol_badges(section.terms)),
                grids=(grids.main_grid(section), *([classes] if classes else [])),
                failures=tuple(grids.failures(section)),
                reported=reported_part(section, published) if published else None,
                charts=tuple(section_charts(section)),
                gallery=gallery,
            )
        )
    return parts


def _training_parts(sections: Sequence[Section]) -> list[Part]:
    """A part per data set: curves of training, and where its time went."""
    from wsssbench.reporting.page.template import Part
    from wsssbench.reporting.page.training import phase_chart, training_charts

    parts = []
    for number, name in enumerate(dict.fromkeys(section.terms.dataset for section in sections)):
        own = [section for section in sections if section.terms.dataset == name]
        phases = phase_chart(own)
        charts = (*training_charts(own), *([phases] if phases else []))
        if charts:
            parts.append(Part(f"training-{number + 1}", f"{name}: training", charts=charts))
    return parts


def _bench_parts(tables: Iterable[ThroughputTable]) -> list[Part]:
    """A part per machine and data set that was measured."""
    from wsssbench.reporting.page.grids import bench_grid
    from wsssbench.reporting.page.template import Part
    from wsssbench.reporting.page.training import bench_chart

    parts = []
    for number, table in enumerate(tables):
        grid, chart = bench_grid(table), bench_chart(table)
        charts = (chart,) if chart else ()
        parts.append(Part(f"bench-{number + 1}", grid.caption, grids=(grid,), charts=charts))
    return parts


def _newest(cells: Iterable[StoredRecord]) -> str:
    """When the last of the cells was finished, as its record says; the page depends on its records alone."""
    return max((str(c.record.provenance.get("finished", "")) for c in cells), default="")
