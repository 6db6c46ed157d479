"""Writes the tables of these pages anew from the records that are kept beside them.

A marked part begins with a comment that names its source and ends with `<!-- end -->`; what stands between is
written by `python reports/render.py`, and a test fails where it is out of date. The records were packed by
`wsssbench export records`; whoever has them can compare with them, without masks.

    <!-- tables: FILE... -->       what `wsssbench report` says of the archives FILE... in reports/records
    <!-- controls: FILE... -->     what controls.py says of them
    <!-- reliability: FILE -->     what reliability.py says of it
    <!-- performance: FILE... -->  what performance.py says of them; they are in reports/performance
"""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from wsssbench.reporting import report

HERE = Path(__file__).resolve().parent
KINDS_OF_PARTS = "tables|controls|reliability|performance"
PART = re.compile(rf"(<!-- ({KINDS_OF_PARTS}): (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """`text` with its marked parts filled anew."""
    return PART.sub(lambda m: f"{m[1]}\n{KINDS[m[2]](sources(m[2], m[3]))}\n\n{m[4]}", text)


def sources(kind: str, names: str) -> list[Path]:
    """The files that a marked part names: archives of records, but where speed was measured."""
    folder = HERE / ("performance" if kind == "performance" else "records")
    return [folder / name for name in names.split()]


def tables(files: Sequence[Path]) -> str:
    """The tables of `wsssbench report`, without its mark for code that has changed since."""
    return report(files).strip()


def of_script(name: str) -> Callable[[Sequence[Path]], str]:
    """The function `text_of` of a script of this folder."""
    text_of: Callable[[Sequence[Path]], str] = runpy.run_path(str(HERE / f"{name}.py"))["text_of"]
    return text_of


KINDS: dict[str, Callable[[Sequence[Path]], str]] = {
    "tables": tables,
    "controls": lambda files: of_script("controls")(files),
    "reliability": lambda files: of_script("reliability")(files),
    "performance": lambda files: of_script("performance")(files),
}


def main() -> int:
    """Write every page anew whose marked parts have changed, and name it."""
    for page in sorted(HERE.glob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = render(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(f"written: {page.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
