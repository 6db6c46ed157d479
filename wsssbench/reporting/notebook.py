"""Text of our own reports as HTML for a notebook's cell: escaped, without scripts, styles or links.

What is read is the markdown that `wsssbench.reporting.tables` and its neighbours write: headings, tables,
lists and sentences. No other markdown is understood.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from PIL import Image as Pil

if TYPE_CHECKING:
    from wsssbench.types import Image

SCROLL = '<div style="overflow-x:auto">{}</div>'  # a wide table scrolls by itself
FRAME = '<iframe srcdoc="{}" sandbox="allow-scripts" style="width:100%;height:640px;border:0"></iframe>'
SHOWN_PX = 240  # width of a picture


def html_of(markdown: str) -> str:
    """Headings, tables, lists and sentences of our own markdown as HTML."""
    blocks = re.split(r"\n{2,}", markdown.strip("\n"))
    return "\n".join(part for block in blocks for part in _parts(block.splitlines()))


def _parts(lines: Sequence[str]) -> Iterator[str]:
    """One block, whose first lines may be sentences and the rest a table or a list."""
    for kind, own in _runs(lines):
        if kind == "|":
            yield SCROLL.format(_table(own))
        elif kind == "-":
            yield "<ul>" + "".join(f"<li>{html.escape(line[2:])}</li>" for line in own) + "</ul>"
        elif kind == "#":
            yield "".join(f"<h4>{html.escape(line.lstrip('# '))}</h4>" for line in own)
        else:
            yield f"<p>{html.escape(' '.join(own))}</p>"


def _runs(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Neighbouring lines of one kind: of a table, a list, headings, or else sentences."""
    kind, own = "", list[str]()
    for line in lines:
        here = line[:1] if line.startswith(("|", "- ", "#")) else ""
        if own and here != kind:
            yield kind, own
            own = []
        kind = here
        own.append(line)
    if own:
        yield kind, own


def _table(lines: Sequence[str]) -> str:
    """A table whose second line is the rule below the head."""
    head, *body = (_cells(line) for n, line in enumerate(lines) if n != 1)
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in body)
    names = "".join(f"<th>{cell}</th>" for cell in head)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(line: str) -> list[str]:
    parts = re.split(r"(?<!\\)\|", line)[1:-1]
    return [html.escape(part.replace("\\|", "|").strip()) for part in parts]


def preformatted(text: str) -> str:
    """Text as it is."""
    return f"<pre>{html.escape(text)}</pre>"


def framed(page: str) -> str:
    """A whole page in a frame of its own, which reaches nothing outside of it."""
    return FRAME.format(html.escape(page))


def html_pictures(titles: Sequence[str], pictures: Sequence[Image]) -> str:
    """(H, W, 3) uint8 pictures side by side, each with its title below."""
    made = (
        f'<figure style="display:inline-block;margin:4px"><img alt="{html.escape(title)}" width="{SHOWN_PX}" '
        f'src="data:image/png;base64,{_png(picture)}"><figcaption>{html.escape(title)}</figcaption></figure>'
        for title, picture in zip(titles, pictures, strict=True)
    )
    return "".join(made)


def _png(picture: Image) -> str:
    buffer = io.BytesIO()
    Pil.fromarray(picture).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
