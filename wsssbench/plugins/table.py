"""Names -> plugins: a lazy table over entry points and local files.

Built-ins arrive by the same entry points as third-party packages. Listing reads metadata and imports nothing;
a plugin is imported when its name is used, so a broken one harms only those who ask for it. What a plugin
does, which options it has and how recipes are put together belong elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from wsssbench.errors import BadData, UnknownName, WsssError, nearest
from wsssbench.plugins.contract import BASES, complete
from wsssbench.types import KINDS, DatasetCard, Step, StepCard

if TYPE_CHECKING:
    from importlib.metadata import Distribution
    from types import ModuleType

Group: TypeAlias = Literal["steps", "methods", "datasets", "metrics"]
GROUPS: tuple[Group, ...] = ("steps", "methods", "datasets", "metrics")
PREFIX = "wsssbench."  # of the entry-point groups: wsssbench.steps, ...
CHECK_SECONDS = 180.0  # a cold import of torch from a network disk takes a minute

DATASET_RULE = "a data set is a class with `card = DatasetCard(...)`, `ids`, `image`, `tags` and `mask`"
METRIC_RULE = f"a metric is a class with a `name`, `needs` (one of {', '.join(KINDS)}), `count` and `score`"

# What a child process runs for one plugin: the parent's search path, then the import. No wsssbench in it.
_PROBE = """
import json, sys
from importlib.metadata import EntryPoint
sys.path[:] = json.loads(sys.argv[1])
EntryPoint("plugin", sys.argv[2], "check").load()
"""


@dataclass(frozen=True)
class Entry:
    """One plugin as its distribution (or local file) announces it; nothing of it need be imported."""

    group: Group
    name: str
    value: str  # "module:attribute"; of a local file "path:attribute"
    distribution: str  # empty for a local file
    version: str
    file: Path | None = None
    loaded: Any = field(default=None, repr=False, compare=False)  # of a local file only

    @property
    def origin(self) -> str:
        """Where it comes from, for messages: "distribution version" or "file PATH"."""
        return f"file {self.file}" if self.file else f"{self.distribution} {self.version}"


def dataset_plugin(dataset: str) -> str:
    """The plugin that rows of `dataset` come from: "folder" of "folder:pets"; most names are the plugin's."""
    return dataset.partition(":")[0]


class Check(NamedTuple):
    """Whether one plugin can be imported; `error` is the last line of what went wrong."""

    group: str
    name: str
    ok: bool
    error: str


