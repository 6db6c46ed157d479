"""What is known of a user's files without reading them twice: their sha256 and other facts, kept between runs
by path, size and time of change; and the fingerprint of a split, which is made of such digests. What a fact
means is for the caller.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from wsssbench.errors import BadData
from wsssbench.files.file_hashes import file_sha256
from wsssbench_datasets.survey import in_threads

LONGEST_WAIT = 60.0  # seconds for another process to write its facts


def cache_file(name: str = "file-digests.json") -> Path:
    """Where facts are kept between runs: in $XDG_CACHE_HOME/wsssbench, or ~/.cache/wsssbench."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if base else Path.home() / ".cache"
    return folder / "wsssbench" / name


def file_digests(paths: Sequence[Path], store: Path) -> list[str]:
    """sha256 (hex) of each file, remembered in `store`; BadData for a file that is missing."""
    return remembered(paths, file_sha256, store)


def remembered(paths: Sequence[Path], fact: Callable[[Path], str], store: Path) -> list[str]:
    """`fact` of each file; one of known path, size and mtime is not read again.

    BadData for a file that is missing. A store that cannot be read or written costs time, nothing else.
    """
    known = _stored(store)
    states = in_threads(_state, paths)
    keys = [str(path) for path in paths]
    stale = [i for i, key in enumerate(keys) if known.get(key, [])[:2] != states[i]]
    fresh = in_threads(lambda i: fact(paths[i]), stale)
    if stale:
        found = {keys[i]: [*states[i], text] for i, text in zip(stale, fresh, strict=True)}
        known |= found
        _add(store, found)
    return [known[key][2] for key in keys]


def split_fingerprint(lines: Iterable[tuple[str, str, str, str]]) -> str:
    """sha256 (hex) over (id, tags, digest of the image, digest of the mask) of each image, in order."""
    whole = hashlib.sha256()
    for id, tags, image, mask in lines:
        whole.update(f"{id} {tags} {image} {mask}\n".encode())
    return whole.hexdigest()


def _state(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except OSError as error:
        hint = "wsssbench prepare lists all that is missing"
        raise BadData("this file is missing or unreadable", where=path, hint=hint) from error
    return [stat.st_size, stat.st_mtime_ns]


def _stored(store: Path) -> dict[str, list[Any]]:
    """path -> [size, mtime_ns, fact]; empty when the store is absent or damaged."""
    try:
        content = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {key: entry for key, entry in entries if _is_entry(entry)}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], str)


def _add(store: Path, facts: Mapping[str, list[Any]]) -> None:
    """Add `facts` to what is stored; where that cannot be written they are found again next time.

    One process at a time: what another one has stored meanwhile stays.
    """
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(store.with_name(f"{store.name}.lock"), timeout=LONGEST_WAIT):
            _write(store, {**_stored(store), **facts})
    except OSError:  # a lock that is not let go is one, too
        return


def _write(store: Path, facts: Mapping[str, list[Any]]) -> None:
    """Write all or nothing."""
    name = None
    try:
        with tempfile.NamedTemporaryFile("w", dir=store.parent, delete=False, encoding="utf-8") as file:
            name = file.name
            json.dump(facts, file)
        Path(name).replace(store)
    finally:  # after an interruption, too
        if name is not None:
            Path(name).unlink(missing_ok=True)
