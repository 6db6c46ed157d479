"""Descriptions and settings in TOML from anywhere, read in bounded time: size and length of keys are limited
before Python's reader sees them, whose work grows with the square of a dotted key's length (a key of 30,000
parts, 60 kB, took it half a minute and gigabytes). What the keys mean is for the caller.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from wsssbench.errors import BadData

MOST_BYTES = 2**20
MOST_PARTS = 32  # of a dotted key
MOST_REASON = 200  # characters of a message that may quote the file
_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MOST_PARTS}}}")


def parse_toml(text: str, path: Path, hint: str) -> dict[str, Any]:
    """The tables of `text`; BadData, with the line where it is known, for no TOML or one beyond bounds."""
    if len(text) > MOST_BYTES:
        raise BadData(f"more than {MOST_BYTES // 2**20} MiB of TOML", where=path, hint=hint)
    long = LONG_KEY.search(text)
    if long:
        where = f"{path}:{text.count(chr(10), 0, long.start()) + 1}"
        raise BadData(f"a key of more than {MOST_PARTS} parts", where=where, hint=hint)
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise BadData("not valid TOML: nested too deep", where=path, hint=hint) from error
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        line = re.search(r"at line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else str(path)
        raise BadData(f"not valid TOML: {str(error)[:MOST_REASON]}", where=where, hint=hint) from error
