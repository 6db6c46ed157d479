"""The source files that a step, a metric, a data set or the judge consists of, and a hash of what they say.

Read without importing anything. What changes numbers is often not in the file of a class, so imports are
followed: through its own top-level package, and through packages whose names begin with `wsssbench`. Of the
harness itself only the packages that make numbers count (ROOMS, MODULES): what plans, shows and reports does
not. Comments, docstrings and layout do not enter the hash. Other packages are known by their versions.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

INIT = "__init__.py"
HARNESS = "wsssbench"
ROOMS = ("dumps", "judging", "nets", "ops", "scores")  # packages of the harness that make numbers
MODULES = (
    *("artifacts", "masks", "metrics", "train", "planning.stages", "planning.thresholds"),
    *(
        "running.predicting",
        "running.scales",
        "training.crops",
        "training.late_losses",
        "training.optimizers",
    ),
    *("distributed", "distributed.shared_model"),
    *("files.image_files", "files.label_palette", "files.label_png"),
)
SCHEME = "2:"  # how a current hash begins; earlier ones were computed differently
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_of(*files: Path, without: tuple[str, ...] = ()) -> str:
    """Hash over the names and the meaning of `closure(*files)`; `without` names packages to leave out."""
    whole = hashlib.sha256()
    for path in closure(*files, without=without):
        whole.update(f"{path.relative_to(package_root(path))}\0{_of(path).digest}\n".encode())
    return SCHEME + whole.hexdigest()


def is_code(digest: str, file: Path) -> bool:
    """Whether `digest`, by whichever scheme it was made, is that of the code of `file` today."""
    return digest == (code_of(file) if digest.startswith(SCHEME) else _earlier_code_of(file))


def closure(*files: Path, without: tuple[str, ...] = ()) -> list[Path]:
    """`files` and every file that counts and that they import, directly or not, in order of paths.

    Imports inside functions count; names made at run time do not.
    """
    return _reached(files, lambda path: _counts(path, without))


def package_root(file: Path) -> Path:
    """The folder that holds the top-level package of `file` (or the file itself, outside of a package)."""
    folder = file.resolve().parent
    while (folder / INIT).exists():
        folder = folder.parent
    return folder


def imported(file: Path) -> tuple[Path, ...]:
    """The files that `file` imports from packages that are followed, with the `__init__.py` on the way."""
    return _of(file).imports


def _reached(files: Collection[Path], counts: Callable[[Path], bool]) -> list[Path]:
    todo = [file.resolve() for file in files]
    found = set(todo)
    while todo:
        for path in imported(todo.pop()):
            if path not in found and counts(path):
                found.add(path)
                todo.append(path)
    return sorted(found)


def _earlier_code_of(file: Path) -> str:
    """What hashes were before: the bytes of the files of its own top-level package."""
    root, whole = package_root(file), hashlib.sha256()
    own = file.resolve().relative_to(root).parts[0]
    reached = _reached([file], lambda path: path.is_relative_to(root / own))
    for path in reached:
        whole.update(f"{path.relative_to(root)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


@cache
def _counts(path: Path, without: tuple[str, ...]) -> bool:
    """Whether a file that is imported makes numbers: all do, except those of the harness's other packages."""
    package, *parts = path.relative_to(package_root(path)).with_suffix("").parts
    if package != HARNESS:
        return True
    module = ".".join(part for part in parts if part != "__init__")
    room = parts[0]
    return (room in ROOMS or module in MODULES) and room not in without


# ------------------------------------------------------------------------------------------------- one file


@dataclass(frozen=True)
class _File:
    digest: str  # of its meaning; of its bytes where it is not Python
    imports: tuple[Path, ...]


def _of(file: Path) -> _File:
    return _read(file, file.stat().st_mtime_ns)


@cache
def _read(file: Path, changed: int) -> _File:
    content = file.read_bytes()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return _File(hashlib.sha256(content).hexdigest(), ())
    root = package_root(file)
    package = file.relative_to(root).parts[:-1]
    roots = {package[0]: root} if package else {}
    places: dict[Path, None] = {}
    for name in _names(tree, package):
        place = roots.get(name[0]) or _place_of(name[0])
        if place is not None:
            places |= dict.fromkeys(_files(place, name))
    return _File(hashlib.sha256(_meaning(tree).encode()).hexdigest(), tuple(places))


@cache
def _place_of(package: str) -> Path | None:
    """The folder that holds a package beside the file's own one, if it is followed and there."""
    if package == HARNESS:
        return Path(__file__).resolve().parents[2]
    try:
        spec = importlib.util.find_spec(package) if package.startswith(f"{HARNESS}_") else None
    except ValueError:  # a module of that name was made by hand
        return None
    return Path(spec.origin).resolve().parents[1] if spec and spec.origin else None


def _meaning(tree: ast.Module) -> str:
    """A text that is equal for equal code: the syntax tree without places, docstrings and empty fields.

    Written here, since what `ast.dump` writes depends on the version of Python.
    """
    words: list[str] = []
    todo: list[Any] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            words.append(str(len(node)))
            todo.extend(reversed(node))
        elif isinstance(node, ast.AST):
            fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
            words.append(f"{type(node).__name__}({','.join(name for name, _ in fields)})")
            undocumented = isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None
            todo.extend(v[1:] if n == "body" and undocumented else v for n, v in reversed(fields))
        else:
            words.append(repr(node))
    return "\n".join(words)


def _names(tree: ast.Module, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What a module inside `package` imports, as dotted names in parts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from ((*base, alias.name) for alias in node.names if base)


def _files(root: Path, name: tuple[str, ...]) -> Iterator[Path]:
    """The files that importing `name` runs: packages on the way, and the module; a class in it is not a file.

    Of the harness the last of them alone: a package there gathers modules that the imported one does not use.
    """
    places = (root.joinpath(*name[:length]) for length in range(1, len(name) + 1))
    files = (path for place in places for path in (place / INIT, place.with_suffix(".py")) if path.is_file())
    yield from deque(files, maxlen=1) if name[0] == HARNESS else files
