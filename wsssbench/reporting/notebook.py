"""Text of our own reports as HTML for a notebook's cell: escaped, without scripts, styles or links.

What is read is the markdown that `wsssbench.reporting.tables` and its neighbours write: headings, tables,
lists and sentences. No other markdown is understood.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsssbench.types import Image

SCROLL = '<div style="overflow-x:auto"><table>'  # a wide table scrolls by itself
FRAME = '<iframe srcdoc="{}" sandbox="allow-scripts" style="width:100%;height:640px;border:0"></iframe>'
SHOWN_PX = 240  # width of a picture


def html_of(markdown: str) -> str:
    """Headings, tables, lists and sentences of our own markdown as HTML; links and pictures stay text."""
    from markdown_it import MarkdownIt

    shown = MarkdownIt("zero").enable(["heading", "table", "list"]).render(markdown)
    return str(shown).replace("<table>", SCROLL).replace("</table>", "</table></div>")


def preformatted(text: str) -> str:
    """Text as it is."""
    return f"<pre>{html.escape(text)}</pre>"


def framed(page: str) -> str:
    """A whole page in a frame of its own, which reaches nothing outside of it."""
    return FRAME.format(html.escape(page))


def html_pictures(titles: Sequence[str], pictures: Sequence[Image]) -> str:
    """(H, W, 3) uint8 pictures side by side, each with its title below."""
    from wsssbench.reporting.page.pictures import png_uri

    made = (
        f'<figure style="display:inline-block;margin:4px"><img alt="{html.escape(title)}" width="{SHOWN_PX}" '
        f'src="{png_uri(picture)}"><figcaption>{html.escape(title)}</figcaption></figure>'
        for title, picture in zip(titles, pictures, strict=True)
    )
    return "".join(made)
