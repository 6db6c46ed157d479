"""What the source of a plugin says, read without importing it: its headline, its recipe, the file of its
class, and its options with their presets and choices.

`list`, `report` and the shell's completion must answer at once and work beside a broken plugin, so files are
found by walking module specs from the top-level package down, and parsed. Names are followed through `from`
imports and base classes. Where the source does not say, the answer is empty; a run asks the class itself
(`wsssbench.plugins.options`).
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from wsssbench.plugins.options import NO_PRESET, PRESET
from wsssbench.plugins.table import Entry

FOLLOWED = 8  # imports from one file to the next, at most


class Found(NamedTuple):
    """A class or value, and the file that it stands in."""

    path: Path
    node: ast.AST


# ----------------------------------------------------------------------------------------------- of a plugin


def headline(entry: Entry) -> str:
    """The first line of the docstring of the entry's class."""
    found = definition(entry)
    node = found.node if found else None
    text = (ast.get_docstring(node) or "") if isinstance(node, ast.ClassDef) else ""
    return text.partition("\n")[0]


def recipe_text(entry: Entry) -> str:
    """ "cam > crf" for a method that is a literal tuple of step names (or one step class: its name)."""
    if isinstance(entry.loaded, (tuple, list)):
        return " > ".join(map(str, entry.loaded))
    found = definition(entry)
    if found is None:
        return ""
    if isinstance(found.node, ast.ClassDef):
        return entry.name
    try:
        steps = ast.literal_eval(found.node)
    except ValueError:
        return ""
    return " > ".join(map(str, steps)) if isinstance(steps, (tuple, list)) else ""


def class_file(entry: Entry) -> Path | None:
    """The file that defines the entry's class; None where only an import would tell, or it is gone."""
    found = definition(entry)
    return found.path if found and isinstance(found.node, ast.ClassDef) else None


def choices_of(entry: Entry) -> dict[str, tuple[str, ...]]:
    """The options of a step or data set by name, `preset` first, each with the values it is a choice of."""
    plugin = definition(entry)
    if plugin is None:
        return {}
    config, presets = _attribute(plugin, "Config"), _attribute(plugin, "presets")
    found = {PRESET: (*_keys(presets), NO_PRESET)}
    return {**found, **dict(_fields(config))} if config else found


# ------------------------------------------------------------------------------------------ files and names


@cache
def module_file(module: str) -> Path | None:
    """The source file of a module by its dotted name; None where there is none. Nothing is imported."""
    top, *below = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for name in below:  # find_spec of the whole name would import the parents
            if spec is None or spec.submodule_search_locations is None:
                return None
            spec = PathFinder.find_spec(f"{spec.name}.{name}", spec.submodule_search_locations)
    except (ImportError, ValueError, AttributeError):
        return None
    path = Path(spec.origin) if spec and spec.origin else None
    return path if path and path.suffix == ".py" and path.is_file() else None


def definition(entry: Entry) -> Found | None:
    """The class, or the value of the assignment, that the entry names at the top level of its module."""
    module, _, name = entry.value.partition(":")
    path = entry.file or module_file(module.strip())
    return _look_up(path, name.split(" ")[0].split(".")[0]) if path else None


@cache
def _parsed(path: Path) -> ast.Module | None:
    """The syntax tree of a file; None where it cannot be read or is not Python."""
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _look_up(path: Path, name: str, left: int = FOLLOWED) -> Found | None:
    """What `name` stands for at the top level of a file: a class, or the value of an assignment."""
    tree = _parsed(path)
    for node in tree.body if tree and left else ():
        if found := _named(path, node, name, left):
            return found
        if isinstance(node, ast.ImportFrom):
            origin = next((a.name for a in node.names if (a.asname or a.name) == name), "")
            if origin:
                other = _imported_file(node, path)
                return _look_up(other, origin, left - 1) if other else None
    return None


def _named(path: Path, node: ast.stmt, name: str, left: int) -> Found | None:
    """The class `name`, or the value that is assigned to it, where the statement `node` makes it."""
    if isinstance(node, ast.ClassDef) and node.name == name:
        return Found(path, node)
    if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value and name in _targets(node):
        value = node.value
        return _look_up(path, value.id, left - 1) if isinstance(value, ast.Name) else Found(path, value)
    return None


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _imported_file(node: ast.ImportFrom, path: Path) -> Path | None:
    """The file of the module that a `from` import names."""
    if not node.level:
        return module_file(node.module or "")
    place = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
    return next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)


# ------------------------------------------------------------------------------------------ parts of a class


def _attribute(found: Found, name: str) -> Found | None:
    """The class attribute `name`, its own or inherited."""
    body = found.node.body if isinstance(found.node, ast.ClassDef) else []
    own = (_named(found.path, node, name, FOLLOWED) for node in body)
    inherited = (_attribute(base, name) for base in _bases(found))
    return next((value for values in (own, inherited) for value in values if value is not None), None)


def _bases(found: Found) -> Iterator[Found]:
    for base in found.node.bases if isinstance(found.node, ast.ClassDef) else ():
        known = _look_up(found.path, base.id) if isinstance(base, ast.Name) else None
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
            keys += _keys(_look_up(found.path, value.id))
    return tuple(keys)
