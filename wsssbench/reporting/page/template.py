"""Parts of a page -> HTML: jinja2 with escaping on, style and scripts inlined, nothing fetched from anywhere.

Whatever stands in a record (names of methods, classes, options, reasons) may come from third parties: it
reaches the page only after escaping.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from wsssbench._version import __version__
from wsssbench.reporting.page.figures import Drawn
from wsssbench.reporting.page.gallery import Gallery
from wsssbench.reporting.table_parts import TextTable, filled, number_in

ASSETS = Path(__file__).parent / "assets"
STYLES = ("page.css", "gallery.css")
SCRIPTS = ("theme.js", "tables.js", "gallery.js")


@dataclass(frozen=True)
class PageSection:
    """One section of the page; what is empty is not shown."""

    anchor: str
    heading: str
    badges: tuple[tuple[str, bool], ...] = ()  # and whether it is a warning
    grids: tuple[TextTable, ...] = ()
    failures: tuple[str, ...] = ()
    reported: TextTable | None = None
    figures: tuple[Drawn, ...] = ()
    gallery: Gallery | None = None


@dataclass(frozen=True)
class Page:
    """The whole page."""

    parts: tuple[PageSection, ...]
    records: int
    newest: str = ""  # when the last record was finished
    hidden: int = 0  # records that the page leaves out altogether


def fill(page: Page) -> str:
    """The page as one HTML document."""
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"columns": columns, "number": number_in}
    style = Markup("\n".join(_asset(name) for name in STYLES))
    inlined = {"style": style, "scripts": [Markup(_asset(name)) for name in SCRIPTS]}
    return environment.get_template("page.html.j2").render(page=page, version=__version__, **inlined)


def columns(table: TextTable) -> list[tuple[str, bool]]:
    """The columns with content, the method first where there is one, and whether they hold numbers."""
    names = sorted(filled(table.lines), key=lambda name: name != "method")
    return [(n, n != names[0] and any(number_in(line[n]) is not None for line in table.lines)) for n in names]


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
