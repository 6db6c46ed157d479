"""The source files that a step consists of: its module and what that imports from its own top-level package.

Read without importing anything. What changes a step's numbers is often not in the file of its class; packages
beside its own (wsssbench itself, torch) are known by their versions and the commit.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

INIT = "__init__.py"


def code_of(file: Path) -> str:
    """sha256 (hex) over the names and contents of `closure(file)`."""
    root, whole = package_root(file), hashlib.sha256()
    for path in closure(file):
        whole.update(f"{path.relative_to(root)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def closure(file: Path) -> list[Path]:
    """`file` and every file of its top-level package that it imports, directly or not, in order of paths.

    A file outside of a package is alone. Imports inside functions count; names made at run time do not.
    """
    start = file.resolve()
    found, todo = {start}, [start]
    while todo:
        for path in imported(todo.pop()):
            if path not in found:
                found.add(path)
                todo.append(path)
    return sorted(found)


def package_root(file: Path) -> Path:
    """The folder that holds the top-level package of `file` (or the file itself, outside of a package)."""
    folder = file.resolve().parent
    while (folder / INIT).exists():
        folder = folder.parent
    return folder


def imported(file: Path) -> tuple[Path, ...]:
    """The files of the same top-level package that `file` imports, with the `__init__.py` on the way."""
    return _imported(file, file.stat().st_mtime_ns)


@cache
def _imported(file: Path, changed: int) -> tuple[Path, ...]:
    root = package_root(file)
    parts = file.relative_to(root).with_suffix("").parts
    if len(parts) == 1:
        return ()
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ()
    names = (name for name in _names(tree, parts[:-1]) if name[:1] == parts[:1])
    return tuple({path for name in names for path in _files(root, name)})


def _names(tree: ast.Module, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What a module inside `package` imports, as dotted names in parts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from ((*base, alias.name) for alias in node.names)


def _files(root: Path, name: tuple[str, ...]) -> Iterator[Path]:
    """The files that importing `name` runs: packages on the way, and the module; a class in it is no file."""
    for length in range(1, len(name) + 1):
        place = root.joinpath(*name[:length])
        for path in (place / INIT, place.with_suffix(".py")):
            if path.is_file():
                yield path
