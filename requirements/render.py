"""Writes what follows from pyproject.toml and the installed packages: dev.lock, lowest.txt, docs/licences.md.

    python requirements/render.py

Run it in an environment that the whole suite has passed in: the lock names its versions. No network is asked.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK, LOWEST = ROOT / "requirements" / "dev.lock", ROOT / "requirements" / "lowest.txt"
PAGE = ROOT / "docs" / "licences.md"
ALLOWED = (
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CC0-1.0", "HPND", "ISC", "MIT", "MIT-CMU", "PSF", "PSF-2.0", "Zlib",
)  # fmt: skip
CLASSIFIERS = {  # names of the package index, older than the SPDX expressions
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF",
}
NVIDIA = re.compile(r"(nvidia|cuda)-")  # the CUDA libraries that the Linux wheels of torch ask for


def project() -> tuple[list[Requirement], list[Requirement]]:
    """What pyproject.toml asks for at run time, and in its extras."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [each for group in table["optional-dependencies"].values() for each in group]
    return [Requirement(each) for each in table["dependencies"]], [Requirement(each) for each in extras]


def closure(wanted: Iterable[Requirement]) -> dict[str, set[str]]:
    """Name of every installed package that `wanted` needs, and which packages ask for it."""
    parents: dict[str, set[str]] = {}
    waiting, seen = [(each, "wsssbench") for each in wanted], set()
    while waiting:
        requirement, parent = waiting.pop()
        name, extras = canonicalize_name(requirement.name), ("", *sorted(requirement.extras))
        parents.setdefault(name, set()).add(parent)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for line in installed(name).requires or ():
            each = Requirement(line)
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append((each, name))
    return dict(sorted(parents.items()))


def installed(name: str) -> Distribution:
    """The installed package; SystemExit names one that is missing."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        sys.exit(f"{name} is not installed: pip install -e '.[coco,dev,docs,pydensecrf,tensorboard]'")


def licence(name: str) -> str:
    """What the package's metadata says: an SPDX expression, else the classifiers, else a short name."""
    metadata = installed(name).metadata
    if expression := metadata.get_all("License-Expression"):
        return str(expression[0])
    classifiers = [
        line.split(" :: ")[-1] for line in metadata.get_all("Classifier") or () if "License" in line
    ]
    named = [CLASSIFIERS.get(each, each) for each in classifiers if each != "OSI Approved"]
    own = (metadata.get_all("License") or [""])[0].strip()
    if NVIDIA.match(name):
        return "LicenseRef-NVIDIA-Proprietary"
    return " OR ".join(named) or (own if "\n" not in own else "") or "not stated"


def outside(expression: str) -> list[str]:
    """The parts of a licence expression that are not in ALLOWED."""
    parts = re.split(r"\s+(?:AND|OR)\s+", expression.replace("(", "").replace(")", ""))
    return [part for part in parts if part not in ALLOWED]


def lock() -> str:
    """Every package of a development environment with its version."""
    runtime, extras = project()
    names = closure([*runtime, *extras])
    only_linux = {name for name in names if NVIDIA.match(name) or name == "triton"}
    lines = [
        f"{name}=={installed(name).version.partition('+')[0]}"
        + (' ; sys_platform == "linux" and platform_machine == "x86_64"' if name in only_linux else "")
        for name in names
    ]
    where = f"Python {sys.version_info.major}.{sys.version_info.minor} on Linux x86-64"
    head = f"# Written by requirements/render.py: what the suite has passed with, {where}."
    return "\n".join([head, *lines]) + "\n"


def lowest() -> str:
    """Every run-time dependency at the lowest version that pyproject.toml allows."""
    lines = sorted(str(each).replace(">=", "==") for each in project()[0])
    return (
        "\n".join(["# Written by requirements/render.py: the lower bounds of pyproject.toml.", *lines]) + "\n"
    )


def licences() -> str:
    """The page of licences of all packages that come with wsssbench at run time."""
    parents = closure(project()[0])
    free = [name for name in parents if not NVIDIA.match(name)]
    nvidia = [name for name in parents if NVIDIA.match(name)]
    rows = [f"| {name} | {licence(name)} | {', '.join(sorted(parents[name]))} |" for name in free]
    return "\n".join([*HEAD, *rows, "", *TAIL, ", ".join(f"`{name}`" for name in nvidia) + ".", ""])


HEAD = (
    "# Licences",
    "",
    "wsssbench is Apache-2.0. These are the packages that it needs at run time, what they say of their",
    "licence and who asks for them, on Linux x86-64. None of them is part of the wheel: pip fetches them.",
    "The page is written by `requirements/render.py`; a test refuses a dependency under a licence other than",
    ", ".join(ALLOWED) + ".",
    "",
    "| package | licence | needed by |",
    "|---|---|---|",
)
TAIL = (
    "The Linux wheel of torch on the package index also asks for NVIDIA's libraries, which have a licence of",
    "their own that is not free. wsssbench imports none of them; torch's builds for the CPU come without:",
)

if __name__ == "__main__":
    for path, text in ((LOCK, lock()), (LOWEST, lowest()), (PAGE, licences())):
        path.write_text(text, encoding="utf-8")
