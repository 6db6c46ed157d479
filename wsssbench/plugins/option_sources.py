"""The options of a plugin as its source has them, read without importing it: names, presets, choices.

For the shell's completion, which must answer at once; a run asks the class itself
(`wsssbench.plugins.options`).
Names are followed through `from` imports and base classes. Where the source does not say, the answer is
empty.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from wsssbench.plugins.options import NO_PRESET, PRESET
from wsssbench.plugins.sources import module_file, parsed, source_file
from wsssbench.plugins.table import Entry

FOLLOWED = 8  # imports from one file to the next, at most


class Found(NamedTuple):
    """A class or value, and the file that it stands in."""

    path: Path
    node: ast.AST


def choices_of(entry: Entry) -> dict[str, tuple[str, ...]]:
    """The options of a step or data set by name, `preset` first, each with the values it is a choice of."""
    path, name = source_file(entry), entry.value.rpartition(":")[2]
    plugin = look_up(path, name) if path else None
    if plugin is None:
        return {}
    config, presets = attribute(plugin, "Config"), attribute(plugin, "presets")
    found = {PRESET: (*_keys(presets), NO_PRESET)}
    return {**found, **dict(_fields(config))} if config else found


def look_up(path: Path, name: str, left: int = FOLLOWED) -> Found | None:
    """What `name` stands for at the top level of a file: a class, or the value of an assignment."""
    tree = parsed(path)
    for node in tree.body if tree and left else ():
        if isinstance(node, ast.ClassDef) and node.name == name:
            return Found(path, node)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value and name in _targets(node):
            return _followed(Found(path, node.value), left)
        origin = _origin(node, name) if isinstance(node, ast.ImportFrom) else ""
        if isinstance(node, ast.ImportFrom) and origin:
            other = _imported_file(node, path)
            return look_up(other, origin, left - 1) if other else None
    return None


def _origin(node: ast.ImportFrom, name: str) -> str:
    """What the imported `name` is called where it comes from; "" where this import is of others."""
    return next((alias.name for alias in node.names if (alias.asname or alias.name) == name), "")


def attribute(found: Found, name: str) -> Found | None:
    """The class attribute `name`, its own or inherited."""
    if not isinstance(found.node, ast.ClassDef):
        return None
    for node in found.node.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return Found(found.path, node)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value and name in _targets(node):
            return _followed(Found(found.path, node.value), FOLLOWED)
    inherited = (attribute(base, name) for base in _bases(found))
    return next((value for value in inherited if value is not None), None)


def _followed(found: Found, left: int) -> Found | None:
    """What a bare name refers to in its file; anything else as it is."""
    return look_up(found.path, found.node.id, left - 1) if isinstance(found.node, ast.Name) else found


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _imported_file(node: ast.ImportFrom, path: Path) -> Path | None:
    """The file of the module that a `from` import names."""
    if not node.level:
        return module_file(node.module or "")
    place = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
    return next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)


def _bases(found: Found) -> Iterator[Found]:
    for base in found.node.bases if isinstance(found.node, ast.ClassDef) else ():
        known = look_up(found.path, base.id) if isinstance(base, ast.Name) else None
        if known:
            yield known


def _fields(found: Found) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The fields of a dataclass, those of its bases first."""
    for base in reversed(list(_bases(found))):
        yield from _fields(base)
    for node in found.node.body if isinstance(found.node, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
            yield from ((name, _choices(node.annotation)) for name in _targets(node))


def _choices(kind: ast.expr) -> tuple[str, ...]:
    """The values of a Literal, or of a bool."""
    text = ast.unparse(kind)
    if text == "bool":
        return ("true", "false")
    if text.startswith("Literal["):
        return tuple(str(node.value) for node in ast.walk(kind) if isinstance(node, ast.Constant))
    return ()


def _keys(found: Found | None) -> tuple[str, ...]:
    """The keys of a dict display, with those of dicts that are unpacked in it by name."""
    if found is None or not isinstance(found.node, ast.Dict):
        return ()
    keys: list[str] = []
    for key, value in zip(found.node.keys, found.node.values, strict=True):
        if isinstance(key, ast.Constant):
            keys.append(str(key.value))
        elif key is None and isinstance(value, ast.Name):
            keys += _keys(look_up(found.path, value.id))
    return tuple(keys)