class Plugins:
    """The table of everything installed, plus the local files that the user names.

    `broken` maps a distribution whose entry_points.txt cannot be read to the reason.
    """

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}
        self._entries: list[Entry] = list(self._installed())
        self._stems: dict[str, str] = {}  # file stem -> name of the one step in that file
        self._files: set[Path] = set()

    def entries(self, group: Group) -> tuple[Entry, ...]:
        """All entries of `group` by name, a name that two distributions define twice. Imports nothing."""
        return tuple(sorted((e for e in self._entries if e.group == group), key=lambda e: e.name))

    def names(self, group: Group) -> tuple[str, ...]:
        """The names of `group`, sorted, each once. Imports nothing."""
        return tuple(dict.fromkeys(e.name for e in self.entries(group)))

    def find(self, group: Group, name: str) -> Entry | None:
        """The entry called `name`, or None. The stem of a local file with one step stands for that step.

        Raises WsssError where two distributions (or a file and a distribution) define the name.
        """
        found = [e for e in self._entries if e.group == group and e.name == name]
        if len(found) > 1:
            raise _collision(*found[:2])
        if not found and group == "steps" and self._stems.get(name, name) != name:
            return self.find(group, self._stems[name])
        return found[0] if found else None

    def load(self, group: Group, name: str) -> Any:
        """The object behind `name`, imported now: a step, data set or metric class, or a recipe's tuple.

        Raises UnknownName with suggestions, and WsssError when the plugin cannot be imported.
        """
        entry = self.find(group, name)
        if entry is None:
            raise UnknownName(f"unknown {group[:-1]} {name!r}", hint=nearest(name, self.names(group)))
        found = entry.loaded if entry.file else _import(entry)
        base = Step if group == "methods" else BASES[group]
        return complete(found, base) if isinstance(found, type) else found

    def add_file(self, path: Path) -> tuple[str, ...]:
        """Run the Python file `path` and register what it defines; returns the names, () for a second call.

        Step classes (own class attribute `card` of StepCard, and `fit`) are registered as `card.name`, data
        sets (own `card` of DatasetCard, `ids`, `image`, `tags`, `mask`) likewise, metrics (own `name`,
        `needs`, `count`, `score`) as `name`, and a module-level `RECIPES = {"name": ("step", "step")}` as
        methods. Modules that the file imports must be importable. Raises BadData (no such file), WsssError
        (does not run: with the line; defines nothing; a name that is taken).
        """
        path = path.expanduser().resolve()
        if path in self._files:
            return ()
        found = self._defined_in(path)
        for entry in found:
            for other in (*self._entries, *(e for e in found if e is not entry)):
                if (other.group, other.name) == (entry.group, entry.name):
                    raise _collision(entry, other)
        self._entries += found
        self._files.add(path)
        steps = [e.name for e in found if e.group == "steps"]
        if len(steps) == 1:
            self._stems[path.stem] = steps[0]
        return tuple(e.name for e in found)

    def _defined_in(self, path: Path) -> list[Entry]:
        """What the file `path` defines: it is run."""
        return defined_in(path)

    def check_all(self) -> list[Check]:
        """Import every plugin in a process of its own, two at a time; a crash there stays there."""
        from concurrent.futures import ThreadPoolExecutor

        unread = [Check("entry_points.txt", name, False, why) for name, why in self.broken.items()]
        entries = [e for group in GROUPS for e in self.entries(group)]
        with ThreadPoolExecutor(max_workers=2) as pool:
            return unread + list(pool.map(self._check, entries))

    def _check(self, entry: Entry) -> Check:
        try:
            self.find(entry.group, entry.name)
        except WsssError as collision:
            return Check(entry.group, entry.name, False, collision.what)
        error = "" if entry.file else _probe(entry.value)  # a local file has been run already
        return Check(entry.group, entry.name, not error, error)

    def _installed(self) -> Iterator[Entry]:
        """Entries of every distribution on the search path; of one found twice the first counts, as for
        imports. Reads each distribution by itself: one damaged file must not hide the others."""
        from importlib.metadata import distributions

        seen: set[str] = set()
        for dist in distributions():
            try:
                if PREFIX in (dist.read_text("entry_points.txt") or ""):
                    yield from _entries_of(dist, seen)
            except Exception as error:
                self.broken[_label(dist)] = _last_line(error)


def _label(dist: Distribution) -> str:
    try:
        return str(dist.metadata["Name"] or dist)
    except Exception:  # metadata that cannot be read: the object's own text has to do
        return str(dist)


def _entries_of(dist: Distribution, seen: set[str]) -> list[Entry]:
    """The entries of one distribution; none if its (normalised) name is in `seen`, where it is added."""
    name, version = dist.metadata["Name"] or "unnamed", dist.version or "?"
    key = name.lower().replace("_", "-").replace(".", "-")
    if key in seen:
        return []
    groups = {PREFIX + group: group for group in GROUPS}
    found = [
        Entry(groups[p.group], p.name, p.value, name, version) for p in dist.entry_points if p.group in groups
    ]
    seen.add(key)
    return found


def _collision(one: Entry, two: Entry) -> WsssError:
    return WsssError(
        f"{one.group[:-1]} {one.name!r} is defined twice: by {one.origin} and by {two.origin}",
        where=f"{one.value}, {two.value}",
        hint="rename one of them, or uninstall the distribution that you do not need",
    )


def _import(entry: Entry) -> Any:
    from importlib.metadata import EntryPoint

    try:
        return EntryPoint(entry.name, entry.value, PREFIX + entry.group).load()
    except (Exception, SystemExit) as error:  # whatever a plugin's module does when it is imported
        raise WsssError(
            f"{entry.group[:-1]} {entry.name!r} of {entry.origin} cannot be imported: {_last_line(error)}",
            where=entry.value,
            hint="`wsssbench list --check` shows every plugin that is broken; -v shows the traceback",
        ) from error


