"""Which room may import which: a room imports only what stands below it, and no files import each other in a
circle. Imports inside functions and those of types alone count. CONTRIBUTING.md says what each room is for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "wsssbench": ROOT / "wsssbench",
    "wsssbench_methods": ROOT / "methods/wsssbench_methods",
    "wsssbench_datasets": ROOT / "datasets/wsssbench_datasets",
}
LAYERS = (  # from the roof down; rooms of one line do not import each other
    "__main__ wsssbench",
    "api cli",
    "commands",
    "reporting",
    "throughput methods",
    "train testing",
    "running verifying training",
    "judging distributed",
    "planning statistics",
    "artifacts scores datasets",
    "dumps",
    "records machine masks split_rules",
    "plugins nets ops metrics",
    "files",
    "types identity",
    "exchange option_fields",
    "errors _version",
)
FLOOR = {room: floor for floor, rooms in enumerate(reversed(LAYERS)) for room in rooms.split()}


def room(module: str) -> str:
    """The room of a dotted module: the name after `wsssbench`, or the plugin package that it lies in."""
    package, _, rest = module.partition(".")
    if package != "wsssbench":
        return package.removeprefix("wsssbench_")
    return rest.partition(".")[0] or package


@cache
def modules() -> dict[str, Path]:
    """Every module of the three packages by its dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for file in folder.rglob("*.py"):
            parts = (package, *file.relative_to(folder).with_suffix("").parts)
            found[".".join(part for part in parts if part != "__init__")] = file
    return found


def imported(file: Path) -> Iterator[str]:
    """The modules of this project that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: write imports out, so that they can be followed"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            module = name if name in modules() else name.rpartition(".")[0]
            if module in modules():
                yield module


@cache
def arrows() -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    return {module: set(imported(file)) - {module} for module, file in modules().items()}


def test_a_room_imports_only_rooms_below_it() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, targets in arrows().items()
        for target in sorted(targets)
        if room(target) != room(module) and not FLOOR[room(target)] < FLOOR[room(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(arrows()).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_every_room_has_its_floor() -> None:
    rooms = {room(module) for module in modules()}
    assert rooms == set(FLOOR)


def test_the_floor_plan_for_people_is_the_one_that_is_tested() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", text, re.M)
    shown = {room: int(floor) - 1 for floor, rooms in rows for room in re.findall(r"`(\w+)`", rooms)}
    assert shown == FLOOR
