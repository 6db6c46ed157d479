"""The documentation site: `sphinx-build -W -c docs . site`, run in the repository's root.

Sources are Markdown in `docs/` and `reports/`, so that the same links work in a repository browser. Pages ask
nothing of any other host: fonts and scripts are the theme's own files.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "methods"), str(ROOT / "datasets")]

project = "wsssbench"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**.md", "reports/*.md"]
exclude_patterns = [
    *(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("docs", "reports")),
    "reports/README.md",
]

myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "wsssbench"
html_static_path = ["_static"]
html_css_files = ["wsssbench.css"]
templates_path = ["_templates"]
html_extra_path = ["_root"]  # index.html, which leads to docs/index.html
html_sidebars = {"**": ["all-pages.html"]}
html_copy_source = False
html_show_copyright = html_show_sphinx = False
html_context = {"default_mode": "auto"}  # light or dark as the reader's system
html_theme_options: dict[str, Any] = {
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": [],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def as_rst(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text with `code` in single backticks: what reStructuredText would read otherwise
    in them is escaped, and indented examples become literal blocks."""
    text = "\n".join(lines)
    pieces = re.split(r"(`[^`\n]+`)", text)
    for n, piece in enumerate(pieces):
        pieces[n] = f"`{piece}`" if n % 2 else re.sub(r"([*|_\\])", r"\\\1", piece)
    lines[:] = literal_examples("".join(pieces).split("\n"))


def literal_examples(lines: list[str]) -> list[str]:
    """The lines with `::` before each indented block that follows an empty line."""
    result: list[str] = []
    for line in lines:
        begins = line.startswith("    ") and len(result) > 1 and not result[-1] and result[-2][:1] != " "
        result += ["::", ""] if begins else []
        result.append(line)
    return result


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", as_rst)