def _last_line(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]


def _probe(value: str) -> str:
    """Import "module:attribute" in a child process; the last line of its error, empty when all is well."""
    import json
    import subprocess

    command = [sys.executable, "-c", _PROBE, json.dumps(sys.path), value]
    try:
        done = subprocess.run(command, capture_output=True, timeout=CHECK_SECONDS)
    except subprocess.TimeoutExpired:
        return f"the import did not end within {CHECK_SECONDS:.0f} s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"the import ended with exit status {done.returncode}"


# ------------------------------------------------------------------------------------------- local files


def defined_in(path: Path) -> list[Entry]:
    """Entries of the classes and recipes of a plugin file, which is run; WsssError where there are none."""
    module = run_file(path)
    found = [*_classes_in(module, path), *_recipes_in(module, path)]
    if not found:
        what = "the plugin file defines no step, data set or metric"
        raise WsssError(what, where=path, hint=_what_is_missing(module))
    return found


def run_file(path: Path) -> ModuleType:
    """`path` run as a module under a private name (in sys.modules, where dataclasses look for it)."""
    import hashlib
    import importlib.util

    if not path.is_file():
        raise BadData("no such plugin file", where=path, hint="--plugin takes the path of a Python file")
    name = f"_wsssbench_file_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadData("not a Python file", where=path, hint="--plugin takes a file whose name ends in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise WsssError(
            f"the plugin file does not run: {_last_line(error)}",
            where=f"{path}:{_line_in(path, error)}",
            hint=f"`python {path.name}` shows the same error",
        ) from error
    return module


def _line_in(path: Path, error: BaseException) -> int:
    """The last line of `path` that was being run, or that could not be parsed; 1 where none is known."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    line, trace = 1, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _own_classes(module: ModuleType) -> list[type]:
    return [x for x in vars(module).values() if isinstance(x, type) and x.__module__ == module.__name__]


def _classes_in(module: ModuleType, path: Path) -> Iterator[Entry]:
    """Steps, data sets and metrics."""
    for cls in dict.fromkeys(_own_classes(module)):  # an alias of a class is not a second step
        card, name = vars(cls).get("card"), vars(cls).get("name")  # an inherited one names the parent
        found: tuple[Group, str] | None = None
        if isinstance(card, StepCard) and _has(cls, "fit"):
            found = "steps", card.name
        elif isinstance(card, DatasetCard) and _has(cls, "ids", "image", "tags", "mask"):
            found = "datasets", card.name
        elif isinstance(name, str) and getattr(cls, "needs", None) in KINDS and _has(cls, "count", "score"):
            found = "metrics", name
        if found:
            yield Entry(*found, f"{path}:{cls.__name__}", "", "", path, cls)


def _has(cls: type, *methods: str) -> bool:
    return all(callable(getattr(cls, method, None)) for method in methods)


def _recipes_in(module: ModuleType, path: Path) -> Iterator[Entry]:
    recipes = getattr(module, "RECIPES", {})
    if not isinstance(recipes, dict) or not all(isinstance(name, str) for name in recipes):
        raise WsssError(
            "RECIPES must be a dict from names to steps",
            where=path,
            hint='RECIPES = {"my+crf": ("my", "crf")}',
        )
    for name, steps in recipes.items():
        yield Entry("methods", name, f"{path}:RECIPES", "", "", path, steps)


def _what_is_missing(module: ModuleType) -> str:
    """What the nearest thing to a step, a data set or a metric in `module` lacks."""
    rule = "a step is a class with `card = StepCard(...)`, `fit` and `restore`"
    for cls in _own_classes(module):
        if callable(getattr(cls, "fit", None)):
            return f"{rule}; class {cls.__name__} has `fit` but no `card` of its own"
        if isinstance(vars(cls).get("card"), StepCard):
            return f"{rule}; class {cls.__name__} has a `card` but no `fit`"
        if isinstance(vars(cls).get("card"), DatasetCard) or _has(cls, "ids", "image", "mask"):
            return f"{DATASET_RULE}; see class {cls.__name__}"
        if _has(cls, "count", "score"):
            return f"{METRIC_RULE}; see class {cls.__name__}"
    return rule
