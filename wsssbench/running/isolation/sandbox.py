"""The sandbox itself: which program makes it, what is mounted in it, and whether it can be had here.

bubblewrap makes namespaces of their own for users, processes, mounts and the network. Inside there are the
system's libraries, the interpreter with its packages, and what a caller names; all of it read-only but for
the folders that the caller names as writable. Nothing of steps or data sets is known here.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from wsssbench.errors import WsssError

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# what the loader of libraries, the clock and Debian's links to BLAS need of /etc; no accounts, no keys
ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "alternatives")
# none of the user's other variables goes in; these decide how numbers are computed
KEPT = (
    "LANG", "LC_", "TZ", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "NUMBA_", "TORCH_", "PYTORCH_",
    "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "LD_LIBRARY_PATH", "PYTHONHASHSEED", "ATEN_", "DNNL_", "ONEDNN_",
)  # fmt: skip
WALLS = (
    "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts",
    "--unshare-cgroup-try", "--disable-userns", "--cap-drop", "ALL", "--die-with-parent", "--new-session",
    "--clearenv", "--hostname", "sandbox",
)  # fmt: skip
SCRATCH = "/tmp"  # of the sandbox: in memory, its own, gone at its end
WITHOUT = "or run without --isolate: then nothing but discipline keeps a step from the masks"


@dataclass(frozen=True)
class Mount:
    """One place of the sandbox: `source` of this machine, seen there as `target`."""

    source: Path
    target: Path
    writable: bool = False


@dataclass(frozen=True)
class Inside:
    """What one sandbox holds, beside the system and the interpreter."""

    mounts: tuple[Mount, ...] = ()  # in this order: a later one lies over an earlier one
    hidden: tuple[Path, ...] = ()  # folders of the sandbox that are empty there
    packages: tuple[Path, ...] = ()  # folders or files of modules, outside of the interpreter's own
    device: str = "cpu"
    start: Path = field(default=Path("/"))  # where its process starts


def check_sandbox() -> str:
    """The name and version of what makes sandboxes here; WsssError where there is none."""
    version = _version(_program())
    done = _try(command_line(Inside(), ["-I", "-S", "-c", ""]))
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        hint = (
            "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1 or "
            "kernel.apparmor_restrict_unprivileged_userns=0; in a container, its seccomp profile), " + WITHOUT
        )
        raise WsssError(f"bubblewrap cannot make a sandbox here ({said})", where="--isolate", hint=hint)
    return version


def command_line(inside: Inside, words: Sequence[str]) -> list[str]:
    """The command that runs this interpreter with `words` in the sandbox."""
    interpreter = interpreter_folders()
    packages = [path for path in inside.packages if not _below(path, interpreter)]
    return [
        _program(),
        *WALLS,
        *_system(),
        *("--proc", "/proc", "--dev", "/dev", "--tmpfs", SCRATCH, "--dir", f"{SCRATCH}/home"),
        *_bound(Mount(path, path) for path in (*interpreter, *packages) if not _below(path, SYSTEM_FOLDERS)),
        *_devices(inside.device),
        *_bound(inside.mounts),
        *(word for path in inside.hidden for word in ("--tmpfs", str(path))),
        *("--remount-ro", "/"),
        *(word for name, value in _environment(packages) for word in ("--setenv", name, value)),
        *("--chdir", str(inside.start)),
        sys.executable,
        *words,
    ]


SYSTEM_FOLDERS = tuple(Path(name) for name in SYSTEM)


@cache
def interpreter_folders() -> tuple[Path, ...]:
    """The interpreter's own folders, the environment's, and those of installed packages; each once."""
    found = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix), Path(sys.executable).parent]
    found.append(Path(sys.executable).resolve().parent)
    found += [Path(p) for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    kept: list[Path] = []
    there = {path.absolute() for path in found if path.exists()}
    for path in sorted(there, key=lambda path: (len(path.parts), path)):
        if not _below(path, kept):
            kept.append(path)
    return tuple(kept)


def visible_folders(packages: Iterable[Path] = ()) -> tuple[Path, ...]:
    """All folders of this machine that every sandbox shows, links followed."""
    known = (*SYSTEM_FOLDERS, *interpreter_folders(), *packages)
    return tuple(dict.fromkeys(path.resolve() for path in known if path.exists()))


def _below(path: Path, folders: Collection[Path]) -> bool:
    return any(path == folder or folder in path.parents for folder in folders)


@cache
def _program() -> str:
    if not sys.platform.startswith("linux"):
        what = f"sandboxes are made by bubblewrap, which {platform.system()} does not have"
        raise WsssError(what, where="--isolate", hint=f"run on Linux, {WITHOUT}")
    found = shutil.which("bwrap")
    if found is None:
        hint = f"install it (apt install bubblewrap, dnf install bubblewrap), {WITHOUT}"
        raise WsssError("bubblewrap (the program bwrap) is not installed", where="--isolate", hint=hint)
    return found


def _try(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))


@cache
def _version(program: str) -> str:
    return _try([program, "--version"]).stdout.strip() or "bubblewrap"


def _system() -> Iterator[str]:
    """The system's folders; on a merged /usr the old names are links to it."""
    for path in SYSTEM_FOLDERS:
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    for name in ETC:
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")


def _bound(mounts: Iterable[Mount]) -> Iterator[str]:
    for mount in mounts:
        yield from ("--bind" if mount.writable else "--ro-bind", str(mount.source), str(mount.target))


def _devices(device: str) -> Iterator[str]:
    """The GPU's files, where the step computes on one."""
    if device.startswith("cuda"):
        for path in sorted(Path("/dev").glob("nvidia*")):
            yield from ("--dev-bind", str(path), str(path))
        yield from ("--ro-bind-try", "/sys", "/sys")


def _environment(packages: Sequence[Path]) -> Iterator[tuple[str, str]]:
    yield from ((name, value) for name, value in sorted(os.environ.items()) if name.startswith(KEPT))
    yield "PATH", f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    yield from (("HOME", f"{SCRATCH}/home"), ("TMPDIR", SCRATCH), ("USER", "nobody"), ("LOGNAME", "nobody"))
    yield "PYTHONPATH", os.pathsep.join(dict.fromkeys(str(path.parent) for path in packages))
