"""What is known of a user's files without reading them twice: their sha256 and other facts, kept between runs
by path, size and time of change; the fingerprint of a split, which is made of such digests; and how large its
images are.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from wsssbench.errors import BadData
from wsssbench.files.file_hashes import file_sha256
from wsssbench.files.image_files import picture_size
from wsssbench_datasets.survey import in_threads

SIZES = "image-sizes.json"
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
    return _remembered(paths, in_threads(_state, paths), fact, store)


def _remembered(
    paths: Sequence[Path], states: Sequence[list[int]], fact: Callable[[Path], str], store: Path
) -> list[str]:
    known = _stored(store)
    keys = [str(path) for path in paths]
    stale = [i for i, key in enumerate(keys) if known.get(key, [])[:2] != states[i]]
    fresh = in_threads(lambda i: fact(paths[i]), stale)
    if stale:
        found = {keys[i]: [*states[i], text] for i, text in zip(stale, fresh, strict=True)}
        known |= found
        _add(store, found)
    return [known[key][2] for key in keys]


def median_long_side(ids: Mapping[str, Sequence[str]], image_path: Callable[[str], Path]) -> int:
    """Median long side, in whole pixels, of the images of the first split of `ids` that has any.

    The judged split comes first. Headers alone are read, and what they say is remembered. Images that cannot
    be read are left out: `prepare` lists them, and reading one ends a run. BadData where none can be read.
    """
    split = next((split for split, own in ids.items() if own), "")
    found = list(filter(None, in_threads(partial(_found, image_path), ids.get(split, ()))))
    paths, states = [path for path, _ in found], [state for _, state in found]
    known = _remembered(paths, states, _long_side, cache_file(SIZES))
    texts = (text if text.isdecimal() else _long_side(path) for path, text in zip(paths, known, strict=True))
    if sides := [int(text) for text in texts if text]:
        return round(statistics.median(sides))
    if not split:
        raise BadData("no split lists an image", where=", ".join(ids), hint="check the lists")
    raise _unreadable(split, ids[split][0], image_path)


def _found(image_path: Callable[[str], Path], id: str) -> tuple[Path, list[int]] | None:
    """Where an image is, and its state; None where it is not, or may not be."""
    try:
        path = image_path(id)
        return path, _state(path)
    except BadData:
        return None


def _long_side(path: Path) -> str:
    """In pixels; empty for an image that cannot be read."""
    try:
        return str(max(picture_size(path)))
    except BadData:
        return ""


def _unreadable(split: str, first: str, image_path: Callable[[str], Path]) -> BadData:
    """What is wrong with the first image of a split of which none can be read."""
    what = f"none of the images of {split} can be read"
    try:
        picture_size(image_path(first))
    except BadData as fault:
        return BadData(f"{what}; of the first of them: {fault.what}", where=fault.where, hint=fault.hint)
    return BadData(what, where=first, hint="run it again")  # it has come meanwhile


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
