"""What the source of a plugin says, read without importing it: recipe, headline, hash of the defining file.

`list` and `report` must answer at once and work beside a broken plugin, so files are found by walking module
specs from the top-level package down and parsed. Where the source does not say, the answer is empty.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

from wsssbench.plugins.table import Entry


def source_file(entry: Entry) -> Path | None:
    """The file of the module that the entry names; no module and no parent package is imported."""
    return entry.file or module_file(entry.value.partition(":")[0].strip())


@cache
def module_file(module: str) -> Path | None:
    """The source file of a module by its dotted name; None where there is none."""
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


def definition(entry: Entry) -> ast.ClassDef | ast.expr | None:
    """The class, or the value of the assignment, that the entry names at the top level of its module."""
    path, name = source_file(entry), entry.value.rpartition(":")[2].split(" ")[0].split(".")[0]
    tree = parsed(path) if path else None
    for node in tree.body if tree else ():
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            for target in targets:
                if isinstance(target, ast.Name) and target.id == name:
                    return node.value
    return None


@cache
def parsed(path: Path) -> ast.Module | None:
    """The syntax tree of a file; None where it cannot be read or is not Python."""
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def headline(entry: Entry) -> str:
    """The first line of the docstring of the entry's class."""
    return _plain_headline(entry) or _parsed_headline(entry)


def _plain_headline(entry: Entry) -> str:
    """The same where the class is written in the usual way, found without parsing the file: faster."""
    path, name = source_file(entry), entry.value.rpartition(":")[2]
    if path is None or not name.isidentifier():
        return ""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    line = r'((?:(?!""")[^\\\n])+)(?:"""$|$)'
    usual = re.findall(rf'^class {name}(?:\([^()\n]*\))?:\n    """{line}', text, re.MULTILINE)
    return usual[0].strip() if len(usual) == 1 else ""


def _parsed_headline(entry: Entry) -> str:
    node = definition(entry)
    text = (ast.get_docstring(node) or "") if isinstance(node, ast.ClassDef) else ""
    return text.partition("\n")[0]


def recipe_text(entry: Entry) -> str:
    """ "cam > crf" for a method that is a literal tuple of step names (or one step class: its name)."""
    if isinstance(entry.loaded, (tuple, list)):
        return " > ".join(map(str, entry.loaded))
    node = definition(entry)
    if isinstance(node, ast.ClassDef):
        return entry.name
    try:
        steps = ast.literal_eval(node) if node is not None else ()
    except ValueError:
        return ""
    return " > ".join(map(str, steps)) if isinstance(steps, (tuple, list)) else ""


def class_file(entry: Entry) -> Path | None:
    """The file that defines the entry's class; None where only an import finds it, or it is gone."""
    path = source_file(entry)
    return path if path is not None and isinstance(definition(entry), ast.ClassDef) else None
