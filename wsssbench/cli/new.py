"""`wsssbench new`: a small package with a plugin that works, its test and its CI, for its author to change.

The texts lie in `wsssbench/templates`; names are put in for $name, $module, $Class.
Nothing is imported of the plugin, and nothing is written where the name cannot be used.
"""

from __future__ import annotations

import ast
import keyword
import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from string import Template

import click

from wsssbench._version import __version__
from wsssbench.errors import WsssError

TEMPLATES = Path(__file__).parents[1] / "templates"
NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
KINDS: Mapping[str, tuple[str, str]] = {  # the entry-point group, and how people call it
    "step": ("steps", "method"),
    "dataset": ("datasets", "data set"),
    "metric": ("metrics", "metric"),
}
FILES = {  # path in the package: text in TEMPLATES
    "pyproject.toml": "package/pyproject.toml.in",
    "README.md": "{kind}/README.md.in",
    ".gitignore": "package/gitignore.in",
    ".github/workflows/test.yml": "package/test.yml.in",
    "src/{module}/__init__.py": "package/init.py.in",
    "src/{module}/{kind}.py": "{kind}/{kind}.py.in",
    "tests/test_{module}.py": "{kind}/test.py.in",
}
TRY_IT: Mapping[str, str] = {
    "step": "wsssbench run --method {name} --dataset shapes",
    "dataset": "wsssbench run --method cam --dataset {name} -o {name}.root=FOLDER",
    "metric": "wsssbench run --method cam --dataset shapes --metrics {name}",
}


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder in which the package's folder NAME is made (default: here).",
)
def new(kind: str, name: str, out: Path) -> None:
    """Write a small package NAME with a step (a method), dataset or metric of your own that works.

    It has one module to change, a test that passes, a README and a CI file.

    Examples:
      wsssbench new step my-method
      wsssbench new metric my-metric --out ../plugins

    Next: it says what to type; `wsssbench check my-method` tests the contract.
    """
    folder = write_package(kind, name, out)
    click.echo(f"wrote {folder}: {KINDS[kind][1]} {name}, with a test and CI")
    click.echo("next:")
    for line in next_steps(kind, name, folder):
        click.echo(f"  {line}")


def write_package(kind: str, name: str, out: Path) -> Path:
    """Write the package `name` with a plugin of `kind` ("step", "dataset", "metric") to the folder out/name.

    It is there whole or not at all. WsssError for a name that cannot be used or is taken, and for a folder
    that exists or cannot be written.
    """
    from wsssbench.commands.export.files import new_folder

    check_name(name)
    folder = out.expanduser() / name
    texts = package_texts(kind, name)
    with new_folder(folder) as place:
        for path, text in texts.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text, encoding="utf-8")
    return folder


def package_texts(kind: str, name: str) -> dict[str, str]:
    """The files of the package by their paths; WsssError where its class would hide what it uses."""
    module, cls = name.replace("-", "_"), class_name(name)
    group, what = KINDS[kind]
    words = {"name": name, "module": module, "Class": cls, "kind": kind, "group": group}
    words |= {"what": what, "version": ".".join(__version__.split(".")[:2])}
    texts = {
        path.format(kind=kind, module=module): _filled(source.format(kind=kind), words)
        for path, source in FILES.items()
    }
    sources = "\n".join(text for path, text in texts.items() if path.endswith(".py"))
    if {cls, f"{cls}Config"} & _imported(sources, beside=f"{module}.{kind}"):
        raise WsssError(f"the class {cls} would hide another one", where=name, hint=f"as my-{name}")
    return texts


def _filled(source: str, words: Mapping[str, str]) -> str:
    return Template((TEMPLATES / source).read_text(encoding="utf-8")).substitute(words)


def _imported(source: str, beside: str) -> set[str]:
    """The names that Python source imports at its top level, from other modules than `beside`."""
    nodes = [n for n in ast.parse(source).body if isinstance(n, (ast.Import, ast.ImportFrom))]
    others = [n for n in nodes if getattr(n, "module", "") != beside]
    return {alias.asname or alias.name for node in others for alias in node.names}


def class_name(name: str) -> str:
    """ "MyMethod" of "my-method"."""
    return "".join(part.capitalize() for part in re.split("[-_]", name))


def check_name(name: str) -> None:
    """WsssError where `name` cannot name a package, a module and a plugin, or names one already."""
    module = name.replace("-", "_")
    if not NAME.fullmatch(name):
        hint = "lower-case letters and digits, words joined by - or _, as my-method"
        raise WsssError(f"{name!r} cannot name a package", where="NAME", hint=hint)
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        raise WsssError(f"{name!r} is a keyword of Python", where="NAME", hint=f"as my-{name}")
    taken = _plugin_called(name) or _module_called(module)
    if taken:
        raise WsssError(f"{name!r} is taken by {taken}", where="NAME", hint=f"another name, as my-{name}")


def _plugin_called(name: str) -> str:
    """Which installed plugin has the name, "" for none."""
    from wsssbench.plugins.table import GROUPS, Plugins

    plugins = Plugins()
    found = [entry for group in GROUPS for entry in plugins.entries(group) if entry.name == name]
    return f"the {found[0].group[:-1]} of {found[0].origin}" if found else ""


def _module_called(module: str) -> str:
    """Which module that can be imported has the name, "" for none; a folder without a file does not count."""
    if module in sys.stdlib_module_names:
        return "a module of Python's standard library"
    spec = find_spec(module)
    return f"the installed module {module}" if spec and spec.origin else ""


def next_steps(kind: str, name: str, folder: Path) -> list[str]:
    """What to type next, and what for."""
    module = f"src/{name.replace('-', '_')}/{kind}.py"
    there = f" -o {name}.root=FOLDER" if kind == "dataset" else ""
    commands = [
        ("pip install -e '.[dev]'", "now `wsssbench list` has it"),
        ("pytest", "the contract, and what it does"),
        (f"wsssbench check {name}{there}", "the contract alone, in sentences"),
        (TRY_IT[kind].format(name=name), f"then change {module}"),
    ]
    wide = max(len(command) for command, _ in commands)
    return [f"cd {folder}", *(f"{command:{wide}}  # {why}" for command, why in commands)]
