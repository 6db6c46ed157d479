"""Parts of a page -> HTML: jinja2 with escaping on, style and scripts inlined, nothing fetched from anywhere.

Everything that stands in a record (names of methods, classes, options, reasons) is text of strangers: it
reaches the page through escaping alone, or as JSON whose angle brackets are escaped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from wsssbench._version import __version__
from wsssbench.reporting.page.charts import Chart
from wsssbench.reporting.page.gallery import Gallery
from wsssbench.reporting.page.grids import Badge, Grid
from wsssbench.reporting.page.reported import Reported

ASSETS = Path(__file__).parent / "assets"
VENDOR = Path(__file__).parents[1] / "vendor"
LIBRARY = "chart.umd.min.js"
STYLES = ("page.css", "gallery.css")
SCRIPTS = ("theme.js", "tables.js", "charts.js", "gallery.js")


@dataclass(frozen=True)
class Part:
    """One section of the page; what is empty is not shown."""

    anchor: str
    heading: str
    badges: tuple[Badge, ...] = ()
    grids: tuple[Grid, ...] = ()
    failures: tuple[str, ...] = ()
    reported: Reported | None = None
    charts: tuple[Chart, ...] = ()
    gallery: Gallery | None = None


@dataclass(frozen=True)
class Page:
    """The whole page."""

    parts: tuple[Part, ...]
    records: int
    newest: str = ""  # when the last record was finished
    hidden: int = 0  # records that the page leaves out altogether

    @property
    def charts(self) -> dict[str, Any]:
        """The data of all charts, by their place in the page."""
        return {f"{p.anchor}-chart-{n}": c.data() for p in self.parts for n, c in enumerate(p.charts)}


def fill(page: Page) -> str:
    """The page as one HTML document."""
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = "\n".join(_asset(name) for name in STYLES)
    scripts = [_library(), *(_asset(name) for name in SCRIPTS)] if page.charts else _scripts_without_charts()
    inlined = {"style": Markup(style), "scripts": [Markup(script) for script in scripts]}
    return environment.get_template("page.html.j2").render(page=page, version=__version__, **inlined)


def _scripts_without_charts() -> list[str]:
    return [_asset(name) for name in SCRIPTS if name != "charts.js"]


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _library() -> str:
    """The chart library without the line that would make a browser's inspector look for its source map."""
    text = (VENDOR / LIBRARY).read_text(encoding="utf-8")
    return re.sub(r"^//# sourceMappingURL=.*$", "", text, flags=re.MULTILINE)
